import { assert } from '../base/assert.ts';
import { readU53 } from '../base/bytes.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { QueueFiles } from './consume-queue-files.ts';
import { endOffsetOf, takeUnit, UnitTail } from './consume-queue-tail.ts';
import { type ConsumeQueue, QueueUnit, CONSUME_QUEUE_UNIT_BYTES as UNIT, type UnitBatch } from './consume-queue-types.ts';

/** A search ends by reading this many units at once instead of probing further: one block. */
const SCAN_UNITS = 100;
/** Readers that go through old units in parallel and need no new search for each block. */
const MAX_CURSORS = 8;

/** What a queue asks of the store that it belongs to. */
export interface QueueOwner {
  readonly hotUnits: number;
  markDirty(queue: StoredConsumeQueue): void;
  clear(queue: StoredConsumeQueue): void;
  onDamage(queue: StoredConsumeQueue, cause: Error): void;
}

/** A queue's units: the newest in memory (UnitTail), all flushed ones in files (QueueFiles). */
export class StoredConsumeQueue implements ConsumeQueue {
  readonly topic: string;
  readonly queueId: number;
  minOffset = 0;
  nextOffset = 0;
  files: QueueFiles;
  readonly #owner: QueueOwner;
  #tail: UnitTail;
  #removed: boolean;
  #lastPosition = -1;
  /** First offset that the units cover; of interest to restore() only. */
  #firstOffset = 0;
  /** Next offset → its unit, for readers of old units. */
  readonly #cursors = new Map<number, number>();

  private constructor(owner: QueueOwner, topic: string, queueId: number, files: QueueFiles) {
    this.#owner = owner;
    this.topic = topic;
    this.queueId = queueId;
    this.files = files;
    this.#tail = new UnitTail(owner.hotUnits, files.end);
    this.#removed = false;
  }

  static empty(owner: QueueOwner, topic: string, queueId: number, files: QueueFiles): StoredConsumeQueue {
    return new StoredConsumeQueue(owner, topic, queueId, files);
  }

  /** @throws DamagedQueueError */
  static async load(owner: QueueOwner, topic: string, queueId: number, files: QueueFiles): Promise<StoredConsumeQueue> {
    const queue = new StoredConsumeQueue(owner, topic, queueId, files);
    await queue.#readEnds();
    return queue;
  }

  /** Deleted with its topic: reads find nothing, nothing is written. */
  get removed(): boolean {
    return this.#removed;
  }

  remove(): void {
    this.#removed = true;
  }

  /** Its units are of no use: it goes on empty, in new files. */
  clear(files: QueueFiles): void {
    this.files = files;
    this.#tail = new UnitTail(this.#owner.hotUnits, files.end);
    this.#lastPosition = -1;
    this.#cursors.clear();
  }

  get topicId(): number {
    return this.files.topicId;
  }

  /** Units not written to the files yet. */
  get unflushedUnits(): number {
    return this.#tail.end - this.files.end;
  }

