import type { Clock, Timer } from '../io/clock.ts';
import type { Io } from '../io/io.ts';
import type { FrameConnection } from '../io/net.ts';
import { errorCodeOf, LedgerError } from '../protocol/errors.ts';
import { type BrokerFrame, decodeBrokerFrame, encodeRequest } from '../protocol/frame.ts';
import {
  type HelloRequest,
  type HelloResponse,
  Op,
  PROTOCOL_VERSION,
  type Pushes,
  type PushKindNumber,
  type RequestOp,
  type Requests,
  type Responses,
} from '../protocol/requests.ts';
import { forEachSendAck } from '../protocol/send-acks.ts';
import { type BackoffOptions, backoffMs } from './backoff.ts';

export type ClientIo = Pick<Io, 'clock' | 'random' | 'net'>;

export interface LinkOptions {
  readonly hello: Pick<HelloRequest, 'clientId' | 'namespace' | 'zone' | 'agent' | 'credentials'>;
  readonly requestTimeoutMs: number;
  readonly reconnect: BackoffOptions;
  readonly keepAliveMs: number;
  readonly maxFrameBytes: number;
  /** Unanswered requests of a link; more are refused with BUSY. */
  readonly maxPendingRequests: number;
}

export interface LinkEvents {
  onReady(link: Link): void;
  /** Every pending request was answered with CONNECTION_LOST before. */
  onLost(link: Link): void;
  onPush<K extends PushKindNumber>(link: Link, kind: K, body: Pushes[K]): void;
}

export type Answer<O extends RequestOp> = (error: LedgerError | null, body: Responses[O] | null, raw: Uint8Array) => void;

interface Pending {
  readonly op: RequestOp;
  readonly answer: (error: LedgerError | null, body: unknown, raw: Uint8Array) => void;
  readonly deadlineAt: number;
}

/** Long polls are held for their wait; the answer may take this much longer. */
export const ANSWER_GRACE_MS = 3_000;
const NO_BYTES = new Uint8Array(0);

/**
 * The connection to one broker address, dialled again for as long as somebody wants it. Requests are matched by id and
 * end at their deadline; a lost connection ends them all with CONNECTION_LOST, and who asked decides what that means.
 */
export class Link {
  readonly endpoint: string;
  readonly #io: ClientIo;
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  readonly #pending = new Map<number, Pending>();
  readonly #waiting = new Set<() => void>();
  #connection: FrameConnection | null = null;
  #hello: HelloResponse | null = null;
  #nextRequestId = 1;
  #generation = 0;
  #failedDials = 0;
  #redialTimer: Timer | null = null;
  #keepAliveTimer: Timer | null = null;
  #sweepTimer: Timer | null = null;
  #sweepAt = Number.POSITIVE_INFINITY;
  #heardAt = 0;
  #closed = false;

  constructor(endpoint: string, io: ClientIo, options: LinkOptions, events: LinkEvents) {
    this.endpoint = endpoint;
    this.#io = io;
    this.#options = options;
    this.#events = events;
  }

  /** What the broker said of itself; null while not connected. */
  get hello(): HelloResponse | null {
    return this.#hello;
  }
  get ready(): boolean {
    return this.#hello !== null;
  }
  /** Raised with each connection that became ready. */
  get generation(): number {
    return this.#generation;
  }
  /** Dials that failed in a row; 0 once connected. */
  get failedDials(): number {
    return this.#failedDials;
  }

