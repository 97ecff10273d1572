import { assert, assertU53 } from '../base/assert.ts';
import { TermRuns } from './term-runs.ts';
import type { GroupMeta } from './types.ts';

/** Groups known exactly, newest first: at 5,000 groups a second the last 13 s, in 1.3 MiB. */
export const EXACT_GROUPS = 65_536;
/** Older groups are known by one boundary about every so many bytes of log. */
export const MARK_STRIDE_BYTES = 1024 * 1024;
/** 64 GiB of log at the first stride. At the bound every other mark is dropped and the stride doubles. */
export const MAX_MARKS = 65_536;

export interface GroupIndexStart {
  /** Last index before the first retained entry; 0 for a fresh log. */
  readonly startIndex: number;
  /** Term of the entry at startIndex; 0 for a fresh log. */
  readonly startTerm: number;
  /** Where the first retained group lies (or will lie, for an empty log). */
  readonly startPosition: number;
}

/** Known starts of groups of a range of whole groups, and its terms: what an index that has forgotten each single group still knows. */
export interface GroupOutline {
  /** Ascending; the first is the range's first group. */
  readonly marks: readonly { readonly firstIndex: number; readonly position: number }[];
  /** Where each term begins; the first is that of the range's first entry. */
  readonly terms: readonly { readonly firstIndex: number; readonly term: number }[];
  readonly lastIndex: number;
}

/** Bounds; smaller ones for tests. */
export interface GroupIndexLimits {
  /** A power of two. */
  readonly exactGroups?: number;
  readonly markStrideBytes?: number;
  /** At least 2. */
  readonly maxMarks?: number;
}

/**
 * What is known about the write groups of one log, in bounded memory: which boundaries there are, where they lie, and the
 * term at every index. Exact for the newest groups; older ones only by sparse marks, each the first index of some group.
 *
 * "Boundary" below means: the first index of a group that is still known, or lastIndex + 1.
 */
export class GroupIndex {
  readonly #mask: number;
  readonly #capacity: number;
  readonly #ringFirst: Float64Array;
  readonly #ringPosition: Float64Array;
  readonly #ringSize: Uint32Array;
  /** Sequence of the oldest group in the ring; its slot is the sequence masked. */
  #ringHead = 0;
  #ringCount = 0;

  readonly #maxMarks: number;
  #markStrideBytes: number;
  /** Unless the ring reaches back to the start, marks[0] is the first retained group. */
  readonly #markFirst: Float64Array;
  readonly #markPosition: Float64Array;
  #markCount = 0;

  readonly #runs = new TermRuns();
  #startIndex: number;
  #startTerm: number;
  #startPosition: number;
  #lastIndex: number;
  #endPosition: number;

