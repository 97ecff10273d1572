import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/io/disk.ts';
import { NodeDisk } from '../../src/io/node/disk.ts';
import { IndexFiles, type IndexFilesOptions, keyIndexHash, messageIdHash } from '../../src/log/index-files.ts';
import { encodeBatch } from '../../src/protocol/record-batch-encoder.ts';
import { hookedDisk, spoiledDisk, tempDisk } from '../support/temp-disk.ts';

const FOREVER = Number.MAX_SAFE_INTEGER;

interface Put {
  readonly hash: number;
  readonly position: number;
  readonly logTimeMs: number;
}

/** Few hashes and 8 slots, so that chains are long and mixed. */
function makePuts(count: number, hashes = 20): Put[] {
  return Array.from({ length: count }, (_, i) => ({
    hash: (Math.imul(i + 1, 2_654_435_761) >>> 7) % hashes,
    // Two items of one entry now and then.
    position: 1000 + 100 * (i - (i % 5 === 4 ? 1 : 0)),
    logTimeMs: 5_000_000 + 10 * i,
  }));
}

function expected(puts: readonly Put[], hash: number, from = 0, to = FOREVER, max = 1e9): number[] {
  const positions = puts.filter((p) => p.hash === hash && p.logTimeMs >= from && p.logTimeMs <= to).map((p) => p.position);
  return [...new Set(positions.reverse())].slice(0, max);
}

const apply = (index: IndexFiles, puts: readonly Put[]): void => {
  for (const p of puts) index.put(p.hash, p.position, p.logTimeMs);
};

const endOf = (puts: readonly Put[]): number => (puts.at(-1)?.position ?? 900) + 100;

function setup(): { open: (more?: Partial<IndexFilesOptions>) => Promise<IndexFiles>; root: string; damage: Error[] } {
  const { disk, directory } = tempDisk();
  const root = join(directory, 'index');
  const damage: Error[] = [];
  const options: IndexFilesOptions = {
    disk,
    directory: root,
    sizes: { slots: 8, capacity: 50 },
    maxOpenFiles: 2,
    onDamage: (cause) => damage.push(cause),
  };
  return { open: (more = {}) => IndexFiles.open({ ...options, ...more }), root, damage };
}