  /** Dials unless connected, dialling or waiting to dial again. */
  connect(): void {
    if (this.#closed || this.#connection !== null || this.#redialTimer !== null) return;
    this.#dial();
  }

  /** Calls back when ready (at once if it is), or with false when `timeoutMs` passed or the link was closed. */
  whenReady(timeoutMs: number, callback: (ready: boolean) => void): void {
    if (this.ready || this.#closed) {
      callback(this.ready);
      return;
    }
    this.connect();
    const clock = this.#io.clock;
    const done = (): void => {
      clock.clearTimer(timer);
      this.#waiting.delete(done);
      callback(this.ready);
    };
    const timer = clock.setTimer(timeoutMs, done);
    this.#waiting.add(done);
  }

  /**
   * Sends one request now.
   * @param deadlineMs how long the answer may take; then DEADLINE_EXCEEDED
   * @param raw record batches behind `headroomBytes` free bytes (encodeFrame()); not to be used for another frame
   */
  request<O extends RequestOp>(
    op: O,
    body: Requests[O],
    deadlineMs: number,
    answer: Answer<O>,
    raw?: Uint8Array,
    headroomBytes?: number,
  ): void {
    if (this.#connection === null || this.#hello === null) {
      answer(new LedgerError('CONNECTION_LOST', this.endpoint), null, NO_BYTES);
      return;
    }
    if (this.#pending.size >= this.#options.maxPendingRequests) {
      answer(new LedgerError('BUSY', 'too many unanswered requests'), null, NO_BYTES);
      return;
    }
    this.#sendRequest(op, body, deadlineMs, answer as Pending['answer'], raw, headroomBytes);
  }

  /** Sends a request that is never answered (one-way sends). @returns whether the socket took it */
  post<O extends RequestOp>(op: O, body: Requests[O], raw: Uint8Array, headroomBytes: number): boolean {
    if (this.#connection === null || this.#hello === null) return false;
    this.#connection.send(encodeRequest(op, this.#takeRequestId(), 0, body, raw, headroomBytes));
    return true;
  }

  /** Bytes that the socket has not taken yet. */
  get bufferedBytes(): number {
    return this.#connection?.bufferedBytes ?? 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#redialTimer !== null) this.#io.clock.clearTimer(this.#redialTimer);
    this.#redialTimer = null;
    const connection = this.#connection;
    this.#lost();
    connection?.close();
  }

  #dial(): void {
    this.#connection = this.#io.net.dialFrames(this.endpoint, this.#options.maxFrameBytes, {
      onOpen: (connection) => {
        if (this.#connection === connection) this.#greet(connection);
      },
      onFrame: (connection, frame) => {
        if (this.#connection === connection) this.#received(connection, frame);
      },
      onClose: (connection) => {
        if (this.#connection === connection) this.#lost();
      },
    });
    this.#heardAt = this.#io.clock.monotonicMs();
    this.#armKeepAlive(this.#connection);
  }

  #greet(connection: FrameConnection): void {
    const { clientId, namespace, zone, agent, credentials } = this.#options.hello;
    const body: HelloRequest = { minVersion: PROTOCOL_VERSION, maxVersion: PROTOCOL_VERSION, clientId, namespace, zone, agent };
    const answer = (error: LedgerError | null, hello: unknown): void => {
      if (this.#connection !== connection) return;
      if (error !== null) {
        connection.destroy();
        return;
      }
      this.#hello = hello as HelloResponse;
      this.#failedDials = 0;
      this.#generation += 1;
      this.#wake();
      this.#events.onReady(this);
    };
    this.#sendRequest(Op.hello, credentials === undefined ? body : { ...body, credentials }, this.#options.requestTimeoutMs, answer);
  }

  #sendRequest<O extends RequestOp>(
    op: O,
    body: Requests[O],
    deadlineMs: number,
    answer: Pending['answer'],
    raw?: Uint8Array,
    headroomBytes?: number,
  ): void {
    const requestId = this.#takeRequestId();
    const deadlineAt = this.#io.clock.monotonicMs() + deadlineMs;
    this.#pending.set(requestId, { op, answer, deadlineAt });
    if (deadlineAt < this.#sweepAt) this.#armSweep(deadlineAt);
    this.#connection?.send(encodeRequest(op, requestId, Math.ceil(deadlineMs), body, raw, headroomBytes));
  }

  #takeRequestId(): number {
    const requestId = this.#nextRequestId;
    this.#nextRequestId = requestId === 0xffff_ffff ? 1 : requestId + 1;
    return requestId;
  }

  #received(connection: FrameConnection, frame: Uint8Array): void {
    this.#heardAt = this.#io.clock.monotonicMs();
    try {
      const incoming = decodeBrokerFrame(frame, this.#opOf);
      if (incoming.kind === 'sendAcks') {
        forEachSendAck(incoming.raw, (requestId, results) => this.#answered(requestId, null, { results }, NO_BYTES));
      } else this.#dispatch(incoming);
    } catch (error) {
      // A peer that breaks the framing cannot be followed any further; anything else is ours and must not be hidden.
      if (!(error instanceof LedgerError && error.code === 'BAD_REQUEST')) throw error;
      connection.destroy();
    }
  }

  readonly #opOf = (requestId: number): RequestOp | undefined => this.#pending.get(requestId)?.op;

  #dispatch(incoming: BrokerFrame): void {
    switch (incoming.kind) {
      case 'push':
        this.#events.onPush(this, incoming.push.kind, incoming.push.body);
        break;
      case 'error':
        this.#answered(incoming.requestId, new LedgerError(errorCodeOf(incoming.error), incoming.detail), null, NO_BYTES);
        break;
      case 'response':
        this.#answered(incoming.requestId, null, incoming.body, incoming.raw);
    }
  }

  #answered(requestId: number, error: LedgerError | null, body: unknown, raw: Uint8Array): void {
    const pending = this.#pending.get(requestId);
    // An answer after its deadline: nobody waits for it any more.
    if (pending === undefined) return;
    this.#pending.delete(requestId);
    pending.answer(error, body, raw);
  }

