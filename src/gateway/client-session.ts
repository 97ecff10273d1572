import type { BrokerHello, Session } from '../broker/session.ts';
import type { FrameConnection } from '../io/net.ts';
import { type ErrorCode, errorCodeOf } from '../protocol/errors.ts';
import { encodePush, encodeRefusal, encodeResponse } from '../protocol/frame.ts';
import type { HelloRequest, Pushes, PushKindNumber, RequestOp, Responses } from '../protocol/requests.ts';
import { Op, PushKind } from '../protocol/requests.ts';
import { SendAckWriter } from '../protocol/send-acks.ts';
import type { GatewayLimits } from './limits.ts';
import type { Traffic } from './traffic.ts';

/** A pull may be held for long and has no raw bytes: a stopping broker does not wait for it. */
export const HELD = -1;

/** What a session tells its gateway. */
export interface SessionOwner {
  readonly limits: GatewayLimits;
  readonly traffic: Traffic;
  /** The session has acknowledgements: flushAcks() at the end of the turn. Said once a turn. */
  acksWaiting(session: ClientSession): void;
  drained(session: ClientSession): void;
  /** A request was answered; of interest while draining. */
  answered(session: ClientSession): void;
}

/**
 * One connection after its hello: answers become frames, unanswered requests are counted and their raw bytes are the credit
 * that is in use.
 */
export class ClientSession implements Session {
  readonly id: number;
  readonly clientId: string;
  readonly namespace: string;
  readonly zone: string;
  readonly agent: string;
  readonly address: string;
  readonly #connection: FrameConnection;
  readonly #owner: SessionOwner;
  /** Unanswered requests → their raw bytes; HELD for pulls. At most maxConnectionRequests. */
  readonly #pending = new Map<number, number>();
  #pendingRawBytes = 0;
  #paused = false;
  readonly #acks = new SendAckWriter();
  #congested = false;
  #closed = false;
  /** It has sent a message. */
  isProducer = false;

  constructor(id: number, hello: HelloRequest, connection: FrameConnection, owner: SessionOwner) {
    this.id = id;
    this.clientId = hello.clientId;
    this.namespace = hello.namespace;
    this.zone = hello.zone;
    this.agent = hello.agent;
    this.address = connection.remoteAddress;
    this.#connection = connection;
    this.#owner = owner;
  }

  get congested(): boolean {
    return this.#congested;
  }
  get closed(): boolean {
    return this.#closed;
  }
  get pending(): number {
    return this.#pending.size;
  }
  get paused(): boolean {
    return this.#paused;
  }

