import type { PendingReferences } from './held-segments.ts';
import type { SegmentBases } from './segments.ts';

/** References into the log by segment, so that nothing is cut that something pending still needs (F34). */
export class SegmentReferences implements PendingReferences {
  readonly #segments: SegmentBases;
  /** By base position of the segment. */
  readonly #counts = new Map<number, number>();

  constructor(segments: SegmentBases) {
    this.#segments = segments;
  }

  clear(): void {
    this.#counts.clear();
  }

  /** Pairs [base, count], ascending. */
  pack(): number[] {
    return [...this.#counts].sort(([a], [b]) => a - b).flat();
  }

  unpack(packed: readonly number[]): void {
    for (let i = 0; i < packed.length; i += 2) this.#counts.set(packed[i] as number, packed[i + 1] as number);
  }

  add(position: number): void {
    const base = this.#segments.baseOf(position);
    this.#counts.set(base, (this.#counts.get(base) ?? 0) + 1);
  }

  referBefore(position: number): boolean {
    for (const base of this.#counts.keys()) if (base < position) return true;
    return false;
  }

  /** @param released pairs [base, count] @returns whether so many are there */
  canRelease(released: readonly number[]): boolean {
    for (let i = 0; i < released.length; i += 2) {
      if (!((released[i + 1] as number) <= (this.#counts.get(released[i] as number) ?? 0))) return false;
    }
    return true;
  }

  release(released: readonly number[]): void {
    for (let i = 0; i < released.length; i += 2) {
      const base = released[i] as number;
      const left = (this.#counts.get(base) ?? 0) - (released[i + 1] as number);
      if (left > 0) this.#counts.set(base, left);
      else this.#counts.delete(base);
    }
  }
}
