import { crc32 } from '../base/crc.ts';
import type { Clock } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import { CommitLog } from '../log/commit-log.ts';
import { FlushLost, LogCorrupt } from '../log/errors.ts';
import { HardStateFile, type StoredHardState } from '../log/hard-state.ts';
import { BLOCK_BYTES } from '../log/layout.ts';
import { segmentBase } from '../log/segment.ts';
import type { SnapshotMeta } from '../log/snapshot-format.ts';
import { SnapshotStore } from '../log/snapshot-store.ts';
import type { CommitLogHandlers, CommitLogOptions, FlushMode, HotTailOptions, LogBoundary, RecoveryDamage } from '../log/types.ts';
import { GroupIndex } from '../raft/group-index.ts';
import type { DerivedFiles } from './derived.ts';
import { withMembership } from './driver.ts';
import { bufferedBootOf, higherFloor, NOTHING_STORED, type VoteFloor, withBufferedBoot } from './durable-state.ts';
import { decodeMembership, type GroupMembership } from './membership.ts';
import { discardHalfInstalled, removeInstallNote } from './snapshot-transfer.ts';
import type { StateMachine } from './types.ts';

export interface RecoverOptions {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly directory: string;
  readonly clusterId: string;
  readonly segmentBytes: number;
  readonly hotTail: HotTailOptions;
  readonly flush: FlushMode;
  readonly asyncFlushMs: number;
  readonly reserveBytes?: number;
  /** An operator decided that this replica goes on alone with what it has (`raft recover`). */
  readonly forced?: boolean;
  readonly stateMachine: StateMachine;
  readonly derived: DerivedFiles;
  readonly logHandlers: CommitLogHandlers;
  /** Fetches from the peers what is damaged before this replica relies on it (I4). Without it damage is refused. */
  readonly repair?: RecoveryRepair;
  /** A membership was found in the restored state or in the log; each newer than the last. Peers are asked by it. */
  onMembership?(index: number, membership: GroupMembership): void;
}

export interface RecoveryRepair {
  recovering(damage: RecoveryDamage): Promise<void>;
  /** See CommitLogOptions.bridge. */
  bridging(damage: RecoveryDamage, laterIndex: number): Promise<boolean>;
  /** The state at the log's head. @returns false when no peer has it */
  recoverSnapshot(store: SnapshotStore, position: number): Promise<boolean>;
}

export interface Recovered {
  readonly log: CommitLog;
  readonly hardState: HardStateFile;
  readonly snapshots: SnapshotStore;
  /** For the Raft core. */
  readonly groupIndex: GroupIndex;
  /** What the restored state includes; known to be committed. */
  readonly applied: { readonly index: number; readonly position: number };
  /** The membership that the restored state includes, then those in the log behind it. Empty: as the group was formed. */
  readonly memberships: readonly { readonly index: number; readonly membership: GroupMembership }[];
}

/**
 * The only way to start (DESIGN.md): the newest whole snapshot, the log from there on, derived files cut back to it. When the
 * derived files do not cover what the snapshot's state says, an older snapshot and a longer replay; at the log's start
 * nothing is needed but the log.
 */
export async function recoverReplica(options: RecoverOptions): Promise<Recovered> {
  const { disk, directory } = options;
  for (const name of ['raft', 'snapshot']) await disk.mkdir(`${directory}/${name}`);
  const halfInstalled = await discardHalfInstalled(disk, directory);
  const hardState = await HardStateFile.open(disk, `${directory}/raft`);
  try {
    return await recoverBehind(options, hardState, halfInstalled);
  } catch (error) {
    await hardState.close();
    throw error;
  }
}

async function recoverBehind(options: RecoverOptions, hardState: HardStateFile, halfInstalled: boolean): Promise<Recovered> {
  const { disk, clock, directory, stateMachine, derived } = options;
  const stored = hardState.load() ?? NOTHING_STORED;
  const bootId = await disk.bootId();
  const bufferedBoot = bufferedBootOf(stored);
  const tailLost = bufferedBoot !== null && bufferedBoot !== bootId;
  if (tailLost && options.forced !== true) {
    throw new FlushLost(
      `${directory}: the machine went down while this replica flushed asynchronously, so it may have lost what it acknowledged and must not vote (flush=async). With a majority of the group in this state: 'ledgermq raft recover'.`,
    );
  }
  const snapshots = await SnapshotStore.open(disk, `${directory}/snapshot`);
  let durableEndPosition = stored.durableEndPosition;
  if (halfInstalled) {
    await derived.truncateFrom(0);
    durableEndPosition = 0;
    await hardState.save({ ...stored, durableEndPosition });
    await removeInstallNote(disk, `${directory}/raft`);
  }
  const start = await startOf(disk, `${directory}/commitlog`, snapshots, options.segmentBytes, options.repair);
  const restored = await restoreState(snapshots, stateMachine, derived, start, options.repair);
  await derived.dropUnclaimed();
  const groupIndex = new GroupIndex(
    start === null
      ? { startIndex: 0, startTerm: 0, startPosition: BLOCK_BYTES }
      : { startIndex: start.index, startTerm: start.term, startPosition: start.position },
  );
  const restoredMembership = stateMachine.membership?.() ?? null;
  const memberships: { index: number; membership: GroupMembership }[] = [];
  const found = (index: number, membership: GroupMembership): void => {
    memberships.push({ index, membership });
    options.onMembership?.(index, membership);
  };
  if (restoredMembership !== null) {
    found(restoredMembership.index, decodeMembership(restoredMembership.body));
  }
  const log = await CommitLog.open({
    disk,
    clock,
    directory: `${directory}/commitlog`,
    clusterHash: crc32(new TextEncoder().encode(options.clusterId)),
    handlers: options.logHandlers,
    segmentBytes: options.segmentBytes,
    hotTail: options.hotTail,
    flush: options.flush,
    asyncFlushMs: options.asyncFlushMs,
    ...(options.reserveBytes === undefined ? {} : { reserveBytes: options.reserveBytes }),
    start,
    verifyFrom: restored === null ? null : boundaryOf(restored),
    durableEndPosition,
    lastRunWasBuffered: bufferedBoot !== null,
    unsyncedTailLost: tailLost,
    ...(options.repair === undefined ? {} : repairOf(options.repair)),
    outlineDirectory: `${directory}/outline`,
    onOutline: (outline, endPosition) => groupIndex.appendOutline(outline, endPosition),
    onGroup: (group, lone) => {
      groupIndex.append(group);
      const { membership } = lone === null ? group : withMembership(group, 1, lone);
      if (membership !== undefined) found(group.lastIndex, membership as GroupMembership);
    },
  });
  // Under a floor the log ends before what was durable once: what is damaged there is a leader's to overwrite.
  if (log.recovery.voteFloor > 0) durableEndPosition = Math.min(durableEndPosition, log.endPosition);
  await markRun(hardState, { ...stored, durableEndPosition }, options.flush === 'async' ? bootId : null, log.recovery);
  const applied = restored === null ? { index: 0, position: BLOCK_BYTES } : { index: restored.index, position: restored.position };
  return { log, hardState, snapshots, groupIndex, applied, memberships };
}

