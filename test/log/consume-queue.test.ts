import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DiskError } from '../../src/io/disk.ts';
import { NodeDisk } from '../../src/io/node/disk.ts';
import { CONSUME_QUEUE_UNIT_BYTES, type ConsumeQueue, UnitBatch } from '../../src/log/consume-queue-types.ts';
import { ConsumeQueues, type ConsumeQueuesOptions } from '../../src/log/consume-queues.ts';
import { hookedDisk, spoiledDisk, tempDisk } from '../support/temp-disk.ts';

const TOPIC = 'orders';
const UNIT = CONSUME_QUEUE_UNIT_BYTES;

/** A log of batches: entry i of queue q. Positions are dense, so that a cut can be at every entry. */
interface Entry {
  readonly queueId: number;
  readonly baseOffset: number;
  readonly position: number;
  readonly logTimeMs: number;
  readonly sizeBytes: number;
  readonly count: number;
  readonly tagBloom: number;
}

function makeLog(entries: number, queues = 1, seed = 7): Entry[] {
  const next = new Array<number>(queues).fill(0);
  let position = 4096;
  let state = seed;
  return Array.from({ length: entries }, (_, i) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 1;
    const queueId = state % queues;
    const count = 1 + (state % 5);
    const entry = {
      queueId,
      baseOffset: next[queueId] as number,
      position,
      logTimeMs: 1_000_000 + 10 * Math.floor(i / 3),
      sizeBytes: 200 + (state % 100),
      count,
      tagBloom: state >>> 3,
    };
    next[queueId] = (next[queueId] as number) + count;
    position += entry.sizeBytes;
    return entry;
  });
}

const endOf = (log: readonly Entry[]): number => {
  const last = log.at(-1);
  return last === undefined ? 0 : last.position + last.sizeBytes;
};

function apply(queues: ConsumeQueues, log: readonly Entry[], topicId = 1): void {
  for (const e of log) {
    queues.queue(TOPIC, topicId, e.queueId).append(e.baseOffset, e.position, e.logTimeMs, e.sizeBytes, e.count, e.tagBloom);
  }
}

/** Everything from `fromOffset` on, read in small steps. */
async function readAll(queue: ConsumeQueue, fromOffset = 0, step = 7): Promise<Entry[]> {
  const units = new UnitBatch(step);
  const all: Entry[] = [];
  for (let offset = fromOffset; ; ) {
    const read = await queue.readUnits(offset, step, units);
    if (read === 0) return all;
    expect(read).toBe(units.length);
    for (let i = 0; i < read; i++) {
      all.push({
        queueId: queue.queueId,
        baseOffset: units.baseOffset[i] as number,
        position: units.position[i] as number,
        logTimeMs: units.logTimeMs[i] as number,
        sizeBytes: units.sizeBytes[i] as number,
        count: units.count[i] as number,
        tagBloom: units.tagBloom[i] as number,
      });
      offset = (units.baseOffset[i] as number) + (units.count[i] as number);
    }
  }
}

function setup(more: Partial<ConsumeQueuesOptions> = {}): {
  open: (again?: Partial<ConsumeQueuesOptions>) => Promise<ConsumeQueues>;
  root: string;
  damage: string[];
} {
  const { disk, directory } = tempDisk();
  const root = join(directory, 'consumequeue');
  const damage: string[] = [];
  const options: ConsumeQueuesOptions = {
    disk,
    directory: root,
    unitsPerFile: 64,
    hotUnits: 16,
    maxOpenFiles: 3,
    onDamage: (topic, queueId) => damage.push(`${topic}/${queueId}`),
    ...more,
  };
  return { open: (again = {}) => ConsumeQueues.open({ ...options, ...again }), root, damage };
}

