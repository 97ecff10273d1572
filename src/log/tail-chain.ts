import { assert } from '../base/assert.ts';
import { EXACT_GROUPS } from '../raft/group-index.ts';

/**
 * What a truncation needs to know of the group before the cut, for the newest groups only: what is truncated was never committed, and
 * what is uncommitted is bounded far below EXACT_GROUPS groups. From memory, because the appends that replace it follow at once.
 */
export class TailChain {
  readonly #first = new Float64Array(EXACT_GROUPS);
  readonly #checksum = new Uint32Array(EXACT_GROUPS);
  readonly #logTimeMs = new Float64Array(EXACT_GROUPS);
  #count = 0;
  #head = 0;

  /** A group is appended; the values are those of the log before it. */
  push(firstIndex: number, previousChecksum: number, previousLogTimeMs: number): void {
    const at = (this.#head + this.#count) % EXACT_GROUPS;
    this.#first[at] = firstIndex;
    this.#checksum[at] = previousChecksum;
    this.#logTimeMs[at] = previousLogTimeMs;
    if (this.#count < EXACT_GROUPS) this.#count++;
    else this.#head = (this.#head + 1) % EXACT_GROUPS;
  }

  /** Forgets the group that starts at `index` and all behind it. @returns the values of the log before it */
  truncateFrom(index: number): { checksum: number; logTimeMs: number } {
    while (this.#count > 0) {
      const at = (this.#head + this.#count - 1) % EXACT_GROUPS;
      this.#count--;
      if (this.#first[at] === index) return { checksum: this.#checksum[at] as number, logTimeMs: this.#logTimeMs[at] as number };
    }
    assert(false, `truncation at ${index} goes back more than ${EXACT_GROUPS} groups`);
  }

  clear(): void {
    this.#count = 0;
  }
}
