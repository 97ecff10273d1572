import type { RequestHandler } from '../broker/session.ts';
import type { Clock, Timer } from '../io/clock.ts';
import type { FrameConnection, FrameHandlers, Listener, Net } from '../io/net.ts';
import { ERRORS, type ErrorCode, LedgerError } from '../protocol/errors.ts';
import { decodeRequest, encodePush, encodeRefusal, type Request } from '../protocol/frame.ts';
import { type HelloRequest, Op, PROTOCOL_VERSION, PushKind } from '../protocol/requests.ts';
import { ClientSession, HELD, type SessionOwner } from './client-session.ts';
import { DEFAULT_GATEWAY_LIMITS, type GatewayLimits } from './limits.ts';
import { Traffic } from './traffic.ts';

export interface NativeGatewayOptions {
  readonly clock: Clock;
  readonly net: Net;
  readonly handler: RequestHandler;
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly limits?: Partial<GatewayLimits>;
  /** A client was turned away or cut off: for log and metrics. */
  readonly onRefused?: (code: ErrorCode, address: string, detail: string) => void;
}

/** After draining: how long clients may take to read the last answers and close. */
const CLOSE_WAIT_MS = 1_000;

export interface GatewayCounts {
  readonly connections: number;
  readonly pendingRequests: number;
}

/** Listens for clients and drives the broker. Transport only: no semantics. */
export class NativeGateway {
  readonly #options: NativeGatewayOptions;
  readonly #limits: GatewayLimits;
  readonly traffic = new Traffic();
  readonly #guests = new Set<Guest>();
  readonly #sessions = new Set<ClientSession>();
  readonly #owner: SessionOwner;
  #ackers: ClientSession[] = [];
  #nextSessionId = 1;
  #listener: Listener | null = null;
  #idleTimer: Timer | null = null;
  #draining = false;
  /** Set while drain() waits. */
  #onProgress: (() => void) | null = null;