describe('F29 ConsumeQueue', () => {
  test('F29 cold and hot reading give the same units, from every offset', async () => {
    const { open } = setup();
    const log = makeLog(300);
    const hot = await open({ hotUnits: 1000 });
    apply(hot, log);
    await hot.flush(endOf(log));
    const cold = await open();
    const queue = cold.queue(TOPIC, 1, 0);
    expect(queue.nextOffset).toBe(hot.queue(TOPIC, 1, 0).nextOffset);
    expect(await readAll(hot.queue(TOPIC, 1, 0))).toEqual(log);
    expect(await readAll(queue)).toEqual(log);
    const units = new UnitBatch(1);
    for (let offset = 0; offset < queue.nextOffset; offset++) {
      const holder = log.findLast((e) => e.baseOffset <= offset) as Entry;
      expect(await queue.readUnits(offset, 1, units)).toBe(1);
      expect(units.baseOffset[0]).toBe(holder.baseOffset);
      // Recent units need no promise: a pull is answered within the turn.
      expect(hot.queue(TOPIC, 1, 0).readUnits(offset, 1, units)).toBe(1);
      expect(units.baseOffset[0]).toBe(holder.baseOffset);
    }
    expect(await queue.readUnits(queue.nextOffset, 1, units)).toBe(0);
  });

  test('F29 crash, cut and replay give the units of a queue that never fell', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 250 }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })), {
          minLength: 1,
          maxLength: 4,
        }),
        fc.nat(),
        async (entries, queueCount, crashes, seed) => {
          const { open, damage } = setup();
          const log = makeLog(entries, queueCount, seed);
          let applied = 0;
          let store = await open();
          for (const [applyTo, cutAt] of crashes) {
            // Apply further, flush what is durable, crash (memory is gone), restore an older snapshot, replay.
            const to = Math.max(applied, Math.floor(applyTo * entries));
            apply(store, log.slice(applied, to));
            await store.flush(endOf(log.slice(0, to)) - 50);
            const flushedTo = Math.max(to - 1, 0);
            const snapshot = Math.floor(cutAt * flushedTo);
            store = await open();
            await store.truncateFrom(snapshot === 0 ? 0 : endOf(log.slice(0, snapshot)));
            for (let queueId = 0; queueId < queueCount; queueId++) {
              const last = log.slice(0, snapshot).findLast((e) => e.queueId === queueId);
              const nextOffset = last === undefined ? 0 : last.baseOffset + last.count;
              expect(store.queue(TOPIC, 1, queueId).restore(0, nextOffset)).toBe(true);
            }
            applied = snapshot;
          }
          apply(store, log.slice(applied));
          for (let queueId = 0; queueId < queueCount; queueId++) {
            expect(await readAll(store.queue(TOPIC, 1, queueId))).toEqual(log.filter((e) => e.queueId === queueId));
          }
          expect(damage).toEqual([]);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('F29 nothing is written past the durable end', async () => {
    const { open } = setup();
    const log = makeLog(10);
    const store = await open();
    apply(store, log);
    await store.flush((log[4] as Entry).position + (log[4] as Entry).sizeBytes - 1);
    expect(store.unflushedUnits).toBe(6);
    expect(await readAll((await open()).queue(TOPIC, 1, 0))).toEqual(log.slice(0, 4));
    await store.flush(endOf(log));
    expect(store.unflushedUnits).toBe(0);
    expect(await readAll((await open()).queue(TOPIC, 1, 0))).toEqual(log);
  });

  test('F29 files that are missing are rebuilt by replay, and restore() says that they are', async () => {
    const { open, root } = setup();
    const log = makeLog(100);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    rmSync(root, { recursive: true });
    const lost = await open();
    const end = log.at(-1) as Entry;
    expect(lost.queue(TOPIC, 1, 0).restore(0, end.baseOffset + end.count)).toBe(false);
    await lost.truncateFrom(0);
    expect(lost.queue(TOPIC, 1, 0).restore(0, 0)).toBe(true);
    apply(lost, log);
    expect(await readAll(lost.queue(TOPIC, 1, 0))).toEqual(log);
  });

  test.each(['first', 'middle', 'last'])('F29 a lost %s file is noticed', async (which) => {
    const { open, root } = setup();
    const log = makeLog(200);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const files = readdirSync(join(root, TOPIC, '0')).sort();
    expect(files).toEqual([0, 1, 2, 3].map((i) => String(i * 64 * UNIT).padStart(20, '0')));
    rmSync(join(root, TOPIC, '0', files[which === 'first' ? 0 : which === 'middle' ? 1 : 3] as string));
    const end = log.at(-1) as Entry;
    expect((await open()).queue(TOPIC, 1, 0).restore(0, end.baseOffset + end.count)).toBe(false);
  });

  test('F29 a torn last unit is as good as none', async () => {
    const { open, root } = setup();
    const log = makeLog(10);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    truncateSync(join(root, TOPIC, '0', '0'.repeat(20)), UNIT * 11 - 3);
    const again = await open();
    expect(await readAll(again.queue(TOPIC, 1, 0))).toEqual(log.slice(0, 9));
    apply(again, log.slice(9));
    await again.flush(endOf(log));
    expect(await readAll((await open()).queue(TOPIC, 1, 0))).toEqual(log);
  });

  test('F29 a damaged unit is reported and never served', async () => {
    for (let field = 0; field < UNIT; field += 3) {
      const { open, root, damage } = setup();
      const log = makeLog(90);
      const store = await open();
      apply(store, log);
      await store.flush(endOf(log));
      // Not in the newest file, which is checked at start.
      const path = join(root, TOPIC, '0', '0'.repeat(20));
      const bytes = readFileSync(path);
      bytes[11 * UNIT + field] = (bytes[11 * UNIT + field] as number) ^ 0x10;
      writeFileSync(path, bytes);
      const again = await open();
      await expect(readAll(again.queue(TOPIC, 1, 0))).rejects.toThrow('INTERNAL');
      expect(damage).toEqual([`${TOPIC}/0`]);
    }
  });

  test('FAULTS 6 a sector that cannot be read is damage like any other: the queue is built anew', async () => {
    const { open, root, damage } = setup();
    const log = makeLog(200);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const names = readdirSync(join(root, TOPIC, '0')).sort();
    const oldest = join(root, TOPIC, '0', names[0] as string);
    const newest = join(root, TOPIC, '0', names.at(-1) as string);
    // Not looked at when it starts.
    const reading = await open({ disk: spoiledDisk(new NodeDisk(), oldest, 30 * UNIT) });
    await expect(readAll(reading.queue(TOPIC, 1, 0))).rejects.toThrow('INTERNAL');
    expect(damage).toEqual([`${TOPIC}/0`]);
    const end = store.queue(TOPIC, 1, 0).nextOffset;
    const cut = await open({ disk: spoiledDisk(new NodeDisk(), newest, 3 * UNIT) });
    expect(cut.queue(TOPIC, 1, 0).restore(0, end)).toBe(false);
  });

  test('F29 units lost by a crash of the machine are cut at start, and replayed', async () => {
    const { open, root } = setup();
    const log = makeLog(30);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const path = join(root, TOPIC, '0', '0'.repeat(20));
    const bytes = readFileSync(path);
    bytes.fill(0, 21 * UNIT, 24 * UNIT);
    writeFileSync(path, bytes);
    const again = await open();
    expect(await readAll(again.queue(TOPIC, 1, 0))).toEqual(log.slice(0, 20));
    const end = log[15] as Entry;
    await again.truncateFrom(end.position + end.sizeBytes);
    expect(again.queue(TOPIC, 1, 0).restore(0, end.baseOffset + end.count)).toBe(true);
    apply(again, log.slice(16));
    await again.flush(endOf(log));
    expect(await readAll((await open()).queue(TOPIC, 1, 0))).toEqual(log);
  });

  test('a damaged file header makes the queue count as lost', async () => {
    const { open, root } = setup();
    const log = makeLog(5);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const path = join(root, TOPIC, '0', '0'.repeat(20));
    const bytes = readFileSync(path);
    bytes[9] = 77;
    writeFileSync(path, bytes);
    const again = await open();
    expect(existsSync(path)).toBe(false);
    expect(again.queue(TOPIC, 1, 0).restore(0, 3)).toBe(false);
  });

  test('units of a deleted and re-created topic are not those of the new one', async () => {
    const { open } = setup();
    const log = makeLog(40);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const again = await open();
    expect(again.queue(TOPIC, 2, 0).nextOffset).toBe(0);
    apply(again, log.slice(0, 3), 2);
    await again.flush(endOf(log));
    const third = await open();
    expect(await readAll(third.queue(TOPIC, 2, 0))).toEqual(log.slice(0, 3));
    // In one life: deleted, created again under the same name while the removal is still to be done.
    const old = third.queue(TOPIC, 2, 0);
    third.removeTopic(TOPIC);
    expect(await readAll(old)).toEqual([]);
    apply(third, log.slice(0, 5), 3);
    await third.flush(endOf(log));
    expect(await readAll((await open()).queue(TOPIC, 3, 0))).toEqual(log.slice(0, 5));
  });

  test('queues that the state does not have are removed', async () => {
    const { open, root } = setup();
    const log = makeLog(40, 3);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const again = await open();
    again.queue(TOPIC, 1, 1);
    await again.dropUnclaimed();
    expect(readdirSync(join(root, TOPIC))).toEqual(['1']);
    const third = await open();
    await third.dropUnclaimed();
    expect(readdirSync(root)).toEqual([]);
  });

  test('a queue of which nothing is retained goes on at its offset', async () => {
    const { open } = setup();
    const log = makeLog(40);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    const again = await open();
    const queue = again.queue(TOPIC, 1, 0);
    expect(queue.restore(500, 500)).toBe(true);
    expect(queue.nextOffset).toBe(500);
    queue.append(500, endOf(log), 2_000_000, 100, 4, 0);
    expect((await readAll(queue, 0)).map((e) => e.baseOffset)).toEqual([500]);
    await again.flush(endOf(log) + 100);
    expect((await readAll((await open()).queue(TOPIC, 1, 0))).map((e) => e.baseOffset)).toEqual([500]);
  });

  test('append refuses a gap, a repetition and a step back in the log', async () => {
    const { open } = setup();
    const queue = (await open()).queue(TOPIC, 1, 0);
    queue.append(0, 100, 1, 50, 3, 0);
    expect(() => queue.append(4, 200, 1, 50, 1, 0)).toThrow('not 3');
    expect(() => queue.append(0, 200, 1, 50, 1, 0)).toThrow('not 3');
    expect(() => queue.append(3, 100, 1, 50, 1, 0)).toThrow('follow the log');
  });

  test('F34 whole files before the log start go; the rest is served', async () => {
    const { open, root } = setup();
    const log = makeLog(300);
    const store = await open();
    apply(store, log);
    await store.flush(endOf(log));
    await store.cutBefore((log[200] as Entry).position);
    expect(readdirSync(join(root, TOPIC, '0')).length).toBe(2);
    const again = await open();
    const queue = again.queue(TOPIC, 1, 0);
    const min = (log[200] as Entry).baseOffset;
    const end = log.at(-1) as Entry;
    expect(queue.restore(min, end.baseOffset + end.count)).toBe(true);
    expect(await readAll(queue, min)).toEqual(log.slice(200));
    // Below the first unit that is left, reading starts with that one.
    expect((await readAll(queue, 0))[0]).toEqual(log[192]);
    expect(await readAll(store.queue(TOPIC, 1, 0), min)).toEqual(log.slice(200));
  });

  test('F29 first offset at a time, hot and cold', async () => {
    const { open } = setup();
    const log = makeLog(260);
    const hot = await open({ hotUnits: 1000 });
    apply(hot, log);
    await hot.flush(endOf(log));
    const cold = await open();
    apply(cold, []);
    for (const store of [hot, cold]) {
      const queue = store.queue(TOPIC, 1, 0);
      for (let timeMs = 999_990; timeMs <= 1_000_900; timeMs += 5) {
        const expected = log.find((e) => e.logTimeMs >= timeMs)?.baseOffset ?? queue.nextOffset;
        expect(await queue.offsetAtTime(timeMs)).toBe(expected);
      }
      queue.minOffset = 30;
      expect(await queue.offsetAtTime(0)).toBe(30);
    }
  });

  test('reading goes on while units are appended, flushed and evicted', async () => {
    const { open } = setup({ hotUnits: 16 });
    const log = makeLog(600);
    const store = await open();
    const queue = store.queue(TOPIC, 1, 0);
    const seen: Entry[] = [];
    const units = new UnitBatch(5);
    let offset = 0;
    for (let i = 0; i < log.length; i += 3) {
      apply(store, log.slice(i, i + 3));
      const flushed = store.flush(endOf(log.slice(0, i)));
      const read = await queue.readUnits(offset, 5, units);
      for (let row = 0; row < read; row++) {
        const entry = log.find((e) => e.baseOffset === units.baseOffset[row]) as Entry;
        seen.push(entry);
        expect(units.position[row]).toBe(entry.position);
        offset = entry.baseOffset + entry.count;
      }
      await flushed;
    }
    seen.push(...(await readAll(queue, offset)));
    expect(seen).toEqual(log);
  });

  test.each(['file.write', 'open', 'mkdir'])(
    'FAULTS 3 a full disk (%s) keeps the units in memory; the next flush writes them',
    async (failing) => {
      const { disk, directory } = tempDisk();
      let full = false;
      const fullDisk = hookedDisk(disk, (operation, path) => {
        if (full && operation === failing) throw new DiskError('ENOSPC', failing.replace('file.', ''), path);
      });
      const options = { disk: fullDisk, directory: join(directory, 'consumequeue'), onDamage: () => undefined };
      const store = await ConsumeQueues.open(options);
      const log = makeLog(5);
      apply(store, log);
      full = true;
      await expect(store.flush(endOf(log))).rejects.toThrow('ENOSPC');
      expect(await readAll(store.queue(TOPIC, 1, 0))).toEqual(log);
      await store.sync();
      full = false;
      await store.flush(endOf(log));
      await store.sync();
      await store.close();
      const again = await ConsumeQueues.open(options);
      expect(await readAll(again.queue(TOPIC, 1, 0))).toEqual(log);
    },
  );

  test("a failed write is the owner's to hear, and stays", async () => {
    const { disk, directory } = tempDisk();
    let failing = true;
    const failingDisk = hookedDisk(disk, (operation, path) => {
      if (failing && operation === 'file.write') throw new DiskError('EIO', 'write', path);
    });
    const store = await ConsumeQueues.open({ disk: failingDisk, directory: join(directory, 'consumequeue'), onDamage: () => undefined });
    const log = makeLog(5);
    apply(store, log);
    await expect(store.flush(endOf(log))).rejects.toThrow('EIO');
    failing = false;
    await expect(store.flush(endOf(log))).rejects.toThrow('EIO');
    expect(await readAll(store.queue(TOPIC, 1, 0))).toEqual(log);
  });

  test('sync() syncs each written file and its directory once', async () => {
    const { disk, directory } = tempDisk();
    const synced: string[] = [];
    const watched = hookedDisk(disk, (operation, path) => {
      if (operation === 'file.sync' || operation === 'syncDirectory') synced.push(`${operation} ${path.slice(path.indexOf(TOPIC))}`);
    });
    const store = await ConsumeQueues.open({ disk: watched, directory: join(directory, 'consumequeue'), onDamage: () => undefined });
    const log = makeLog(5);
    apply(store, log);
    await store.flush(endOf(log));
    expect(synced).toEqual([]);
    await store.sync();
    expect(synced).toEqual([`file.sync ${TOPIC}/0/${'0'.repeat(20)}`, `syncDirectory ${TOPIC}/0`]);
    await store.sync();
    expect(synced.length).toBe(2);
    await store.close();
  });
});
