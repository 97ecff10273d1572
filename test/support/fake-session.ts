import type { Session } from '../../src/broker/session.ts';
import type { ErrorCode } from '../../src/protocol/errors.ts';
import type { Pushes, PushKindNumber, RequestOp, Responses } from '../../src/protocol/requests.ts';

let lastId = 0;

/** A client's end that writes down what it is told. */
export class FakeSession implements Session {
  readonly id = ++lastId;
  readonly clientId = `client-${this.id}`;
  readonly namespace = '';
  readonly agent = 'test/1.0';
  readonly zone = '';
  readonly address = '127.0.0.1:1';
  congested = false;
  closed = false;
  /** By request id: the body of a response, or the code of a refusal. */
  readonly answers = new Map<number, unknown>();
  /** What refusals say besides their code. */
  readonly details = new Map<number, string>();
  readonly raws = new Map<number, Uint8Array>();
  readonly pushes: unknown[] = [];
  answerCount = 0;

  #answer(requestId: number, answer: unknown): void {
    if (this.answers.has(requestId)) throw new Error(`request ${requestId} is answered twice`);
    this.answerCount++;
    this.answers.set(requestId, answer);
  }
  respond<O extends Exclude<RequestOp, 10>>(_op: O, requestId: number, body: Responses[O], raw?: Uint8Array, headroomBytes = 0): void {
    this.#answer(requestId, body);
    if (raw !== undefined) this.raws.set(requestId, raw.subarray(headroomBytes));
  }
  refuse(requestId: number, code: ErrorCode, detail?: string): void {
    this.#answer(requestId, code);
    if (detail !== undefined) this.details.set(requestId, detail);
  }
  sendAck(requestId: number, error: number, baseOffset: number, logTimeMs: number): void {
    this.#answer(requestId, [error, baseOffset, logTimeMs]);
  }
  sendAckParts(requestId: number, results: ArrayLike<number>): void {
    this.#answer(requestId, Array.from(results));
  }
  push<K extends PushKindNumber>(_kind: K, body: Pushes[K]): void {
    this.pushes.push(body);
  }
}
