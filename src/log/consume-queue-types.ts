/** One unit per record batch, 40 bytes (docs/architecture.md). Offsets of its fields. */
export const CONSUME_QUEUE_UNIT_BYTES = 40;
export const QueueUnit = { baseOffset: 0, position: 8, logTimeMs: 16, sizeBytes: 24, count: 28, tagBloom: 32, checksum: 36 } as const;

/** Units read at once: columns, reused by the caller, so that reading allocates nothing. */
export class UnitBatch {
  readonly capacity: number;
  /** How many of the columns' rows are valid. */
  length = 0;
  /** Queue offset of the batch's first message. */
  readonly baseOffset: Float64Array;
  /** Position of the entry's header in the CommitLog. */
  readonly position: Float64Array;
  readonly logTimeMs: Float64Array;
  /** Entry size: header and body. */
  readonly sizeBytes: Uint32Array;
  /** Messages in the batch. */
  readonly count: Uint32Array;
  /** See tagBloomMatches() in protocol/tag-hash.ts. */
  readonly tagBloom: Uint32Array;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.baseOffset = new Float64Array(capacity);
    this.position = new Float64Array(capacity);
    this.logTimeMs = new Float64Array(capacity);
    this.sizeBytes = new Uint32Array(capacity);
    this.count = new Uint32Array(capacity);
    this.tagBloom = new Uint32Array(capacity);
  }
}

/** One queue's derived index: queue offset → where its batch lies in the CommitLog (F29). */
export interface ConsumeQueue {
  readonly topic: string;
  readonly topicId: number;
  readonly queueId: number;
  /** First retained offset. Explicit: set by the owner when the log's start moves; not derived from the files. */
  minOffset: number;
  /** One past the last message. */
  readonly nextOffset: number;

  /** At apply, in log order. `baseOffset` must be nextOffset unless the queue holds no unit yet. `sizeBytes` is the entry's, header included. */
  append(baseOffset: number, position: number, logTimeMs: number, sizeBytes: number, count: number, tagBloom: number): void;

  /**
   * After ConsumeQueues.truncateFrom(): the restored state says which offsets this queue has.
   * @returns false when the units do not cover [minOffset, nextOffset): restore an older snapshot (at worst the one at the
   *   log's start), truncateFrom() its position and replay from there
   */
  restore(minOffset: number, nextOffset: number): boolean;

  /**
   * Units from the one that holds `fromOffset` (or the first after it) on, at most `maxUnits` and into.capacity.
   * Synchronous for recent units, from the files otherwise; may give fewer than there are.
   * @returns how many; 0 at the end. Rejects with LedgerError INTERNAL when the files are damaged (the owner hears onDamage).
   */
  readUnits(fromOffset: number, maxUnits: number, into: UnitBatch): number | Promise<number>;

  /** First offset whose batch has a log time >= logTimeMs, at least minOffset; nextOffset when there is none. */
  offsetAtTime(logTimeMs: number): number | Promise<number>;
}
