import { UnitBatch } from '../log/consume-queue-types.ts';
import type { BrokerContext } from './context.ts';
import { type DeliveryRow, ROW_BYTES } from './delivery.ts';
import { firstOffsetFrom } from './stored-entries.ts';
import { isAfter } from './timer-wheel.ts';
import type { QueueState } from './topics.ts';
import type { WaitingRows, WaitingUnit } from './waiting-rows.ts';

const UNITS_PER_READ = 4_096;
/** Units that are carried by one round: what is gathered of them is in memory. */
const UNITS_PER_ROUND = 16_384;
/** What is due that soon is left to its delivery. */
const DUE_SOON_MS = 2_000;

/** A unit that waits, and what it delivers. `row.position`: of the batch as it was stored first. */
export interface CarriedUnit {
  readonly position: number;
  readonly dueMs: number;
  readonly row: DeliveryRow;
}

/** A level's first units. */
export interface CarriedLevel {
  readonly level: number;
  /** Offsets in the level's queue. */
  readonly from: number;
  readonly to: number;
  readonly units: readonly CarriedUnit[];
}

/** Units with their times. */
interface Found {
  readonly units: WaitingUnit[];
  readonly dueMs: number[];
}

/**
 * What still refers to the log before a position (F34): looked up by the leader, in the units of what waits and in the rows of queues. The
 * event loop is let go between reads.
 */
export class CarryScan {
  readonly #context: BrokerContext;
  readonly #rows: WaitingRows;
  readonly #before: number;
  readonly #retainedFrom: number;
  readonly #units = new UnitBatch(UNITS_PER_READ);

  /** @param before where the log is to begin @param retainedFrom from where on what queues have is retained: both a segment's base */
  constructor(context: BrokerContext, rows: WaitingRows, before: number, retainedFrom: number) {
    this.#context = context;
    this.#rows = rows;
    this.#before = before;
    this.#retainedFrom = retainedFrom;
  }

  /** Bytes that wait there for their time or their transaction's outcome. */
  async waitingBytes(): Promise<number> {
    const { state } = this.#context;
    let bytes = 0;
    for (const half of state.transactions.halves.all()) if (half.position < this.#before) bytes += half.sizeBytes;
    for (const queue of this.#waitingQueues()) {
      await this.#visit(queue.queue, queue.from, (units, i) => {
        if ((units.position[i] as number) >= this.#before) return false;
        if (queue.isPending(units, i)) bytes += units.sizeBytes[i] as number;
        return true;
      });
    }
    return bytes;
  }

