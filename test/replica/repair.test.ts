import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { LogCorrupt } from '../../src/log/errors.ts';
import { answerGroups, LogRepair, type RepairView } from '../../src/replica/repair.ts';
import { RepairStatus } from '../../src/replica/repair-frames.ts';
import { appendDurable, DIRECTORY, newDisk, openLog, SMALL_SEGMENT_BYTES } from '../log/support.ts';

const GROUPS = 36;
const GROUP_BODY_BYTES = 300_000;

/** The same log on every replica: the same appends give the same bytes. */
async function replica(groups = GROUPS) {
  const world = newDisk(5);
  const opened = await openLog(world);
  for (let i = 1; i <= groups; i++) await appendDurable(opened, i, GROUP_BODY_BYTES + i);
  const { log } = opened;
  const view: RepairView = {
    verifier: log.verifier,
    committedIndex: () => log.durableIndex,
    lastIndex: () => log.durableIndex,
    givenIndex: () => log.durableIndex,
    isRunning: false,
  };
  return { ...world, log, view };
}
type TestReplica = Awaited<ReturnType<typeof replica>>;

const pathOf = (position: number): string => {
  const base = position - (position % SMALL_SEGMENT_BYTES);
  return `${DIRECTORY}/${String(base).padStart(20, '0')}`;
};

async function change(at: TestReplica, position: number, sizeBytes: number, work: (bytes: Uint8Array) => void): Promise<void> {
  const file = await at.disk.open(pathOf(position), { access: 'readwrite' });
  const bytes = new Uint8Array(sizeBytes);
  await file.read(bytes, position % SMALL_SEGMENT_BYTES);
  work(bytes);
  await file.write(bytes, position % SMALL_SEGMENT_BYTES);
  await file.sync();
  await file.close();
}

/** Up to the end of the log: what is zeroed ahead depends on the moment. */
const bytesOf = (at: TestReplica): Uint8Array[] => {
  const count = Math.ceil(at.log.endPosition / SMALL_SEGMENT_BYTES);
  return Array.from({ length: count }, (_, n) => {
    const base = n * SMALL_SEGMENT_BYTES;
    return at.disk.peek(pathOf(base)).subarray(0, at.log.endPosition - base);
  });
};
/** Virtual seconds pass while the event loop turns. */
async function seconds(at: TestReplica, count: number): Promise<void> {
  for (let i = 0; i < count * 10; i++) await new Promise<void>((resolve) => void at.clock.setTimer(100, resolve));
}
const same = (one: TestReplica, other: TestReplica): boolean =>
  bytesOf(one).every((bytes, i) => Buffer.compare(bytes, bytesOf(other)[i] as Uint8Array) === 0);

function repairOf(own: TestReplica, peers: readonly TestReplica[], silent = 0) {
  const events: string[] = [];
  const repair = new LogRepair({
    clock: own.clock,
    peers: {
      reachable: peers.map((_, i) => i + 2),
      ask: async (peer, _kind, index, endPosition) => {
        const answer = await answerGroups((peers[peer - 2] as TestReplica).view, index, endPosition, () => undefined);
        return { id: 1, status: answer.status, a: answer.a ?? 0, b: 0, bytes: answer.bytes ?? new Uint8Array(0) };
      },
    },
    others: () => [...peers.map((_, i) => i + 2), ...Array.from({ length: silent }, (_, i) => 100 + i)],
    bytesPerSecond: 1e12,
    onEvent: (name) => events.push(name),
  });
  return { repair, events };
}

/** Where group `number` (from 0) lies, and its size. */
function placeOf(at: TestReplica, number: number): { position: number; sizeBytes: number } {
  const meta = at.log.groupAt(number + 1);
  if (meta === null) throw new Error(`no group ${number}`);
  return meta;
}

