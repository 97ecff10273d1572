import type { Clock } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import type { GroupOutline } from '../raft/group-index.ts';
import type { GroupMeta } from '../raft/types.ts';
import type { LogCorrupt } from './errors.ts';
import type { LogCounts } from './log-counts.ts';

/** A place between two write groups: everything up to `index` lies before `position`. */
export interface LogBoundary {
  /** 0 = before the very first entry. */
  readonly index: number;
  /** Term of the entry at `index`. */
  readonly term: number;
  /** Where the group with the first index `index + 1` starts, or would start if it fits into the rest of its segment. */
  readonly position: number;
  /** headerChecksum of the entry at `index`: the chain value that the next group must carry. */
  readonly previousChecksum: number;
}

export interface HotTailOptions {
  /** Size of one chunk of memory, a multiple of BLOCK_BYTES that holds the largest group. */
  readonly chunkBytes: number;
  /** Bound of the hot tail; chunks are made as they are needed. At the bound appends answer 'full'. */
  readonly maxChunks: number;
}

export type FlushMode = 'sync' | 'async';

export interface CommitLogHandlers {
  /** Everything up to `lastIndex` is durable here (async flush: handed to the operating system). Never called after onPoisoned. */
  onDurable(lastIndex: number, term: number): void;
  /** Called once, at the first failed write, sync or truncation: nothing may be acknowledged or voted for any more (I3). */
  onPoisoned(error: Error): void;
  /** Every chunk of the hot tail is held by a sender: the replica ends the slowest connections, whose holds must be released during the call. */
  onPinned?(): void;
  /**
   * A truncation is about to shorten the log to `endPosition`: a durable end kept elsewhere (HardState.durableEndPosition) must be lowered
   * before this resolves, or the next start takes the truncation for a loss.
   */
  onTruncating?(endPosition: number): Promise<void>;
}

export interface CommitLogOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Holds the segment files and nothing else. */
  readonly directory: string;
  /** CRC-32 of the cluster id, kept in every segment's header: a foreign file is refused. */
  readonly clusterHash: number;
  readonly handlers: CommitLogHandlers;
  /** Default 1 GiB. A multiple of BLOCK_BYTES; fixed once for a directory. */
  readonly segmentBytes?: number;
  /** Default: 8 chunks of 8 MiB. */
  readonly hotTail?: HotTailOptions;
  /** Default 'sync'. */
  readonly flush?: FlushMode;
  /** 'async' only: at most so long between two fdatasyncs while there is something to sync. Default 50. */
  readonly asyncFlushMs?: number;
  /** Below so many free bytes `diskFull` is set. Default: two segments (FAULTS 3). */
  readonly reserveBytes?: number;
  /** Where the log begins: null = at index 1 of an empty log. After a cut or a snapshot from a peer: the boundary that the oldest snapshot names. */
  readonly start?: LogBoundary | null;
  /** Recovery verifies bodies from here on (the newest snapshot's boundary); before it only group headers are read. Default: from the start. */
  readonly verifyFrom?: LogBoundary | null;
  /** The end was once proven durable up to here: a shorter log is refused with LogShortened. */
  readonly durableEndPosition?: number;
  /**
   * Asynchronous flush and the machine went down since (Disk.bootId changed): more than the last write may be gone. The log then ends at
   * the first bad group, and the caller treats the replica as one that may have lost acknowledged entries (I5).
   */
  readonly unsyncedTailLost?: boolean;
  /** Called for every group found, oldest first, before open() resolves: fills the Raft core's own index. */
  readonly onGroup?: (group: GroupMeta, lone: Uint8Array | null) => void;
  /** Instead of onGroup() for a whole segment that is known from before; its groups end before `endPosition`. */
  readonly onOutline?: (outline: GroupOutline, endPosition: number) => void;
  /** Where outlines of sealed segments are kept, which spare a start the headers before the checkpoint. Default: nowhere. */
  readonly outlineDirectory?: string;
  /** Mends damage by peers before recovery goes on; rejects when none can help. Without it damage is refused with LogCorrupt. */
  readonly repair?: (damage: RecoveryDamage) => Promise<void>;
  /** The same for what looks like a torn last write, when a peer has, soon, what leads to the whole group of `laterIndex` here. @returns whether it did */
  readonly bridge?: (damage: RecoveryDamage, laterIndex: number) => Promise<boolean>;
  /** The last run flushed asynchronously and did not end cleanly: what is read may be in the page cache only, whatever `flush` is now. */
  readonly lastRunWasBuffered?: boolean;
}

/** A place between two write groups, with what the next one must continue: everything before it is known to be whole. */
export interface LogCursor {
  /** Last index before it. */
  readonly index: number;
  /** Behind the last group; the next one lies here, or at the head of the next segment. */
  readonly endPosition: number;
  readonly previousChecksum: number;
  readonly term: number;
  readonly logTimeMs: number;
}

