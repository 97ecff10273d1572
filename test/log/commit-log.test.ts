import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import { LogCorrupt, LogForeign, LogPoisoned, LogShortened } from '../../src/log/errors.ts';
import { BLOCK_BYTES, GROUP_MAGIC } from '../../src/log/layout.ts';
import type { Log } from '../../src/log/types.ts';
import type { StateMachine } from '../../src/replica/types.ts';
import { verifyChain } from '../../src/replica/verify-chain.ts';
import {
  append,
  appendDurable,
  bodyOf,
  DIRECTORY,
  entriesOf,
  FIRST_SEGMENT,
  isGroupWrite,
  newDisk,
  openLog,
  SMALL_SEGMENT_BYTES,
} from './support.ts';

const chainOf = (log: Log) => verifyChain(log, { digest: () => 0 } as StateMachine, () => 0, { fromIndex: 1, toIndex: log.lastIndex });

describe('CommitLog', () => {
  test('F28 CommitLog: what was durable is there again after a power failure, in order', async () => {
    const world = newDisk();
    const first = await openLog(world);
    for (let i = 1; i <= 20; i++) await appendDurable(first, i * 10, 50 + i, 1, 3);
    world.disk.crash();
    const second = await openLog(world);
    expect(second.log.lastIndex).toBe(60);
    expect(second.log.lastChecksum).toBe(first.log.lastChecksum);
    expect(second.log.endPosition).toBe(first.log.endPosition);
    const entries = await entriesOf(second.log);
    expect(entries.map((entry) => entry.index)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    expect(entries[4]?.body).toEqual(bodyOf(21, 52).body);
  });

  test('F28 CommitLog: fixed-size segments named by position, no group across a border, several segments recovered', async () => {
    const world = newDisk();
    const first = await openLog(world);
    let last = 0;
    for (let i = 1; i <= 14; i++) last = await appendDurable(first, i, 900_000);
    const names = await world.disk.list(DIRECTORY);
    expect(names.slice(0, 3)).toEqual([0, 1, 2].map((i) => String(i * SMALL_SEGMENT_BYTES).padStart(20, '0')));
    for (let index = 1; index <= last; index++) {
      const group = first.log.groupAt(index);
      if (group === null) throw new Error('group unknown');
      const base = group.position - (group.position % SMALL_SEGMENT_BYTES);
      expect(group.position + group.sizeBytes).toBeLessThanOrEqual(base + SMALL_SEGMENT_BYTES);
      expect(group.position).toBeGreaterThanOrEqual(base + BLOCK_BYTES);
    }
    world.disk.crash();
    const second = await openLog(world);
    expect(second.log.lastIndex).toBe(14);
    expect((await entriesOf(second.log)).length).toBe(14);
    expect(await second.log.hashRange(1, 14)).toEqual(await first.log.hashRange(1, 14));
  });

  test('F28 CommitLog: a follower that takes the groups has the same bytes', async () => {
    const leaderWorld = newDisk(1);
    const followerWorld = newDisk(2);
    const leader = await openLog(leaderWorld);
    const follower = await openLog(followerWorld);
    for (let i = 1; i <= 12; i++) {
      for (let k = 0; k < 5; k++) append(leader.log, i * 5 + k, 100_000 + i);
      leader.log.closeGroup();
      for (const group of leader.log.takeClosed()) {
        const result = follower.log.appendGroups(group.bytes);
        expect(result).toEqual({ ok: true, groups: [group.meta] });
      }
      await leader.until(i * 5);
      await follower.until(i * 5);
    }
    expect(await follower.log.hashRange(1, 60)).toEqual(await leader.log.hashRange(1, 60));
    expect(followerWorld.disk.peek(FIRST_SEGMENT)).toEqual(leaderWorld.disk.peek(FIRST_SEGMENT));
  });

  test('F33 a batch keeps its bytes: what was appended is what lies in the file and what is read', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    const { body, checksum } = bodyOf(9, 5000);
    opened.log.append(3, 1, 2, checksum, body, 1, 1000);
    const closed = opened.log.closeGroup();
    await opened.until(1);
    const at = BLOCK_BYTES + 64 + 64;
    expect(crc32(world.disk.peek(FIRST_SEGMENT, at + 4, body.length - 4))).toBe(checksum);
    expect(opened.log.readHot(at, body.length)).toEqual(body);
    const cold = new Uint8Array(body.length);
    expect(await opened.log.readCold(cold, at)).toBe(body.length);
    expect(cold).toEqual(body);
    expect(closed?.bytes.length).toBe(closed?.meta.sizeBytes);
  });

  test('F33 reading at the tail takes nothing from the disk', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    let reads = 0;
    world.disk.fault = (operation) => {
      if (operation.operation === 'read') reads++;
      return null;
    };
    for (let i = 1; i <= 10; i++) await appendDurable(opened, i, 2000);
    const seen: number[] = [];
    expect(opened.log.visitHot(1, 10, (entry) => seen.push(entry.index))).toBe(10);
    expect(opened.log.hotGroups(3, 9, 1_000_000)?.map((run) => [run.firstIndex, run.lastIndex])).toEqual([[3, 9]]);
    expect(reads).toBe(0);
  });

  test('one disk write at a time; what is closed meanwhile goes out as the next single one', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    await appendDurable(opened, 1);
    await new Promise((resolve) => world.clock.setTimer(1000, () => resolve(undefined)));
    const writes: number[] = [];
    world.disk.countsAsFlying = (bytes) => readU32(bytes, 0) === GROUP_MAGIC;
    world.disk.maxFlyingWrites = 0;
    world.disk.fault = (operation) => {
      if (isGroupWrite(operation)) writes.push(operation.sizeBytes);
      return null;
    };
    for (let i = 2; i <= 9; i++) {
      append(opened.log, i);
      opened.log.closeGroup();
    }
    await opened.until(9);
    expect(writes).toEqual([BLOCK_BYTES, 7 * BLOCK_BYTES]);
    expect(world.disk.maxFlyingWrites).toBe(1);
    expect(opened.durable.map((report) => report.index)).toEqual([1, 2, 9]);
  });

  test('FAULTS 1 nothing is reported durable before its bytes are on the medium', async () => {
    const world = newDisk(5);
    const opened = await openLog(world);
    for (let i = 1; i <= 5; i++) {
      append(opened.log, i);
      opened.log.closeGroup();
      expect(opened.log.durableIndex).toBeLessThan(i);
      await opened.until(i);
    }
    // Nothing unsynced survives, and all that was reported does.
    world.disk.crash(() => false);
    expect((await openLog(world)).log.lastIndex).toBe(5);
  });

  test('FAULTS 2 the first failed write poisons: no later report, no retry, appends and truncations refused', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    await appendDurable(opened, 1);
    let writes = 0;
    world.disk.fault = (operation) => {
      if (!isGroupWrite(operation)) return null;
      writes++;
      return writes === 1 ? 'EIO' : null;
    };
    append(opened.log, 2);
    opened.log.closeGroup();
    append(opened.log, 3);
    opened.log.closeGroup();
    await opened.until(3);
    expect(opened.errors.length).toBe(1);
    expect(append(opened.log, 4)).toBe('poisoned');
    await expect(opened.log.truncateFrom(2)).rejects.toThrow(LogPoisoned);
    await opened.log.close();
    expect(writes).toBe(1);
    expect(opened.durable).toEqual([{ index: 1, term: 1 }]);
  });

  test('FAULTS 2 F31 asynchronous flush: a failed background sync poisons as well', async () => {
    const world = newDisk();
    const opened = await openLog(world, { flush: 'async', asyncFlushMs: 20 });
    await appendDurable(opened, 1);
    const failed = new Promise<void>((resolve) => {
      world.disk.fault = (operation) => {
        if (operation.operation !== 'sync') return null;
        resolve();
        return 'EIO';
      };
    });
    append(opened.log, 2);
    opened.log.closeGroup();
    await failed;
    await new Promise((resolve) => world.clock.setTimer(100, () => resolve(undefined)));
    expect(opened.errors.length).toBe(1);
    expect(append(opened.log, 3)).toBe('poisoned');
  });

  test('F31 asynchronous flush: reported at once, synced within the window, lost only inside it', async () => {
    const world = newDisk(3);
    const opened = await openLog(world, { flush: 'async', asyncFlushMs: 50 });
    await appendDurable(opened, 1);
    await new Promise((resolve) => world.clock.setTimer(60, () => resolve(undefined)));
    await appendDurable(opened, 2);
    expect([opened.log.syncedPosition, opened.log.durablePosition]).toEqual([2 * BLOCK_BYTES, 3 * BLOCK_BYTES]);
    world.disk.crash(() => false);
    const second = await openLog(world, { flush: 'async', unsyncedTailLost: true });
    expect(second.log.lastIndex).toBe(1);
  });

  test('F31 asynchronous flush: a killed process loses nothing', async () => {
    const world = newDisk(3);
    const opened = await openLog(world, { flush: 'async', asyncFlushMs: 50 });
    for (let i = 1; i <= 30; i++) await appendDurable(opened, i);
    world.disk.kill();
    const second = await openLog(world, { flush: 'async' });
    expect(second.log.lastIndex).toBe(30);
    expect(second.log.recovery.rewrittenBytes).toBe(30 * BLOCK_BYTES);
    // Recovery synced it all (I3): now the machine may go down.
    world.disk.crash(() => false);
    expect((await openLog(world)).log.lastIndex).toBe(30);
  });

  test('FAULTS 3 a full disk while allocating is not poison: refused, read on, goes on when there is room', async () => {
    const world = newDisk(1, 3_000_000);
    const opened = await openLog(world);
    let index = 0;
    for (let i = 1; i <= 2; i++) index = await appendDurable(opened, i, 900_000);
    append(opened.log, 3, 900_000);
    opened.log.closeGroup();
    await new Promise((resolve) => world.clock.setTimer(5000, () => resolve(undefined)));
    expect(opened.log.diskFull).toBe(true);
    expect(opened.log.poisoned).toBe(null);
    expect(opened.log.durableIndex).toBe(index);
    expect((await entriesOf(opened.log)).length).toBe(3);
    world.disk.capacityBytes = 100_000_000;
    await opened.until(3);
    expect(opened.log.durableIndex).toBe(3);
    await new Promise((resolve) => world.clock.setTimer(5000, () => resolve(undefined)));
    expect(opened.log.diskFull).toBe(false);
  });

  test('FAULTS 3 an error inside an allocated segment is poison, ENOSPC too', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    await appendDurable(opened, 1);
    world.disk.fault = (operation) => (isGroupWrite(operation) ? 'ENOSPC' : null);
    append(opened.log, 2);
    opened.log.closeGroup();
    await opened.until(2);
    expect(opened.errors.length).toBe(1);
  });

  test('FAULTS 3 below the reserve diskFull is set while writing still works', async () => {
    const world = newDisk(1, 50_000_000);
    const opened = await openLog(world, { reserveBytes: 60_000_000 });
    expect(opened.log.diskFull).toBe(true);
    await appendDurable(opened, 1);
    expect(opened.log.durableIndex).toBe(1);
  });

  test('FAULTS 4 a segment is seen only with its header and after its directory is synced', async () => {
    for (let seed = 1; seed < 30; seed++) {
      const world = newDisk(seed);
      let steps = 0;
      world.disk.fault = () => {
        steps++;
        return null;
      };
      const opening = openLog(world);
      const opened = await opening;
      append(opened.log, 1);
      opened.log.closeGroup();
      await new Promise<void>((resolve) => world.clock.setTimer(0, resolve));
      for (let i = 0; i < seed; i++) await new Promise<void>((resolve) => world.clock.setTimer(0, resolve));
      const durable = opened.log.durableIndex;
      world.disk.crash();
      const second = await openLog(world);
      expect(second.log.lastIndex).toBeGreaterThanOrEqual(durable);
      expect(steps).toBeGreaterThan(0);
    }
  });

  test('the bound of the hot tail: full while nothing can be recycled, and held chunks are announced', async () => {
    const world = newDisk();
    let pinned = 0;
    let release: (() => void) | null = null;
    const { CommitLog } = await import('../../src/log/commit-log.ts');
    const log = await CommitLog.open({
      disk: world.disk,
      clock: world.clock,
      directory: DIRECTORY,
      clusterHash: 7,
      segmentBytes: SMALL_SEGMENT_BYTES,
      hotTail: { chunkBytes: SMALL_SEGMENT_BYTES, maxChunks: 2 },
      reserveBytes: 0,
      handlers: {
        onDurable: () => undefined,
        onPoisoned: () => undefined,
        onPinned: () => {
          pinned++;
          release?.();
        },
      },
    });
    // Nothing is written yet in this turn: two chunks take four groups each.
    let refused: number | string = 0;
    for (let i = 1; i <= 12 && typeof refused === 'number'; i++) refused = append(log, i, 1_000_000);
    expect(refused).toBe('full');
    expect(pinned).toBe(0);
    const [firstClosed] = log.takeClosed();
    firstClosed?.hold.retain();
    await new Promise((resolve) => world.clock.setTimer(1000, () => resolve(undefined)));
    expect(log.durableIndex).toBe(log.lastIndex);
    expect(append(log, 99, 1_000_000)).toBe('full');
    expect(pinned).toBe(1);
    release = () => firstClosed?.hold.release();
    expect(append(log, 99, 1_000_000)).toBe(log.lastIndex + 1);
    expect(log.readHot(BLOCK_BYTES, 64)).toBe(null);
  });

  test('truncateFrom cuts durably, appends follow at once, the old groups never come back', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 6; i++) await appendDurable(opened, i, 300 * i);
    const truncated = opened.log.truncateFrom(4);
    expect(opened.log.lastIndex).toBe(3);
    expect(append(opened.log, 77, 10_000, 2)).toBe(4);
    opened.log.closeGroup();
    await truncated;
    await opened.until(4);
    world.disk.crash(() => false);
    const second = await openLog(world);
    const entries = await entriesOf(second.log);
    expect(entries.map((entry) => entry.term)).toEqual([1, 1, 1, 2]);
    expect(entries[3]?.body).toEqual(bodyOf(77, 10_000).body);
    expect(second.log.termAt(4)).toBe(2);
  });

  test('truncation across segments, with writes in flight and groups that no write has taken yet', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 3; i++) await appendDurable(opened, i, 900_000);
    for (let i = 4; i <= 9; i++) {
      append(opened.log, i, 900_000);
      opened.log.closeGroup();
    }
    await opened.log.truncateFrom(3);
    expect(opened.log.durableIndex).toBe(2);
    expect(opened.durable.every((report) => report.index <= 3)).toBe(true);
    await appendDurable(opened, 50, 100, 2);
    world.disk.crash();
    const second = await openLog(world);
    expect((await entriesOf(second.log)).map((entry) => entry.term)).toEqual([1, 1, 2]);
    expect(second.log.recovery.voteFloor).toBe(0);
  });

  test('cutTo deletes whole segments; the log opens again at the new start', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 14; i++) await appendDurable(opened, i, 900_000);
    const group = opened.log.groupAt(11);
    const start = await opened.log.cutTo(group?.position ?? 0);
    expect(start.index).toBeGreaterThan(3);
    expect(start.position % SMALL_SEGMENT_BYTES).toBe(BLOCK_BYTES);
    expect(opened.log.firstIndex).toBe(start.index + 1);
    world.disk.crash();
    const second = await openLog(world, { start });
    expect(second.log.firstIndex).toBe(start.index + 1);
    expect(second.log.lastIndex).toBe(14);
    expect((await entriesOf(second.log)).length).toBe(14 - start.index);
  });

  test('reset begins again behind a snapshot', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 3; i++) await appendDurable(opened, i);
    const start = { index: 1000, term: 4, position: 5 * SMALL_SEGMENT_BYTES + BLOCK_BYTES, previousChecksum: 99 };
    await opened.log.reset(start);
    expect(await appendDurable(opened, 5, 100, 4)).toBe(1001);
    world.disk.crash();
    const second = await openLog(world, { start });
    expect(second.log.lastIndex).toBe(1001);
    expect(second.log.start).toEqual(start);
  });

  test('recovery from a checkpoint reads headers before it and verifies bytes behind it', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 10; i++) await appendDurable(opened, i, 500);
    const checkpoint = await opened.log.boundaryAt(7);
    expect(checkpoint?.index).toBe(7);
    await opened.log.close();
    const groups: number[] = [];
    const second = await openLog(world, { verifyFrom: checkpoint, onGroup: (group) => groups.push(group.firstIndex) });
    expect(groups).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(second.log.recovery.verifiedBytes).toBe(3 * BLOCK_BYTES);
  });

  test('F35 a start reads no headers of segments whose outline is kept, and knows the log all the same', async () => {
    const world = newDisk();
    const outlineDirectory = '/data/outline';
    const opened = await openLog(world);
    for (let i = 1; i <= 18; i++) await appendDurable(opened, i, 900_000, i < 8 ? 1 : 3);
    const checkpoint = await opened.log.boundaryAt(17);
    const hash = await opened.log.hashRange(1, 18);
    const chain = await chainOf(opened.log);
    expect(chain.slices.map(({ firstIndex, lastIndex, position }) => [firstIndex, lastIndex, position])).toEqual([[1, 18, BLOCK_BYTES]]);
    await opened.log.close();
    const second = await openLog(world, { verifyFrom: checkpoint, outlineDirectory });
    await second.log.close();
    expect((await world.disk.list(outlineDirectory)).length).toBe(4);
    const read: number[] = [];
    world.disk.fault = ({ operation, path, position, sizeBytes }) => {
      if (operation === 'read' && sizeBytes > BLOCK_BYTES && path.startsWith(DIRECTORY)) read.push(Number(path.slice(-20)) + position);
      return null;
    };
    const groups: number[] = [];
    const third = await openLog(world, { verifyFrom: checkpoint, outlineDirectory, onGroup: ({ firstIndex }) => groups.push(firstIndex) });
    // Of segments in between nothing but where they begin.
    expect(read.filter((position) => position < 4 * SMALL_SEGMENT_BYTES && position % SMALL_SEGMENT_BYTES !== BLOCK_BYTES)).toEqual([]);
    expect(groups).toEqual([17, 18]);
    expect([1, 7, 8, 17, 18].map((index) => third.log.termAt(index))).toEqual([1, 1, 3, 3, 3]);
    expect(await third.log.hashRange(1, 18)).toEqual(hash);
    // What `verify` compares is the same on a replica that never ended.
    expect(await chainOf(third.log)).toEqual(chain);
    expect((await entriesOf(third.log)).length).toBe(18);
    expect(await third.log.boundaryAt(6)).toEqual(await opened.log.boundaryAt(6));
    expect(await appendDurable(third, 19, 100, 3)).toBe(19);
    const start = await third.log.cutTo(2 * SMALL_SEGMENT_BYTES + BLOCK_BYTES);
    expect(start.position).toBe(2 * SMALL_SEGMENT_BYTES + BLOCK_BYTES);
    expect((await world.disk.list(outlineDirectory)).length).toBe(2);
  });

  test('F35 an outline that is torn, or of another log, is not believed', async () => {
    const outlineDirectory = '/data/outline';
    const make = async (seed: number) => {
      const world = newDisk();
      const opened = await openLog(world);
      for (let i = 1; i <= 14; i++) await appendDurable(opened, seed + i, 900_000);
      const checkpoint = await opened.log.boundaryAt(13);
      await opened.log.close();
      await (await openLog(world, { verifyFrom: checkpoint, outlineDirectory })).log.close();
      return { world, checkpoint };
    };
    const [one, other] = [await make(0), await make(100)];
    const names = (await one.world.disk.list(outlineDirectory)).map((name) => `${outlineDirectory}/${name}`);
    expect(names.length).toBe(3);
    for (const damage of ['torn', 'other']) {
      for (const path of names) {
        const theirs = other.world.disk.dump().get(path) as Uint8Array;
        one.world.disk.poke(path, 0, damage === 'other' ? theirs : new Uint8Array(8));
      }
      const groups: number[] = [];
      const again = await openLog(one.world, {
        verifyFrom: one.checkpoint,
        outlineDirectory,
        onGroup: ({ firstIndex }) => groups.push(firstIndex),
      });
      expect([damage, groups.length]).toEqual([damage, 14]);
      await again.log.close();
    }
  });

  test('FAULTS 6 a sector before the checkpoint cannot be read: the log opens, writes the others again and leaves that one as it is', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 10; i++) await appendDurable(opened, i, 10_000);
    const checkpoint = await opened.log.boundaryAt(7);
    const groupBytes = (opened.log.groupAt(4)?.position ?? 0) - (opened.log.groupAt(3)?.position ?? 0);
    const spoiled = (opened.log.groupAt(3)?.position ?? 0) + BLOCK_BYTES;
    await opened.log.close();
    const written: number[] = [];
    world.disk.fault = ({ operation, path, position, sizeBytes }) => {
      const touches = path === FIRST_SEGMENT && position < spoiled + BLOCK_BYTES && position + sizeBytes > spoiled;
      if (touches && operation === 'write') written.push(position);
      return touches && operation === 'read' ? 'EIO' : null;
    };
    const second = await openLog(world, { verifyFrom: checkpoint });
    expect(second.log.lastIndex).toBe(10);
    expect(second.log.recovery.rewrittenBytes).toBe(10 * groupBytes - BLOCK_BYTES);
    expect(written).toEqual([]);
  });

  test('FAULTS 6 the sector of a segment header cannot be read: it is written anew where damage may be mended', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 14; i++) await appendDurable(opened, i, 900_000);
    await opened.log.close();
    const second = `${DIRECTORY}/${String(SMALL_SEGMENT_BYTES).padStart(20, '0')}`;
    const header = world.disk.peek(second, 0, BLOCK_BYTES);
    world.disk.poke(second, 0, new Uint8Array(BLOCK_BYTES));
    let isSpoiled = true;
    world.disk.fault = ({ operation, path, position, sizeBytes }) => {
      if (path !== second || position > 0 || sizeBytes === 0) return null;
      if (operation === 'write') isSpoiled = false;
      return operation === 'read' && isSpoiled ? 'EIO' : null;
    };
    const again = await openLog(world, { repair: () => Promise.reject(new Error('nothing else is damaged')) });
    expect(again.log.lastIndex).toBe(14);
    expect(world.disk.peek(second, 0, BLOCK_BYTES)).toEqual(header);
  });

  test('refused and untouched: another cluster, another segment size, a missing segment, a shortened log', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 14; i++) await appendDurable(opened, i, 900_000);
    const end = opened.log.endPosition;
    await opened.log.close();
    const before = world.disk.dump();
    await expect(openLog(world, { clusterHash: 8 })).rejects.toThrow(LogForeign);
    await expect(openLog(world, { segmentBytes: 2 * SMALL_SEGMENT_BYTES })).rejects.toThrow(LogForeign);
    await expect(openLog(world, { durableEndPosition: end + BLOCK_BYTES })).rejects.toThrow(LogShortened);
    expect(world.disk.dump()).toEqual(before);
    await world.disk.remove(`${DIRECTORY}/${String(SMALL_SEGMENT_BYTES).padStart(20, '0')}`);
    await expect(openLog(world)).rejects.toThrow(LogCorrupt);
    await world.disk.remove(DIRECTORY);
    await expect(openLog(world, { durableEndPosition: end })).rejects.toThrow(LogShortened);
  });
});
