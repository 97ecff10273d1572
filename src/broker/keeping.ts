import { UnitBatch } from '../log/consume-queue-types.ts';
import type { LongerRetention } from '../protocol/requests.ts';
import type { BrokerContext } from './context.ts';
import { type DeliveryRow, ROW_BYTES } from './delivery.ts';
import type { KeptUnit } from './kept-queue.ts';
import { StateLimits } from './limits.ts';
import { type QueueState, queueKey } from './topics.ts';
import type { WaitingRows, WaitingUnit } from './waiting-rows.ts';

const UNITS_PER_READ = 4_096;
/** Of one entry. */
const UNITS_PER_ROUND = 1_024;
/** What a quota has no room for is found to within so many ms; the state drops the rest of it at the cut. */
const BUCKET_MS = 10_000;

/** What is to be copied of one queue. */
interface QueuePlan {
  readonly queue: QueueState;
  /** Kept already, and before the cut once more. */
  readonly again: readonly KeptUnit[];
  /** Offsets of what lies where it was stored. */
  readonly from: number;
  readonly to: number;
}

export interface KeepPlan {
  readonly bytes: number;
  readonly queues: readonly QueuePlan[];
}

/** Units that follow each other in a queue, with what they deliver: copied and proposed together. */
export interface KeepRound {
  readonly queue: QueueState;
  readonly from: number;
  readonly rows: readonly DeliveryRow[];
  readonly logTimesMs: readonly number[];
}

type Unit = WaitingUnit & Pick<KeptUnit, 'baseOffset' | 'logTimeMs'>;

/** What a longer retention has room for: the newest first. */
class Budget {
  readonly #buckets = new Map<number, { bytes: number; units: number }>();

  add(logTimeMs: number, bytes: number): void {
    const bucket = Math.floor(logTimeMs / BUCKET_MS);
    const { bytes: before = 0, units = 0 } = this.#buckets.get(bucket) ?? {};
    this.#buckets.set(bucket, { bytes: before + bytes, units: units + 1 });
  }

