import type { PullRequest } from '../protocol/requests.ts';
import type { SqlFilter } from '../protocol/sql-filter/sql-filter.ts';
import type { Deadline, Deadlines } from './deadlines.ts';
import type { BrokerLimits } from './limits.ts';
import type { Session } from './session.ts';

/** A pull that is being answered, now or when something comes. */
export class Waiter implements Deadline {
  readonly session: Session;
  readonly requestId: number;
  readonly request: PullRequest;
  readonly waitMs: number;
  readonly arrivedMs: number;
  /** Compiled from the request's filter. */
  readonly sql: SqlFilter | null;
  /** Where to read: moves on past what the filter drops. */
  offset: number;
  key = -1;
  dueMs = 0;
  slot = -1;
  home: Waiters | null = null;

  constructor(session: Session, requestId: number, request: PullRequest, waitMs: number, arrivedMs: number, sql: SqlFilter | null) {
    this.session = session;
    this.requestId = requestId;
    this.request = request;
    this.waitMs = waitMs;
    this.arrivedMs = arrivedMs;
    this.sql = sql;
    this.offset = request.offset;
  }

  due(): void {
    this.home?.timedOut(this);
  }
}

/**
 * Held pulls by queue (F17). An applied batch wakes exactly the pulls of its queue, at the end of the run of entries;
 * nobody else is looked at. All time-outs share one timer.
 */
export class Waiters {
  readonly #deadlines: Deadlines;
  readonly #limits: BrokerLimits;
  readonly #resume: (waiter: Waiter, timedOut: boolean) => void;
  readonly #byQueue = new Map<number, Set<Waiter>>();
  readonly #bySession = new Map<Session, Set<Waiter>>();
  /** Queues that grew in this run and have waiters. */
  #grown = new Set<number>();
  #size = 0;

  constructor(deadlines: Deadlines, limits: BrokerLimits, resume: (waiter: Waiter, timedOut: boolean) => void) {
    this.#deadlines = deadlines;
    this.#limits = limits;
    this.#resume = resume;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns false at the bound: the pull is answered at once, empty */
  hold(waiter: Waiter, key: number, delayMs: number): boolean {
    let ofQueue = this.#byQueue.get(key);
    if (this.#size >= this.#limits.maxWaiters || (ofQueue?.size ?? 0) >= this.#limits.maxWaitersPerQueue) return false;
    if (ofQueue === undefined) {
      ofQueue = new Set();
      this.#byQueue.set(key, ofQueue);
    }
    ofQueue.add(waiter);
    let ofSession = this.#bySession.get(waiter.session);
    if (ofSession === undefined) {
      ofSession = new Set();
      this.#bySession.set(waiter.session, ofSession);
    }
    ofSession.add(waiter);
    waiter.key = key;
    waiter.home = this;
    this.#deadlines.set(waiter, delayMs);
    this.#size++;
    return true;
  }

  /** A batch of this queue was applied. Costs one look-up when nobody waits. */
  grew(key: number): void {
    if (this.#byQueue.has(key)) this.#grown.add(key);
  }

  /** End of a run of entries. */
  wakeGrown(): void {
    if (this.#grown.size === 0) return;
    const grown = this.#grown;
    this.#grown = new Set();
    for (const key of grown) this.wake(key);
  }

  /** All pulls held for one queue, oldest first. */
  wake(key: number): void {
    for (const waiter of [...(this.#byQueue.get(key) ?? [])]) {
      this.#drop(waiter);
      this.#resume(waiter, false);
    }
  }

  wakeIf(wanted: (waiter: Waiter) => boolean): void {
    for (const waiters of [...this.#byQueue.values()]) {
      for (const waiter of [...waiters]) {
        if (!wanted(waiter)) continue;
        this.#drop(waiter);
        this.#resume(waiter, true);
      }
    }
  }

  timedOut(waiter: Waiter): void {
    this.#drop(waiter);
    this.#resume(waiter, true);
  }

  dropSession(session: Session): void {
    for (const waiter of [...(this.#bySession.get(session) ?? [])]) this.#drop(waiter);
  }

  #drop(waiter: Waiter): void {
    this.#deadlines.remove(waiter);
    if (this.#remove(this.#byQueue, waiter.key, waiter)) this.#size--;
    this.#remove(this.#bySession, waiter.session, waiter);
  }

  #remove<K>(map: Map<K, Set<Waiter>>, key: K, waiter: Waiter): boolean {
    const set = map.get(key);
    if (set === undefined || !set.delete(waiter)) return false;
    if (set.size === 0) map.delete(key);
    return true;
  }
}