describe('F30 IndexFile', () => {
  test('F30 finds the entries of a hash, newest first, in memory, on disk, and over several files', async () => {
    const { open } = setup();
    const puts = makePuts(230);
    const index = await open();
    for (let i = 0; i < puts.length; i += 23) {
      apply(index, puts.slice(i, i + 23));
      for (let hash = 0; hash < 21; hash++) {
        expect(await index.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts.slice(0, i + 23), hash));
      }
      if (i % 2 === 0) await index.flush(endOf(puts.slice(0, i + 10)));
    }
    await index.flush(endOf(puts));
    expect(index.unflushedItems).toBe(0);
    for (const store of [index, await open()]) {
      for (let hash = 0; hash < 21; hash++) expect(await store.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts, hash));
    }
  });

  test('F30 a query by time range and with a bound', async () => {
    const { open } = setup();
    const puts = makePuts(200);
    const index = await open();
    apply(index, puts);
    for (const [from, to, max] of [
      [5_000_000, 5_000_400, 100],
      [5_000_405, 5_001_205, 100],
      [5_000_100, 5_001_900, 2],
      [6_000_000, FOREVER, 5],
      [0, 4_000_000, 5],
    ] as const) {
      for (let hash = 0; hash < 20; hash++) expect(await index.find(hash, from, to, max)).toEqual(expected(puts, hash, from, to, max));
    }
  });

  test('F30 a search that is cut short goes on where it ended: nothing is found twice, nothing is left out', async () => {
    for (const [max, maxSteps] of [
      [3, 100_000],
      [1e9, 4],
      [2, 7],
      // More than one entry's items, else there is no way on.
      [1, 3],
    ] as const) {
      const { open } = setup();
      const puts = makePuts(230);
      const index = await open({ maxSteps });
      apply(index, puts);
      // Files that are sealed, one that is half on disk, and items in memory only.
      await index.flush(endOf(puts.slice(0, 215)));
      for (let hash = 0; hash < 20; hash++) {
        for (const [fromTimeMs, toTimeMs] of [
          [0, FOREVER],
          [5_000_405, 5_001_805],
        ] as const) {
          const found: number[] = [];
          let pages = 0;
          for (let beforePosition: number | null = FOREVER; beforePosition !== null && pages < 1_000; pages++) {
            const hits = await index.search(hash, { fromTimeMs, toTimeMs, beforePosition, max });
            expect(hits.positions.length).toBeLessThanOrEqual(max);
            found.push(...hits.positions);
            beforePosition = hits.restBefore;
          }
          expect(pages).toBeLessThan(1_000);
          expect(found).toEqual(expected(puts, hash, fromTimeMs, toTimeMs));
        }
      }
    }
  });

  test('F30 crash, cut and replay give the index of a replica that never fell', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 180 }),
        fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })), {
          minLength: 1,
          maxLength: 3,
        }),
        async (count, crashes) => {
          const { open, damage } = setup();
          // A position an entry, so that every item is a place to cut.
          const puts = makePuts(count).map((p, i) => ({ ...p, position: 1000 + 100 * i }));
          let index = await open();
          let applied = 0;
          for (const [applyTo, cutAt] of crashes) {
            const to = Math.max(applied, Math.floor(applyTo * count));
            apply(index, puts.slice(applied, to));
            await index.flush(endOf(puts.slice(0, to)));
            const snapshot = Math.floor(cutAt * to);
            index = await open();
            expect(index.covers(0, endOf(puts.slice(0, snapshot)))).toBe(true);
            await index.truncateFrom(endOf(puts.slice(0, snapshot)));
            applied = snapshot;
            for (let hash = 0; hash < 20; hash++)
              expect(await index.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts.slice(0, applied), hash));
          }
          apply(index, puts.slice(applied));
          await index.flush(endOf(puts));
          for (let hash = 0; hash < 20; hash++) expect(await index.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts, hash));
          expect(damage).toEqual([]);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('F30 nothing is written past the durable end', async () => {
    const { open } = setup();
    const puts = makePuts(120);
    const index = await open();
    apply(index, puts);
    const durable = (puts[70] as Put).position;
    await index.flush(durable);
    const again = await open();
    expect(again.coveredPosition).toBe(durable);
    expect(again.covers(0, durable)).toBe(true);
    expect(again.covers(0, durable + 1)).toBe(false);
    const before = puts.filter((p) => p.position < durable);
    for (let hash = 0; hash < 20; hash++) expect(await again.find(hash, 0, FOREVER, 1e9)).toEqual(expected(before, hash));
  });

  test('F30 lost and damaged files are noticed, and rebuilt by replay', async () => {
    const puts = makePuts(230);
    for (const which of [0, 1, 2, 4]) {
      for (const lose of [true, false]) {
        const { open, root } = setup();
        const index = await open();
        apply(index, puts);
        await index.flush(endOf(puts));
        const names = readdirSync(root).sort();
        expect(names.length).toBe(5);
        const path = join(root, names[which] as string);
        if (lose) rmSync(path);
        else
          writeFileSync(
            path,
            readFileSync(path).map((byte, i) => (i === 20 ? byte ^ 1 : byte)),
          );
        const again = await open();
        expect(again.covers(0, endOf(puts))).toBe(false);
        await again.truncateFrom(0);
        apply(again, puts);
        for (let hash = 0; hash < 20; hash++) expect(await again.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts, hash));
      }
    }
  });

  test('FAULTS 6 a sector that cannot be read is damage like any other: noticed at the start or when it is read', async () => {
    const puts = makePuts(120, 1);
    const { open, root, damage } = setup();
    const index = await open();
    apply(index, puts);
    await index.flush(endOf(puts));
    const [first, , last] = readdirSync(root)
      .sort()
      .map((name) => join(root, name)) as [string, string, string];
    const reading = await open({ disk: spoiledDisk(new NodeDisk(), first, 1000) });
    await expect(reading.find(0, 0, FOREVER, 1e9)).rejects.toThrow('INTERNAL');
    expect(damage).toHaveLength(1);
    const again = await open({ disk: spoiledDisk(new NodeDisk(), last, 0) });
    expect(again.covers(0, endOf(puts))).toBe(false);
  });

  test('an index with a gap in front of the snapshot begins anew there', async () => {
    const { open } = setup();
    const puts = makePuts(60);
    const index = await open();
    apply(index, puts.slice(0, 30));
    await index.flush(endOf(puts.slice(0, 30)));
    const again = await open();
    await again.truncateFrom(endOf(puts.slice(0, 40)));
    expect([again.startPosition, again.coveredPosition]).toEqual([endOf(puts.slice(0, 40)), endOf(puts.slice(0, 40))]);
    expect(again.covers(0, endOf(puts.slice(0, 40)))).toBe(false);
  });

  test('a log without messages is covered, too', async () => {
    const { open } = setup();
    await (await open()).flush(50_000);
    expect((await open()).covers(0, 50_000)).toBe(true);
  });

  test('a damaged item of a full file is reported, never followed', async () => {
    const { open, root, damage } = setup();
    const puts = makePuts(120, 1);
    const index = await open();
    apply(index, puts);
    await index.flush(endOf(puts));
    const first = join(root, readdirSync(root).sort()[0] as string);
    for (let field = 0; field < 24; field += 5) {
      const bytes = readFileSync(first);
      const at = 72 + 24 * 20 + field;
      bytes[at] = (bytes[at] as number) ^ 0x20;
      writeFileSync(first, bytes);
      await expect((await open()).find(0, 0, FOREVER, 1e9)).rejects.toThrow('INTERNAL');
      bytes[at] = (bytes[at] as number) ^ 0x20;
      writeFileSync(first, bytes);
    }
    expect(damage.length).toBe(5);
  });

  test('at start, items that were never synced are cut, a damaged synced one makes the index count as lost', async () => {
    const puts = makePuts(40, 3).map((p, i) => ({ ...p, position: 1000 + 100 * i }));
    for (const bad of [10, 30]) {
      const { open, root } = setup();
      const index = await open();
      apply(index, puts.slice(0, 20));
      await index.flush(endOf(puts.slice(0, 20)));
      await index.sync();
      apply(index, puts.slice(20));
      await index.flush(endOf(puts));
      const path = join(root, readdirSync(root)[0] as string);
      const bytes = readFileSync(path);
      bytes.fill(0, 72 + 24 * bad, 72 + 24 * (bad + 1));
      writeFileSync(path, bytes);
      const again = await open();
      const synced = endOf(puts.slice(0, 20));
      expect(again.covers(0, synced)).toBe(bad === 30);
      expect(again.covers(0, endOf(puts))).toBe(false);
      if (bad !== 30) continue;
      await again.truncateFrom(synced);
      apply(again, puts.slice(20));
      for (let hash = 0; hash < 3; hash++) expect(await again.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts, hash));
    }
  });

  test('slots are on stable storage before the header speaks of them', async () => {
    const { disk, directory } = tempDisk();
    const steps: string[] = [];
    const watched = hookedDisk(disk, (operation) => steps.push(operation));
    const index = await IndexFiles.open({
      disk: watched,
      directory: join(directory, 'index'),
      sizes: { slots: 8, capacity: 10 },
      onDamage: () => undefined,
    });
    const puts = makePuts(11);
    apply(index, puts);
    steps.length = 0;
    await index.flush((puts[10] as Put).position);
    // Items, slots, sync, header; then the header of the next file, whose item is not durable yet.
    expect(steps).toEqual(['open', 'file.write', 'file.write', 'file.sync', 'file.write', 'open', 'file.write']);
  });

  test('F34 files before the log start go, the rest is found', async () => {
    const { open, root } = setup();
    const puts = makePuts(230);
    const index = await open();
    apply(index, puts);
    await index.flush(endOf(puts));
    await index.cutBefore((puts[120] as Put).position);
    expect(readdirSync(root).length).toBe(3);
    const again = await open();
    expect(again.covers((puts[120] as Put).position, endOf(puts))).toBe(true);
    expect(again.covers(0, endOf(puts))).toBe(false);
    for (const store of [index, again]) {
      for (let hash = 0; hash < 20; hash++) expect(await store.find(hash, 0, FOREVER, 1e9)).toEqual(expected(puts.slice(100), hash));
    }
  });

  test('F30 every id of a batch leads to it', async () => {
    const { open } = setup();
    const index = await open({ sizes: { slots: 1000, capacity: 1000 } });
    const idHigh = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    let low = 50;
    for (let i = 0; i < 20; i++) {
      const count = 1 + 13 * i;
      const messages = Array.from({ length: count }, () => ({ body: new Uint8Array(1), bornTimeMs: 1 }));
      const { buffer } = encodeBatch(messages, { producerId: 1, producerEpoch: 0, firstSequence: low, idHigh, idLow: low }, 9);
      index.putMessageIds(buffer, 9, 1000 * (i + 1), 7);
      for (let id = low; id < low + count; id += 7) {
        expect(await index.findMessageId({ high: idHigh, low: id }, 10)).toContain(1000 * (i + 1));
      }
      low += count;
    }
    expect(await index.findMessageId({ high: Uint8Array.of(9, 2, 3, 4, 5, 6, 7, 8), low: 60 }, 10)).toEqual([]);
  });

  test('hashes are pinned: they are on disk', () => {
    const high = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    expect([messageIdHash(high, 0, 0), messageIdHash(high, 0, 1), messageIdHash(high, 0, 2 ** 40)]).toMatchInlineSnapshot(`
      [
        508675210,
        1151373313,
        598863147,
      ]
    `);
    expect([keyIndexHash(1, 0), keyIndexHash(1, 0xffff_ffff), keyIndexHash(2, 7)]).toMatchInlineSnapshot(`
      [
        301794027,
        616707340,
        2902783164,
      ]
    `);
  });

  test.each(['file.write', 'open'])('FAULTS 3 a full disk (%s) keeps the items in memory; the next flush writes them', async (failing) => {
    const { disk, directory } = tempDisk();
    let full = true;
    const fullDisk = hookedDisk(disk, (operation, path) => {
      if (full && operation === failing) throw new DiskError('ENOSPC', failing.replace('file.', ''), path);
    });
    const options = { disk: fullDisk, directory: join(directory, 'index'), onDamage: () => undefined };
    const index = await IndexFiles.open(options);
    const puts = makePuts(3);
    apply(index, puts);
    await expect(index.flush(5000)).rejects.toThrow('ENOSPC');
    // Nothing was written, so there is nothing to sync: not even a file.
    await index.sync();
    full = false;
    await index.flush(5000);
    await index.sync();
    await index.close();
    const again = await IndexFiles.open(options);
    expect(again.coveredPosition).toBe(5000);
    for (const { hash, position } of puts) {
      const found = await again.find(hash, 0, Number.MAX_SAFE_INTEGER, 10);
      expect(found).toContain(position);
    }
  });

  test("a failed write is the owner's to hear, and stays", async () => {
    const { disk, directory } = tempDisk();
    let failing = true;
    const failingDisk = hookedDisk(disk, (operation, path) => {
      if (failing && operation === 'file.write') throw new DiskError('EIO', 'write', path);
    });
    const index = await IndexFiles.open({ disk: failingDisk, directory: join(directory, 'index'), onDamage: () => undefined });
    apply(index, makePuts(3));
    await expect(index.flush(5000)).rejects.toThrow('EIO');
    failing = false;
    await expect(index.flush(5000)).rejects.toThrow('EIO');
  });
});