  bytesSince(sinceMs: number): number {
    let sum = 0;
    for (const [bucket, { bytes }] of this.#buckets) if (bucket * BUCKET_MS >= sinceMs) sum += bytes;
    return sum;
  }

  /** @returns the time from which on everything is taken, and what that is; the oldest part of it may be too much */
  spend(maxBytes: number, maxUnits: number): { readonly sinceMs: number; readonly units: number } {
    let bytes = 0;
    let units = 0;
    let sinceMs = Number.POSITIVE_INFINITY;
    for (const [bucket, found] of [...this.#buckets].sort(([a], [b]) => b - a)) {
      if (bytes >= maxBytes || units >= maxUnits) break;
      sinceMs = bucket * BUCKET_MS;
      bytes += found.bytes;
      units += found.units;
    }
    return { sinceMs, units: Math.min(units, maxUnits) };
  }
}

/** The leader's: which messages of a longer retention have to be copied before the log is cut (F34), and in which order. */
export class Keeping {
  readonly #context: BrokerContext;
  readonly #rows: WaitingRows;
  readonly #units = new UnitBatch(UNITS_PER_READ);

  constructor(context: BrokerContext, rows: WaitingRows) {
    this.#context = context;
    this.#rows = rows;
  }

  /** @param position where the log is to begin @param expired from where on what queues have is retained: both a segment's base */
  async plan(position: number, expired: number): Promise<KeepPlan> {
    const { state } = this.#context;
    const ends = state.segments.offsetsAt(expired);
    const byRetention = Map.groupBy(state.kept.queues(), ({ retention }) => retention);
    const queues: QueuePlan[] = [];
    let bytes = 0;
    let units = 0;
    for (const retention of state.retentions.all()) {
      const ofThis = (byRetention.get(retention.name) ?? []).map(({ queue }) => {
        const from = Math.max(queue.logMinOffset, queue.kept?.end ?? 0);
        return { queue, from, to: ends.get(queueKey(queue.topic.id, queue.queueId)) ?? queue.logMinOffset };
      });
      const found = await this.#planOne(retention, ofThis, position, StateLimits.maxKeptUnits - units);
      queues.push(...found.queues);
      bytes += found.bytes;
      units += found.units;
    }
    return { bytes, queues };
  }

  async #planOne(
    { retentionMs, maxBytes }: LongerRetention,
    queues: readonly { readonly queue: QueueState; readonly from: number; readonly to: number }[],
    position: number,
    maxUnits: number,
  ): Promise<KeepPlan & { readonly units: number }> {
    const oldestMs = this.#context.replica.logTimeMs() - retentionMs;
    const budget = new Budget();
    const copied = new Budget();
    for (const { queue, from, to } of queues) {
      for (const { logTimeMs, sizeBytes, position: copy } of queue.kept?.units ?? []) {
        if (logTimeMs < oldestMs) continue;
        budget.add(logTimeMs, sizeBytes);
        if (copy < position) copied.add(logTimeMs, sizeBytes);
      }
      for (let offset = from; offset < to; ) {
        const read = await this.#read(queue, offset, to, UNITS_PER_READ);
        if (read.length === 0) break;
        const young = read.filter(({ logTimeMs }) => logTimeMs >= oldestMs);
        const rows = await this.#rows.of(young);
        rows.forEach(({ sizeBytes }, i) => {
          const { logTimeMs } = young[i] as Unit;
          budget.add(logTimeMs, sizeBytes);
          copied.add(logTimeMs, sizeBytes);
        });
        offset = endOf(read);
      }
    }
    const { sinceMs, units } = budget.spend(maxBytes, maxUnits);
    const planned: QueuePlan[] = [];
    for (const { queue, from, to } of queues) {
      const again = (queue.kept?.units ?? []).filter((unit) => unit.position < position && unit.logTimeMs >= Math.max(sinceMs, oldestMs));
      const first = Number.isFinite(sinceMs) ? await queue.index.offsetAtTime(Math.max(sinceMs, oldestMs)) : to;
      if (again.length > 0 || Math.max(from, first) < to) planned.push({ queue, again, from: Math.max(from, first), to });
    }
    return { bytes: copied.bytesSince(sinceMs), units, queues: planned };
  }

  /** Of a plan, in the order of offsets: a queue's rounds must be proposed one behind the other. */
  async *rounds({ queues }: KeepPlan): AsyncGenerator<KeepRound> {
    for (const { queue, again, from, to } of queues) {
      for (const run of runsOf(again)) yield this.#round(queue, run.map(asRow));
      for (let offset = from; offset < to; ) {
        const units = await this.#read(queue, offset, to, UNITS_PER_ROUND);
        if (units.length === 0) break;
        yield this.#round(queue, units);
        offset = endOf(units);
      }
    }
  }

  async #round(queue: QueueState, units: readonly Unit[]): Promise<KeepRound> {
    const rows = await this.#rows.of(units);
    return { queue, from: (units[0] as Unit).baseOffset, rows, logTimesMs: units.map(({ logTimeMs }) => logTimeMs) };
  }

  /** Units of the log from an offset on, up to one; the event loop is let go before. */
  async #read(queue: QueueState, from: number, to: number, maxUnits: number): Promise<Unit[]> {
    await new Promise<void>((resolve) => this.#context.clock.defer(resolve));
    const length = await queue.index.readUnits(from, maxUnits, this.#units);
    const units: Unit[] = [];
    for (let i = 0; i < length && (this.#units.baseOffset[i] as number) < to; i++) {
      units.push({
        baseOffset: this.#units.baseOffset[i] as number,
        position: this.#units.position[i] as number,
        sizeBytes: this.#units.sizeBytes[i] as number,
        count: this.#units.count[i] as number,
        tagBloom: this.#units.tagBloom[i] as number,
        logTimeMs: this.#units.logTimeMs[i] as number,
      });
    }
    return units;
  }
}

const endOf = (units: readonly Unit[]): number => {
  const { baseOffset, count } = units.at(-1) as Unit;
  return baseOffset + count;
};
const asRow = ({ baseOffset, rowPosition, count, tagBloom, logTimeMs }: KeptUnit): Unit => ({
  baseOffset,
  position: rowPosition,
  sizeBytes: ROW_BYTES,
  count,
  tagBloom,
  logTimeMs,
});

/** Without gaps, and no longer than a round. */
function runsOf(units: readonly KeptUnit[]): KeptUnit[][] {
  const runs: KeptUnit[][] = [];
  for (const unit of units) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const follows = last !== undefined && last.baseOffset + last.count === unit.baseOffset;
    if (run !== undefined && follows && run.length < UNITS_PER_ROUND) run.push(unit);
    else runs.push([unit]);
  }
  return runs;
}
