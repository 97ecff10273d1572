import type { Clock } from '../io/clock.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';
import { kthKey } from './timer-heap.ts';
import { isAfter, type TimerKey } from './timer-wheel.ts';
import type { QueueState } from './topics.ts';
import type { WaitingUnit } from './waiting-rows.ts';

const UNITS_PER_READ = 4_096;

/** Timers as columns, in the order of the log. */
export class TimerColumns {
  length = 0;
  dueMs = new Float64Array(UNITS_PER_READ);
  position = new Float64Array(UNITS_PER_READ);
  sizeBytes = new Uint32Array(UNITS_PER_READ);
  count = new Uint32Array(UNITS_PER_READ);
  tagBloom = new Uint32Array(UNITS_PER_READ);

  take(units: UnitBatch, i: number): void {
    if (this.length === this.dueMs.length) this.#grow();
    const at = this.length++;
    this.dueMs[at] = units.logTimeMs[i] as number;
    this.position[at] = units.position[i] as number;
    this.sizeBytes[at] = units.sizeBytes[i] as number;
    this.count[at] = units.count[i] as number;
    this.tagBloom[at] = units.tagBloom[i] as number;
  }

  unit(i: number): WaitingUnit {
    return {
      position: this.position[i] as number,
      sizeBytes: this.sizeBytes[i] as number,
      count: this.count[i] as number,
      tagBloom: this.tagBloom[i] as number,
    };
  }

  /** Forgets all but the first `keep` in the order of delivery. @returns the last of these */
  truncate(keep: number): TimerKey {
    const last = kthKey(this.dueMs.subarray(0, this.length), this.position.subarray(0, this.length), keep);
    let kept = 0;
    for (let i = 0; i < this.length; i++) {
      if (isAfter(this.dueMs[i] as number, this.position[i] as number, last)) continue;
      this.dueMs[kept] = this.dueMs[i] as number;
      this.position[kept] = this.position[i] as number;
      this.sizeBytes[kept] = this.sizeBytes[i] as number;
      this.count[kept] = this.count[i] as number;
      this.tagBloom[kept] = this.tagBloom[i] as number;
      kept++;
    }
    this.length = kept;
    return last;
  }

  #grow(): void {
    const grown = <T extends Float64Array | Uint32Array>(old: T, made: T): T => {
      made.set(old as never);
      return made;
    };
    const size = 2 * this.length;
    this.dueMs = grown(this.dueMs, new Float64Array(size));
    this.position = grown(this.position, new Float64Array(size));
    this.sizeBytes = grown(this.sizeBytes, new Uint32Array(size));
    this.count = grown(this.count, new Uint32Array(size));
    this.tagBloom = grown(this.tagBloom, new Uint32Array(size));
  }
}

export interface TimerScanOptions {
  readonly queue: QueueState;
  /** Those up to here are in memory or delivered already. */
  readonly after: TimerKey;
  /** The bucket's end. */
  readonly last: TimerKey;
  /** So many are wanted; what is found may be twice that. */
  readonly keep: number;
  readonly clock: Clock;
  /** Whoever asked does not want it any more. */
  readonly ended: () => boolean;
}

/**
 * Reads the first timers of a bucket. Its units lie in the order of the log, so all of them are looked at; the event loop is let go in
 * between.
 * @param found called in the turn in which nothing of the queue was left to read; every timer of the bucket up to `upTo` is in `columns`
 */
export async function scanTimers(
  { queue, after, last, keep, clock, ended }: TimerScanOptions,
  found: (columns: TimerColumns, upTo: TimerKey) => void,
): Promise<void> {
  const units = new UnitBatch(UNITS_PER_READ);
  const columns = new TimerColumns();
  let upTo = last;
  for (let offset = queue.minOffset; offset < queue.nextOffset; ) {
    await new Promise<void>((resolve) => clock.defer(resolve));
    if (ended()) return;
    const reading = queue.index.readUnits(offset, UNITS_PER_READ, units);
    const length = typeof reading === 'number' ? reading : await reading;
    if (length === 0) break;
    for (let i = 0; i < length; i++) {
      const dueMs = units.logTimeMs[i] as number;
      const position = units.position[i] as number;
      if (isAfter(dueMs, position, after) && !isAfter(dueMs, position, upTo)) columns.take(units, i);
    }
    if (columns.length >= 2 * keep) upTo = columns.truncate(keep);
    offset = (units.baseOffset[length - 1] as number) + (units.count[length - 1] as number);
  }
  found(columns, upTo);
}
