import { assert } from '../base/assert.ts';
import { crc32 } from '../base/crc.ts';
import type { Clock } from '../io/clock.ts';
import type { GroupIndex } from '../raft/group-index.ts';
import { LogCorrupt } from './errors.ts';
import { forEachEntry, type GroupHeader, LARGEST_GROUP_BYTES, newEntryView, readGroupHeader, verifyGroup } from './group-codec.ts';
import { readWhatCan } from './group-walk.ts';
import type { HotTail } from './hot-tail.ts';
import { BLOCK_BYTES, GROUP_HEADER_BYTES } from './layout.ts';
import type { LogCounts } from './log-counts.ts';
import type { SegmentStore } from './segment-store.ts';
import type { EntryView, GroupRun } from './types.ts';

/** Cold reads under way at once: one for each peer, one for apply, one for verify. Further ones wait their turn. */
const COLD_BUFFERS = 6;
/** Pause between two slices of a hash, so that verification never takes the disk for itself. */
const HASH_PAUSE_MS = 2;

export interface LogReaderOptions {
  readonly store: SegmentStore;
  readonly hot: HotTail;
  readonly index: GroupIndex;
  readonly clock: Clock;
  readonly segmentBytes: number;
  readonly counts: LogCounts;
}

/** Finds groups and entries again: in memory while they are hot, else in the files. */
export class LogReader {
  readonly #options: LogReaderOptions;
  readonly #view = newEntryView();
  readonly #free: Uint8Array[] = [];
  #buffers = 0;
  /** See Log.onDamage. */
  onDamage: ((damage: LogCorrupt) => Promise<void>) | null = null;
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];

  constructor(options: LogReaderOptions) {
    this.#options = options;
  }

  /** Header of the hot group at `position`, or null. */
  hotHeader(position: number): GroupHeader | null {
    const head = this.#options.hot.read(position, GROUP_HEADER_BYTES);
    if (head === null) return null;
    const header = readGroupHeader(head);
    assert(typeof header !== 'string', `no group in the hot tail at ${position}`);
    return header;
  }

  async header(position: number): Promise<GroupHeader> {
    return this.#mended(() => this.#header(position, 0));
  }

  /** Makes a read again once the damage that it met is mended: damaged bytes are never served (I4). */
  async #mended<T>(read: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await read();
      } catch (error) {
        if (!(error instanceof LogCorrupt)) throw error;
        this.#options.counts.corruptions++;
        if (this.onDamage === null) throw error;
        await this.onDamage(error);
      }
    }
  }

  /** @param firstIndex 0 = whatever it is */
  async #header(position: number, firstIndex: number): Promise<GroupHeader> {
    const hot = this.hotHeader(position);
    if (hot !== null) return hot;
    const bytes = new Uint8Array(BLOCK_BYTES);
    const got = await readWhatCan(this.#options.store, bytes, position);
    const header = readGroupHeader(bytes.subarray(0, got));
    if (typeof header === 'string') throw new LogCorrupt(position, `group header: ${header}`);
    if (header.position !== position) throw new LogCorrupt(position, 'a group of another position');
    // Zeros in place of a group look like a segment's end; the next segment's first group is not the one that follows.
    if (firstIndex !== 0 && header.firstIndex !== firstIndex) throw new LogCorrupt(position, `no group begins with index ${firstIndex}`);
    return header;
  }

  /** The group that holds `index`, found by walking on from the nearest known start; null outside the log. */
  async find(index: number): Promise<GroupHeader | null> {
    return this.#mended(() => this.#find(index));
  }

  /** Walks anew after each repair: a lost end of a file had looked like the end of its segment, and the place behind it was wrong. */
  async #find(index: number): Promise<GroupHeader | null> {
    const { index: groups } = this.#options;
    if (index < groups.firstIndex || index > groups.lastIndex) return null;
    let place = groups.positionAtOrBelow(index);
    let expected = groups.boundaryAtOrBelow(index);
    for (;;) {
      const header = await this.#header(place, expected);
      if (index <= header.lastIndex) return header;
      place = await this.#after(header);
      expected = header.lastIndex + 1;
    }
  }

  /** Where the group behind `header` lies. */
  async #after(header: GroupHeader): Promise<number> {
    const end = header.position + header.sizeBytes;
    const { segmentBytes } = this.#options;
    const used = end % segmentBytes;
    if (used !== 0) {
      if (this.hotHeader(end) !== null) return end;
      const block = new Uint8Array(BLOCK_BYTES);
      const got = await readWhatCan(this.#options.store, block, end);
      if (got === BLOCK_BYTES && block.subarray(0, 4).some((byte) => byte !== 0)) return end;
    }
    return (used === 0 ? end : end - used + segmentBytes) + BLOCK_BYTES;
  }

  hotGroups(firstIndex: number, lastIndex: number, maxBytes: number): GroupRun[] | null {
    const { hot, index: groups } = this.#options;
    const runs: GroupRun[] = [];
    let left = maxBytes;
    for (let next = firstIndex; next <= lastIndex; ) {
      const meta = groups.groupContaining(next);
      if (meta === null || (meta.sizeBytes > left && runs.length > 0)) break;
      const found = hot.find(meta.position, meta.sizeBytes);
      if (found === null) break;
      const { chunk, offset } = found;
      let sizeBytes = meta.sizeBytes;
      let last = meta.lastIndex;
      while (last < lastIndex) {
        const following = groups.groupContaining(last + 1);
        if (following === null || sizeBytes + following.sizeBytes > left || following.position !== meta.position + sizeBytes) break;
        const place = hot.find(following.position, following.sizeBytes);
        if (place === null || place.chunk !== chunk || place.offset !== offset + sizeBytes) break;
        sizeBytes += following.sizeBytes;
        last = following.lastIndex;
      }
      chunk.retain();
      runs.push({ firstIndex: meta.firstIndex, lastIndex: last, bytes: chunk.bytes.subarray(offset, offset + sizeBytes), hold: chunk });
      left -= sizeBytes;
      next = last + 1;
    }
    if (runs.length === 0) return null;
    this.#options.counts.hotReads++;
    return runs;
  }

  /** @param lastIndex at most the durable index */
  coldGroups(firstIndex: number, lastIndex: number, maxBytes: number): Promise<GroupRun> {
    return this.#mended(() => this.#coldGroups(firstIndex, lastIndex, maxBytes));
  }

  async #coldGroups(firstIndex: number, lastIndex: number, maxBytes: number): Promise<GroupRun> {
    assert(firstIndex <= lastIndex, `no entries ${firstIndex}…${lastIndex} in the files`);
    const first = await this.#find(firstIndex);
    if (first === null) throw new RangeError(`index ${firstIndex} is not in the log`);
    const buffer = await this.#takeBuffer();
    try {
      const into = buffer.subarray(0, Math.min(buffer.length, Math.max(maxBytes, first.sizeBytes)));
      const { store, counts } = this.#options;
      const got = await readWhatCan(store, into, first.position);
      counts.coldReads++;
      counts.coldReadBytes += got;
      const last = verifyRun(into.subarray(0, got), first, lastIndex);
      return {
        firstIndex: first.firstIndex,
        lastIndex: last.lastIndex,
        bytes: into.subarray(0, last.sizeBytes),
        hold: { release: () => this.#giveBuffer(buffer) },
      };
    } catch (error) {
      this.#giveBuffer(buffer);
      throw error;
    }
  }

  visitHot(fromIndex: number, toIndex: number, visit: (entry: EntryView) => void): number {
    const { hot, index: groups } = this.#options;
    let next = fromIndex;
    while (next <= toIndex) {
      const meta = groups.groupContaining(next);
      const bytes = meta === null ? null : hot.read(meta.position, meta.sizeBytes);
      if (meta === null || bytes === null) break;
      visitRange(bytes, this.#view, next, toIndex, visit);
      next = Math.min(meta.lastIndex, toIndex) + 1;
    }
    return next - 1;
  }

  async visitCold(fromIndex: number, toIndex: number, visit: (entry: EntryView) => void): Promise<number> {
    const run = await this.coldGroups(fromIndex, toIndex, LARGEST_GROUP_BYTES);
    try {
      const view = newEntryView();
      let at = 0;
      while (at < run.bytes.length) {
        const header = readGroupHeader(run.bytes, at);
        assert(typeof header !== 'string', 'verified group without a header');
        visitRange(run.bytes.subarray(at, at + header.sizeBytes), view, fromIndex, toIndex, visit);
        at += header.sizeBytes;
      }
      return Math.min(run.lastIndex, toIndex);
    } finally {
      run.hold.release();
    }
  }

  async hashRange(fromIndex: number, toIndex: number): Promise<{ crc: number; groups: number; sizeBytes: number }> {
    let crc = 0;
    let groups = 0;
    let sizeBytes = 0;
    for (let next = fromIndex; next <= toIndex; ) {
      const hot = this.hotGroups(next, toIndex, LARGEST_GROUP_BYTES);
      for (const run of hot ?? [await this.coldGroups(next, toIndex, LARGEST_GROUP_BYTES)]) {
        // Only whole groups count: the first may begin before the range, the last may end behind it.
        for (let at = 0; at < run.bytes.length; ) {
          const header = readGroupHeader(run.bytes, at);
          assert(typeof header !== 'string', 'verified group without a header');
          if (header.firstIndex >= fromIndex && header.lastIndex <= toIndex) {
            crc = crc32(run.bytes.subarray(at, at + header.sizeBytes), crc);
            groups++;
            sizeBytes += header.sizeBytes;
          }
          at += header.sizeBytes;
        }
        next = run.lastIndex + 1;
        run.hold.release();
      }
      await new Promise<void>((resolve) => this.#options.clock.setTimer(HASH_PAUSE_MS, resolve));
    }
    return { crc, groups, sizeBytes };
  }

  #takeBuffer(): Promise<Uint8Array> {
    const free = this.#free.pop();
    if (free !== undefined) return Promise.resolve(free);
    if (this.#buffers < COLD_BUFFERS) {
      this.#buffers++;
      return Promise.resolve(new Uint8Array(LARGEST_GROUP_BYTES));
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #giveBuffer(buffer: Uint8Array): void {
    const next = this.#waiting.shift();
    if (next !== undefined) next(buffer);
    else this.#free.push(buffer);
  }
}

/** Checks the whole groups at the head of `bytes`, one at least, up to the one that holds `lastIndex`. */
function verifyRun(bytes: Uint8Array, first: GroupHeader, lastIndex: number): { lastIndex: number; sizeBytes: number } {
  let expected = { position: first.position, index: first.firstIndex, previousChecksum: first.previousChecksum };
  let at = 0;
  while (expected.index <= lastIndex) {
    const header = readGroupHeader(bytes, at);
    // The buffer's or the segment's end: the rest is another run. A bad first group is damage.
    const isCut = typeof header === 'string' ? bytes.length - at < BLOCK_BYTES || header === 'magic' : at + header.sizeBytes > bytes.length;
    if (isCut && at > 0) break;
    const result = verifyGroup(bytes.subarray(at), expected);
    if (!result.ok) throw new LogCorrupt(expected.position, result.reason);
    at += result.header.sizeBytes;
    expected = {
      position: result.header.position + result.header.sizeBytes,
      index: result.header.lastIndex + 1,
      previousChecksum: result.lastChecksum,
    };
  }
  return { lastIndex: expected.index - 1, sizeBytes: at };
}

function visitRange(group: Uint8Array, view: EntryView, from: number, to: number, visit: (entry: EntryView) => void): void {
  forEachEntry(group, view, (entry) => {
    if (entry.index >= from && entry.index <= to) visit(entry);
  });
}