const repairOf = (repair: RecoveryRepair): Pick<CommitLogOptions, 'repair' | 'bridge'> => ({
  repair: (damage) => repair.recovering(damage),
  bridge: (damage, laterIndex) => repair.bridging(damage, laterIndex),
});

/**
 * Before the first word: that this run flushes asynchronously (or that everything is proven again), and the floor for votes,
 * because the damage that it stands for is overwritten by a leader's first append.
 */
async function markRun(hardState: HardStateFile, stored: StoredHardState, bufferedBoot: string | null, found: VoteFloor): Promise<void> {
  const floor = higherFloor(stored, found);
  const known = hardState.load() ?? NOTHING_STORED;
  const same = floor.voteFloor === known.voteFloor && stored.durableEndPosition === known.durableEndPosition;
  if (same && bufferedBootOf(stored) === bufferedBoot) return;
  await hardState.save({ ...withBufferedBoot(stored, bufferedBoot), ...floor });
}

/** @returns null when everything is replayed from the very first entry */
async function restoreState(
  snapshots: SnapshotStore,
  stateMachine: StateMachine,
  derived: DerivedFiles,
  start: LogBoundary | null,
  repair: RecoveryRepair | undefined,
): Promise<SnapshotMeta | null> {
  const startPosition = start?.position ?? 0;
  let maxPosition = Number.MAX_SAFE_INTEGER;
  for (;;) {
    const found = await snapshots.loadNewest(maxPosition);
    if (found === null || found.meta.position < startPosition) break;
    const { position } = found.meta;
    await derived.truncateFrom(position);
    // The log may start behind what the state says: it was cut, or came from a peer, after the state was saved.
    const whole = stateMachine.restore(found.state) && derived.covers(Math.max(stateMachine.startPosition(), startPosition), position);
    if (whole) return found.meta;
    if (position === startPosition) {
      // Older than the log's start nothing can be replayed, and nothing is needed there: what is left of it would only be in the way.
      await derived.truncateFrom(0);
      stateMachine.restore(found.state);
      return found.meta;
    }
    maxPosition = position - 1;
  }
  // Its header was good, its state is not: fetched once.
  if (start !== null && repair !== undefined && (await repair.recoverSnapshot(snapshots, startPosition))) {
    return restoreState(snapshots, stateMachine, derived, start, undefined);
  }
  if (start !== null) throw new LogCorrupt(startPosition, 'no whole snapshot at or behind the start of the log');
  await derived.truncateFrom(0);
  stateMachine.clear();
  return null;
}

/**
 * Where the log begins: at its oldest segment. The files say it, not the state: a state is older than the cut that followed it.
 * Segments are deleted only when the snapshot at the head of the next one is safe, so that one is there.
 */
async function startOf(
  disk: Disk,
  directory: string,
  snapshots: SnapshotStore,
  segmentBytes: number,
  repair: RecoveryRepair | undefined,
): Promise<LogBoundary | null> {
  const heads = snapshots.list().filter((meta) => meta.position % segmentBytes === BLOCK_BYTES);
  const bases = (await disk.list(directory)).map(segmentBase).filter((base) => base !== null);
  const oldest = bases.length === 0 ? null : Math.min(...bases);
  if (oldest === 0) return null;
  // No segment at all: a new log, or one that a state from a peer has replaced.
  const head = oldest === null ? heads.at(-1) : heads.find((meta) => meta.position === oldest + BLOCK_BYTES);
  if (head === undefined && oldest !== null && (await repair?.recoverSnapshot(snapshots, oldest + BLOCK_BYTES)) === true) {
    return startOf(disk, directory, snapshots, segmentBytes, undefined);
  }
  if (head === undefined && oldest !== null) throw new LogCorrupt(oldest, 'the snapshot at the head of the oldest segment is gone');
  return head === undefined ? null : boundaryOf(head);
}

function boundaryOf(meta: SnapshotMeta): LogBoundary {
  return { index: meta.index, term: meta.term, position: meta.position, previousChecksum: meta.previousChecksum };
}
