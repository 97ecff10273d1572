import { assert, assertU53 } from '../base/assert.ts';
import { GroupIndex } from '../raft/group-index.ts';
import type { GroupMeta } from '../raft/types.ts';
import { type LogCorrupt, LogPoisoned, LogShortened } from './errors.ts';
import {
  continues,
  type GroupHeader,
  MIN_ENTRY_BODY_BYTES,
  paddedBytes,
  verifyGroup,
  writeEntry,
  writeGroupHeader,
} from './group-codec.ts';
import { GroupCommit } from './group-commit.ts';
import { DEFAULT_HOT_TAIL, type HotChunk, HotTail } from './hot-tail.ts';
import { BLOCK_BYTES, ENTRY_HEADER_BYTES, GROUP_HEADER_BYTES, MAX_ENTRY_BODY_BYTES, MAX_GROUP_BYTES } from './layout.ts';
import { LogCounts } from './log-counts.ts';
import { LogReader } from './log-reader.ts';
import { LogVerifier } from './log-verifier.ts';
import { type RecoveredEnd, recover } from './recovery.ts';
import { rewriteTail } from './rewrite-tail.ts';
import { baseOf, DEFAULT_SEGMENT_BYTES, mayFollow, placeOf } from './segment.ts';
import { SegmentOutlines } from './segment-outlines.ts';
import { RESERVE_SEGMENTS, SegmentStore } from './segment-store.ts';
import { TailChain } from './tail-chain.ts';
import type {
  AppendGroupsResult,
  AppendRefusal,
  CheckedGroup,
  ClosedGroup,
  CommitLogHandlers,
  CommitLogOptions,
  EntryView,
  GroupRun,
  Log,
  LogBoundary,
  LogCursor,
  RecoveryReport,
} from './types.ts';

const DEFAULT_ASYNC_FLUSH_MS = 50;
export const EMPTY_LOG_START: LogBoundary = { index: 0, term: 0, position: BLOCK_BYTES, previousChecksum: 0 };

/** A group that still takes entries; nobody has seen it. */
interface OpenGroup {
  readonly chunk: HotChunk;
  readonly position: number;
  readonly firstIndex: number;
  readonly term: number;
  readonly logTimeMs: number;
  readonly previousChecksum: number;
  dataBytes: number;
  entryCount: number;
  lastChecksum: number;
}

interface RecoveredParts extends Readonly<{ store: SegmentStore; index: GroupIndex; chain: TailChain; verifier: LogVerifier }> {
  readonly start: LogBoundary;
  readonly end: RecoveredEnd;
  readonly report: RecoveryReport;
  readonly outlines: SegmentOutlines | null;
}

/** See `Log` for the contract of each member. */
export class CommitLog implements Log {
  readonly recovery: RecoveryReport;
  readonly counts = new LogCounts();
  readonly verifier: LogVerifier;
  readonly #handlers: CommitLogHandlers;
  readonly #segmentBytes: number;
  readonly #store: SegmentStore;
  readonly #outlines: SegmentOutlines | null;
  readonly #index: GroupIndex;
  readonly #hot: HotTail;
  readonly #commit: GroupCommit;
  readonly #reader: LogReader;
  #startChecksum: number;
  #open: OpenGroup | null = null;
  #closed: ClosedGroup[] = [];
  #lastChecksum: number;
  #lastLogTimeMs: number;
  #durableIndex: number;
  #durablePosition: number;
  #poisoned: Error | null = null;
  /** Changes of the files that no group's write may overlap, one after the other. */
  #fileWork: Promise<void> = Promise.resolve();
  readonly #chain: TailChain;
  /** Bytes of a damaged last write that stay until a leader's first append replaces them (I4). */
  #damagedEnd: number;