  /** Takes a request in. @param rawBytes HELD for a pull. @returns why it is refused, or null */
  admit(requestId: number, rawBytes: number): ErrorCode | null {
    // Two answers under one id could not be told apart.
    if (this.#pending.has(requestId)) return 'BAD_REQUEST';
    if (this.#pending.size >= this.#owner.limits.maxConnectionRequests) return 'TOO_MANY';
    this.#pending.set(requestId, rawBytes);
    if (rawBytes !== HELD) this.#pendingRawBytes += rawBytes;
    if (!this.#paused && this.#pendingRawBytes > this.#owner.limits.sendWindowBytes) {
      this.#paused = true;
      this.#connection.pause();
    }
    return null;
  }

  welcome(requestId: number, broker: BrokerHello, version: number): void {
    const { maxFrameBytes, sendWindowBytes } = this.#owner.limits;
    this.#send(encodeResponse(Op.hello, requestId, { version, ...broker, maxFrameBytes, sendWindowBytes }));
  }

  respond<O extends Exclude<RequestOp, typeof Op.send>>(
    op: O,
    requestId: number,
    body: Responses[O],
    raw?: Uint8Array,
    headroomBytes?: number,
  ): void {
    if (!this.#settle(requestId)) return;
    this.#send(encodeResponse(op, requestId, body, raw, headroomBytes));
    this.#owner.answered(this);
  }

  refuse(requestId: number, code: ErrorCode, detail?: string): void {
    if (!this.#settle(requestId)) return;
    this.#owner.traffic.errorCode(code);
    this.#send(encodeRefusal(requestId, code, detail));
    this.#owner.answered(this);
  }

  sendAck(requestId: number, error: number, baseOffset: number, logTimeMs: number): void {
    if (!this.#settle(requestId)) return;
    if (error !== 0) this.#owner.traffic.error(error);
    this.#announceAcks();
    this.#acks.add(requestId, error, baseOffset, logTimeMs);
  }

  sendAckParts(requestId: number, results: ArrayLike<number>): void {
    if (!this.#settle(requestId)) return;
    for (let at = 0; at < results.length; at += 3) if (results[at] !== 0) this.#owner.traffic.error(results[at] as number);
    this.#announceAcks();
    this.#acks.addParts(requestId, results);
  }

  push<K extends PushKindNumber>(kind: K, body: Pushes[K]): void {
    if (!this.#closed) this.#send(encodePush(kind, body));
  }

  /** The broker stops: held pulls are sent elsewhere. Nothing is lost by it, a pull changes nothing. */
  refusePulls(): void {
    for (const [requestId, rawBytes] of this.#pending) if (rawBytes === HELD) this.refuse(requestId, 'NOT_READY', 'the broker stops');
  }

  /** A refusal of something that was never admitted. */
  refuseUnadmitted(requestId: number, code: ErrorCode, detail?: string): void {
    this.#owner.traffic.errorCode(code);
    this.#send(encodeRefusal(requestId, code, detail));
  }

  /** Tells the client why, and closes when everything is sent. */
  goAway(error: number, detail: string): void {
    if (this.#closed) return;
    this.push(PushKind.goAway, { error, detail: error === 0 ? detail : `${errorCodeOf(error)}: ${detail}` });
    this.#connection.close();
  }

  destroy(): void {
    this.#connection.destroy();
  }

  /** The connection is gone. */
  markClosed(): void {
    this.#closed = true;
    this.#pending.clear();
    this.#pendingRawBytes = 0;
  }

  flushAcks(): void {
    if (this.#acks.empty) return;
    const frame = this.#acks.take();
    if (this.#closed) return;
    this.#send(frame);
    this.#owner.answered(this);
  }

  /** One-way sends are settled without a frame. */
  settleOneWay(requestId: number): void {
    this.#settle(requestId);
  }

  #announceAcks(): void {
    if (this.#acks.empty) this.#owner.acksWaiting(this);
  }

  /** @returns false when nobody waits for this answer (any more) */
  #settle(requestId: number): boolean {
    const rawBytes = this.#pending.get(requestId);
    if (rawBytes === undefined) return false;
    this.#pending.delete(requestId);
    if (rawBytes !== HELD) this.#pendingRawBytes -= rawBytes;
    // Half a window of hysteresis: resuming at each answer would read one frame at a time.
    if (this.#paused && this.#pendingRawBytes <= this.#owner.limits.sendWindowBytes / 2) {
      this.#paused = false;
      this.#connection.resume();
    }
    return true;
  }

  #send(frame: Uint8Array): void {
    if (this.#closed) return;
    const connection = this.#connection;
    const bound = this.#owner.limits.maxConnectionBufferBytes;
    const queuedBytes = connection.bufferedBytes;
    this.#owner.traffic.out(frame.length);
    // A client that takes nothing while answers pile up is gone or stuck; its memory is not ours to give.
    if (queuedBytes > 2 * bound) {
      connection.destroy();
      return;
    }
    if (!this.#congested && queuedBytes + frame.length <= bound) {
      connection.send(frame);
      return;
    }
    // While congested every frame reports its end, so the last of them surely finds the queue short.
    this.#congested = true;
    connection.send(frame, this.#onFlushed);
  }

  readonly #onFlushed = (): void => {
    if (!this.#congested || this.#closed) return;
    if (this.#connection.bufferedBytes > this.#owner.limits.maxConnectionBufferBytes / 2) return;
    this.#congested = false;
    this.#owner.drained(this);
  };
}