  /** The first units of a level that lie there; null: none does. What is due soon is not waited for: `soon` says that there is some. */
  async level(level: number): Promise<{ readonly carried: CarriedLevel | null; readonly soon: boolean }> {
    const { levels } = this.#context.state.timers;
    const queue = levels.known(level);
    const from = levels.delivered(level);
    if (queue === undefined) return { carried: null, soon: false };
    const delayMs = levels.delayMs(level);
    let soon = false;
    let to = from;
    const found = await this.#gather(queue, from, (units, i) => {
      if ((units.position[i] as number) >= this.#before) return 'end';
      const dueMs = (units.logTimeMs[i] as number) + delayMs;
      soon ||= this.#isSoon(dueMs);
      if (soon) return 'end';
      to = (units.baseOffset[i] as number) + (units.count[i] as number);
      return dueMs;
    });
    return { carried: found.units.length === 0 ? null : { level, from, to, units: await this.#withRows(found) }, soon };
  }

  /** Timers whose units lie there, those of a round. */
  async timers(): Promise<{ readonly carried: readonly CarriedUnit[]; readonly soon: boolean }> {
    let soon = false;
    for (const { queue, isPending } of this.#buckets()) {
      const found = await this.#gather(queue, queue.minOffset, (units, i) => {
        if ((units.position[i] as number) >= this.#before) return 'end';
        if (!isPending(units, i)) return null;
        const dueMs = units.logTimeMs[i] as number;
        if (!this.#isSoon(dueMs)) return dueMs;
        soon = true;
        return null;
      });
      if (found.units.length > 0) return { carried: await this.#withRows(found), soon };
    }
    return { carried: [], soon };
  }

  /** Batches there that rows of the retained log refer to, be they in queues or waiting. @param visit name and size of each */
  async names(visit: (name: number, sizeBytes: number) => void): Promise<void> {
    const { state } = this.#context;
    const see = async (queue: QueueState, from: number, isWanted: (units: UnitBatch, i: number) => boolean): Promise<void> => {
      const found: WaitingUnit[] = [];
      const flush = async (): Promise<void> => {
        for (const { position, sizeBytes } of await this.#rows.of(found.splice(0)))
          if (state.carried.placeOf(position) < this.#before) visit(position, sizeBytes);
      };
      await this.#visit(queue, from, (units, i) => {
        if ((units.position[i] as number) >= end) return false;
        if (units.sizeBytes[i] === ROW_BYTES && isWanted(units, i)) found.push(unitOf(units, i));
        return found.length < UNITS_PER_READ ? true : flush().then(() => true);
      });
      await flush();
    };
    let end = Number.POSITIVE_INFINITY;
    for (const { queue, from, isPending } of this.#waitingQueues()) await see(queue, from, isPending);
    const newest = state.held.newestReferring(this.#before);
    if (newest < this.#retainedFrom) return;
    end = state.segments.starts.find(({ position }) => position > newest)?.position ?? end;
    for (const topic of state.topics.all()) {
      if (state.timers.waitIn(topic)) continue;
      for (const queue of topic.queues) await see(queue, await firstOffsetFrom(queue, this.#retainedFrom), () => true);
    }
  }

  #isSoon(dueMs: number): boolean {
    return dueMs <= this.#context.replica.logTimeMs() + DUE_SOON_MS;
  }

  *#waitingQueues(): Generator<{
    readonly queue: QueueState;
    readonly from: number;
    readonly isPending: (units: UnitBatch, i: number) => boolean;
  }> {
    const { levels } = this.#context.state.timers;
    for (let level = 1; level <= levels.count; level++) {
      const queue = levels.known(level);
      if (queue !== undefined) yield { queue, from: levels.delivered(level), isPending: () => true };
    }
    for (const { queue, isPending } of this.#buckets()) yield { queue, from: queue.minOffset, isPending };
  }

  *#buckets(): Generator<{ readonly queue: QueueState; readonly isPending: (units: UnitBatch, i: number) => boolean }> {
    const { timers, carried } = this.#context.state;
    const { wheel } = timers;
    for (const bucket of wheel.buckets()) {
      const queue = wheel.known(bucket);
      if (queue === undefined || wheel.pendingIn(bucket) === 0) continue;
      const isPending = (units: UnitBatch, i: number): boolean => {
        const position = units.position[i] as number;
        return isAfter(units.logTimeMs[i] as number, position, wheel.cursor) && !carried.isMoved(position);
      };
      yield { queue, isPending };
    }
  }

  /** @param choose the unit's due time; null: not this one; 'end': none from here on */
  async #gather(queue: QueueState, from: number, choose: (units: UnitBatch, i: number) => number | null | 'end'): Promise<Found> {
    const found: Found = { units: [], dueMs: [] };
    await this.#visit(queue, from, (units, i) => {
      if (found.units.length >= UNITS_PER_ROUND) return false;
      const dueMs = choose(units, i);
      if (dueMs === 'end') return false;
      if (dueMs !== null) {
        found.units.push(unitOf(units, i));
        found.dueMs.push(dueMs);
      }
      return true;
    });
    return found;
  }

  async #withRows({ units, dueMs }: Found): Promise<CarriedUnit[]> {
    const rows = await this.#rows.of(units);
    return units.map(({ position }, i) => ({ position, dueMs: dueMs[i] as number, row: rows[i] as DeliveryRow }));
  }

  /** @param visit of each unit from an offset on; false: no further ones are wanted */
  async #visit(queue: QueueState, from: number, visit: (units: UnitBatch, i: number) => boolean | Promise<boolean>): Promise<void> {
    for (let offset = from; offset < queue.nextOffset; ) {
      await new Promise<void>((resolve) => this.#context.clock.defer(resolve));
      const length = await queue.index.readUnits(offset, UNITS_PER_READ, this.#units);
      if (length === 0) return;
      for (let i = 0; i < length; i++) {
        const goesOn = visit(this.#units, i);
        if (goesOn === false || (goesOn !== true && !(await goesOn))) return;
      }
      offset = (this.#units.baseOffset[length - 1] as number) + (this.#units.count[length - 1] as number);
    }
  }
}

const unitOf = (units: UnitBatch, i: number): WaitingUnit => ({
  position: units.position[i] as number,
  sizeBytes: units.sizeBytes[i] as number,
  count: units.count[i] as number,
  tagBloom: units.tagBloom[i] as number,
});
