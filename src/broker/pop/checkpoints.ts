import { assert } from '../../base/assert.ts';

const WORD_BITS = 32;

/** Messages [baseOffset, baseOffset + count) of one queue that one delivery made invisible, less those that were acknowledged. */
export class Checkpoint {
  /** Index of the entry that made it. */
  readonly id: number;
  readonly baseOffset: number;
  readonly count: number;
  /** Log time, ms. */
  readonly invisibleUntilMs: number;
  /** Deliveries before this one. */
  readonly attempts: number;
  /** Acknowledged messages, a bit each. */
  readonly #acked: Uint32Array;
  /** Not acknowledged. */
  left: number;

  constructor(id: number, baseOffset: number, count: number, invisibleUntilMs: number, attempts: number, acked?: readonly number[]) {
    this.id = id;
    this.baseOffset = baseOffset;
    this.count = count;
    this.invisibleUntilMs = invisibleUntilMs;
    this.attempts = attempts;
    this.#acked = new Uint32Array(Math.ceil(count / WORD_BITS));
    if (acked !== undefined) this.#acked.set(acked);
    this.left = count;
    for (const word of this.#acked) this.left -= bitCount(word);
  }

  get endOffset(): number {
    return this.baseOffset + this.count;
  }

  /** 32 a number, lowest bit first. */
  get ackedWords(): number[] {
    return [...this.#acked];
  }

  isAcked(offset: number): boolean {
    const bit = offset - this.baseOffset;
    return ((this.#acked[bit >>> 5] as number) & (1 << (bit & 31))) !== 0;
  }

  contains(offset: number): boolean {
    return offset >= this.baseOffset && offset < this.endOffset;
  }

  /** @returns whether it was not acknowledged before */
  ack(offset: number): boolean {
    assert(this.contains(offset), `offset ${offset} is in the checkpoint`);
    if (this.isAcked(offset)) return false;
    const bit = offset - this.baseOffset;
    this.#acked[bit >>> 5] = ((this.#acked[bit >>> 5] as number) | (1 << (bit & 31))) >>> 0;
    this.left--;
    return true;
  }

  /** First offset that is not acknowledged; its end when there is none. */
  firstLeft(): number {
    for (let offset = this.baseOffset; offset < this.endOffset; offset++) if (!this.isAcked(offset)) return offset;
    return this.endOffset;
  }

  /** The same messages, up to an offset, under another delivery. */
  again(id: number, upTo: number, invisibleUntilMs: number): Checkpoint {
    return this.#part(id, this.baseOffset, upTo, invisibleUntilMs, this.attempts + 1);
  }

  /** What is left from an offset on. */
  from(offset: number): Checkpoint {
    return this.#part(this.id, offset, this.endOffset, this.invisibleUntilMs, this.attempts);
  }

  #part(id: number, from: number, to: number, invisibleUntilMs: number, attempts: number): Checkpoint {
    const part = new Checkpoint(id, from, to - from, invisibleUntilMs, attempts);
    for (let offset = from; offset < to; offset++) if (this.isAcked(offset)) part.ack(offset);
    return part;
  }
}

function bitCount(word: number): number {
  let bits = 0;
  for (let rest = word >>> 0; rest !== 0; rest &= rest - 1) bits++;
  return bits;
}
