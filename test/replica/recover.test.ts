import { describe, expect, test } from 'vitest';
import { crc32 } from '../../src/base/crc.ts';
import { BLOCK_BYTES } from '../../src/log/layout.ts';
import { SnapshotStore } from '../../src/log/snapshot-store.ts';
import type { FlushMode } from '../../src/log/types.ts';
import { Raft } from '../../src/raft/raft.ts';
import type { DerivedFiles } from '../../src/replica/derived.ts';
import { DurableState } from '../../src/replica/durable-state.ts';
import { encodeSnapshotSlice, SNAPSHOT_SLICE_HEAD_BYTES } from '../../src/replica/peer-messages.ts';
import { type Recovered, recoverReplica } from '../../src/replica/recover.ts';
import { SnapshotInstaller } from '../../src/replica/snapshot-transfer.ts';
import type { StateMachine } from '../../src/replica/types.ts';
import { bodyOf, SMALL_SEGMENT_BYTES, seededRandom } from '../log/support.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type DiskOperation, MemoryDisk } from '../support/memory-disk.ts';
import { during } from './support.ts';

const DIRECTORY = '/data';

/** Counts entries; its state is that number and the log's start. */
class Counter implements StateMachine {
  value = { applied: 0, start: 0 };
  apply(): void {
    this.value.applied++;
  }
  applied(): void {}
  onSegmentStart(): void {}
  startPosition(): number {
    return this.value.start;
  }
  snapshot(): Uint8Array {
    return new TextEncoder().encode(JSON.stringify(this.value));
  }
  restore(snapshot: Uint8Array): boolean {
    this.value = JSON.parse(new TextDecoder().decode(snapshot));
    return true;
  }
  clear(): void {
    this.value = { applied: 0, start: 0 };
  }
  digest(): number {
    return this.value.applied;
  }
  onRoleChange(): void {}
}

/** Holds what was cut to it: from `start` to `end`. */
class Derived implements DerivedFiles {
  start = 0;
  end = Number.MAX_SAFE_INTEGER;
  async truncateFrom(position: number): Promise<void> {
    this.end = Math.min(this.end, position);
    if (position === 0) this.start = 0;
  }
  covers(startPosition: number, position: number): boolean {
    return startPosition >= position || (this.start <= startPosition && this.end >= position);
  }
  async dropUnclaimed(): Promise<void> {}
  async flush(): Promise<void> {}
  async sync(): Promise<void> {}
  async cutBefore(position: number): Promise<void> {
    this.start = position;
  }
  async close(): Promise<void> {}
}

interface World {
  readonly clock: ManualClock;
  readonly disk: MemoryDisk;
}

function world(): World {
  const clock = new ManualClock();
  return { clock, disk: new MemoryDisk({ clock, random: seededRandom(3) }) };
}

async function open({ clock, disk }: World, derived = new Derived(), flush: FlushMode = 'sync') {
  const stateMachine = new Counter();
  const recovered = await during(
    clock,
    recoverReplica({
      disk,
      clock,
      directory: DIRECTORY,
      clusterId: 'test',
      segmentBytes: SMALL_SEGMENT_BYTES,
      hotTail: { chunkBytes: SMALL_SEGMENT_BYTES - BLOCK_BYTES, maxChunks: 4 },
      flush,
      asyncFlushMs: 50,
      reserveBytes: 0,
      stateMachine,
      derived,
      logHandlers: { onDurable: () => undefined, onPoisoned: () => undefined },
    }),
  );
  return { ...recovered, stateMachine, derived };
}

async function close({ clock }: World, { log, hardState }: Recovered): Promise<void> {
  await during(clock, log.close());
  await during(clock, hardState.close());
}

/** One group a segment. */
async function fill({ clock }: World, { log }: Recovered, count: number, term = 1): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { body, checksum } = bodyOf(i + 1, 3_000_000);
    expect(typeof log.append(3, 0, 0, checksum, body, term, 1000)).toBe('number');
    log.closeGroup();
    log.takeClosed();
    for (let wait = 0; wait < 1000 && log.durableIndex < log.lastIndex; wait++) await clock.run(10);
  }
}

async function save({ clock }: World, { snapshots, log }: Recovered, index: number, position: number, start = 0) {
  const boundary = await during(clock, log.boundaryAt(index));
  const state = new TextEncoder().encode(JSON.stringify({ applied: index, start }));
  const place = { index, term: 1, position, logTimeMs: 1000, previousChecksum: boundary?.previousChecksum ?? 0, stateDigest: index };
  return during(clock, snapshots.save(place, state));
}

const headOf = (segment: number): number => segment * SMALL_SEGMENT_BYTES + BLOCK_BYTES;

