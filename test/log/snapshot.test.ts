import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/io/disk.ts';
import {
  decodeSnapshotHeader,
  encodeSnapshotHeader,
  SNAPSHOT_HEADER_BYTES,
  type SnapshotPlace,
  snapshotName,
} from '../../src/log/snapshot-format.ts';
import { SnapshotStore } from '../../src/log/snapshot-store.ts';
import { hookedDisk, spoiledDisk, tempDisk } from '../support/temp-disk.ts';

const place = (index: number): SnapshotPlace => ({
  index,
  term: 3,
  position: index * 4096,
  logTimeMs: 1_700_000_000_000 + index,
  previousChecksum: 0xdead_0000 + index,
  stateDigest: 2 ** 40 + index,
});
const stateOf = (index: number, size = 1000): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (i * index) & 0xff);

function setup(): { open: () => Promise<SnapshotStore>; root: string } {
  const { disk, directory } = tempDisk();
  const root = join(directory, 'snapshot');
  return { open: () => SnapshotStore.open(disk, root), root };
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 0x40;
  writeFileSync(path, bytes);
}

describe('snapshot file', () => {
  test('the name and the header, pinned', () => {
    expect(snapshotName({ position: 8192, index: 77 })).toBe('00000000000000008192-77');
    const meta = { ...place(2), sizeBytes: 5, stateChecksum: 0x0102_0304 };
    const bytes = encodeSnapshotHeader(meta);
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '4c4d515301000000020000000000000000200000000000000268e5cf8b010000' +
        '030000000200adde0200000000010000050000000000000004030201' +
        '0000000000000000' +
        'fff678de',
    );
    expect(decodeSnapshotHeader(bytes, 'x')).toEqual(meta);
    for (let at = 0; at < bytes.length; at++) {
      bytes[at] = (bytes[at] as number) ^ 1;
      expect(() => decodeSnapshotHeader(bytes, 'x')).toThrow('x: ');
      bytes[at] = (bytes[at] as number) ^ 1;
    }
  });
});

