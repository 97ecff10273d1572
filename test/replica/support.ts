import { CommitLog } from '../../src/log/commit-log.ts';
import { LARGEST_GROUP_BYTES } from '../../src/log/group-codec.ts';
import { HardStateFile } from '../../src/log/hard-state.ts';
import type { ClosedGroup, CommitLogHandlers } from '../../src/log/types.ts';
import { GroupIndex } from '../../src/raft/group-index.ts';
import { Raft } from '../../src/raft/raft.ts';
import type { AppendRequest, Message } from '../../src/raft/types.ts';
import { RaftDriver } from '../../src/replica/driver.ts';
import { DurableState } from '../../src/replica/durable-state.ts';
import { bodyOf, SMALL_SEGMENT_BYTES, seededRandom } from '../log/support.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { MemoryDisk } from '../support/memory-disk.ts';

/** Awaits `work` while the manual clock runs. */
export async function during<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  let done = false;
  const watched = work.finally(() => {
    done = true;
  });
  watched.catch(() => undefined);
  for (let i = 0; i < 10_000 && !done; i++) await clock.run(1);
  return watched;
}

export interface DriverRig {
  readonly clock: ManualClock;
  readonly disk: MemoryDisk;
  readonly log: CommitLog;
  readonly raft: Raft;
  readonly driver: RaftDriver;
  readonly durable: DurableState;
  readonly sent: Message[];
  readonly failures: unknown[];
  readonly reported: { lastIndex: number; term: number }[];
}

/** Raft core, driver, CommitLog and hard state of replica 1 of 3 over a disk in memory. */
export async function driverRig(options: { maxChunks?: number } = {}): Promise<DriverRig> {
  const clock = new ManualClock();
  const disk = new MemoryDisk({ clock, random: seededRandom(1) });
  const sent: Message[] = [];
  const failures: unknown[] = [];
  const reported: { lastIndex: number; term: number }[] = [];
  let driver: RaftDriver | null = null;
  const handlers: CommitLogHandlers = {
    onDurable: (lastIndex, term) => {
      reported.push({ lastIndex, term });
      driver?.stored(lastIndex, term);
    },
    onPoisoned: (error) => failures.push(error),
  };
  const log = await during(
    clock,
    CommitLog.open({
      disk,
      clock,
      directory: '/data/commitlog',
      clusterHash: 7,
      handlers,
      segmentBytes: SMALL_SEGMENT_BYTES * 2,
      hotTail: { chunkBytes: LARGEST_GROUP_BYTES, maxChunks: options.maxChunks ?? 3 },
      reserveBytes: 0,
    }),
  );
  const hardState = await during(clock, HardStateFile.open(disk, '/data/raft'));
  const durable = new DurableState(hardState, (error) => failures.push(error));
  const raft = new Raft(
    {
      id: 1,
      membership: { voters: [1, 2, 3], learners: [], outgoing: null },
      electionTimeoutMs: 600,
      heartbeatIntervalMs: 100,
      maxInflightMessages: 16,
      maxInflightBytes: 1024 * 1024,
      maxAppendBytes: 1024 * 1024,
      maxUncommittedBytes: 1024 * 1024,
      random: () => 0.5,
    },
    { term: 0, votedFor: 0 },
    new GroupIndex({ startIndex: 0, startTerm: 0, startPosition: log.start.position }),
    0,
  );
  raft.tick(clock.monotonicMs());
  driver = new RaftDriver({
    raft,
    log,
    durable,
    deliver: (message) => sent.push(message),
    committed: () => undefined,
    reads: () => undefined,
    roleChanged: () => undefined,
    install: () => undefined,
    failed: (error) => failures.push(error),
  });
  return { clock, disk, log, raft, driver, durable, sent, failures, reported };
}

/** Another replica's log, to make groups for the one under test. */
export async function leaderLog(clock: ManualClock): Promise<{ log: CommitLog; group(term: number, sizeBytes?: number): ClosedGroup }> {
  const disk = new MemoryDisk({ clock, random: seededRandom(2) });
  const log = await during(
    clock,
    CommitLog.open({
      disk,
      clock,
      directory: '/data/commitlog',
      clusterHash: 7,
      handlers: { onDurable: () => undefined, onPoisoned: () => undefined },
      segmentBytes: SMALL_SEGMENT_BYTES * 2,
      hotTail: { chunkBytes: LARGEST_GROUP_BYTES, maxChunks: 6 },
      reserveBytes: 0,
    }),
  );
  let seed = 0;
  const group = (term: number, sizeBytes = 100): ClosedGroup => {
    const { body, checksum } = bodyOf(++seed, sizeBytes);
    log.append(3, 5, 6, checksum, body, term, 1000);
    const closed = log.closeGroup() as ClosedGroup;
    log.takeClosed();
    return closed;
  };
  return { log, group };
}

/** The append message of leader `from` for these groups. */
export function appendOf(
  from: number,
  term: number,
  prev: { index: number; term: number },
  groups: readonly ClosedGroup[],
  commitIndex = 0,
) {
  const bytes = Buffer.concat(groups.map((group) => group.bytes));
  const message: AppendRequest = {
    type: 'appendRequest',
    from,
    to: 1,
    term,
    prevIndex: prev.index,
    prevTerm: prev.term,
    firstIndex: prev.index + 1,
    lastIndex: groups.at(-1)?.meta.lastIndex ?? prev.index,
    commitIndex,
    groups: [],
  };
  return { message, bytes: new Uint8Array(bytes) };
}
