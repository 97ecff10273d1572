import { crc32 } from '../base/crc.ts';
import type { Clock } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import { CommitLog } from '../log/commit-log.ts';
import { HardStateFile } from '../log/hard-state.ts';
import { BLOCK_BYTES } from '../log/layout.ts';
import type { SnapshotMeta } from '../log/snapshot-format.ts';
import { SnapshotStore } from '../log/snapshot-store.ts';
import type { CommitLogHandlers, FlushMode, HotTailOptions, LogBoundary } from '../log/types.ts';
import { GroupIndex } from '../raft/group-index.ts';
import type { DerivedFiles } from './derived.ts';
import { finishInstall } from './snapshot-transfer.ts';
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
  readonly stateMachine: StateMachine;
  readonly derived: DerivedFiles;
  readonly logHandlers: CommitLogHandlers;
}

export interface Recovered {
  readonly log: CommitLog;
  readonly hardState: HardStateFile;
  readonly snapshots: SnapshotStore;
  /** For the Raft core. */
  readonly groupIndex: GroupIndex;
  /** What the restored state includes; known to be committed. */
  readonly applied: { readonly index: number; readonly position: number };
}

/**
 * The only way to start (DESIGN.md): the newest whole snapshot, the log from there on, derived files cut back to it. When the
 * derived files do not cover what the snapshot's state says, an older snapshot and a longer replay; at the log's start
 * nothing is needed but the log.
 */
export async function recoverReplica(options: RecoverOptions): Promise<Recovered> {
  const { disk, clock, directory, stateMachine, derived } = options;
  for (const name of ['raft', 'snapshot']) await disk.mkdir(`${directory}/${name}`);
  await finishInstall(disk, directory);
  const hardState = await HardStateFile.open(disk, `${directory}/raft`);
  const snapshots = await SnapshotStore.open(disk, `${directory}/snapshot`);
  const applied = await restoreState(snapshots, stateMachine, derived);
  await derived.dropUnclaimed();

  const start = startOf(snapshots, stateMachine, options.segmentBytes);
  const groupIndex = new GroupIndex(
    start === null
      ? { startIndex: 0, startTerm: 0, startPosition: BLOCK_BYTES }
      : { startIndex: start.index, startTerm: start.term, startPosition: start.position },
  );
  const newest = snapshots.newest();
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
    verifyFrom: newest === undefined ? null : boundaryOf(newest),
    durableEndPosition: hardState.load()?.durableEndPosition ?? 0,
    onGroup: (group) => groupIndex.append(group),
  });
  return { log, hardState, snapshots, groupIndex, applied };
}

async function restoreState(
  snapshots: SnapshotStore,
  stateMachine: StateMachine,
  derived: DerivedFiles,
): Promise<{ index: number; position: number }> {
  let maxPosition = Number.MAX_SAFE_INTEGER;
  for (;;) {
    const found = await snapshots.loadNewest(maxPosition);
    if (found === null) break;
    await derived.truncateFrom(found.meta.position);
    const whole = stateMachine.restore(found.state) && derived.covers(stateMachine.startPosition(), found.meta.position);
    if (whole) return { index: found.meta.index, position: found.meta.position };
    maxPosition = found.meta.position - 1;
  }
  await derived.truncateFrom(0);
  stateMachine.clear();
  return { index: 0, position: BLOCK_BYTES };
}

/** Where the log begins: at the head snapshot of the segment that the state names, or at the very beginning. */
function startOf(snapshots: SnapshotStore, stateMachine: StateMachine, segmentBytes: number): LogBoundary | null {
  const startPosition = stateMachine.startPosition();
  if (startPosition === 0) return null;
  const head = snapshots.list().find((meta) => meta.position === startPosition + BLOCK_BYTES);
  // A cut is on disk only after its head snapshot: without that one the older segments are still there.
  if (head !== undefined) return boundaryOf(head);
  const oldest = snapshots.list().find((meta) => meta.position % segmentBytes === BLOCK_BYTES);
  return oldest === undefined ? null : boundaryOf(oldest);
}

function boundaryOf(meta: SnapshotMeta): LogBoundary {
  return { index: meta.index, term: meta.term, position: meta.position, previousChecksum: meta.previousChecksum };
}
