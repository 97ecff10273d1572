import { assert } from '../base/assert.ts';
import type { Clock, Timer } from '../io/clock.ts';
import { type Disk, DiskError, type DiskFile } from '../io/disk.ts';
import { LogCorrupt } from './errors.ts';
import { LARGEST_GROUP_BYTES } from './group-codec.ts';
import { readWhatCan } from './group-walk.ts';
import { BLOCK_BYTES } from './layout.ts';
import { baseOf, checkSegmentHeader, encodeSegmentHeader, isDamagedHeader, segmentBase, segmentName } from './segment.ts';
import type { FlushMode } from './types.ts';

/** Zeros go out in writes of this size: short enough that a group's write between two of them does not wait long. */
const FILL_WRITE_BYTES = 1024 * 1024;
/** After so many zeroed bytes the filling pauses, unless the tail is close behind. */
const FILL_SLICE_BYTES = 8 * 1024 * 1024;
const FILL_PAUSE_MS = 5;
/** Zeroed this far ahead of the tail. At 500 MB/s of writes it is an eighth of a second of warning. */
const FILL_AHEAD_BYTES = 64 * 1024 * 1024;
/** How long after a full disk the next attempt is made. */
const FULL_RETRY_MS = 1000;
/** Kept for no-op, cut, relocate, offsets and membership when clients' writes are refused already (FAULTS 3). */
export const RESERVE_SEGMENTS = 2;
/** Descriptors of old segments kept open for cold reads; the least recently used is closed. */
const MAX_OPEN_SEGMENTS = 16;
const TEMPORARY = '.tmp';

interface Segment {
  readonly base: number;
  readonly path: string;
  /** Opened at first use. Reads take the writer's descriptor when there is one. */
  reader: Promise<DiskFile> | null;
  writer: Promise<DiskFile> | null;
  /** Zeroed or written up to here; everything behind reads as the end of the file. */
  filledBytes: number;
  /** Operations under way: the descriptors are not closed meanwhile. */
  users: number;
  removed: boolean;
  lastUse: number;
  /** Asynchronous flush: written since the last fdatasync. */
  dirty: boolean;
  /** The header is damaged, or the whole file is missing: made anew before the first write into it. */
  headless: boolean;
}

const SMALLEST_SEGMENT_BYTES = 256 * 1024;

export interface SegmentStoreOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly directory: string;
  readonly segmentBytes: number;
  readonly clusterHash: number;
  readonly flush: FlushMode;
  readonly reserveBytes: number;
  /** More of the tail can be written now. */
  onFilled(): void;
  /** An error that is not a full disk while allocating. */
  onError(error: Error): void;
}

/**
 * The segment files. The file grows by zeroed slices ahead of the tail instead of being zeroed whole before its first use, so that a new log
 * is ready in milliseconds. The rule for torn writes (I4) holds all the same: a group is only ever written over bytes that were zeroed and
 * synced before, and behind the zeroed part there is the end of the file, which recovery reads as zeros.
 */
export class SegmentStore {
  readonly #options: SegmentStoreOptions;
  readonly #segments: Segment[] = [];
  readonly #zeros: Uint8Array;
  readonly #header: Uint8Array;
  /** What is written ends here, what is to be written there. */
  #head = 0;
  #tail = 0;
  #uses = 0;
  #filling: Promise<void> | null = null;
  #closed = false;
  #wake: (() => void) | null = null;
  #allocationFailed = false;
  #belowReserve = false;
  #recheck: Timer | null = null;

  constructor(options: SegmentStoreOptions) {
    assert(options.segmentBytes % BLOCK_BYTES === 0, 'segment size is not a multiple of the block size');
    // Simulations take smaller ones than a user may set (config.ts): their entries are small, too (CommitLog asserts each).
    assert(options.segmentBytes >= SMALLEST_SEGMENT_BYTES, 'segment too small');
    this.#options = options;
    this.#zeros = options.disk.allocateAligned(FILL_WRITE_BYTES);
    this.#header = options.disk.allocateAligned(BLOCK_BYTES);
  }

  get diskFull(): boolean {
    return this.#allocationFailed || this.#belowReserve;
  }

  /** Bases of the segment files, ascending, without gaps. */
  get bases(): readonly number[] {
    return this.#segments.map((segment) => segment.base);
  }