/** Bytes of the log by position, as the segment files have them. */
export interface ByteSource {
  /** @returns bytes read: fewer at the end of a segment or of its allocated part */
  read(into: Uint8Array, position: number): Promise<number>;
}

/** Whole groups back to back, every byte of them verified. */
export interface VerifiedRun {
  readonly position: number;
  readonly bytes: Uint8Array;
  /** Behind them. */
  readonly end: LogCursor;
}

/**
 * The log as its files have it, whatever memory says: walked group by group with every byte verified, and written again with the
 * same bytes where it is damaged. See LogVerifier.
 */
export interface LogFiles extends ByteSource {
  readonly segmentBytes: number;
  /** Before the first retained group. */
  startCursor(): LogCursor;
  /** At or before the group that covers `position`; `stepsBack` known group starts further back. */
  cursorBefore(position: number, stepsBack?: number): Promise<LogCursor>;
  /** The verified groups behind `cursor`, up to `lastIndex`, as many as `buffer` (the largest group fits) takes. */
  readRun(cursor: LogCursor, lastIndex: number, buffer: Uint8Array): Promise<VerifiedRun | GroupFault>;
  /** Same-bytes writes over what is damaged (I11); on stable storage when it resolves. */
  rewrite(bytes: Uint8Array, position: number): Promise<void>;
}

/** Damage that recovery met: not the last write of an unclean stop. */
export interface RecoveryDamage {
  readonly verifier: LogFiles;
  /** Whole up to here. */
  readonly from: LogCursor;
  readonly damage: LogCorrupt;
  /** Known to be committed: that of the state that recovery starts from. */
  readonly committedIndex: number;
}

/** What open() found. */
export interface RecoveryReport {
  readonly verifiedBytes: number;
  /** Bytes of a torn last write that were cut (zeroed). */
  readonly tornBytes: number;
  /**
   * > 0: the last write holds a damaged group that may have been acknowledged; this is its last index. The replica keeps it in its hard state
   * and votes for nobody whose log ends before it, until a leader has overwritten it or every voter was heard and none has it (I4).
   * The damaged bytes stay until the first append.
   */
  readonly voteFloor: number;
  /** Term of the entry there; 0 = not known. */
  readonly voteFloorTerm: number;
  /** Bytes written and synced again before open() resolved (I3). */
  readonly rewrittenBytes: number;
}

/** Keeps a piece of the hot tail from being recycled. Every retain() needs its release(). */
export interface HotHold {
  retain(): void;
  release(): void;
}

/** A group that is closed: its bytes never change again. Valid until the chunk is recycled: take hold.retain() to keep it. */
export interface ClosedGroup {
  readonly meta: GroupMeta;
  readonly bytes: Uint8Array;
  readonly hold: HotHold;
}

/** Adjacent groups in one run of memory: one write to a socket. */
export interface GroupRun {
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly bytes: Uint8Array;
  /** Hot runs: already retained once for the caller. Cold ones: release() gives the buffer back to the pool. */
  readonly hold: Pick<HotHold, 'release'>;
}

/** One entry during a visit; the object and `body` are reused: valid during the call only. */
export interface EntryView {
  index: number;
  term: number;
  type: number;
  position: number;
  logTimeMs: number;
  topicId: number;
  queueId: number;
  bodyChecksum: number;
  headerChecksum: number;
  body: Uint8Array;
}

/** 'full': the hot tail is at its bound, the disk or a sender is slow: refuse and try again later. */
export type AppendRefusal = 'full' | 'poisoned';

/** Why bytes are not the group that was expected. */
export type GroupFault =
  | 'short'
  | 'magic'
  | 'headerChecksum'
  | 'version'
  | 'size'
  | 'position'
  | 'index'
  | 'chain'
  | 'entry'
  | 'entryChecksum'
  | 'bodyChecksum'
  | 'padding'
  | 'logTime'
  | 'term';

export interface GroupHeader extends GroupMeta {
  readonly logTimeMs: number;
  readonly entryCount: number;
  readonly dataBytes: number;
  readonly previousChecksum: number;
}

/** A group that verifyGroup() passed, with the chain's value behind it. */
export interface CheckedGroup {
  readonly header: GroupHeader;
  readonly lastChecksum: number;
}

export type AppendGroupsResult =
  | { readonly ok: true; readonly groups: readonly GroupMeta[] }
  | { readonly ok: false; readonly reason: AppendRefusal | GroupFault };

/**
 * The CommitLog, which is the Raft log (I1). One writer, one event loop. Implemented by the class of that name.
 * Indexes and positions of closed groups; the open group is visible to nobody until closeGroup().
 */