describe('repair of the log', () => {
  test('FAULTS 5 property: bits flipped anywhere in committed segments of three replicas, one good copy of each group kept: all become what they were', async () => {
    const good = await replica();
    const damages = fc.array(
      fc.record({
        group: fc.nat(GROUPS - 1),
        at: fc.double({ min: 0, max: 0.999, noNaN: true }),
        spared: fc.nat(2),
        kind: fc.constantFrom('flip' as const, 'zero' as const, 'elsewhere' as const),
      }),
      { minLength: 1, maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(damages, async (list) => {
        const all = await Promise.all([replica(), replica(), replica()]);
        const spared = new Map<number, number>();
        for (const { group, at, spared: wanted, kind } of list) {
          const keeper = spared.get(group) ?? wanted;
          spared.set(group, keeper);
          const { position, sizeBytes } = placeOf(good, group);
          const offset = Math.floor(at * sizeBytes);
          for (const [i, one] of all.entries()) {
            if (i === keeper) continue;
            if (kind === 'flip') await change(one, position + offset, 1, (bytes) => bytes.fill((bytes[0] as number) ^ (1 << (offset % 8))));
            else if (kind === 'zero') await change(one, position, sizeBytes, (bytes) => bytes.fill(0));
            else {
              const other = placeOf(good, (group + 1) % GROUPS);
              const from = good.disk.peek(pathOf(other.position)).slice(other.position % SMALL_SEGMENT_BYTES);
              await change(one, position, sizeBytes, (bytes) => bytes.set(from.subarray(0, sizeBytes)));
            }
          }
        }
        // By turns, again and again: what one mends helps the next.
        for (let round = 0; round < 4 && !all.every((one) => same(one, good)); round++) {
          for (const one of all) {
            const { repair } = repairOf(
              one,
              all.filter((other) => other !== one),
            );
            await repair.mend(one.view, one.log.verifier.startCursor(), one.log.endPosition - 1);
          }
        }
        expect(all.map((one) => same(one, good))).toEqual([true, true, true]);
      }),
      { numRuns: 8, seed: 7 },
    );
  }, 60_000);

  test('FAULTS 5 a group that is damaged on all replicas: the replica stops, and writes nothing', async () => {
    const [own, two, three] = await Promise.all([replica(8), replica(8), replica(8)]);
    const { position } = placeOf(own, 3);
    for (const one of [own, two, three]) await change(one, position + 5000, 1, (bytes) => bytes.fill(~(bytes[0] as number)));
    const before = bytesOf(own).map((bytes) => bytes.slice());
    const { repair } = repairOf(own, [two, three]);
    const failure = repair.mend(own.view, own.log.verifier.startCursor(), own.log.endPosition - 1);
    await expect(failure).rejects.toMatchObject({ name: 'LogCorrupt', position } satisfies Partial<LogCorrupt>);
    expect(bytesOf(own).map((bytes, i) => Buffer.compare(bytes, before[i] as Uint8Array))).toEqual([0]);
  });

  test('FAULTS 5 while a replica is not heard, one may have a good copy: repair waits for it and does not stop', async () => {
    const [own, two] = await Promise.all([replica(8), replica(8)]);
    const { position } = placeOf(own, 3);
    for (const one of [own, two]) await change(one, position + 5000, 1, (bytes) => bytes.fill(~(bytes[0] as number)));
    const { repair, events } = repairOf(own, [two], 1);
    let ended = false;
    const work = repair.mend(own.view, own.log.verifier.startCursor(), own.log.endPosition - 1).finally(() => {
      ended = true;
    });
    work.catch(() => undefined);
    await seconds(own, 60);
    expect(ended).toBe(false);
    expect(events).toContain('repair waits for a good copy');
    repair.stop();
    await expect(work).rejects.toThrow('stopped');
  });

  test('a peer that gives other bytes, whole in themselves, is not believed: the chain does not go on', async () => {
    const own = await replica(8);
    const other = newDisk(6);
    const forked = await openLog(other);
    for (let i = 1; i <= 8; i++) await appendDurable(forked, i + (i >= 3 ? 100 : 0), GROUP_BODY_BYTES + i);
    const { log } = forked;
    const view: RepairView = { verifier: log.verifier, committedIndex: () => 8, lastIndex: () => 8, givenIndex: () => 8, isRunning: false };
    const { position } = placeOf(own, 5);
    await change(own, position + 5000, 1, (bytes) => bytes.fill(~(bytes[0] as number)));
    const before = bytesOf(own).map((bytes) => bytes.slice());
    const { repair } = repairOf(own, [{ ...other, log, view }]);
    await expect(repair.mend(own.view, own.log.verifier.startCursor(), own.log.endPosition - 1)).rejects.toMatchObject({
      name: 'LogCorrupt',
    });
    expect(bytesOf(own).map((bytes, i) => Buffer.compare(bytes, before[i] as Uint8Array))).toEqual([0]);
  });

  test('bytes that nobody knows to be committed are taken only when what stands behind them here goes on from them', async () => {
    const [own, peer] = await Promise.all([replica(8), replica(8)]);
    const unknown = { ...peer, view: { ...peer.view, committedIndex: () => 0 } };
    const all = (): number => Number.MAX_SAFE_INTEGER;
    const recovering: RepairView = {
      verifier: own.log.verifier,
      committedIndex: () => 0,
      lastIndex: all,
      givenIndex: all,
      isRunning: false,
    };
    const inside = placeOf(own, 3);
    await change(own, inside.position + 5000, 1, (bytes) => bytes.fill(~(bytes[0] as number)));
    await repairOf(own, [unknown]).repair.mend(recovering, own.log.verifier.startCursor(), inside.position);
    expect(same(own, peer)).toBe(true);

    const last = placeOf(own, 7);
    await change(own, last.position + 5000, 1, (bytes) => bytes.fill(~(bytes[0] as number)));
    const { repair } = repairOf(own, [unknown], 1);
    const work = repair.mend(recovering, own.log.verifier.startCursor(), last.position);
    work.catch(() => undefined);
    await seconds(own, 5);
    expect(same(own, peer)).toBe(false);
    repair.stop();
    await expect(work).rejects.toThrow('stopped');
  });

  test('a peer answers with what is whole: damaged and missing are told apart', async () => {
    const at = await replica(4);
    const { position } = placeOf(at, 1);
    await change(at, position + 5000, 1, (bytes) => bytes.fill(~(bytes[0] as number)));
    const found: number[] = [];
    const ask = (index: number, endPosition: number) => answerGroups(at.view, index, endPosition, (where) => found.push(where));
    expect(await ask(2, position)).toMatchObject({ status: RepairStatus.damaged });
    expect(found).toEqual([position]);
    expect(await ask(5, at.log.endPosition)).toMatchObject({ status: RepairStatus.missing, a: 4 });
    const whole = await ask(1, 4096);
    expect(whole).toMatchObject({ status: RepairStatus.ok, a: 4 });
    expect(whole.bytes?.length).toBe(position - 4096);
  });
});