  get #isEmpty(): boolean {
    return this.files.first === this.#tail.end;
  }

  append(baseOffset: number, position: number, logTimeMs: number, sizeBytes: number, count: number, tagBloom: number): void {
    if (this.#isEmpty) this.#firstOffset = baseOffset;
    else assert(baseOffset === this.nextOffset, `${this.topic}/${this.queueId}: unit at offset ${baseOffset}, not ${this.nextOffset}`);
    assert(position > this.#lastPosition && count > 0, `${this.topic}/${this.queueId}: units follow the log`);
    this.#tail.append(this.files.end, baseOffset, position, logTimeMs, sizeBytes, count, tagBloom);
    this.#lastPosition = position;
    this.nextOffset = baseOffset + count;
    this.#owner.markDirty(this);
  }

  restore(minOffset: number, nextOffset: number): boolean {
    this.minOffset = minOffset;
    if (minOffset === nextOffset || this.#isEmpty) {
      // Nothing is retained, so nothing is missing; units that say otherwise are of no use. Without units it ends where the state says.
      if (!this.#isEmpty && this.nextOffset !== nextOffset) this.#owner.clear(this);
      this.nextOffset = nextOffset;
      return minOffset === nextOffset;
    }
    return this.#firstOffset <= minOffset && this.nextOffset === nextOffset;
  }

  readUnits(fromOffset: number, maxUnits: number, into: UnitBatch): number | Promise<number> {
    into.length = 0;
    const tail = this.#tail;
    if (this.#removed || fromOffset >= this.nextOffset || this.#isEmpty || maxUnits <= 0) return 0;
    const inTail = tail.first < tail.end && fromOffset >= tail.field(tail.first, QueueUnit.baseOffset);
    if (!inTail && this.files.first < tail.first) return this.#readCold(fromOffset, maxUnits, into);
    // The unit that holds the offset is the last one that starts at or before it.
    const after = tail.lowerBound(QueueUnit.baseOffset, fromOffset + 1);
    return tail.read(Math.max(after - 1, tail.first), maxUnits, into);
  }

  offsetAtTime(logTimeMs: number): number | Promise<number> {
    const tail = this.#tail;
    if (this.#removed || this.#isEmpty) return this.nextOffset;
    const unit = tail.lowerBound(QueueUnit.logTimeMs, logTimeMs);
    if (unit === tail.first && this.files.first < tail.first) return this.#coldOffsetAtTime(logTimeMs);
    return this.#atLeastMin(unit < tail.end ? tail.field(unit, QueueUnit.baseOffset) : this.nextOffset);
  }

  /** Bytes of units that may be flushed: their entries end at or before the durable position. Empty when there are none. */
  takeFlushable(durablePosition: number): Uint8Array {
    const from = this.files.end;
    let to = this.#tail.end;
    while (to > from && this.#tail.endPosition(to - 1) > durablePosition) to--;
    return this.#tail.copy(from, to);
  }

  /** Cuts units whose entries start at or after `position`. Not while a flush runs. */
  async truncateFrom(position: number): Promise<void> {
    if (this.#isEmpty || this.#lastPosition < position) return;
    const inTail = this.#tail.lowerBound(QueueUnit.position, position);
    const end = inTail > this.#tail.first ? inTail : await this.#searchFiles(QueueUnit.position, position);
    this.#tail.truncate(Math.max(Math.min(end, this.#tail.end), this.files.first));
    if (end < this.files.end) await this.files.truncate(end);
    this.#cursors.clear();
    await this.#readEnds();
  }

  /** Removes whole files that lie before `position`. */
  async cutBefore(position: number): Promise<void> {
    for (let second = this.files.secondFileStart; second !== undefined; second = this.files.secondFileStart) {
      if ((await this.#fieldAt(second, QueueUnit.position)) > position) return;
      await this.files.removeOldestFile();
      this.#firstOffset = await this.#fieldAt(second, QueueUnit.baseOffset);
      this.#cursors.clear();
    }
  }

  /** First and last unit: what the queue covers. */
  async #readEnds(): Promise<void> {
    if (this.#isEmpty) {
      this.#lastPosition = -1;
      this.nextOffset = this.#firstOffset;
      return;
    }
    this.#firstOffset = await this.#fieldAt(this.files.first, QueueUnit.baseOffset);
    const last = await this.#unitBytes(this.#tail.end - 1);
    this.#lastPosition = readU53(last, QueueUnit.position);
    this.nextOffset = endOffsetOf(last, 0);
  }

  async #fieldAt(unit: number, field: number): Promise<number> {
    return unit >= this.#tail.first && unit < this.#tail.end ? this.#tail.field(unit, field) : readU53(await this.#unitBytes(unit), field);
  }

  async #unitBytes(unit: number): Promise<Uint8Array> {
    if (unit >= this.#tail.first && unit < this.#tail.end) return this.#tail.copy(unit, unit + 1);
    const bytes = new Uint8Array(UNIT);
    await this.files.read(unit, bytes);
    return bytes;
  }

  /** First unit before the tail whose `field` is >= value, else the tail's first. */
  async #searchFiles(field: number, value: number): Promise<number> {
    let low = this.files.first;
    let high = this.#tail.first;
    while (low < high) {
      if (high - low <= SCAN_UNITS) {
        const block = new Uint8Array((high - low) * UNIT);
        const units = await this.files.read(low, block);
        for (let i = 0; i < units; i++) if (readU53(block, i * UNIT + field) >= value) return low + i;
        // The rest, if any, lies in the next file.
        low += units;
        continue;
      }
      const middle = Math.floor((low + high) / 2);
      if (readU53(await this.#unitBytes(middle), field) >= value) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  async #readCold(fromOffset: number, maxUnits: number, into: UnitBatch): Promise<number> {
    return this.#guard(async () => {
      const cursor = this.#cursors.get(fromOffset);
      const unit =
        cursor !== undefined && cursor >= this.files.first
          ? cursor
          : Math.max((await this.#searchFiles(QueueUnit.baseOffset, fromOffset + 1)) - 1, this.files.first);
      const block = new Uint8Array(Math.min(maxUnits, into.capacity, Math.max(this.files.end - unit, 1)) * UNIT);
      const units = await this.files.read(unit, block);
      into.length = 0;
      for (let i = 0; i < units; i++) takeUnit(block, i * UNIT, into);
      this.#remember(fromOffset, endOffsetOf(block, (units - 1) * UNIT), unit + units);
      return units;
    }, 0);
  }

  #remember(fromOffset: number, nextOffset: number, unit: number): void {
    this.#cursors.delete(fromOffset);
    if (unit >= this.files.end) return;
    this.#cursors.set(nextOffset, unit);
    if (this.#cursors.size <= MAX_CURSORS) return;
    for (const oldest of this.#cursors.keys()) {
      this.#cursors.delete(oldest);
      return;
    }
  }

  async #coldOffsetAtTime(logTimeMs: number): Promise<number> {
    return this.#guard(async () => {
      const unit = await this.#searchFiles(QueueUnit.logTimeMs, logTimeMs);
      if (unit >= this.#tail.end) return this.nextOffset;
      return this.#atLeastMin(await this.#fieldAt(unit, QueueUnit.baseOffset));
    }, this.nextOffset);
  }

  #atLeastMin(offset: number): number {
    return Math.max(offset, this.minOffset);
  }

  /** Cold reads run beside cuts and removals: what failed because its file went is done again, or gives `gone`. */
  async #guard(read: () => Promise<number>, gone: number): Promise<number> {
    for (;;) {
      const first = this.files.first;
      try {
        return await read();
      } catch (error) {
        if (this.#removed) return gone;
        if (this.files.first !== first) continue;
        this.#owner.onDamage(this, error as Error);
        throw new LedgerError('INTERNAL', `the index of ${this.topic}/${this.queueId} cannot be read: ${(error as Error).message}`);
      }
    }
  }
}