  /**
   * Reads names and headers; changes nothing.
   * @param startPosition segments before it are left over from a cut and ignored
   * @param repairable a missing file or a damaged header is taken for damage inside the log, which repair finds
   * @throws LogForeign, LogCorrupt (a segment is missing)
   */
  async load(startPosition: number, repairable = false): Promise<{ leftOver: string[] }> {
    const { disk, directory, segmentBytes, clusterHash } = this.#options;
    const leftOver: string[] = [];
    const firstBase = baseOf(startPosition, segmentBytes);
    for (const name of await disk.list(directory)) {
      const path = `${directory}/${name}`;
      const base = segmentBase(name);
      if (base === null) {
        if (name.endsWith(TEMPORARY)) leftOver.push(path);
        continue;
      }
      const file = await disk.open(path, { access: 'read' });
      const segment = this.#newSegment(base, path);
      segment.reader = Promise.resolve(file);
      if (base >= firstBase) this.#segments.push(segment);
      const block = new Uint8Array(BLOCK_BYTES);
      await readWhatCan(file, block, 0);
      try {
        checkSegmentHeader(block, path, base, segmentBytes, clusterHash);
      } catch (error) {
        if (!repairable || !isDamagedHeader(block)) throw error;
        segment.headless = true;
      }
      const sizeBytes = await file.sizeBytes();
      segment.filledBytes = Math.min(segmentBytes, sizeBytes - (sizeBytes % BLOCK_BYTES));
      if (base < firstBase) {
        await closeFiles(segment);
        leftOver.push(path);
      }
      await this.#closeIdle();
    }
    for (let i = 0; i < this.#segments.length; i++) {
      const expected = firstBase + i * segmentBytes;
      if (this.#segments[i]?.base === expected) continue;
      if (!repairable) throw new LogCorrupt(expected, `segment ${segmentName(expected)} is missing`);
      this.#segments.splice(i, 0, { ...this.#newSegment(expected, `${directory}/${segmentName(expected)}`), headless: true });
    }
    await this.#checkSpace();
    return { leftOver };
  }

  /** Removes what load() named, after everything else about the directory was found good. */
  async discard(paths: readonly string[]): Promise<void> {
    for (const path of paths) await this.#options.disk.remove(path);
    if (paths.length > 0) await this.#options.disk.syncDirectory(this.#options.directory);
  }

  /** The next write goes to `headPosition`. After open, a truncation or a reset. */
  startAt(headPosition: number): void {
    this.#head = headPosition;
    this.demand(headPosition);
  }

  /** Groups up to `endPosition` wait to be written: keeps the zeroed part ahead of them. */
  demand(endPosition: number): void {
    this.#tail = endPosition;
    if (this.#filling === null && !this.#closed && this.#nextFill() !== null) {
      this.#filling = this.#fill().finally(() => {
        this.#filling = null;
      });
    } else if (this.#tail + FILL_SLICE_BYTES > this.#filledEnd()) {
      this.#wake?.();
    }
  }

  /** Size of the allocated part of the segment at `base`; 0 when there is none. */
  filledBytes(base: number): number {
    return this.#find(base)?.filledBytes ?? 0;
  }

  /** True when the range lies in the allocated part: an error there is never "disk full". */
  isFilled(position: number, sizeBytes: number): boolean {
    const segment = this.#find(position);
    return segment !== null && position + sizeBytes <= segment.base + segment.filledBytes;
  }

  /** Writes groups that continue the log. Durable when it resolves (asynchronous flush: after syncDirty()). */
  async append(bytes: Uint8Array, position: number): Promise<void> {
    await this.write(bytes, position);
    this.#head = position + bytes.length;
  }

  /** The same anywhere. Within one segment's filled part. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    assert(this.isFilled(position, bytes.length), `write outside the allocated part at ${position}`);
    const segment = this.#find(position) as Segment;
    const file = await this.#use(segment, true);
    try {
      await file.write(bytes, position - segment.base);
      segment.dirty = this.#options.flush === 'async';
    } finally {
      await this.#done(segment);
    }
  }

  /** Zeroes a range durably, its end first: whatever a crash leaves behind is a whole prefix and one torn piece. */
  async zero(position: number, endPosition: number): Promise<void> {
    for (const segment of this.#segments.toReversed()) {
      const from = Math.max(position, segment.base + BLOCK_BYTES);
      let end = Math.min(endPosition, segment.base + segment.filledBytes);
      while (end > from) {
        const size = Math.min(this.#zeros.length, end - from);
        await this.write(this.#zeros.subarray(0, size), end - size);
        end -= size;
      }
    }
    await this.syncDirty();
  }

  /** @returns bytes read: fewer at the end of the segment or of its zeroed part */
  async read(into: Uint8Array, position: number): Promise<number> {
    const segment = this.#find(position);
    if (segment === null) return 0;
    const offset = position - segment.base;
    const size = Math.min(into.length, segment.filledBytes - offset);
    if (size <= 0) return 0;
    const file = await this.#use(segment, false);
    try {
      return await file.read(into.subarray(0, size), offset);
    } finally {
      await this.#done(segment);
    }
  }

  /** Before bytes are written again where a file is cut short, gone, or without its header: makes it as it was, with zeros. */
  async restore(position: number, sizeBytes: number): Promise<void> {
    const segment = this.#find(position);
    assert(segment !== null, `no segment at ${position}`);
    const { disk, directory, segmentBytes, clusterHash } = this.#options;
    const isLast = segment === this.#segments.at(-1);
    if (!segment.headless && (isLast || segment.filledBytes >= position - segment.base + sizeBytes)) return;
    const file = await disk.open(segment.path, { access: 'readwrite', create: true });
    try {
      encodeSegmentHeader(this.#header, segment.base, segmentBytes, clusterHash);
      await file.write(this.#header, 0);
      if (!isLast) await file.truncate(segmentBytes);
      await file.sync();
      await disk.syncDirectory(directory);
    } finally {
      await file.close();
    }
    if (!isLast) segment.filledBytes = segmentBytes;
    segment.headless = false;
  }

  /** Headers are the same on all replicas, and known without them: written again once the log around them was found whole. */
  async restoreHeaders(): Promise<void> {
    for (const segment of this.#segments) if (segment.headless) await this.restore(segment.base, 0);
  }

  /** fdatasync of every file written since the last call; overlapping writes count for the next call. */
  async syncDirty(): Promise<void> {
    for (const segment of this.#segments) {
      if (!segment.dirty) continue;
      segment.dirty = false;
      const file = await this.#use(segment, true);
      try {
        await file.sync();
      } finally {
        await this.#done(segment);
      }
    }
  }

  /** Deletes the segments before `base`, oldest first, so that what a crash leaves is without gaps. */
  async removeBefore(base: number): Promise<void> {
    await this.#remove(this.#segments.filter((segment) => segment.base < base));
    this.demand(this.#tail);
  }

  /** Deletes everything, the newest first: a crash leaves a log that ends early, not one with a gap. */
  async removeAll(): Promise<void> {
    await this.#stopFilling();
    await this.#remove(this.#segments.toReversed());
    this.#closed = false;
  }

  async close(): Promise<void> {
    await this.#stopFilling();
    for (const segment of this.#segments) {
      await closeFiles(segment);
    }
  }

  async #remove(victims: readonly Segment[]): Promise<void> {
    const { disk, directory } = this.#options;
    for (const segment of victims) {
      this.#segments.splice(this.#segments.indexOf(segment), 1);
      // A cold read under way keeps its descriptor until it is done.
      segment.removed = true;
      if (segment.users === 0) await closeFiles(segment);
      await disk.remove(segment.path);
      await disk.syncDirectory(directory);
    }
    await this.#checkSpace();
  }

  async #stopFilling(): Promise<void> {
    this.#closed = true;
    if (this.#recheck !== null) this.#options.clock.clearTimer(this.#recheck);
    this.#recheck = null;
    this.#wake?.();
    await this.#filling;
  }

  #find(position: number): Segment | null {
    const first = this.#segments[0];
    if (first === undefined || position < first.base) return null;
    return (
      this.#segments[(position - first.base - ((position - first.base) % this.#options.segmentBytes)) / this.#options.segmentBytes] ?? null
    );
  }

  #filledEnd(): number {
    const last = this.#segments.at(-1);
    return last === undefined ? 0 : last.base + last.filledBytes;
  }

  /** Takes the segment's descriptor; #done() gives it back. */
  async #use(segment: Segment, writable: boolean): Promise<DiskFile> {
    segment.users++;
    segment.lastUse = this.#uses++;
    const known = segment.writer ?? (writable ? null : segment.reader);
    if (known !== null) return known;
    const opened = this.#options.disk.open(segment.path, {
      access: writable ? 'readwrite' : 'read',
      durable: writable && this.#options.flush === 'sync',
    });
    if (writable) segment.writer = opened;
    else segment.reader = opened;
    try {
      return await opened;
    } catch (error) {
      segment.users--;
      if (writable) segment.writer = null;
      else segment.reader = null;
      throw error;
    }
  }

  async #done(segment: Segment): Promise<void> {
    segment.users--;
    if (segment.users === 0 && segment.removed) await closeFiles(segment);
    else if (this.#segments.length > MAX_OPEN_SEGMENTS) await this.#closeIdle();
  }

  async #closeIdle(): Promise<void> {
    const open = this.#segments.filter((segment) => segment.reader !== null || segment.writer !== null);
    if (open.length <= MAX_OPEN_SEGMENTS) return;
    const idle = open.filter((segment) => segment.users === 0 && !segment.dirty && segment.base + this.#options.segmentBytes <= this.#head);
    idle.sort((a, b) => a.lastUse - b.lastUse);
    if (idle[0] !== undefined) await closeFiles(idle[0]);
  }

  #newSegment(base: number, path: string): Segment {
    const lastUse = this.#uses++;
    return { base, path, reader: null, writer: null, filledBytes: 0, users: 0, removed: false, lastUse, dirty: false, headless: false };
  }

  /** What to zero next: null when there is enough ahead of the tail. */
  #nextFill(): { base: number; segment: Segment | null; endBytes: number } | null {
    const { segmentBytes } = this.#options;
    const ahead = Math.min(FILL_AHEAD_BYTES, Math.max(LARGEST_GROUP_BYTES, segmentBytes / 4));
    const wantedEnd = this.#tail + ahead;
    for (let base = baseOf(this.#head, segmentBytes); base + BLOCK_BYTES < wantedEnd; base += segmentBytes) {
      const segment = this.#find(base);
      const endBytes = Math.min(segmentBytes, wantedEnd - base);
      if (segment === null || segment.filledBytes < endBytes) return { base, segment, endBytes };
    }
    return null;
  }

  async #fill(): Promise<void> {
    let sliceBytes = 0;
    for (;;) {
      const next = this.#closed ? null : this.#nextFill();
      if (next === null) return;
      try {
        if (next.segment === null) await this.#create(next.base);
        else await this.#extend(next.segment);
        this.#allocationFailed = false;
        sliceBytes += FILL_WRITE_BYTES;
      } catch (error) {
        if (!(error instanceof DiskError && (error.code === 'ENOSPC' || error.code === 'EDQUOT'))) {
          this.#closed = true;
          this.#options.onError(error as Error);
          return;
        }
        this.#allocationFailed = true;
        await this.#pause(FULL_RETRY_MS, false);
        continue;
      }
      this.#options.onFilled();
      if (sliceBytes >= FILL_SLICE_BYTES) {
        sliceBytes = 0;
        await this.#checkSpace();
        if (this.#tail + FILL_SLICE_BYTES <= this.#filledEnd()) await this.#pause(FILL_PAUSE_MS, true);
      }
    }
  }

  async #extend(segment: Segment): Promise<void> {
    const size = Math.min(FILL_WRITE_BYTES, this.#options.segmentBytes - segment.filledBytes);
    const file = await this.#use(segment, true);
    try {
      await file.write(this.#zeros.subarray(0, size), segment.filledBytes);
      if (this.#options.flush === 'async') await file.sync();
      segment.filledBytes += size;
    } finally {
      await this.#done(segment);
    }
  }

  /** Header block under a temporary name, then the real name: no segment is ever seen without its header. */
  async #create(base: number): Promise<void> {
    const { disk, directory, segmentBytes, clusterHash, flush } = this.#options;
    const path = `${directory}/${segmentName(base)}`;
    const file = await disk.open(path + TEMPORARY, { access: 'readwrite', create: true, durable: flush === 'sync' });
    try {
      encodeSegmentHeader(this.#header, base, segmentBytes, clusterHash);
      await file.truncate(0);
      await file.write(this.#header, 0);
      await file.sync();
      await disk.rename(path + TEMPORARY, path);
      await disk.syncDirectory(directory);
    } finally {
      await file.close();
    }
    const segment = this.#newSegment(base, path);
    segment.filledBytes = BLOCK_BYTES;
    this.#segments.push(segment);
  }

  async #checkSpace(): Promise<void> {
    const { freeBytes } = await this.#options.disk.space(this.#options.directory);
    this.#belowReserve = freeBytes < this.#options.reserveBytes;
    // Asked again until it is not: a log that refuses writes has no other reason to look.
    if (this.#belowReserve && this.#recheck === null) {
      this.#recheck = this.#options.clock.setTimer(FULL_RETRY_MS, () => {
        this.#recheck = null;
        if (!this.#closed) this.#checkSpace().catch((error: unknown) => this.#options.onError(error as Error));
      });
    }
  }

  /** @param mayWake the tail coming close ends the pause early; closing always does */
  #pause(delayMs: number, mayWake: boolean): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#wake = null;
        this.#options.clock.clearTimer(timer);
        resolve();
      };
      const timer = this.#options.clock.setTimer(delayMs, done);
      this.#wake = () => {
        if (mayWake || this.#closed) done();
      };
    });
  }
}

async function closeFiles(segment: Segment): Promise<void> {
  const { reader, writer } = segment;
  segment.reader = null;
  segment.writer = null;
  await (await reader)?.close();
  await (await writer)?.close();
}