describe('recovery of a replica', () => {
  test('the log begins where its files begin: a cut that the newest snapshot does not know of yet', async () => {
    const at = world();
    const first = await open(at);
    await fill(at, first, 4);
    await save(at, first, 1, headOf(1));
    await save(at, first, 2, headOf(2));
    await save(at, first, 3, headOf(3));
    await during(at.clock, first.log.cutTo(SMALL_SEGMENT_BYTES));
    await close(at, first);
    const derived = new Derived();
    derived.start = headOf(1);
    const again = await open(at, derived);
    expect(again.log.start).toMatchObject({ index: 1, position: headOf(1) });
    expect(again.applied).toEqual({ index: 3, position: headOf(3) });
    expect(again.groupIndex.startIndex).toBe(1);
    expect(again.log.lastIndex).toBe(4);
  });

  test('without the snapshot at its first segment a cut log is refused, not restarted somewhere', async () => {
    const at = world();
    const first = await open(at);
    await fill(at, first, 4);
    await save(at, first, 1, headOf(1));
    const later = await save(at, first, 3, headOf(3));
    await during(at.clock, first.log.cutTo(SMALL_SEGMENT_BYTES));
    await during(at.clock, first.snapshots.removeBefore(later.position));
    await close(at, first);
    await expect(open(at)).rejects.toThrow(/snapshot at the head of the oldest segment/);
  });

  test('FAULTS 6 an emptied commitlog directory is refused from the first synced group on', async () => {
    const at = world();
    const first = await open(at);
    await fill(at, first, 1);
    const durable = new DurableState(first.hardState, () => undefined);
    durable.noteDurableEnd(first.log.syncedPosition);
    await at.clock.run(50);
    await during(at.clock, at.disk.remove(`${DIRECTORY}/commitlog`));
    at.disk.kill();
    await expect(open(at)).rejects.toThrow(/segment files are gone/);
  });
});

describe('asynchronous flush (I5)', () => {
  test('after a restart of the machine the replica refuses to start: it may have lost what it acknowledged', async () => {
    const at = world();
    const first = await open(at, new Derived(), 'async');
    await fill(at, first, 1);
    at.disk.crash();
    await expect(open(at, new Derived(), 'async')).rejects.toThrow(/flushed asynchronously/);
    await expect(open(at, new Derived(), 'sync')).rejects.toThrow(/flushed asynchronously/);
  });

  test('after a restart of the process it goes on, and proves everything again, also when it flushes synchronously from now on', async () => {
    const at = world();
    const first = await open(at, new Derived(), 'async');
    await fill(at, first, 3);
    at.disk.kill();
    const again = await open(at, new Derived(), 'sync');
    expect(again.log.lastIndex).toBe(3);
    expect(again.log.recovery.rewrittenBytes).toBeGreaterThan(9_000_000);
    at.disk.crash();
    const third = await open(at, new Derived(), 'sync');
    expect(third.log.lastIndex).toBe(3);
  });

  test('after a clean stop the machine may restart', async () => {
    const at = world();
    const first = await open(at, new Derived(), 'async');
    await fill(at, first, 2);
    const durable = new DurableState(first.hardState, () => undefined);
    await during(at.clock, first.log.close());
    expect(first.log.syncedPosition).toBe(first.log.endPosition);
    await during(at.clock, durable.saveClean(first.log.syncedPosition));
    at.disk.crash();
    const again = await open(at, new Derived(), 'async');
    expect(again.log.lastIndex).toBe(2);
  });
});

/** A state at the head of segment 5 from a peer, and the replica that it is for: two groups, a recorded durable end, a snapshot. */
async function behind(at: World) {
  const peer = world();
  const peerStore = await during(peer.clock, SnapshotStore.open(peer.disk, '/snapshot'));
  const state = new TextEncoder().encode(JSON.stringify({ applied: 50, start: 0 }));
  const place = { index: 50, term: 1, position: headOf(5), logTimeMs: 1000, previousChecksum: 9, stateDigest: 50 };
  const meta = await during(peer.clock, peerStore.save(place, state));
  const file = peer.disk.peek(`/snapshot/${String(headOf(5)).padStart(20, '0')}-50`);
  const own = await open(at);
  await fill(at, own, 2);
  await save(at, own, 1, headOf(1));
  const failures: unknown[] = [];
  const durable = new DurableState(own.hardState, (error) => failures.push(error));
  durable.noteDurableEnd(own.log.syncedPosition);
  await at.clock.run(50);
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
    { term: 1, votedFor: 0 },
    own.groupIndex,
    0,
  );
  raft.tick(0);
  let installed = false;
  const installer = new SnapshotInstaller({
    disk: at.disk,
    directory: `${DIRECTORY}/raft`,
    store: own.snapshots,
    log: own.log,
    raft,
    stateMachine: own.stateMachine,
    derived: own.derived,
    exclusive: (work) => work(),
    pauseApply: async () => undefined,
    lowerDurableEnd: (end) => durable.lowerDurableEnd(end),
    installed: () => {
      installed = true;
    },
    failed: (error) => failures.push(error),
  });
  const begin = (index = 50): void => {
    raft.step({ type: 'snapshotRequest', from: 2, to: 1, term: 1, index, lastTerm: 1 });
    const { install } = raft.takeEffects();
    if (install !== null) installer.begin(install);
  };
  const slice = (offset: number, sizeBytes: number, index = 50): void => {
    const bytes = file.subarray(offset, offset + sizeBytes);
    const head = new Uint8Array(SNAPSHOT_SLICE_HEAD_BYTES);
    const position = headOf(5);
    encodeSnapshotSlice({ term: 1, index, lastTerm: 1, position, offset, totalBytes: file.length, checksum: crc32(bytes) }, head, 0);
    installer.slice(2, head, bytes);
  };
  return { own, meta, file, raft, installer, begin, slice, failures, isInstalled: () => installed };
}