export interface Log {
  readonly recovery: RecoveryReport;
  /** Lowest retained index; lastIndex + 1 when the log is empty. */
  readonly firstIndex: number;
  readonly start: LogBoundary;
  /** Last index of the closed groups. */
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** Behind the last closed group. */
  readonly endPosition: number;
  readonly lastChecksum: number;
  readonly lastLogTimeMs: number;
  readonly durableIndex: number;
  readonly durablePosition: number;
  /** Proven to be on stable storage up to here: durablePosition, or with asynchronous flush the end at the last finished sync. For HardState.durableEndPosition. */
  readonly syncedPosition: number;
  readonly poisoned: Error | null;
  /** Free space is below the reserve, or a segment could not be allocated: refuse clients' writes, go on reading. */
  readonly diskFull: boolean;
  /** Segment files. */
  readonly segmentCount: number;
  /** Newest bytes held in memory. */
  readonly hotTailBytes: number;
  /** What it did since it was opened. */
  readonly counts: LogCounts;
  /** Bytes laid into the open group. */
  readonly openBytes: number;
  /** The files themselves, verified and mended. */
  readonly verifier: LogFiles;
  /** Called by a cold read that meets damage; the read is made again when it resolves. null: it rejects with LogCorrupt. */
  set onDamage(mend: ((damage: LogCorrupt) => Promise<void>) | null);

  /**
   * Leader: lays one entry into the open write group. `body` is copied. One group has one term and one log time: that of its first entry.
   * @returns the entry's index
   */
  append(
    type: number,
    topicId: number,
    queueId: number,
    bodyChecksum: number,
    body: Uint8Array,
    term: number,
    logTimeMs: number,
  ): number | AppendRefusal;
  /** Closes the open group and hands it to the writer; null when nothing is open. The group is among the next takeClosed() too. */
  closeGroup(): ClosedGroup | null;
  /** Leader: every group closed since the last call, oldest first: append() closes full ones itself. Called after each closeGroup(). */
  takeClosed(): ClosedGroup[];
  /** Whether takeClosed() has any. */
  readonly hasClosed: boolean;
  /** Drops the open group: its entries were shown to nobody. */
  discardOpen(): void;
  /**
   * Follower: whole groups back to back that continue the log, one chunk of the hot tail at most. All or none are taken. Bytes are copied.
   * @param checked the groups in `bytes` when verifyGroup() was passed already (one pass over bodies): only that they continue the log is checked
   */
  appendGroups(bytes: Uint8Array, checked?: readonly CheckedGroup[]): AppendGroupsResult;
  /** Follower: false while appendGroups() of so many bytes would answer 'full'. Asked before Raft is told of them: it cannot take back. */
  hasRoom(sizeBytes: number): boolean;
  /** Cuts from the group that starts at `index` on; on stable storage when it resolves. Appends may follow at once, they are written behind it. */
  truncateFrom(index: number): Promise<void>;
  /** Keeps the outlines of the segments before `position`, where everything is committed: the next start need not read their headers. */
  outlineSegments(position: number): Promise<void>;
  /** Deletes whole segments before `position`. @returns the new start */
  cutTo(position: number): Promise<LogBoundary>;
  /** Drops every group and begins again at `start` (a snapshot from a peer is in place). */
  reset(start: LogBoundary): Promise<void>;

  /** The group that holds the entry; null when it is not retained or only known by a sparse mark (GroupIndex). */
  groupAt(index: number): GroupMeta | null;
  /** 0 when unknown (before the start, after the end). start.index has start.term. */
  termAt(index: number): number;
  /** The boundary behind the last group that ends at or before `index`. */
  boundaryAt(index: number): Promise<LogBoundary | null>;

  /** A view of closed bytes still in memory. Copy before the turn ends. */
  readHot(position: number, sizeBytes: number): Uint8Array | null;
  /** From the files. @returns bytes read: fewer only at a segment's end */
  readCold(into: Uint8Array, position: number): Promise<number>;
  /** Runs of the hot groups from the one holding `firstIndex` on, up to `lastIndex` or `maxBytes` (one group at least); null when that one is not hot. */
  hotGroups(firstIndex: number, lastIndex: number, maxBytes: number): GroupRun[] | null;
  /** The same from the files, verified, up to durableIndex: `firstIndex` is durable. Waits for a free buffer of the pool. Rejects with LogCorrupt when the bytes are damaged. */
  coldGroups(firstIndex: number, lastIndex: number, maxBytes: number): Promise<GroupRun>;
  /** Visits the entries fromIndex…toIndex while they are hot. @returns the last index visited, fromIndex - 1 when none was hot */
  visitHot(fromIndex: number, toIndex: number, visit: (entry: EntryView) => void): number;
  /** The same from the files, up to durableIndex, one buffer at most per call: `fromIndex` is durable. @returns the last index visited */
  visitCold(fromIndex: number, toIndex: number, visit: (entry: EntryView) => void): Promise<number>;
  /** CRC-32 over the bytes of all whole groups within fromIndex…toIndex, in slices with pauses between. */
  hashRange(fromIndex: number, toIndex: number): Promise<{ readonly crc: number; readonly groups: number; readonly sizeBytes: number }>;

  /** Waits for the write in flight and background work, syncs, closes the files. */
  close(): Promise<void>;
}
