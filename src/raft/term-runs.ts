import { assert } from '../base/assert.ts';

/**
 * Runs of one term that a retained log may hold. One election a second for twelve days without a retention cut:
 * the replica stops there, because a term that cannot be answered would let two logs pass for equal.
 */
export const MAX_TERM_RUNS = 1_048_576;
const INITIAL_CAPACITY = 64;

/** Where each term of a log begins. Terms only grow along a log, so both columns are sorted. */
export class TermRuns {
  #first = new Float64Array(INITIAL_CAPACITY);
  #term = new Float64Array(INITIAL_CAPACITY);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Term of the last entry, or `fallback` for an empty log. */
  lastTerm(fallback: number): number {
    return this.#count === 0 ? fallback : (this.#term[this.#count - 1] as number);
  }

  append(firstIndex: number, term: number): void {
    const last = this.lastTerm(0);
    assert(term >= last, `term goes back from ${last} to ${term} at index ${firstIndex}`);
    if (this.#count > 0 && term === last) return;
    assert(this.#count < MAX_TERM_RUNS, 'more terms in the log than MAX_TERM_RUNS');
    if (this.#count === this.#first.length) this.#grow();
    this.#first[this.#count] = firstIndex;
    this.#term[this.#count] = term;
    this.#count += 1;
  }

  /** Term at `index`, which the caller knows to be in the log. */
  termAt(index: number): number {
    const run = this.#runAt(index);
    assert(run >= 0, `no term is known at ${index}`);
    return this.#term[run] as number;
  }

  /** Largest index <= `index` with a term <= `term`, or 0 when every run up to `index` is newer. */
  lastIndexWithTermAtMost(index: number, term: number): number {
    let run = this.#runAt(index);
    if (run >= 0 && (this.#term[run] as number) <= term) return index;
    let low = 0;
    while (low < run) {
      const middle = (low + run) >> 1;
      if ((this.#term[middle] as number) > term) run = middle;
      else low = middle + 1;
    }
    return run <= 0 ? 0 : (this.#first[run] as number) - 1;
  }

  /** Where each term of a range begins; the first one at `firstIndex`, which is in the log. */
  within(firstIndex: number, lastIndex: number): { firstIndex: number; term: number }[] {
    const runs = [{ firstIndex, term: this.termAt(firstIndex) }];
    for (let run = this.#runAt(firstIndex) + 1; run < this.#count && (this.#first[run] as number) <= lastIndex; run++) {
      runs.push({ firstIndex: this.#first[run] as number, term: this.#term[run] as number });
    }
    return runs;
  }

  truncateFrom(index: number): void {
    while (this.#count > 0 && (this.#first[this.#count - 1] as number) >= index) this.#count -= 1;
  }

  /** Forgets runs that end before `firstIndex`; at least one entry at or behind it remains. */
  cutBefore(firstIndex: number): void {
    const run = this.#runAt(firstIndex);
    if (run <= 0) return;
    this.#first.copyWithin(0, run, this.#count);
    this.#term.copyWithin(0, run, this.#count);
    this.#count -= run;
  }

  clear(): void {
    this.#count = 0;
  }

  #runAt(index: number): number {
    const last = this.#count - 1;
    // Nearly every question is about the current term.
    if (last >= 0 && index >= (this.#first[last] as number)) return last;
    let low = 0;
    let high = last;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if ((this.#first[middle] as number) <= index) low = middle + 1;
      else high = middle - 1;
    }
    return high;
  }

  #grow(): void {
    const capacity = Math.min(this.#first.length * 2, MAX_TERM_RUNS);
    const first = new Float64Array(capacity);
    const term = new Float64Array(capacity);
    first.set(this.#first);
    term.set(this.#term);
    this.#first = first;
    this.#term = term;
  }
}
