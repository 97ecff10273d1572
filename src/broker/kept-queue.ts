import { assert } from '../base/assert.ts';
import type { UnitBatch } from '../log/consume-queue-types.ts';
import { ROW_BYTES } from './delivery.ts';

/** What a queue has at some offsets, though the log that it was stored in is cut: a row at the log's head, and a copy of its batch before it. */
export interface KeptUnit {
  readonly baseOffset: number;
  readonly count: number;
  /** Of the row, in a `keep` entry. */
  readonly rowPosition: number;
  /** Of the copy that the row refers to. */
  readonly position: number;
  /** Of the copy, header included. */
  readonly sizeBytes: number;
  readonly tagBloom: number;
  /** At which it was stored first, ms of log time. */
  readonly logTimeMs: number;
}

const COLUMNS = 7;

/** The kept units of one queue, without a gap, by offset; never empty. */
export class KeptQueue {
  readonly #units: KeptUnit[] = [];

  get units(): readonly KeptUnit[] {
    return this.#units;
  }

  get messages(): number {
    return this.end - this.begin;
  }

  /** Of the copies. What several rows share is counted once. */
  get bytes(): number {
    let bytes = 0;
    this.#units.forEach(({ position, sizeBytes }, i) => {
      if (position !== this.#units[i - 1]?.position) bytes += sizeBytes;
    });
    return bytes;
  }

  /** Offset of the first message. */
  get begin(): number {
    return this.#units[0]?.baseOffset ?? 0;
  }

  /** One past the last. */
  get end(): number {
    const last = this.#units.at(-1);
    return last === undefined ? 0 : last.baseOffset + last.count;
  }

  /** @param units without a gap, beginning within what is there or right behind it; what is there at these offsets is replaced */
  put(units: readonly KeptUnit[]): void {
    const first = units[0] as KeptUnit;
    const last = units.at(-1) as KeptUnit;
    assert(this.#units.length === 0 || (first.baseOffset >= this.begin && first.baseOffset <= this.end), 'kept units have no gap');
    const from = this.#at(first.baseOffset);
    const to = this.#at(last.baseOffset + last.count);
    this.#units.splice(from, to - from, ...units);
  }

  /** The first `n` units go. */
  drop(n: number): void {
    this.#units.splice(0, n);
  }

  /** Units from the one that holds an offset on, as ConsumeQueue.readUnits(), but none from `before` on. */
  readUnits(fromOffset: number, before: number, maxUnits: number, into: UnitBatch): number {
    let length = 0;
    for (let at = this.#at(fromOffset); at < this.#units.length && length < Math.min(maxUnits, into.capacity); at++) {
      const unit = this.#units[at] as KeptUnit;
      if (unit.baseOffset >= before) break;
      into.baseOffset[length] = unit.baseOffset;
      into.position[length] = unit.rowPosition;
      into.logTimeMs[length] = unit.logTimeMs;
      into.sizeBytes[length] = ROW_BYTES;
      into.count[length] = unit.count;
      into.tagBloom[length] = unit.tagBloom;
      length++;
    }
    into.length = length;
    return length;
  }

  /** @returns the first offset whose batch has a log time from `logTimeMs` on; null: there is none */
  offsetAtTime(logTimeMs: number): number | null {
    return this.#units.find((unit) => unit.logTimeMs >= logTimeMs)?.baseOffset ?? null;
  }

  unitOfRow(rowPosition: number): KeptUnit | null {
    return this.#units.find((unit) => unit.rowPosition === rowPosition) ?? null;
  }

  unitAt(offset: number): KeptUnit | null {
    const unit = this.#units[this.#at(offset)];
    return unit !== undefined && unit.baseOffset <= offset ? unit : null;
  }

  /** Where the unit that holds an offset is; that of the first behind it when none does. */
  #at(offset: number): number {
    let low = 0;
    let high = this.#units.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { baseOffset, count } = this.#units[middle] as KeptUnit;
      if (baseOffset + count <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  pack(): Uint8Array {
    const numbers = new Float64Array(COLUMNS * this.#units.length);
    this.#units.forEach((unit, i) => {
      const { baseOffset, count, rowPosition, position, sizeBytes, tagBloom, logTimeMs } = unit;
      numbers.set([baseOffset, count, rowPosition, position, sizeBytes, tagBloom, logTimeMs], COLUMNS * i);
    });
    return new Uint8Array(numbers.buffer);
  }

  static unpack(bytes: Uint8Array): KeptQueue {
    const queue = new KeptQueue();
    // A copy: the packed bytes lie at any address, numbers at multiples of 8.
    const numbers = new Float64Array(Uint8Array.from(bytes).buffer);
    for (let at = 0; at < numbers.length; at += COLUMNS) {
      const [baseOffset, count, rowPosition, position, sizeBytes, tagBloom, logTimeMs] = numbers.subarray(at, at + COLUMNS) as unknown as [
        number,
        number,
        number,
        number,
        number,
        number,
        number,
      ];
      queue.#units.push({ baseOffset, count, rowPosition, position, sizeBytes, tagBloom, logTimeMs });
    }
    return queue;
  }
}