  constructor(start: GroupIndexStart, limits: GroupIndexLimits = {}) {
    this.#capacity = limits.exactGroups ?? EXACT_GROUPS;
    assert(this.#capacity > 0 && (this.#capacity & (this.#capacity - 1)) === 0, 'exactGroups is not a power of two');
    this.#mask = this.#capacity - 1;
    this.#ringFirst = new Float64Array(this.#capacity);
    this.#ringPosition = new Float64Array(this.#capacity);
    this.#ringSize = new Uint32Array(this.#capacity);
    this.#markStrideBytes = limits.markStrideBytes ?? MARK_STRIDE_BYTES;
    this.#maxMarks = limits.maxMarks ?? MAX_MARKS;
    assert(this.#maxMarks >= 2, 'maxMarks is below 2');
    this.#markFirst = new Float64Array(this.#maxMarks);
    this.#markPosition = new Float64Array(this.#maxMarks);
    this.#startIndex = start.startIndex;
    this.#startTerm = start.startTerm;
    this.#startPosition = start.startPosition;
    this.#lastIndex = start.startIndex;
    this.#endPosition = start.startPosition;
  }

  /** Last index before the first retained entry. */
  get startIndex(): number {
    return this.#startIndex;
  }
  get startTerm(): number {
    return this.#startTerm;
  }
  get startPosition(): number {
    return this.#startPosition;
  }
  /** First retained index; lastIndex + 1 when the log is empty. */
  get firstIndex(): number {
    return this.#startIndex + 1;
  }
  get lastIndex(): number {
    return this.#lastIndex;
  }
  /** Term of the last entry; startTerm when the log is empty. */
  get lastTerm(): number {
    return this.#runs.lastTerm(this.#startTerm);
  }
  /** Behind the last group. The next one lies here or, in a new segment, further on. */
  get endPosition(): number {
    return this.#endPosition;
  }
  /** Smallest first index of the exact window; lastIndex + 1 when it is empty. */
  get exactFirstIndex(): number {
    return this.#ringCount === 0 ? this.#lastIndex + 1 : (this.#ringFirst[this.#ringHead & this.#mask] as number);
  }
  /** Groups that are known exactly, at most. */
  get exactCapacity(): number {
    return this.#capacity;
  }

  append(group: GroupMeta): void {
    assert(group.firstIndex === this.#lastIndex + 1, `group at ${group.firstIndex} does not follow ${this.#lastIndex}`);
    assert(group.lastIndex >= group.firstIndex, `empty group at ${group.firstIndex}`);
    assert(group.position >= this.#endPosition, `group at position ${group.position} lies before the end ${this.#endPosition}`);
    assert(group.sizeBytes > 0 && group.sizeBytes <= 0xffff_ffff, `group of ${group.sizeBytes} bytes`);
    assert(group.term >= this.lastTerm, `term goes back from ${this.lastTerm} to ${group.term}`);
    assertU53(group.position + group.sizeBytes, 'endPosition');
    assertU53(group.lastIndex, 'lastIndex');
    if (this.#ringCount === this.#capacity) this.#evictOldest();
    if (this.#lastIndex === this.#startIndex) this.#startPosition = group.position;
    const slot = (this.#ringHead + this.#ringCount) & this.#mask;
    this.#ringFirst[slot] = group.firstIndex;
    this.#ringPosition[slot] = group.position;
    this.#ringSize[slot] = group.sizeBytes;
    this.#ringCount += 1;
    this.#runs.append(group.firstIndex, group.term);
    this.#lastIndex = group.lastIndex;
    this.#endPosition = group.position + group.sizeBytes;
  }

  /** Appends a range of which only the outline is known, which ends before `endPosition`: none of its groups is known exactly afterwards, nor any before. */
  appendOutline({ marks, terms, lastIndex }: GroupOutline, endPosition: number): void {
    const [first] = marks;
    assert(first?.firstIndex === this.#lastIndex + 1, `outline from ${first?.firstIndex} does not follow ${this.#lastIndex}`);
    assert(first.position >= this.#endPosition && lastIndex >= first.firstIndex, `outline of ${first.firstIndex} to ${lastIndex}`);
    while (this.#ringCount > 0) this.#evictOldest();
    if (this.#lastIndex === this.#startIndex) this.#startPosition = first.position;
    for (const { firstIndex, position } of marks) this.#mark(firstIndex, position);
    for (const { firstIndex, term } of terms) this.#runs.append(firstIndex, term);
    this.#lastIndex = lastIndex;
    this.#endPosition = endPosition;
  }

  /** @returns null when `firstIndex`, which is in the log, is no start of a group that is still known */
  outline(firstIndex: number, lastIndex: number): GroupOutline | null {
    if (this.boundaryAtOrBelow(firstIndex) !== firstIndex) return null;
    const marks = [{ firstIndex, position: this.positionAtOrBelow(firstIndex) }];
    const add = (first: number, position: number): void => {
      const last = marks.at(-1)?.position as number;
      if (first > firstIndex && first <= lastIndex && position >= last + this.#markStrideBytes) marks.push({ firstIndex: first, position });
    };
    for (let at = 0; at < this.#markCount; at++) add(this.#markFirst[at] as number, this.#markPosition[at] as number);
    for (let at = 0; at < this.#ringCount; at++) {
      const slot = (this.#ringHead + at) & this.#mask;
      add(this.#ringFirst[slot] as number, this.#ringPosition[slot] as number);
    }
    return { marks, terms: this.#runs.within(firstIndex, lastIndex), lastIndex };
  }

  /** Drops the group that starts at `index` and all behind it. Nothing happens for lastIndex + 1. */
  truncateFrom(index: number): void {
    if (index === this.#lastIndex + 1) return;
    assert(index > this.#startIndex && index <= this.#lastIndex, `truncation at ${index} is outside the log`);
    if (this.#ringCount > 0 && index >= this.exactFirstIndex) {
      const at = this.#ringAtOrBelow(index);
      const slot = (this.#ringHead + at) & this.#mask;
      assert(this.#ringFirst[slot] === index, `truncation at ${index}, inside a group`);
      this.#endPosition =
        at > 0
          ? this.#endOf(at - 1)
          : this.#markCount === 0
            ? this.#startPosition // the whole log goes
            : (this.#ringPosition[slot] as number);
      this.#ringCount = at;
    } else {
      // So deep only for a tail longer than the exact window; the end of the group before is unknown, its successor's place serves.
      const mark = this.#markAtOrBelow(index);
      assert(this.#markFirst[mark] === index, `truncation at ${index}, which is no known group start`);
      this.#endPosition = this.#markPosition[mark] as number;
      this.#ringCount = 0;
      this.#markCount = mark;
    }
    this.#runs.truncateFrom(index);
    this.#lastIndex = index - 1;
  }

  /** Drops the head: `startIndex` becomes the last index before the first retained entry. It ends a group. */
  cutTo(startIndex: number, startTerm: number, startPosition: number): void {
    assert(startIndex >= this.#startIndex && startIndex <= this.#lastIndex, `cut at ${startIndex} is outside the log`);
    assert(this.termAt(startIndex) === startTerm, `cut at ${startIndex} with another term than the log's`);
    if (startIndex === this.#lastIndex) {
      this.reset(startIndex, startTerm, startPosition);
      return;
    }
    const first = startIndex + 1;
    if (first >= this.exactFirstIndex) {
      const at = this.#ringAtOrBelow(first);
      assert(this.#ringFirst[(this.#ringHead + at) & this.#mask] === first, `cut at ${startIndex}, inside a group`);
      this.#ringHead += at;
      this.#ringCount -= at;
      this.#markCount = 0;
    } else {
      // The mark at or below the cut becomes the cut itself.
      const mark = this.#markAtOrBelow(first);
      this.#markFirst.copyWithin(0, mark, this.#markCount);
      this.#markPosition.copyWithin(0, mark, this.#markCount);
      this.#markCount -= mark;
      this.#markFirst[0] = first;
      this.#markPosition[0] = startPosition;
    }
    this.#runs.cutBefore(first);
    this.#startIndex = startIndex;
    this.#startTerm = startTerm;
    this.#startPosition = startPosition;
  }

  /** Forgets everything: an empty log that goes on after `startIndex`. */
  reset(startIndex: number, startTerm: number, startPosition: number): void {
    this.#ringCount = 0;
    this.#markCount = 0;
    this.#runs.clear();
    this.#startIndex = startIndex;
    this.#startTerm = startTerm;
    this.#startPosition = startPosition;
    this.#lastIndex = startIndex;
    this.#endPosition = startPosition;
  }

  /** Term of the entry at `index`; null before startIndex and behind lastIndex. */
  termAt(index: number): number | null {
    if (index === this.#startIndex) return this.#startTerm;
    if (index < this.#startIndex || index > this.#lastIndex) return null;
    return this.#runs.termAt(index);
  }

  /** Largest index in startIndex…`index` whose term is at most `term`, or startIndex - 1 when there is none. */
  lastIndexWithTermAtMost(index: number, term: number): number {
    const from = Math.min(index, this.#lastIndex);
    const found = from <= this.#startIndex ? from : this.#runs.lastIndexWithTermAtMost(from, term);
    if (found > this.#startIndex) return found;
    return from >= this.#startIndex && this.#startTerm <= term ? this.#startIndex : this.#startIndex - 1;
  }

  /** The group that holds `index`, or null when it is outside the log or no longer known exactly. */
  groupContaining(index: number): GroupMeta | null {
    if (index > this.#lastIndex || this.#ringCount === 0 || index < this.exactFirstIndex) return null;
    const at = this.#ringAtOrBelow(index);
    const slot = (this.#ringHead + at) & this.#mask;
    return {
      firstIndex: this.#ringFirst[slot] as number,
      lastIndex: this.#lastIndexOf(at),
      term: this.#runs.termAt(index),
      position: this.#ringPosition[slot] as number,
      sizeBytes: this.#ringSize[slot] as number,
    };
  }

  /** Largest boundary <= `index`; firstIndex at least. */
  boundaryAtOrBelow(index: number): number {
    if (index > this.#lastIndex) return this.#lastIndex + 1;
    if (index <= this.#startIndex + 1) return this.#startIndex + 1;
    if (index >= this.exactFirstIndex) return this.#ringFirst[(this.#ringHead + this.#ringAtOrBelow(index)) & this.#mask] as number;
    return this.#markFirst[this.#markAtOrBelow(index)] as number;
  }

  /** Position of boundaryAtOrBelow(`index`). */
  positionAtOrBelow(index: number): number {
    if (index > this.#lastIndex) return this.#endPosition;
    if (index <= this.#startIndex + 1) return this.#startPosition;
    if (index >= this.exactFirstIndex) return this.#ringPosition[(this.#ringHead + this.#ringAtOrBelow(index)) & this.#mask] as number;
    return this.#markPosition[this.#markAtOrBelow(index)] as number;
  }

  groupStartAtOrBelow(index: number): { readonly index: number; readonly position: number } {
    return { index: this.boundaryAtOrBelow(index), position: this.positionAtOrBelow(index) };
  }

  /**
   * Last index of a run of whole groups from the boundary `fromIndex`, of at most `maxBytes` by position, but of one group
   * (or, where only marks are known, one stride) at least.
   */
  rangeEnd(fromIndex: number, maxBytes: number): number {
    assert(fromIndex > this.#startIndex && fromIndex <= this.#lastIndex, `range from ${fromIndex} is outside the log`);
    const limit = this.positionAtOrBelow(fromIndex) + maxBytes;
    if (this.#endPosition <= limit) return this.#lastIndex;
    const exactFirst = this.exactFirstIndex;
    const exactPosition = this.#ringCount === 0 ? this.#endPosition : (this.#ringPosition[this.#ringHead & this.#mask] as number);
    if (fromIndex < exactFirst && exactPosition > limit) {
      const from = this.#markAtOrBelow(fromIndex);
      assert(this.#markFirst[from] === fromIndex, `range from ${fromIndex}, which is no boundary`);
      // Last mark within the limit; a range ends before a mark or before the ring.
      let low = from;
      let high = this.#markCount - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if ((this.#markPosition[middle] as number) <= limit) low = middle;
        else high = middle - 1;
      }
      const next = low > from ? low : from + 1;
      return (next < this.#markCount ? (this.#markFirst[next] as number) : exactFirst) - 1;
    }
    let low = fromIndex < exactFirst ? -1 : this.#ringAtOrBelow(fromIndex);
    assert(low < 0 || this.#ringFirst[(this.#ringHead + low) & this.#mask] === fromIndex, `range from ${fromIndex}, inside a group`);
    let high = this.#ringCount - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#endOf(middle) <= limit) low = middle;
      else high = middle - 1;
    }
    return low < 0 ? exactFirst - 1 : this.#lastIndexOf(low);
  }

  /** Bytes by position from the boundary `fromIndex` to the end of a range that rangeEnd() gave. */
  rangeBytes(fromIndex: number, lastIndex: number): number {
    return this.positionAtOrBelow(lastIndex + 1) - this.positionAtOrBelow(fromIndex);
  }

  /** Known exact groups that lie behind `index`, at most exactCapacity. */
  exactGroupsAfter(index: number): number {
    if (index >= this.#lastIndex) return 0;
    if (index < this.exactFirstIndex) return this.#ringCount;
    return this.#ringCount - 1 - this.#ringAtOrBelow(index);
  }

  #endOf(at: number): number {
    const slot = (this.#ringHead + at) & this.#mask;
    return (this.#ringPosition[slot] as number) + (this.#ringSize[slot] as number);
  }

  #lastIndexOf(at: number): number {
    return at + 1 < this.#ringCount ? (this.#ringFirst[(this.#ringHead + at + 1) & this.#mask] as number) - 1 : this.#lastIndex;
  }

  /** Place in the ring of the last group that starts at or below `index`; the caller knows there is one. */
  #ringAtOrBelow(index: number): number {
    let high = this.#ringCount - 1;
    // The tail is asked for most.
    if ((this.#ringFirst[(this.#ringHead + high) & this.#mask] as number) <= index) return high;
    let low = 0;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#ringFirst[(this.#ringHead + middle) & this.#mask] as number) <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #markAtOrBelow(index: number): number {
    let low = 0;
    let high = this.#markCount - 1;
    assert(high >= 0 && (this.#markFirst[0] as number) <= index, `no mark at or below ${index}`);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#markFirst[middle] as number) <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #evictOldest(): void {
    const slot = this.#ringHead & this.#mask;
    this.#mark(this.#ringFirst[slot] as number, this.#ringPosition[slot] as number);
    this.#ringHead += 1;
    this.#ringCount -= 1;
  }

  /** Keeps a group's start, unless the last mark is less than a stride before it. */
  #mark(firstIndex: number, position: number): void {
    const last = this.#markCount - 1;
    if (last >= 0 && position < (this.#markPosition[last] as number) + this.#markStrideBytes) return;
    if (this.#markCount === this.#maxMarks) this.#thinMarks();
    this.#markFirst[this.#markCount] = firstIndex;
    this.#markPosition[this.#markCount] = position;
    this.#markCount += 1;
  }

  #thinMarks(): void {
    const kept = (this.#markCount + 1) >> 1;
    for (let at = 1; at < kept; at += 1) {
      this.#markFirst[at] = this.#markFirst[at * 2] as number;
      this.#markPosition[at] = this.#markPosition[at * 2] as number;
    }
    this.#markCount = kept;
    this.#markStrideBytes *= 2;
  }
}