describe('SnapshotStore', () => {
  test('saved states are there after a restart, oldest first', async () => {
    const { open } = setup();
    const store = await open();
    for (const index of [9, 10, 100]) await store.save(place(index), stateOf(index));
    const again = await open();
    expect(again.list().map((meta) => meta.index)).toEqual([9, 10, 100]);
    expect(again.list()).toEqual(store.list());
    for (const meta of again.list()) expect(await again.load(meta)).toEqual(stateOf(meta.index));
    expect(again.newest()?.index).toBe(100);
    expect(again.newest(99 * 4096)?.index).toBe(10);
    expect(again.newest(8 * 4096)).toBeUndefined();
    expect((await again.loadNewest(10 * 4096))?.meta.index).toBe(10);
    expect(await (await setup().open()).loadNewest()).toBeNull();
  });

  test('a state of several slices, and an empty one', async () => {
    const { open } = setup();
    const store = await open();
    const large = stateOf(3, 2_500_001);
    await store.save(place(1), new Uint8Array(0));
    await store.save(place(2), large);
    const again = await open();
    expect((await again.loadNewest())?.state).toEqual(large);
    expect((await again.loadNewest(4096))?.state.length).toBe(0);
  });

  test.each([0, 30, SNAPSHOT_HEADER_BYTES - 1, SNAPSHOT_HEADER_BYTES, SNAPSHOT_HEADER_BYTES + 999])(
    'a newest snapshot with byte %i damaged falls back to the one before, and says so',
    async (at) => {
      const { open, root } = setup();
      const store = await open();
      await store.save(place(1), stateOf(1));
      await store.save(place(2), stateOf(2));
      const name = snapshotName(place(2));
      // Found at the start, or only when the state is read: both end the same way.
      const running = await open();
      flip(join(root, name), at);
      for (const one of [running, await open()]) {
        expect((await one.loadNewest())?.meta.index).toBe(1);
        expect(one.damaged()).toEqual([name]);
        expect(one.list().map((meta) => meta.index)).toEqual([1]);
      }
      expect(existsSync(join(root, name))).toBe(true);
      await store.save(place(2), stateOf(2));
      expect((await (await open()).loadNewest())?.meta.index).toBe(2);
    },
  );

  test('FAULTS 6 a header that cannot be read is damage like any other', async () => {
    const { disk, directory } = tempDisk();
    const store = await SnapshotStore.open(disk, directory);
    for (const index of [1, 2]) await store.save(place(index), stateOf(index));
    const name = snapshotName(place(2));
    const again = await SnapshotStore.open(spoiledDisk(disk, join(directory, name), 0), directory);
    expect(again.damaged()).toEqual([name]);
    expect((await again.loadNewest())?.meta.index).toBe(1);
  });

  test('a shortened snapshot and one under another name are damaged', async () => {
    const { open, root } = setup();
    const store = await open();
    await store.save(place(1), stateOf(1));
    await store.save(place(2), stateOf(2));
    truncateSync(join(root, snapshotName(place(2))), 500);
    writeFileSync(join(root, snapshotName(place(3))), readFileSync(join(root, snapshotName(place(1)))));
    const again = await open();
    expect(again.list().map((meta) => meta.index)).toEqual([1]);
    expect(again.damaged()).toEqual([snapshotName(place(2)), snapshotName(place(3))]);
  });

  test('the order of a save: bytes, sync, rename, directory sync; a save cut short leaves nothing', async () => {
    const { disk, directory } = tempDisk();
    const steps: string[] = [];
    let failAt = '';
    const watched = hookedDisk(disk, (operation, path) => {
      steps.push(operation);
      if (operation === failAt) throw new DiskError('EIO', operation, path);
    });
    const root = join(directory, 'snapshot');
    const store = await SnapshotStore.open(watched, root);
    steps.length = 0;
    await store.save(place(1), stateOf(1));
    expect(steps).toEqual(['remove', 'open', 'file.write', 'file.write', 'file.sync', 'file.close', 'rename', 'syncDirectory']);
    for (failAt of ['file.write', 'file.sync', 'rename']) {
      await expect(store.save(place(2), stateOf(2))).rejects.toThrow('EIO');
      expect(store.newest()?.index).toBe(1);
    }
    failAt = '';
    expect((await SnapshotStore.open(disk, root)).list().map((meta) => meta.index)).toEqual([1]);
    expect(readdirSync(root)).toEqual([snapshotName(place(1))]);
  });

  test('removal keeps the newest and those at segment heads', async () => {
    const { open, root } = setup();
    const store = await open();
    for (const index of [1, 2, 3, 4, 5]) await store.save(place(index), stateOf(index));
    await store.removeBefore(5 * 4096, (position) => position === 2 * 4096);
    expect(store.list().map((meta) => meta.index)).toEqual([2, 5]);
    expect(readdirSync(root).length).toBe(2);
    await store.removeBefore(100 * 4096);
    expect(store.list().map((meta) => meta.index)).toEqual([5]);
    await store.save(place(6), stateOf(6));
    await store.removeAfter(5 * 4096);
    expect((await open()).list().map((meta) => meta.index)).toEqual([5]);
  });

  test('FAULTS 6 a damaged one goes with the log before it, or it would stay for good: nobody has another', async () => {
    const { open, root } = setup();
    const first = await open();
    for (const index of [1, 2, 3, 4]) await first.save(place(index), stateOf(index));
    for (const index of [1, 2]) truncateSync(join(root, snapshotName(place(index))), 500);
    const store = await open();
    expect(store.damaged().length).toBe(2);
    // That of a retained segment's head is mended by a peer.
    await store.removeBefore(4 * 4096, (position) => position === 2 * 4096);
    expect(store.damaged()).toEqual([snapshotName(place(2))]);
    await store.removeBefore(4 * 4096);
    expect([store.damaged(), readdirSync(root)]).toEqual([[], [snapshotName(place(4))]]);
  });

  test.each([1, 7, 71, 72, 73, 500, 4096])('a follower receives it in slices of %i bytes', async (sliceBytes) => {
    const leader = await setup().open();
    const follower = setup();
    const meta = await leader.save(place(4), stateOf(4));
    const store = await follower.open();
    const receiver = await store.receive();
    const slice = new Uint8Array(sliceBytes);
    while (receiver.receivedBytes < leader.fileBytes(meta)) {
      const read = await leader.readSlice(meta, slice, receiver.receivedBytes);
      await receiver.write(slice.subarray(0, read));
    }
    expect(receiver.meta).toEqual(meta);
    expect(store.list()).toEqual([]);
    expect(await receiver.finish()).toEqual(meta);
    expect(await (await follower.open()).load(meta)).toEqual(stateOf(4));
  });

  test('what was received damaged or in part is never installed', async () => {
    const leader = setup();
    const meta = await (await leader.open()).save(place(4), stateOf(4));
    const whole = readFileSync(join(leader.root, snapshotName(meta)));
    const follower = setup();
    const store = await follower.open();
    const attempts: [string, (bytes: Buffer) => Buffer][] = [
      ['header checksum', (bytes) => Buffer.from(bytes.map((byte, i) => (i === 20 ? byte ^ 1 : byte)))],
      ['state checksum', (bytes) => Buffer.from(bytes.map((byte, i) => (i === 400 ? byte ^ 1 : byte)))],
      ['in part', (bytes) => bytes.subarray(0, 900)],
      ['in part', (bytes) => bytes.subarray(0, 10)],
      ['more bytes', (bytes) => Buffer.concat([bytes, bytes])],
    ];
    for (const [reason, change] of attempts) {
      const receiver = await store.receive();
      await expect(receiver.write(change(whole)).then(() => receiver.finish())).rejects.toThrow(reason);
      expect(store.list()).toEqual([]);
    }
    // The next one starts afresh.
    const receiver = await store.receive();
    await receiver.write(whole);
    await receiver.finish();
    expect(store.list()).toEqual([meta]);
  });

  test('leftovers of a crash are removed, other files left alone', async () => {
    const { open, root } = setup();
    mkdirSync(root);
    for (const name of ['saving.tmp', 'receiving.tmp', 'notes']) writeFileSync(join(root, name), 'x');
    await open();
    expect(readdirSync(root)).toEqual(['notes']);
  });
});
