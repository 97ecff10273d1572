import { AssertionError } from '../base/assert.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import type { DeliveryRow } from './delivery.ts';
import type { PendingCommands } from './pending-commands.ts';
import { releasedBy, type WaitingRows, type WaitingUnit } from './waiting-rows.ts';

/** Entries of one level on their way: a burst is not held up by one disk write after the other. */
const MAX_ENTRIES_IN_FLIGHT = 4;
/** Of one entry: 64 KiB. */
const ROWS_PER_ENTRY = 1_024;
/** A timer of the runtime holds no more than 2^31 ms, and log time is slewed: a far time is looked at again. */
const MAX_SLEEP_MS = 60_000;
/** Damage is being repaired, or the log takes nothing now. */
const RETRY_MS = 100;

/** Delivers what waits in one level's queue (F13): the leader's. Goes on from where the state says that it is. */
export class LevelDelivery implements Deadline {
  readonly #level: number;
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #rows: WaitingRows;
  #units: UnitBatch | null = null;
  #inFlight = 0;
  /** End of what is proposed, while something is in flight. */
  #proposedTo = 0;
  /** An entry in flight came to nothing: those behind it will too, and then it begins again where the state is. */
  #broken = false;
  #running = false;
  /** Called while it ran: what it saw may be old. */
  #again = false;
  /** Due by the clock, but the next entry may carry an earlier time: looked at again when something was applied. */
  awaitsApply = false;
  dueMs = 0;
  slot = -1;

  constructor(level: number, context: BrokerContext, commands: PendingCommands, rows: WaitingRows) {
    this.#level = level;
    this.#context = context;
    this.#commands = commands;
    this.#rows = rows;
  }

  due(): void {
    this.run();
  }

  leadershipLost(): void {
    this.#context.deadlines.remove(this);
    this.awaitsApply = false;
  }

  /** Something may be due. */
  run(): void {
    this.awaitsApply = false;
    if (this.#broken) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    this.#deliver().then(
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

  #retryLater(error: string): void {
    const { deadlines, leadership, metrics } = this.#context;
    if (!leadership.ready) return;
    metrics.event('delayed delivery waits', { level: this.#level, error });
    deadlines.set(this, RETRY_MS);
  }

  async #deliver(): Promise<void> {
    const { state, leadership } = this.#context;
    const { levels } = state.timers;
    this.#again = false;
    while (leadership.ready && !this.#broken && this.#inFlight < MAX_ENTRIES_IN_FLIGHT) {
      const from = this.#inFlight > 0 ? this.#proposedTo : levels.delivered(this.#level);
      const queue = levels.known(this.#level);
      if (queue === undefined || from >= queue.nextOffset) return;
      this.#units ??= new UnitBatch(ROWS_PER_ENTRY);
      const read = this.#units;
      const found = queue.index.readUnits(from, ROWS_PER_ENTRY, read);
      if (typeof found !== 'number') await found;
      const units = this.#dueUnits(read);
      if (units.length === 0) return;
      const rows = this.#rows.of(units);
      const ready = Array.isArray(rows) ? rows : await rows;
      // Leadership may have gone and come back while files were read: then the state may stand elsewhere.
      const now = this.#inFlight > 0 ? this.#proposedTo : levels.delivered(this.#level);
      if (leadership.ready && now === from && !this.#broken) this.#propose(from, read, units, ready);
    }
  }

  /** The first of the units read that are due; arms the deadline when none is. */
  #dueUnits({ length, position, sizeBytes, count, tagBloom, logTimeMs }: UnitBatch): WaitingUnit[] {
    const delayMs = this.#context.state.timers.levels.delayMs(this.#level);
    const limitMs = proposableLogTimeMs(this.#context);
    const due: WaitingUnit[] = [];
    while (due.length < length && (logTimeMs[due.length] as number) + delayMs <= limitMs) {
      const i = due.length;
      due.push({
        position: position[i] as number,
        sizeBytes: sizeBytes[i] as number,
        count: count[i] as number,
        tagBloom: tagBloom[i] as number,
      });
    }
    if (due.length === 0 && length > 0) this.#sleepUntil((logTimeMs[0] as number) + delayMs);
    return due;
  }

  #sleepUntil(dueMs: number): void {
    const { replica, deadlines } = this.#context;
    const waitMs = dueMs - replica.logTimeMs();
    if (waitMs > 0) deadlines.set(this, Math.min(waitMs, MAX_SLEEP_MS));
    else this.awaitsApply = true;
  }

  #propose(from: number, read: UnitBatch, units: readonly WaitingUnit[], rows: readonly DeliveryRow[]): void {
    const { state, metrics, replica } = this.#context;
    const last = units.length - 1;
    const delayMs = state.timers.levels.delayMs(this.#level);
    const firstDueMs = (read.logTimeMs[0] as number) + delayMs;
    const dueMs = (read.logTimeMs[last] as number) + delayMs;
    const to = (read.baseOffset[last] as number) + (read.count[last] as number);
    const { position } = units[last] as WaitingUnit;
    const released = releasedBy(units, rows, (at) => state.segments.baseOf(at));
    this.#inFlight++;
    this.#proposedTo = to;
    this.#commands.propose(
      { type: 'delayLevelDue', level: this.#level, from, to, position, dueMs, released },
      (error) => {
        this.#inFlight--;
        if (error !== null) this.#broken = true;
        else metrics.delayedDelivered(to - from, replica.logTimeMs() - firstDueMs);
        if (this.#inFlight > 0 && this.#broken) return;
        this.#broken = false;
        if (error === null || error === 'NOT_READY') this.run();
        else this.#retryLater(error);
      },
      rows,
    );
  }
}

/**
 * A log time that an entry proposed now certainly has: the present one when nothing waits to be written or applied, else that of what
 * was applied last. The open write group carries the time at which it was begun.
 */
export function proposableLogTimeMs({ replica, state }: BrokerContext): number {
  return replica.allApplied() ? replica.logTimeMs() : state.logTimeMs;
}
