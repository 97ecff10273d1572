import { AssertionError } from '../base/assert.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import type { Command } from './commands.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import type { DeliveryRow } from './delivery.ts';
import type { PendingCommands } from './pending-commands.ts';

/** Entries of one loop on their way: a burst is not held up by one disk write after the other. */
const MAX_ENTRIES_IN_FLIGHT = 4;
/** A timer of the runtime holds no more than 2^31 ms, and log time is slewed: a far time is looked at again. */
const MAX_SLEEP_MS = 60_000;
/** Damage is being repaired, or the log takes nothing now. */
const RETRY_MS = 100;

/** What a loop proposes. */
export interface ProposalSource {
  readonly name: string;
  /** Proposes one entry by loop.propose(). @returns false when there is nothing to propose now: loop.sleepUntil() says when there is */
  propose(): Promise<boolean>;
  /** Nothing is in flight any more, and the last entries came to nothing: it begins again from the state. */
  restart(): void;
}

/**
 * Proposes entries that must be applied one after the other, a few of them in flight: when one comes to nothing those behind it do
 * too, and it begins again. For the leader; whatever is proposed twice must do nothing the second time.
 */
export class ProposalLoop implements Deadline {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #source: ProposalSource;
  inFlight = 0;
  #cause: ErrorCode | null = null;
  #running = false;
  /** Called while it ran: what it saw may be old. */
  #again = false;
  /** Due by the clock, but the next entry may carry an earlier time: looked at again when something was applied. */
  awaitsApply = false;
  dueMs = 0;
  slot = -1;

  constructor(context: BrokerContext, commands: PendingCommands, source: ProposalSource) {
    this.#context = context;
    this.#commands = commands;
    this.#source = source;
  }

  due(): void {
    if (this.inFlight === 0) this.#cause = null;
    this.run();
  }

  /** Leadership is lost; what was in flight has been answered. */
  stop(): void {
    this.#context.deadlines.remove(this);
    this.#cause = null;
    this.awaitsApply = false;
  }

  /** There may be something to propose. */
  run(): void {
    this.awaitsApply = false;
    if (this.#cause !== null) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    this.#propose().then(
      () => {
        this.#running = false;
        if (this.#again) this.run();
      },
      (error: unknown) => {
        this.#running = false;
        if (error instanceof AssertionError) throw error;
        this.#retryLater(String(error));
      },
    );
  }

  async #propose(): Promise<void> {
    this.#again = false;
    while (this.#context.leadership.ready && this.#cause === null && this.inFlight < MAX_ENTRIES_IN_FLIGHT) {
      if (!(await this.#source.propose())) return;
    }
  }

  /** @param settled called once */
  propose(command: Command, rows: readonly DeliveryRow[], settled: (error: ErrorCode | null) => void): void {
    this.inFlight++;
    const done = (error: ErrorCode | null): void => {
      this.inFlight--;
      this.#cause ??= error;
      settled(error);
      if (this.#cause === null) this.run();
      else if (this.inFlight === 0) this.#restart(this.#cause);
    };
    this.#commands.propose(command, done, rows);
  }

  #restart(cause: ErrorCode): void {
    this.#source.restart();
    if (cause !== 'NOT_READY') {
      this.#retryLater(cause);
      return;
    }
    this.#cause = null;
    this.run();
  }

  #retryLater(error: string): void {
    const { deadlines, leadership, metrics } = this.#context;
    if (!leadership.ready) return;
    metrics.event('delivery waits', { of: this.#source.name, error });
    deadlines.set(this, RETRY_MS);
  }

  /** @param dueMs log time */
  sleepUntil(dueMs: number): void {
    if (this.#cause !== null) return;
    const { replica, deadlines } = this.#context;
    const waitMs = dueMs - replica.logTimeMs();
    if (waitMs > 0) deadlines.set(this, Math.min(waitMs, MAX_SLEEP_MS));
    else this.awaitsApply = true;
  }
}

/**
 * A log time that an entry proposed now certainly has: the present one when nothing waits to be written or applied, else that of what
 * was applied last. The open write group carries the time at which it was begun.
 */
export function proposableLogTimeMs({ replica, state }: BrokerContext): number {
  return replica.allApplied() ? replica.logTimeMs() : state.logTimeMs;
}
