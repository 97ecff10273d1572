import { ERRORS, LedgerError } from '../protocol/errors.ts';
import type { RequestOp, Requests, Responses } from '../protocol/requests.ts';
import { backoffMs } from './backoff.ts';
import type { Connections } from './connections.ts';
import { ANSWER_GRACE_MS, type ClientIo, type Link } from './link.ts';
import { Naps } from './naps.ts';
import { ROUTE_WAIT_MS, type Router } from './router.ts';
import type { Tracing } from './tracing.ts';

/** Between attempts of a request that met no leader. */
const REDIRECT_BACKOFF = { baseMs: 10, factor: 2, capMs: 500, jitter: true } as const;

export interface Reply<O extends RequestOp> {
  readonly body: Responses[O];
  readonly raw: Uint8Array;
}

/** What consumers and administration share: requests as promises, sent again to whoever leads. */
export class ClientCore {
  readonly io: ClientIo;
  readonly router: Router;
  readonly connections: Connections;
  readonly clientId: string;
  readonly requestTimeoutMs: number;
  readonly tracing: Tracing | null;
  readonly #naps: Naps;

  constructor(
    io: ClientIo,
    router: Router,
    connections: Connections,
    clientId: string,
    requestTimeoutMs: number,
    tracing: Tracing | null = null,
  ) {
    this.io = io;
    this.router = router;
    this.connections = connections;
    this.clientId = clientId;
    this.requestTimeoutMs = requestTimeoutMs;
    this.tracing = tracing;
    this.#naps = new Naps(io.clock);
  }

  /** Ends early when the client closes. */
  sleep(delayMs: number): Promise<void> {
    return this.#naps.take(delayMs);
  }

  /** Whoever still asks a leader again and again gives up: nothing of a closed client keeps the process alive. */
  close(): void {
    this.#naps.close();
  }

  /** Waits for `work`, `timeoutMs` at most. No timer is left behind: it would keep the process alive. */
  within(work: Promise<unknown>, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = this.io.clock.setTimer(timeoutMs, resolve);
      work.finally(() => this.io.clock.clearTimer(timer)).then(() => resolve(), reject);
    });
  }

  /** One attempt at one broker. @param sent record batches, for a send @throws LedgerError */
  ask<O extends RequestOp>(link: Link, op: O, body: Requests[O], timeoutMs: number, sent?: Uint8Array): Promise<Reply<O>> {
    return new Promise((resolve, reject) => {
      const answered = (error: LedgerError | null, answer: unknown, raw: Uint8Array): void => {
        if (error !== null) reject(error);
        else resolve({ body: answer as Responses[O], raw });
      };
      link.request(op, body, timeoutMs, answered, sent);
    });
  }

  /**
   * Asks the leader of a broker group, again and again until `timeoutMs`, as long as no leader answered. For requests that
   * may be carried out twice.
   * @throws LedgerError the leader's refusal, or the last failure when the time is over
   */
  async askLeader<O extends RequestOp>(
    brokerName: string,
    op: O,
    body: Requests[O],
    timeoutMs = this.requestTimeoutMs,
    sent?: Uint8Array,
  ): Promise<Reply<O>> {
    const { clock, random } = this.io;
    const deadlineAt = clock.monotonicMs() + timeoutMs;
    let failure = new LedgerError('NO_ROUTE', brokerName);
    for (let attempt = 0; ; attempt++) {
      const leftMs = deadlineAt - clock.monotonicMs();
      if (this.#naps.closed) throw new LedgerError('CLOSED');
      if (leftMs <= 0) throw failure;
      const link = this.router.leader(brokerName);
      const term = this.router.term(brokerName);
      let stale = false;
      if (link?.ready) {
        try {
          return await this.ask(link, op, body, leftMs, sent);
        } catch (error) {
          failure = error as LedgerError;
          if (!isTransient(failure)) throw failure;
          stale = failure.code === 'NOT_LEADER';
        }
      }
      this.router.suspect();
      if (stale) await this.router.otherTerm(brokerName, term, Math.min(deadlineAt - clock.monotonicMs(), ROUTE_WAIT_MS));
      else await this.sleep(Math.min(leftMs, Math.max(1, backoffMs(REDIRECT_BACKOFF, attempt, random))));
    }
  }

  /** Asks any broker that answers. @throws LedgerError */
  async askAny<O extends RequestOp>(op: O, body: Requests[O], timeoutMs = this.requestTimeoutMs): Promise<Reply<O>> {
    await this.router.findBrokers(timeoutMs);
    const link = [...this.connections.all].find(({ ready }) => ready);
    if (link === undefined) throw new LedgerError('NO_ROUTE', 'no broker is connected');
    return this.ask(link, op, body, timeoutMs + ANSWER_GRACE_MS);
  }
}

/** OUTCOME_UNKNOWN: the leader changed under a command that may be carried out twice. */
const AGAIN: ReadonlySet<string> = new Set(['CONNECTION_LOST', 'DEADLINE_EXCEEDED', 'OUTCOME_UNKNOWN', 'TOO_MANY']);

/** The request met no leader, or its answer was lost: another attempt may fare better. */
export function isTransient(error: LedgerError): boolean {
  const { retry } = ERRORS[error.code];
  return retry === 'redirect' || AGAIN.has(error.code);
}