  private constructor(options: NativeGatewayOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits };
    this.#owner = {
      limits: this.#limits,
      traffic: this.traffic,
      acksWaiting: (session) => {
        this.#ackers.push(session);
        if (this.#ackers.length === 1) options.clock.defer(this.#flushAcks);
      },
      drained: (session) => options.handler.drained(session),
      answered: () => this.#onProgress?.(),
    };
  }

  /** Rejects when the port cannot be bound. */
  static async listen(options: NativeGatewayOptions): Promise<NativeGateway> {
    const gateway = new NativeGateway(options);
    gateway.#listener = await options.net.listenFrames(options.host, options.port, gateway.#limits.maxFrameBytes, (connection) =>
      gateway.#accept(connection),
    );
    gateway.#armIdleTimer();
    return gateway;
  }

  get port(): number {
    return (this.#listener as Listener).port;
  }

  counts(): GatewayCounts {
    let pendingRequests = 0;
    for (const session of this.#sessions) pendingRequests += session.pending;
    return { connections: this.#guests.size, pendingRequests };
  }

  /** Connections that are not read from because their window is full. */
  get pausedConnections(): number {
    let paused = 0;
    for (const session of this.#sessions) if (session.paused) paused++;
    return paused;
  }

  /** Agents of the connections that have sent a message. */
  *producerAgents(): Generator<string> {
    for (const session of this.#sessions) if (session.isProducer) yield session.agent;
  }

  /**
   * Orderly end: clients are told to go elsewhere, new connections and requests are refused with NOT_READY, held pulls
   * too, what else is pending is answered; after that, or after `timeoutMs`, the connections are closed with all that was sent. close() follows.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#draining = true;
    for (const session of this.#sessions) {
      session.push(PushKind.goAway, { error: 0, detail: 'the broker stops' });
      session.refusePulls();
    }
    await this.#until(() => this.counts().pendingRequests === 0, timeoutMs);
    // What was acknowledged in this very turn is still to be said.
    this.#flushAcks();
    for (const guest of this.#guests) guest.connection.close();
    await this.#until(() => this.#guests.size === 0, CLOSE_WAIT_MS);
  }

  /** Destroys all connections. */
  async close(): Promise<void> {
    this.#draining = true;
    if (this.#idleTimer !== null) this.#options.clock.clearTimer(this.#idleTimer);
    this.#idleTimer = null;
    for (const guest of this.#guests) guest.connection.destroy();
    await this.#listener?.close();
  }

  /** Resolves when `condition` holds after an answer or a close, or after `timeoutMs`. */
  async #until(condition: () => boolean, timeoutMs: number): Promise<void> {
    if (condition()) return;
    const { clock } = this.#options;
    await new Promise<void>((resolve) => {
      const timer = clock.setTimer(timeoutMs, resolve);
      this.#onProgress = () => {
        if (!condition()) return;
        clock.clearTimer(timer);
        resolve();
      };
    });
    this.#onProgress = null;
  }

  readonly #flushAcks = (): void => {
    const ackers = this.#ackers;
    this.#ackers = [];
    for (const session of ackers) session.flushAcks();
  };

  #accept(connection: FrameConnection): FrameHandlers {
    const guest: Guest = { connection, session: null, helloTimer: null, lastFrameMs: 0, leaving: false };
    return {
      onOpen: () => this.#onOpen(guest),
      onFrame: (_, frame) => this.#onFrame(guest, frame),
      onClose: () => this.#onClose(guest),
    };
  }

  #onOpen(guest: Guest): void {
    const full = this.#guests.size >= this.#limits.maxConnections;
    this.#guests.add(guest);
    guest.lastFrameMs = this.#options.clock.monotonicMs();
    if (full) this.#turnAway(guest, 'TOO_MANY', `more than ${this.#limits.maxConnections} connections`);
    else if (this.#draining) this.#turnAway(guest, 'NOT_READY', 'the broker stops');
    else {
      guest.helloTimer = this.#options.clock.setTimer(this.#limits.helloTimeoutMs, () =>
        this.#turnAway(guest, 'DEADLINE_EXCEEDED', 'no hello in time'),
      );
    }
  }

  #onFrame(guest: Guest, frame: Uint8Array): void {
    if (guest.leaving) return;
    this.traffic.in(frame.length);
    guest.lastFrameMs = this.#options.clock.monotonicMs();
    try {
      const request = decodeRequest(frame);
      if (guest.session === null) this.#onHello(guest, request);
      else if ('error' in request) guest.session.refuseUnadmitted(request.requestId, request.error.code, request.error.detail);
      else this.#onRequest(guest.session, request);
    } catch (error) {
      // Anything else is a defect of this program and must end it.
      if (!(error instanceof LedgerError)) throw error;
      this.#turnAway(guest, error.code, error.detail);
    }
  }

  #onHello(guest: Guest, request: ReturnType<typeof decodeRequest>): void {
    if ('error' in request || request.op !== Op.hello) throw new LedgerError('BAD_REQUEST', 'the first frame must be hello');
    const hello: HelloRequest = request.body;
    if (hello.minVersion > PROTOCOL_VERSION || hello.maxVersion < PROTOCOL_VERSION) {
      guest.connection.send(encodeRefusal(request.requestId, 'UNSUPPORTED_VERSION', `this broker speaks ${PROTOCOL_VERSION}`));
      throw new LedgerError('UNSUPPORTED_VERSION', `client speaks ${hello.minVersion}…${hello.maxVersion}`);
    }
    const session = new ClientSession(this.#nextSessionId++, hello, guest.connection, this.#owner);
    const answer = this.#options.handler.opened(session, hello);
    if (typeof answer === 'string') {
      guest.connection.send(encodeRefusal(request.requestId, answer));
      throw new LedgerError(answer, 'refused at hello');
    }
    this.#clearHelloTimer(guest);
    guest.session = session;
    this.#sessions.add(session);
    session.welcome(request.requestId, answer, PROTOCOL_VERSION);
  }

  #onRequest(session: ClientSession, request: Request): void {
    const { requestId } = request;
    if (request.op === Op.hello) throw new LedgerError('BAD_REQUEST', 'a second hello');
    const oneWay = request.op === Op.send && request.body.oneWay;
    if (request.op === Op.send) session.isProducer = true;
    if (this.#draining) {
      if (!oneWay) session.refuseUnadmitted(requestId, 'NOT_READY', 'the broker stops');
      return;
    }
    const refusal = session.admit(requestId, request.op === Op.pull ? HELD : request.raw.length);
    if (refusal === 'BAD_REQUEST') throw new LedgerError('BAD_REQUEST', 'request id in use');
    if (refusal !== null) {
      if (!oneWay) session.refuseUnadmitted(requestId, refusal, `more than ${this.#limits.maxConnectionRequests} unanswered requests`);
      return;
    }
    this.#options.handler.request(session, request);
    if (oneWay) session.settleOneWay(requestId);
  }

  /** Says why and closes; nothing more is read from it. */
  #turnAway(guest: Guest, code: ErrorCode, detail: string): void {
    if (guest.leaving) return;
    guest.leaving = true;
    this.#clearHelloTimer(guest);
    this.traffic.refuse(code);
    this.#options.onRefused?.(code, guest.connection.remoteAddress, detail);
    guest.connection.send(encodePush(PushKind.goAway, { error: ERRORS[code].number, detail: detail.slice(0, 1024) }));
    guest.connection.close();
  }

  #onClose(guest: Guest): void {
    guest.leaving = true;
    this.#clearHelloTimer(guest);
    this.#guests.delete(guest);
    const { session } = guest;
    if (session !== null) {
      session.markClosed();
      this.#sessions.delete(session);
      this.#options.handler.closed(session);
    }
    this.#onProgress?.();
  }

  #clearHelloTimer(guest: Guest): void {
    if (guest.helloTimer !== null) this.#options.clock.clearTimer(guest.helloTimer);
    guest.helloTimer = null;
  }

  /** One timer for all: a timer for each frame would cost more than the frame. */
  #armIdleTimer(): void {
    const { clock } = this.#options;
    this.#idleTimer = clock.setTimer(this.#limits.idleTimeoutMs / 4, () => {
      const oldest = clock.monotonicMs() - this.#limits.idleTimeoutMs;
      for (const guest of this.#guests) {
        // One that is not read from cannot show that it lives.
        if (guest.lastFrameMs < oldest && guest.session?.paused !== true) guest.connection.destroy();
      }
      this.#armIdleTimer();
    });
  }
}

/** A connection, before and after its hello. */
interface Guest {
  readonly connection: FrameConnection;
  session: ClientSession | null;
  helloTimer: Timer | null;
  lastFrameMs: number;
  /** Refused or closed: what still arrives is not looked at. */
  leaving: boolean;
}
