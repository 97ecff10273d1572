import { ROW_BYTES } from './delivery.ts';
import type { TimerKey } from './timer-wheel.ts';

/** Timers of one piece of memory: pieces are added, never copied to grow. */
const CHUNK = 4_096;

interface Chunk {
  readonly dueMs: Float64Array;
  readonly position: Float64Array;
  readonly rows: Uint8Array;
}

/**
 * Timers in memory, the first one in the order of delivery on top: a binary heap over columns, 84 bytes each and no objects. A timer
 * is named by its slot until it is freed.
 */
export class TimerHeap {
  readonly #chunks: Chunk[] = [];
  /** Slots, as a heap. */
  #heap: Uint32Array = new Uint32Array(CHUNK);
  #size = 0;
  /** Slots that are free, below the number ever used. */
  #free: number[] = [];
  #used = 0;

  get size(): number {
    return this.#size;
  }

  /** Memory that it holds. */
  get bytes(): number {
    return this.#chunks.length * CHUNK * (16 + ROW_BYTES) + this.#heap.byteLength + this.#free.length * 8;
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#heap = new Uint32Array(CHUNK);
    this.#free = [];
    this.#size = 0;
    this.#used = 0;
  }

  /** A timer that is not on the heap yet: push() puts it there. Its row is of zeros. */
  allocate(dueMs: number, position: number): number {
    const slot = this.#free.pop() ?? this.#used++;
    if (slot >= this.#chunks.length * CHUNK) {
      this.#chunks.push({
        dueMs: new Float64Array(CHUNK),
        position: new Float64Array(CHUNK),
        rows: new Uint8Array(CHUNK * ROW_BYTES),
      });
    }
    const chunk = this.#chunk(slot);
    const at = slot % CHUNK;
    chunk.dueMs[at] = dueMs;
    chunk.position[at] = position;
    return slot;
  }

  free(slot: number): void {
    this.#free.push(slot);
  }

  dueMs(slot: number): number {
    return this.#chunk(slot).dueMs[slot % CHUNK] as number;
  }

  /** Of the unit. */
  position(slot: number): number {
    return this.#chunk(slot).position[slot % CHUNK] as number;
  }

  key(slot: number): TimerKey {
    return { dueMs: this.dueMs(slot), position: this.position(slot) };
  }

  /** ROW_BYTES at `rowAt`. */
  rowBytes(slot: number): Uint8Array {
    return this.#chunk(slot).rows;
  }

  rowAt(slot: number): number {
    return (slot % CHUNK) * ROW_BYTES;
  }

  push(slot: number): void {
    if (this.#size === this.#heap.length) {
      const grown = new Uint32Array(2 * this.#heap.length);
      grown.set(this.#heap);
      this.#heap = grown;
    }
    this.#up(this.#size++, slot);
  }

  /** −1: empty. */
  top(): number {
    return this.#size === 0 ? -1 : (this.#heap[0] as number);
  }

  /** Takes the top off; it keeps its slot until free(). */
  pop(): number {
    const top = this.#heap[0] as number;
    const last = this.#heap[--this.#size] as number;
    if (this.#size > 0) this.#down(last);
    return top;
  }

  /** Due times and positions of all, in no order. */
  columns(): { readonly dueMs: Float64Array; readonly position: Float64Array } {
    const dueMs = new Float64Array(this.#size);
    const position = new Float64Array(this.#size);
    for (let i = 0; i < this.#size; i++) {
      dueMs[i] = this.dueMs(this.#heap[i] as number);
      position[i] = this.position(this.#heap[i] as number);
    }
    return { dueMs, position };
  }

  /** Frees those behind `last`. */
  truncate(last: TimerKey): void {
    const all = this.#heap.slice(0, this.#size);
    this.#size = 0;
    for (const slot of all) {
      const dueMs = this.dueMs(slot);
      if (dueMs < last.dueMs || (dueMs === last.dueMs && this.position(slot) <= last.position)) this.push(slot);
      else this.free(slot);
    }
  }

  #chunk(slot: number): Chunk {
    return this.#chunks[Math.floor(slot / CHUNK)] as Chunk;
  }

  #before(a: number, b: number): boolean {
    const dueA = this.dueMs(a);
    const dueB = this.dueMs(b);
    return dueA < dueB || (dueA === dueB && this.position(a) < this.position(b));
  }

  #up(from: number, slot: number): void {
    let at = from;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = this.#heap[up] as number;
      if (!this.#before(slot, parent)) break;
      this.#heap[at] = parent;
      at = up;
    }
    this.#heap[at] = slot;
  }

  #down(slot: number): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#before(this.#heap[child + 1] as number, this.#heap[child] as number)) child++;
      if (!this.#before(this.#heap[child] as number, slot)) break;
      this.#heap[at] = this.#heap[child] as number;
      at = child;
    }
    this.#heap[at] = slot;
  }
}

/** The k-th in the order of delivery, k from 1: up to where is kept when there are too many. */
export function kthKey(dueMs: Float64Array, position: Float64Array, k: number): TimerKey {
  const due = kthSmallest(dueMs.slice(), k);
  let before = 0;
  const ties: number[] = [];
  for (let i = 0; i < dueMs.length; i++) {
    if ((dueMs[i] as number) < due) before++;
    else if (dueMs[i] === due) ties.push(position[i] as number);
  }
  return { dueMs: due, position: kthSmallest(Float64Array.from(ties), k - before) };
}

/** Hoare's selection. Reorders `values`. */
function kthSmallest(values: Float64Array, k: number): number {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1] as number;
    let i = low;
    let j = high;
    while (i <= j) {
      while ((values[i] as number) < pivot) i++;
      while ((values[j] as number) > pivot) j--;
      if (i > j) break;
      const swapped = values[i] as number;
      values[i++] = values[j] as number;
      values[j--] = swapped;
    }
    if (k - 1 <= j) high = j;
    else if (k - 1 >= i) low = i;
    else break;
  }
  return values[k - 1] as number;
}
