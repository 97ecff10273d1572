import type { SegmentBases } from './segments.ts';
import type { StateTable } from './state-table.ts';

/** Whoever still needs bytes of the log for something that is not finished. */
export interface PendingReferences {
  /** Whether something is pending that refers to what lies before `position`, the base of a segment. */
  referBefore(position: number): boolean;
}

/**
 * Segments that a delivery in a later segment points into (F34): what was delivered by reference is as old as its delivery, so the
 * bytes that it shows stay as long as the segment with its row. One number a segment: the newest of those that point into it.
 */
export class HeldSegments implements StateTable {
  readonly name = 'heldSegments';
  readonly #segments: SegmentBases;
  /** Base of a segment → base of the newest segment with a row that refers to it. */
  readonly #newest = new Map<number, number>();

  constructor(segments: SegmentBases) {
    this.#segments = segments;
  }

  clear(): void {
    this.#newest.clear();
  }

  pack(): unknown {
    return [...this.#newest].sort(([a], [b]) => a - b).flat();
  }

  unpack(packed: unknown): void {
    const pairs = packed as number[];
    for (let i = 0; i < pairs.length; i += 2) this.#newest.set(pairs[i] as number, pairs[i + 1] as number);
  }

  /** @param rowPosition of the row that is being placed @param position that it refers to */
  hold(rowPosition: number, position: number): void {
    const from = this.#segments.baseOf(rowPosition);
    const to = this.#segments.baseOf(position);
    if (to < from) this.#newest.set(to, from);
  }

  /** Whether no retained row would lose what it refers to when the log began at `position`. */
  allows(position: number): boolean {
    for (const [base, newest] of this.#newest) if (base < position && newest >= position) return false;
    return true;
  }

  /** Base of the newest segment with a row that refers to what was stored before `position`; 0: there is none. */
  newestReferring(position: number): number {
    let newest = 0;
    for (const [base, from] of this.#newest) if (base < position) newest = Math.max(newest, from);
    return newest;
  }

  cut(position: number): void {
    for (const [base, newest] of this.#newest) if (newest < position) this.#newest.delete(base);
  }
}
