import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LogCorrupt, LogRefused } from '../../src/log/errors.ts';
import { BLOCK_BYTES } from '../../src/log/layout.ts';
import {
  append,
  appendDurable,
  bodyOf,
  entriesOf,
  FIRST_SEGMENT,
  isGroupWrite,
  newDisk,
  openLog,
  seededRandom,
  type TestLog,
} from './support.ts';

const SECTOR_BYTES = 512;

/** Writes `durable` groups, then one disk write of `last` groups that a power failure cuts: only the sectors that `keeps` names arrive. */
async function tornWorld(durable: number, last: number, sizeBytes: number, keeps: (sector: number) => boolean) {
  const world = newDisk(11);
  const opened = await openLog(world);
  for (let i = 1; i <= durable; i++) await appendDurable(opened, i, sizeBytes);
  await settled(world);
  const threshold = opened.log.endPosition + (last > 1 ? BLOCK_BYTES : 0);
  const write = new Promise<void>((resolve) => {
    world.disk.fault = (operation) => {
      if (isGroupWrite(operation) && operation.position === threshold) resolve();
      return null;
    };
  });
  // The first group starts a write of its own; the others share the next one.
  if (last > 1) append(opened.log, 50, 100);
  if (last > 1) opened.log.closeGroup();
  for (let i = 1; i <= last; i++) {
    append(opened.log, 100 + i, sizeBytes);
    opened.log.closeGroup();
  }
  await write;
  let sector = 0;
  world.disk.crash(() => keeps(sector++));
  world.disk.fault = () => null;
  return { world, before: durable + (last > 1 ? 1 : 0), opened };
}

function settled(world: { clock: { setTimer(delayMs: number, callback: () => void): unknown } }): Promise<void> {
  return new Promise((resolve) => world.clock.setTimer(1000, resolve));
}