describe('installation of a state from the leader', () => {
  test('log, state and core stand at the boundary; a restart finds them there', async () => {
    const at = world();
    const { own, raft, begin, slice, file, failures, isInstalled } = await behind(at);
    begin();
    slice(0, 60);
    slice(60, file.length);
    await at.clock.run(500);
    expect(failures).toEqual([]);
    expect(isInstalled()).toBe(true);
    expect(raft.commitIndex).toBe(50);
    expect(own.stateMachine.value.applied).toBe(50);
    expect(own.log.start).toMatchObject({ index: 50, position: headOf(5) });
    await at.clock.run(100);
    at.disk.kill();
    const again = await open(at);
    expect(again.log.start).toMatchObject({ index: 50, position: headOf(5) });
    expect(again.applied).toEqual({ index: 50, position: headOf(5) });
  });

  test('cut at any step, the next start finds the old log, the new state, or nothing, and never refuses', async () => {
    const found = new Set<number>();
    for (let step = 1; step < 200; step++) {
      const at = world();
      const rig = await behind(at);
      let left = step;
      let died = false;
      at.disk.fault = (operation: DiskOperation) => {
        if (['write', 'sync', 'rename', 'remove', 'syncDirectory'].includes(operation.operation) && --left === 0) {
          died = true;
          at.disk.crash(() => left % 2 === 0);
        }
        return null;
      };
      rig.begin();
      rig.slice(0, rig.file.length);
      await at.clock.run(300);
      at.disk.fault = () => null;
      if (!died) at.disk.kill();
      const again = await open(at);
      found.add(again.log.lastIndex);
      expect([0, 2, 50]).toContain(again.log.lastIndex);
      expect(again.applied.index).toBeLessThanOrEqual(again.log.lastIndex);
      if (again.log.lastIndex !== 2) expect(again.hardState.load()?.durableEndPosition).toBe(0);
      if (!died) break;
    }
    expect([...found].sort((a, b) => a - b)).toEqual([0, 2, 50]);
  });

  // Simulation seed 105562: status, and with it `verify`, told the digest of the new state beside the index of the old one.
  test('the state changes in one step with the index that it belongs to', async () => {
    const at = world();
    const { own, begin, slice, file, isInstalled } = await behind(at);
    const restore = own.stateMachine.restore.bind(own.stateMachine);
    const installedAfter: boolean[] = [];
    own.stateMachine.restore = (state) => {
      // Two turns of the microtask queue: less than any file operation takes.
      queueMicrotask(() => queueMicrotask(() => installedAfter.push(isInstalled())));
      return restore(state);
    };
    begin();
    slice(0, file.length);
    await at.clock.run(500);
    expect(installedAfter).toEqual([true]);
  });

  test('a slice of another state means that the one begun will never be whole: it is given up and asked for again', async () => {
    const at = world();
    const { raft, begin, slice, failures } = await behind(at);
    begin();
    slice(0, 60);
    slice(0, 60, 70);
    await at.clock.run(200);
    raft.step({ type: 'snapshotRequest', from: 2, to: 1, term: 1, index: 70, lastTerm: 1 });
    expect(raft.takeEffects().install).toMatchObject({ index: 70 });
    expect(failures).toEqual([]);
  });

  test('slices that arrive faster than the disk takes them are bounded', async () => {
    const at = world();
    const { begin, installer, raft } = await behind(at);
    begin();
    const big = new Uint8Array(1024 * 1024);
    const head = new Uint8Array(SNAPSHOT_SLICE_HEAD_BYTES);
    let copies = 0;
    const counted = new Proxy(big, {
      get: (target, key) => {
        if (key === 'slice') copies++;
        const value = Reflect.get(target, key) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    for (let i = 0; i < 100; i++) {
      encodeSnapshotSlice(
        { term: 1, index: 50, lastTerm: 1, position: headOf(5), offset: i * big.length, totalBytes: 2 ** 30, checksum: 1 },
        head,
        0,
      );
      installer.slice(2, head, counted);
    }
    expect(copies).toBe(64);
    await at.clock.run(200);
    expect(raft.role).toBe('follower');
  });
});
