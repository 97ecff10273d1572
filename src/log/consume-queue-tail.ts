import { assert } from '../base/assert.ts';
import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import { QueueUnit, CONSUME_QUEUE_UNIT_BYTES as UNIT, type UnitBatch } from './consume-queue-types.ts';

/** 1,000 queues that hold a few batches each must stay cheap. */
const FIRST_UNITS = 8;

/** Does a whole unit, undamaged, lie at `at`? */
export function unitIsValid(bytes: Uint8Array, at: number): boolean {
  return (
    at + UNIT <= bytes.length &&
    readU32(bytes, at + QueueUnit.checksum) === shortCrc32(bytes, at, at + QueueUnit.checksum) &&
    readU32(bytes, at + QueueUnit.count) > 0
  );
}

/** Appends the unit at `at` to `into`, which has room. */
export function takeUnit(bytes: Uint8Array, at: number, into: UnitBatch): void {
  const row = into.length++;
  into.baseOffset[row] = readU53(bytes, at + QueueUnit.baseOffset);
  into.position[row] = readU53(bytes, at + QueueUnit.position);
  into.logTimeMs[row] = readU53(bytes, at + QueueUnit.logTimeMs);
  into.sizeBytes[row] = readU32(bytes, at + QueueUnit.sizeBytes);
  into.count[row] = readU32(bytes, at + QueueUnit.count);
  into.tagBloom[row] = readU32(bytes, at + QueueUnit.tagBloom);
}

export const endOffsetOf = (bytes: Uint8Array, at: number): number =>
  readU53(bytes, at + QueueUnit.baseOffset) + readU32(bytes, at + QueueUnit.count);

/**
 * The newest units of one queue in memory, encoded as on disk: flushing copies a slice, reading needs no objects.
 * Units are numbered along the queue's life; this holds [first, end). Flushed ones beyond `hotUnits` are dropped,
 * unflushed ones never are.
 */
export class UnitTail {
  first: number;
  end: number;
  readonly #hotUnits: number;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(hotUnits: number, end: number) {
    this.#hotUnits = hotUnits;
    this.first = end;
    this.end = end;
  }

  append(
    flushedEnd: number,
    baseOffset: number,
    position: number,
    logTimeMs: number,
    sizeBytes: number,
    count: number,
    tagBloom: number,
  ): void {
    if ((this.end - this.first + 1) * UNIT > this.#bytes.length) this.#makeRoom(flushedEnd);
    const at = (this.end - this.first) * UNIT;
    const bytes = this.#bytes;
    writeU53(bytes, at + QueueUnit.baseOffset, baseOffset);
    writeU53(bytes, at + QueueUnit.position, position);
    writeU53(bytes, at + QueueUnit.logTimeMs, logTimeMs);
    writeU32(bytes, at + QueueUnit.sizeBytes, sizeBytes);
    writeU32(bytes, at + QueueUnit.count, count);
    writeU32(bytes, at + QueueUnit.tagBloom, tagBloom);
    writeU32(bytes, at + QueueUnit.checksum, shortCrc32(bytes, at, at + QueueUnit.checksum));
    this.end++;
  }

  #makeRoom(flushedEnd: number): void {
    const units = this.end - this.first;
    // Half is dropped at once, so that moving the rest is paid once per half.
    const first = units >= this.#hotUnits ? Math.max(this.first, Math.min(flushedEnd, this.end - (this.#hotUnits >> 1))) : this.first;
    if (first > this.first) {
      this.#bytes.copyWithin(0, (first - this.first) * UNIT, units * UNIT);
      this.first = first;
      return;
    }
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, FIRST_UNITS * UNIT));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  /** Drops units from `end` on. */
  truncate(end: number): void {
    assert(end <= this.end, 'truncating forwards');
    this.end = end;
    this.first = Math.min(this.first, end);
  }

  /** A copy of units [from, to): the memory may move while it is written. */
  copy(from: number, to: number): Uint8Array {
    assert(from >= this.first && to <= this.end, 'units to flush are in memory');
    return this.#bytes.slice((from - this.first) * UNIT, (to - this.first) * UNIT);
  }

  field(unit: number, field: number): number {
    return readU53(this.#bytes, (unit - this.first) * UNIT + field);
  }

  endPosition(unit: number): number {
    const at = (unit - this.first) * UNIT;
    return readU53(this.#bytes, at + QueueUnit.position) + readU32(this.#bytes, at + QueueUnit.sizeBytes);
  }

  endOffset(unit: number): number {
    return endOffsetOf(this.#bytes, (unit - this.first) * UNIT);
  }

  /** First unit here whose `field` is >= value, else `end`. Fields never decrease along a queue. */
  lowerBound(field: number, value: number): number {
    let low = this.first;
    let high = this.end;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.field(middle, field) >= value) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  read(from: number, maxUnits: number, into: UnitBatch): number {
    into.length = 0;
    const to = Math.min(this.end, from + Math.min(maxUnits, into.capacity));
    for (let unit = from; unit < to; unit++) takeUnit(this.#bytes, (unit - this.first) * UNIT, into);
    return into.length;
  }
}