  #lost(): void {
    const wasReady = this.#hello !== null;
    this.#connection = null;
    this.#hello = null;
    const clock = this.#io.clock;
    if (this.#keepAliveTimer !== null) clock.clearTimer(this.#keepAliveTimer);
    if (this.#sweepTimer !== null) clock.clearTimer(this.#sweepTimer);
    this.#keepAliveTimer = null;
    this.#sweepTimer = null;
    this.#sweepAt = Number.POSITIVE_INFINITY;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    if (!this.#closed) this.#redialLater();
    const error = new LedgerError(this.#closed ? 'CLOSED' : 'CONNECTION_LOST', this.endpoint);
    for (const { answer } of pending) answer(error, null, NO_BYTES);
    if (this.#closed) this.#wake();
    if (wasReady) this.#events.onLost(this);
  }

  #redialLater(): void {
    const delayMs = backoffMs(this.#options.reconnect, this.#failedDials++, this.#io.random);
    this.#redialTimer = this.#io.clock.setTimer(delayMs, () => {
      this.#redialTimer = null;
      this.connect();
    });
  }

  #wake(): void {
    for (const callback of [...this.#waiting]) callback();
  }

  /** A broker that is frozen or cut off sends no reset: silence is found by asking. */
  #armKeepAlive(connection: FrameConnection): void {
    const { clock } = this.#io;
    const { keepAliveMs } = this.#options;
    this.#keepAliveTimer = clock.setTimer(keepAliveMs, () => {
      if (this.#connection !== connection) return;
      const silentMs = clock.monotonicMs() - this.#heardAt;
      if (silentMs >= 2 * keepAliveMs) {
        connection.destroy();
        if (this.#connection === connection) this.#lost();
        return;
      }
      if (silentMs >= keepAliveMs / 2 && this.#hello !== null) this.#sendRequest(Op.ping, {}, 2 * keepAliveMs, () => {});
      this.#armKeepAlive(connection);
    });
  }

  #armSweep(deadlineAt: number): void {
    const clock: Clock = this.#io.clock;
    if (this.#sweepTimer !== null) clock.clearTimer(this.#sweepTimer);
    this.#sweepAt = deadlineAt;
    this.#sweepTimer = clock.setTimer(Math.max(0, deadlineAt - clock.monotonicMs()), () => this.#sweep());
  }

  #sweep(): void {
    this.#sweepTimer = null;
    this.#sweepAt = Number.POSITIVE_INFINITY;
    const now = this.#io.clock.monotonicMs();
    const late: Pending[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [requestId, pending] of this.#pending) {
      if (pending.deadlineAt <= now) {
        this.#pending.delete(requestId);
        late.push(pending);
      } else if (pending.deadlineAt < next) next = pending.deadlineAt;
    }
    if (next !== Number.POSITIVE_INFINITY) this.#armSweep(next);
    for (const { answer } of late) answer(new LedgerError('DEADLINE_EXCEEDED', this.endpoint), null, NO_BYTES);
  }
}
