import type { Io } from '../../src/io/io.ts';
import type { FrameConnection } from '../../src/io/net.ts';
import { errorCodeOf, LedgerError } from '../../src/protocol/errors.ts';
import { decodeBrokerFrame, encodeRequest } from '../../src/protocol/frame.ts';
import { Op, PROTOCOL_VERSION, type RequestOp, type Requests, type Responses } from '../../src/protocol/requests.ts';

const MAX_FRAME_BYTES = 16 * 1024 * 1024;

export interface Answer<O extends RequestOp> {
  readonly body: Responses[O];
  readonly raw: Uint8Array;
}

interface Waiting {
  readonly op: RequestOp;
  settle(error: LedgerError | null, answer: Answer<RequestOp> | null): void;
}

/**
 * One connection to one replica, speaking the native protocol and nothing more: what a reader needs that chooses its replica
 * itself and hides nothing. When the connection ends it is dialled again.
 */
export class WireClient {
  readonly #io: Pick<Io, 'clock' | 'net'>;
  readonly #url: string;
  readonly #waiting = new Map<number, Waiting>();
  #connection: FrameConnection | null = null;
  #open = false;
  #nextId = 1;
  #closed = false;

  constructor(io: Pick<Io, 'clock' | 'net'>, url: string) {
    this.#io = io;
    this.#url = url;
    this.#dial();
  }

  /** Rejects with the broker's code, or CONNECTION_LOST, DEADLINE_EXCEEDED. */
  request<O extends RequestOp>(op: O, body: Requests[O], timeoutMs = 2_000): Promise<Answer<O>> {
    if (!this.#open) return Promise.reject(new LedgerError('CONNECTION_LOST', this.#url));
    return this.#send(op, body, timeoutMs);
  }

  close(): void {
    this.#closed = true;
    this.#connection?.destroy();
  }

  #send<O extends RequestOp>(op: O, body: Requests[O], timeoutMs: number): Promise<Answer<O>> {
    const id = this.#nextId++;
    return new Promise<Answer<O>>((resolve, reject) => {
      const timer = this.#io.clock.setTimer(timeoutMs, () => this.#settle(id, new LedgerError('DEADLINE_EXCEEDED', this.#url), null));
      this.#waiting.set(id, {
        op,
        settle: (error, answer) => {
          this.#io.clock.clearTimer(timer);
          if (error === null) resolve(answer as Answer<O>);
          else reject(error);
        },
      });
      this.#connection?.send(encodeRequest(op, id, timeoutMs, body));
    });
  }

  #dial(): void {
    if (this.#closed) return;
    this.#connection = this.#io.net.dialFrames(this.#url, MAX_FRAME_BYTES, {
      onOpen: () => void this.#hello(),
      onFrame: (_connection, frame) => this.#onFrame(frame),
      onClose: () => this.#onClose(),
    });
  }

  async #hello(): Promise<void> {
    const hello = {
      minVersion: PROTOCOL_VERSION,
      maxVersion: PROTOCOL_VERSION,
      clientId: 'wire',
      namespace: '',
      zone: '',
      agent: 'simulation',
    };
    try {
      await this.#send(Op.hello, hello, 5_000);
      this.#open = true;
    } catch {
      this.#connection?.destroy();
    }
  }

  #onFrame(frame: Uint8Array): void {
    const answer = decodeBrokerFrame(frame, (id) => this.#waiting.get(id)?.op);
    if (answer.kind === 'error') this.#settle(answer.requestId, new LedgerError(errorCodeOf(answer.error), answer.detail), null);
    else if (answer.kind === 'response') this.#settle(answer.requestId, null, answer);
  }

  #settle(id: number, error: LedgerError | null, answer: Answer<RequestOp> | null): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.settle(error, answer);
  }

  #onClose(): void {
    this.#open = false;
    for (const id of [...this.#waiting.keys()]) this.#settle(id, new LedgerError('CONNECTION_LOST', this.#url), null);
    this.#io.clock.setTimer(100, () => this.#dial());
  }
}