describe('recovery', () => {
  test('FAULTS 5 a last write torn at any sector is cut without a floor, or there whole', async () => {
    const sectors = (2 * BLOCK_BYTES) / SECTOR_BYTES;
    // 64 + 64 + 5000 bytes of data: 11 sectors, the rest is padding.
    for (let cut = 0; cut <= sectors; cut++) {
      const { world } = await tornWorld(3, 1, 5000, (sector) => sector < cut);
      const again = await openLog(world);
      const isWhole = cut >= 11;
      expect([cut, again.log.lastIndex, again.log.recovery.voteFloor]).toEqual([cut, isWhole ? 4 : 3, 0]);
      expect(again.log.recovery.tornBytes > 0).toBe(!isWhole && cut > 0);
      expect(await appendDurable(again, 9, 200, 2)).toBe(isWhole ? 5 : 4);
    }
  });

  test('FAULTS 5 any single sector missing from a last write of one group is a cut, never a floor', async () => {
    for (let missing = 0; missing < 11; missing++) {
      const { world } = await tornWorld(2, 1, 5000, (sector) => sector !== missing);
      const again = await openLog(world);
      expect([missing, again.log.lastIndex, again.log.recovery.voteFloor]).toEqual([missing, 2, 0]);
    }
  });

  test('FAULTS 5 a torn group with a whole one behind it in the same write: a floor, because nobody can tell', async () => {
    const { world, before } = await tornWorld(2, 3, 100, (sector) => sector !== 0);
    const again = await openLog(world);
    expect(again.log.lastIndex).toBe(before);
    expect(again.log.recovery.voteFloor).toBe(before + 3);
    // Kept until a leader writes over it, then gone whole.
    const third = await openLog(world);
    expect(third.log.recovery.voteFloor).toBe(before + 3);
    await appendDurable(third, 9, 100, 2);
    world.disk.crash();
    const fourth = await openLog(world);
    expect([fourth.log.lastIndex, fourth.log.recovery.voteFloor]).toEqual([before + 1, 0]);
  });

  test('FAULTS 5 damage in the last group without a missing sector is a floor, not a cut', async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 3; i++) await appendDurable(opened, i, 300, 1, 2);
    const position = opened.log.groupAt(5)?.position ?? 0;
    await opened.log.close();
    const at = position + 64 + 64 + 20;
    world.disk.poke(FIRST_SEGMENT, at, new Uint8Array([(world.disk.peek(FIRST_SEGMENT, at, 1)[0] as number) ^ 1]));
    const before = world.disk.dump();
    const again = await openLog(world);
    expect(again.log.lastIndex).toBe(4);
    expect(again.log.recovery.voteFloor).toBe(6);
    expect(world.disk.peek(FIRST_SEGMENT, position, BLOCK_BYTES)).toEqual(
      before.get(FIRST_SEGMENT)?.subarray(position, position + BLOCK_BYTES),
    );
  });

  test('FAULTS 5 every flipped byte of the log is found: refused as corrupt, or a floor in the last group; nothing is changed', {
    timeout: 30_000,
  }, async () => {
    const world = newDisk();
    const opened = await openLog(world);
    for (let i = 1; i <= 3; i++) await appendDurable(opened, i, 700, 1, 2);
    const end = opened.log.endPosition;
    const last = opened.log.groupAt(6)?.position ?? 0;
    await opened.log.close();
    const random = seededRandom(3);
    for (let at = 0; at < end; at += 1 + (random.u32() % 199)) {
      const old = world.disk.peek(FIRST_SEGMENT, at, 1);
      world.disk.poke(FIRST_SEGMENT, at, new Uint8Array([(old[0] as number) ^ (1 << (random.u32() % 8))]));
      const damaged = world.disk.peek(FIRST_SEGMENT, 0, end);
      const result = await openLog(world).catch((error: unknown) => error as Error);
      if (result instanceof Error) {
        expect(result, `byte ${at}`).toBeInstanceOf(LogRefused);
        expect(at).toBeLessThan(last);
      } else {
        expect(at).toBeGreaterThanOrEqual(last);
        expect([at, result.log.lastIndex, result.log.recovery.voteFloor > 0]).toEqual([at, 4, true]);
        await result.log.close();
      }
      expect(world.disk.peek(FIRST_SEGMENT, 0, end)).toEqual(damaged);
      world.disk.poke(FIRST_SEGMENT, at, old);
    }
  });

  test('FAULTS 5 a sector that went zero in the middle of the log, or a file that was cut, is corruption or a shortened log', async () => {
    const world = newDisk();
    const opened = await openLog(world, { hotTail: { chunkBytes: 8 * 1024 * 1024, maxChunks: 2 } });
    for (let i = 1; i <= 5; i++) await appendDurable(opened, i, 800_000 + i);
    const { position } = opened.log.groupAt(2) ?? { position: 0 };
    const end = opened.log.durablePosition;
    await opened.log.close();
    const old = world.disk.peek(FIRST_SEGMENT, position, SECTOR_BYTES);
    world.disk.poke(FIRST_SEGMENT, position, new Uint8Array(SECTOR_BYTES));
    await expect(openLog(world, { durableEndPosition: end })).rejects.toThrow(LogCorrupt);
    world.disk.poke(FIRST_SEGMENT, position, old);
    expect((await openLog(world, { durableEndPosition: end })).log.lastIndex).toBe(5);
  });

  test('F28 property: whatever the crash, every group reported durable is there with its bytes, and nothing false is', {
    timeout: 60_000,
  }, async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant('append' as const),
          sizes: fc.array(fc.integer({ min: 4, max: 20_000 }), { minLength: 1, maxLength: 4 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('big' as const), size: fc.integer({ min: 500_000, max: 2_000_000 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), back: fc.integer({ min: 0, max: 5 }) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), turns: fc.integer({ min: 0, max: 12 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const), kill: fc.boolean() }) },
    );
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.array(step, { minLength: 3, maxLength: 40 }),
      async (seed, steps) => {
        const world = newDisk(seed);
        let test: TestLog = await openLog(world);
        /** Bodies by index, as the log should have them. */
        let model: { term: number; size: number; seed: number }[] = [];
        let durable = 0;
        let term = 1;
        let next = 1;
        const put = (size: number): void => {
          if (append(test.log, next, size, term) === 'full') return;
          model.push({ term, size, seed: next++ });
        };
        for (const action of [...steps, { kind: 'crash' as const, kill: false }]) {
          if (action.kind === 'append') for (const size of action.sizes) put(size);
          else if (action.kind === 'big') put(action.size);
          if (action.kind === 'append' || action.kind === 'big') test.log.closeGroup();
          if (action.kind === 'wait')
            for (let i = 0; i < action.turns; i++) await new Promise<void>((resolve) => world.clock.setTimer(0, resolve));
          if (action.kind === 'truncate') {
            const from = Math.max(1, test.log.lastIndex - action.back);
            const group = test.log.groupAt(from);
            if (group === null) continue;
            // While it is under way, either log may come back; a crash there is the next test's.
            await test.log.truncateFrom(group.firstIndex);
            model = model.slice(0, group.firstIndex - 1);
            term++;
          }
          durable = test.log.durableIndex;
          if (action.kind !== 'crash') continue;
          if (action.kill) world.disk.kill();
          else world.disk.crash();
          test = await openLog(world);
          expect(test.log.lastIndex).toBeGreaterThanOrEqual(durable);
          expect(test.log.lastIndex).toBeLessThanOrEqual(model.length);
          model = model.slice(0, test.log.lastIndex);
          const entries = await entriesOf(test.log);
          expect(entries.length).toBe(model.length);
          entries.forEach((entry, i) => {
            const expected = model[i] as (typeof model)[number];
            expect(entry.term).toBe(expected.term);
            expect(Buffer.compare(entry.body, bodyOf(expected.seed, expected.size).body)).toBe(0);
          });
          term = Math.max(term, test.log.lastTerm) + 1;
        }
      },
    );
    await fc.assert(property, { numRuns: 40, seed: 7 });
  });

  test('a crash at every step of a truncation leaves the old log, the cut one, or a whole prefix with a floor at most', async () => {
    for (let stepsLeft = 0; stepsLeft < 14; stepsLeft++) {
      const world = newDisk(stepsLeft + 20);
      const opened = await openLog(world);
      for (let i = 1; i <= 8; i++) await appendDurable(opened, i, 400_000);
      await settled(world);
      const truncated = opened.log.truncateFrom(3);
      truncated.catch(() => undefined);
      append(opened.log, 99, 100, 2);
      opened.log.closeGroup();
      for (let i = 0; i < stepsLeft; i++) await new Promise<void>((resolve) => world.clock.setTimer(0, resolve));
      world.disk.crash();
      const again = await openLog(world);
      const entries = await entriesOf(again.log);
      expect(entries.length).toBeGreaterThanOrEqual(2);
      entries.forEach((entry, i) => {
        const isNew = entry.term === 2;
        expect(Buffer.compare(entry.body, isNew ? bodyOf(99, 100).body : bodyOf(i + 1, 400_000).body)).toBe(0);
        expect(isNew).toBe(isNew && i === 2);
      });
      await appendDurable(again, 1000, 100, 3);
    }
  });
});