  private constructor(options: CommitLogOptions, segmentBytes: number, parts: RecoveredParts) {
    const { store, outlines, index, chain, verifier, start, end, report } = parts;
    this.verifier = verifier;
    this.#chain = chain;
    this.recovery = report;
    this.#handlers = options.handlers;
    this.#segmentBytes = segmentBytes;
    this.#store = store;
    this.#outlines = outlines;
    this.#index = index;
    this.#startChecksum = start.previousChecksum;
    this.#lastChecksum = end.lastChecksum;
    this.#lastLogTimeMs = end.lastLogTimeMs;
    this.#durableIndex = end.index;
    this.#durablePosition = end.endPosition;
    this.#damagedEnd = report.voteFloor > 0 ? end.dirtyEnd : 0;
    this.#hot = new HotTail(
      options.hotTail ?? DEFAULT_HOT_TAIL,
      (sizeBytes) => options.disk.allocateAligned(sizeBytes),
      () => options.handlers.onPinned?.(),
    );
    this.#commit = new GroupCommit({
      store,
      clock: options.clock,
      flush: options.flush ?? 'sync',
      asyncFlushMs: options.asyncFlushMs ?? DEFAULT_ASYNC_FLUSH_MS,
      counts: this.counts,
      onDurable: (group) => this.#onDurable(group),
      onError: (error) => this.#poison(error),
      writtenEnd: end.endPosition,
    });
    this.#reader = new LogReader({ store, hot: this.#hot, index, clock: options.clock, segmentBytes, counts: this.counts });
  }

  /**
   * Recovers the log of `directory`, or makes a new one.
   * @throws LogRefused (LogForeign, LogCorrupt, LogShortened): the directory is left untouched. DiskError: it could not be read or repaired.
   */
  static async open(options: CommitLogOptions): Promise<CommitLog> {
    const segmentBytes = options.segmentBytes ?? DEFAULT_SEGMENT_BYTES;
    const start = options.start ?? EMPTY_LOG_START;
    const verifyFrom = options.verifyFrom ?? start;
    const durableEndPosition = options.durableEndPosition ?? 0;
    let log: CommitLog | null = null;
    const store = new SegmentStore({
      disk: options.disk,
      clock: options.clock,
      directory: options.directory,
      segmentBytes,
      clusterHash: options.clusterHash,
      flush: options.flush ?? 'sync',
      reserveBytes: options.reserveBytes ?? RESERVE_SEGMENTS * segmentBytes,
      onFilled: () => {
        if (log !== null) log.#commit.pump();
      },
      onError: (error) => {
        if (log !== null) log.#poison(error);
      },
    });
    try {
      await options.disk.mkdir(options.directory);
      const { repair, bridge } = options;
      const { leftOver } = await store.load(start.position, repair !== undefined);
      // An empty log is whole only when it ended where it starts: after a state from a peer and a clean stop.
      if (store.bases.length === 0 && durableEndPosition > 0 && durableEndPosition !== start.position)
        throw new LogShortened('the segment files are gone');
      const index = new GroupIndex({ startIndex: start.index, startTerm: start.term, startPosition: start.position });
      const chain = new TailChain();
      const verifier = new LogVerifier({
        disk: options.disk,
        store,
        index,
        segmentBytes,
        start: () => log?.start ?? start,
        onError: (error) => {
          if (log !== null) log.#poison(error);
        },
      });
      const found = (from: LogCursor, damage: LogCorrupt) => ({ verifier, from, damage, committedIndex: verifyFrom.index });
      const outlines = await SegmentOutlines.open({ disk: options.disk, directory: options.outlineDirectory, store, index, segmentBytes });
      const end = await recover({
        store,
        outlines,
        onOutline: (outline, endPosition) => {
          index.appendOutline(outline, endPosition);
          options.onOutline?.(outline, endPosition);
        },
        segmentBytes,
        start,
        verifyFrom,
        durableEndPosition,
        unsyncedTailLost: options.unsyncedTailLost ?? false,
        ...(repair === undefined ? {} : { repair: (from, damage) => repair(found(from, damage)) }),
        ...(bridge === undefined ? {} : { bridge: (from, damage, laterIndex) => bridge(found(from, damage), laterIndex) }),
        onGroup: (group, previousChecksum, previousLogTimeMs, lone) => {
          index.append(group);
          chain.push(group.firstIndex, previousChecksum, previousLogTimeMs);
          options.onGroup?.(group, lone);
        },
      });
      // From here on the directory is known to be ours and sound: it may be changed.
      await store.discard(leftOver);
      await store.restoreHeaders();
      const hasTear = end.voteFloor === 0 && end.dirtyEnd > end.endPosition;
      if (hasTear) await store.zero(end.endPosition, end.dirtyEnd);
      // Each synced write began after the one before it had ended: only the last can be unproven. A buffered one proves nothing.
      const buffered = options.flush === 'async' || options.lastRunWasBuffered === true;
      const from = buffered ? verifyFrom.position : end.unprovenPosition;
      const rewrittenBytes = await rewriteTail(store, options.disk, segmentBytes, Math.min(from, end.endPosition), end.endPosition);
      const report = {
        verifiedBytes: end.verifiedBytes,
        tornBytes: hasTear ? end.dirtyEnd - end.endPosition : 0,
        voteFloor: end.voteFloor,
        voteFloorTerm: end.voteFloorTerm,
        rewrittenBytes,
      };
      log = new CommitLog(options, segmentBytes, { store, outlines, index, chain, verifier, start, end, report });
      store.startAt(end.endPosition);
      await outlines?.keep(verifyFrom.position);
      return log;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  set onDamage(mend: ((damage: LogCorrupt) => Promise<void>) | null) {
    this.#reader.onDamage = mend;
  }

  get firstIndex(): number {
    return this.#index.firstIndex;
  }
  get start(): LogBoundary {
    const { startIndex, startTerm, startPosition } = this.#index;
    return { index: startIndex, term: startTerm, position: startPosition, previousChecksum: this.#startChecksum };
  }
  get lastIndex(): number {
    return this.#index.lastIndex;
  }
  get lastTerm(): number {
    return this.#index.lastTerm;
  }
  get endPosition(): number {
    return this.#index.endPosition;
  }
  get lastChecksum(): number {
    return this.#lastChecksum;
  }
  get lastLogTimeMs(): number {
    return this.#lastLogTimeMs;
  }
  get durableIndex(): number {
    return this.#durableIndex;
  }
  get durablePosition(): number {
    return this.#durablePosition;
  }
  get syncedPosition(): number {
    return this.#commit.syncedEnd;
  }
  get poisoned(): Error | null {
    return this.#poisoned;
  }
  get diskFull(): boolean {
    return this.#store.diskFull;
  }
  get segmentCount(): number {
    return this.#store.bases.length;
  }
  get hotTailBytes(): number {
    return this.#hot.sizeBytes;
  }
  get openBytes(): number {
    return this.#open?.dataBytes ?? 0;
  }

  append(
    type: number,
    topicId: number,
    queueId: number,
    bodyChecksum: number,
    body: Uint8Array,
    term: number,
    logTimeMs: number,
  ): number | AppendRefusal {
    assert(body.length >= MIN_ENTRY_BODY_BYTES && body.length <= MAX_ENTRY_BODY_BYTES, `entry body of ${body.length} bytes`);
    assert(term >= this.lastTerm && term > 0, `append in term ${term} behind term ${this.lastTerm}`);
    if (this.#poisoned !== null) return 'poisoned';
    const needBytes = ENTRY_HEADER_BYTES + body.length;
    if (this.#open !== null && !this.#fits(this.#open, needBytes, term)) this.closeGroup();
    const open = this.#open ?? this.#begin(needBytes, term, logTimeMs);
    if (open === null) return 'full';
    const index = open.firstIndex + open.entryCount;
    const { logTimeMs: openedMs } = open;
    const fields = {
      index,
      position: open.position + open.dataBytes,
      logTimeMs: openedMs,
      term,
      type,
      queueId,
      topicId,
      bodyChecksum,
      body,
    };
    open.lastChecksum = writeEntry(open.chunk.bytes, open.chunk.tailOffset + open.dataBytes, fields, open.lastChecksum);
    open.dataBytes += needBytes;
    open.entryCount++;
    return index;
  }

  closeGroup(): ClosedGroup | null {
    const open = this.#open;
    if (open === null) return null;
    this.#open = null;
    const { chunk, position, term, logTimeMs, previousChecksum, dataBytes, entryCount, firstIndex } = open;
    const offset = chunk.tailOffset;
    const sizeBytes = paddedBytes(dataBytes);
    const header: GroupHeader = {
      firstIndex,
      lastIndex: firstIndex + entryCount - 1,
      term,
      position,
      sizeBytes,
      logTimeMs,
      entryCount,
      dataBytes,
      previousChecksum,
    };
    writeGroupHeader(chunk.bytes, offset, header);
    const closed = {
      meta: this.#take(header, chunk, open.lastChecksum),
      bytes: chunk.bytes.subarray(offset, offset + sizeBytes),
      hold: chunk,
    };
    this.#closed.push(closed);
    this.#startWriting();
    return closed;
  }

  get hasClosed(): boolean {
    return this.#closed.length > 0;
  }

  takeClosed(): ClosedGroup[] {
    const closed = this.#closed;
    this.#closed = [];
    return closed;
  }

  discardOpen(): void {
    this.#open = null;
  }

  hasRoom(sizeBytes: number): boolean {
    return this.#hot.room(sizeBytes, this.#durablePosition) !== null;
  }

  appendGroups(bytes: Uint8Array, checked?: readonly CheckedGroup[]): AppendGroupsResult {
    assert(this.#open === null, 'groups of a leader while a group of our own is open');
    if (this.#poisoned !== null) return { ok: false, reason: 'poisoned' };
    const verified: CheckedGroup[] = [];
    let expected = { position: null, index: this.lastIndex + 1, previousChecksum: this.#lastChecksum, logTimeMs: this.#lastLogTimeMs };
    let term = this.lastTerm;
    let end = this.endPosition;
    for (let at = 0; at < bytes.length; ) {
      const known = checked?.[verified.length];
      const result = known === undefined ? verifyGroup(bytes.subarray(at), expected) : continues(known, expected);
      if (!result.ok) return { ok: false, reason: result.reason };
      const { header, lastChecksum } = result;
      if (!mayFollow(end, header, this.#segmentBytes)) return { ok: false, reason: 'position' };
      if (header.term < term) return { ok: false, reason: 'term' };
      verified.push({ header, lastChecksum });
      expected = { position: null, index: header.lastIndex + 1, previousChecksum: lastChecksum, logTimeMs: header.logTimeMs };
      term = header.term;
      end = header.position + header.sizeBytes;
      at += header.sizeBytes;
    }
    const chunk = this.#hot.room(bytes.length, this.#durablePosition);
    if (chunk === null) return { ok: false, reason: 'full' };
    chunk.bytes.set(bytes, chunk.tailOffset);
    const groups = verified.map(({ header, lastChecksum }) => this.#take(header, chunk, lastChecksum));
    this.#startWriting();
    return { ok: true, groups };
  }

  truncateFrom(index: number): Promise<void> {
    this.#open = null;
    if (index > this.lastIndex) return this.#fileWork;
    const group = this.#index.groupContaining(index);
    assert(group !== null && group.firstIndex === index, `truncation at ${index}, which is no known group's first index`);
    const before = this.#chain.truncateFrom(index);
    this.#closed = this.#closed.filter((closed) => closed.meta.firstIndex < index);
    this.#commit.dropFrom(index, group.position);
    this.#hot.truncate(group.position);
    this.#index.truncateFrom(index);
    this.#lastChecksum = before.checksum;
    this.#lastLogTimeMs = before.logTimeMs;
    const endPosition = this.endPosition;
    this.#durableIndex = Math.min(this.#durableIndex, index - 1);
    this.#durablePosition = Math.min(this.#durablePosition, endPosition);
    this.#commit.syncedEnd = Math.min(this.#commit.syncedEnd, endPosition);
    return this.#changeFiles(async () => {
      const { writtenEnd } = this.#commit;
      if (writtenEnd <= group.position) return;
      await this.#handlers.onTruncating?.(endPosition);
      await this.#store.zero(group.position, writtenEnd);
      this.#commit.writtenEnd = group.position;
      this.#store.startAt(group.position);
      this.#store.demand(this.endPosition);
    });
  }

  async outlineSegments(position: number): Promise<void> {
    await this.#outlines?.keep(position);
  }

  async cutTo(position: number): Promise<LogBoundary> {
    const base = baseOf(Math.min(position, this.#durablePosition), this.#segmentBytes);
    if (base <= this.start.position) return this.start;
    const head = base + BLOCK_BYTES;
    await this.#changeFiles(async () => {
      const isEmpty = head >= this.endPosition;
      const first = isEmpty ? null : await this.#reader.header(head);
      const index = first === null ? this.lastIndex : first.firstIndex - 1;
      this.#startChecksum = first === null ? this.#lastChecksum : first.previousChecksum;
      this.#index.cutTo(index, this.termAt(index), head);
      await this.#store.removeBefore(base);
      await this.#outlines?.removeBefore(base);
    });
    return this.start;
  }

  reset(start: LogBoundary): Promise<void> {
    this.#open = null;
    this.#closed = [];
    this.#commit.dropFrom(0, start.position);
    this.#chain.clear();
    this.#hot.truncate(0);
    this.#index.reset(start.index, start.term, start.position);
    this.#startChecksum = start.previousChecksum;
    this.#lastChecksum = start.previousChecksum;
    this.#lastLogTimeMs = 0;
    this.#durableIndex = start.index;
    this.#durablePosition = start.position;
    this.#commit.syncedEnd = start.position;
    this.#damagedEnd = 0;
    return this.#changeFiles(async () => {
      await this.#handlers.onTruncating?.(0);
      await this.#store.removeAll();
      await this.#outlines?.removeAll();
      this.#commit.writtenEnd = start.position;
      this.#store.startAt(start.position);
      this.#store.demand(this.endPosition);
    });
  }

  groupAt(index: number): GroupMeta | null {
    return this.#index.groupContaining(index);
  }

  termAt(index: number): number {
    return this.#index.termAt(index) ?? 0;
  }

  async boundaryAt(index: number): Promise<LogBoundary | null> {
    if (index < this.#index.startIndex) return null;
    if (index >= this.lastIndex) return this.#boundary(this.lastIndex, this.endPosition, this.#lastChecksum);
    const next = await this.#reader.find(index + 1);
    if (next === null) return null;
    return this.#boundary(next.firstIndex - 1, next.position, next.previousChecksum);
  }

  readHot(position: number, sizeBytes: number): Uint8Array | null {
    return this.#hot.read(position, sizeBytes);
  }
  readCold(into: Uint8Array, position: number): Promise<number> {
    return this.#store.read(into, position);
  }
  hotGroups(firstIndex: number, lastIndex: number, maxBytes: number): GroupRun[] | null {
    return this.#reader.hotGroups(firstIndex, lastIndex, maxBytes);
  }
  coldGroups(firstIndex: number, lastIndex: number, maxBytes: number): Promise<GroupRun> {
    return this.#reader.coldGroups(firstIndex, this.#inFiles(lastIndex), maxBytes);
  }
  visitHot(fromIndex: number, toIndex: number, visit: (entry: EntryView) => void): number {
    return this.#reader.visitHot(fromIndex, toIndex, visit);
  }
  visitCold(fromIndex: number, toIndex: number, visit: (entry: EntryView) => void): Promise<number> {
    return this.#reader.visitCold(fromIndex, this.#inFiles(toIndex), visit);
  }
  /** Behind the durable end the files hold zeros, or what was cut and is not zeroed yet: entries of another leader, whole and in the chain. */
  #inFiles(index: number): number {
    return Math.min(index, this.#durableIndex);
  }
  hashRange(fromIndex: number, toIndex: number): Promise<{ crc: number; groups: number; sizeBytes: number }> {
    return this.#reader.hashRange(fromIndex, toIndex);
  }

  async close(): Promise<void> {
    this.#open = null;
    await this.#fileWork;
    if (this.#poisoned === null) await this.#commit.drain();
    this.#commit.fail();
    await this.#store.close();
  }

  #fits(open: OpenGroup, needBytes: number, term: number): boolean {
    const dataBytes = open.dataBytes + needBytes;
    const sizeBytes = paddedBytes(dataBytes);
    return (
      open.term === term &&
      dataBytes <= MAX_GROUP_BYTES &&
      open.chunk.tailOffset + sizeBytes <= open.chunk.bytes.length &&
      (open.position % this.#segmentBytes) + sizeBytes <= this.#segmentBytes
    );
  }

  #begin(needBytes: number, term: number, logTimeMs: number): OpenGroup | null {
    assertU53(logTimeMs, 'logTimeMs');
    assert(logTimeMs >= this.#lastLogTimeMs, `log time goes back from ${this.#lastLogTimeMs} to ${logTimeMs}`);
    const sizeBytes = paddedBytes(GROUP_HEADER_BYTES + needBytes);
    assert(BLOCK_BYTES + sizeBytes <= this.#segmentBytes, 'a segment holds any group');
    const chunk = this.#hot.room(sizeBytes, this.#durablePosition);
    if (chunk === null) return null;
    this.#open = {
      chunk,
      position: placeOf(this.endPosition, sizeBytes, this.#segmentBytes),
      firstIndex: this.lastIndex + 1,
      term,
      logTimeMs,
      previousChecksum: this.#lastChecksum,
      dataBytes: GROUP_HEADER_BYTES,
      entryCount: 0,
      lastChecksum: this.#lastChecksum,
    };
    return this.#open;
  }

  /** A group lies whole at the chunk's tail: it is part of the log now. */
  #take(header: GroupHeader, chunk: HotChunk, lastChecksum: number): GroupMeta {
    const { firstIndex, lastIndex, term, position, sizeBytes } = header;
    const meta: GroupMeta = { firstIndex, lastIndex, term, position, sizeBytes };
    const offset = chunk.tailOffset;
    this.#hot.add(chunk, position, sizeBytes);
    this.#index.append(meta);
    this.#chain.push(firstIndex, this.#lastChecksum, this.#lastLogTimeMs);
    this.#lastChecksum = lastChecksum;
    this.#lastLogTimeMs = header.logTimeMs;
    this.counts.paddingBytes += sizeBytes - header.dataBytes;
    this.#commit.enqueue(meta, chunk, offset);
    return meta;
  }

  #startWriting(): void {
    this.#store.demand(this.endPosition);
    if (this.#damagedEnd > 0) this.#clearDamage();
    else this.#commit.pump();
  }

  /** A leader overwrites what was damaged: all of it goes first, or its rest would look like damage behind the new groups. */
  #clearDamage(): void {
    const end = this.#damagedEnd;
    this.#damagedEnd = 0;
    const from = this.#durablePosition;
    // A failure poisons, and is told by onPoisoned.
    this.#changeFiles(async () => {
      await this.#handlers.onTruncating?.(from);
      await this.#store.zero(from, end);
    }).catch(() => undefined);
  }

  #boundary(index: number, position: number, previousChecksum: number): LogBoundary {
    return { index, term: this.termAt(index), position, previousChecksum };
  }

  /** Runs a change of the files after the write in flight and before the next. A failure poisons: half a truncation must not be built upon. */
  #changeFiles(work: () => Promise<void>): Promise<void> {
    this.#commit.hold();
    const done = this.#fileWork.then(async () => {
      try {
        await this.#commit.whenIdle();
        if (this.#poisoned === null) await work();
      } catch (error) {
        this.#poison(error as Error);
      } finally {
        this.#commit.resume();
      }
      if (this.#poisoned !== null) throw new LogPoisoned('the log is poisoned', { cause: this.#poisoned });
    });
    this.#fileWork = done.catch(() => undefined);
    return done;
  }

  #onDurable(group: GroupMeta): void {
    this.#durableIndex = group.lastIndex;
    this.#durablePosition = group.position + group.sizeBytes;
    this.#handlers.onDurable(group.lastIndex, group.term);
  }

  #poison(error: Error): void {
    if (this.#poisoned !== null) return;
    this.#poisoned = error;
    this.#commit.fail();
    this.#handlers.onPoisoned(error);
  }
}
