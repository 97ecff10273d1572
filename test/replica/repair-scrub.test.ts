import { describe, expect, test } from 'vitest';
import { answerGroups, LogRepair, type RepairView } from '../../src/replica/repair.ts';
import { RepairKind, RepairStatus } from '../../src/replica/repair-frames.ts';
import type { OwnAnswer } from '../../src/replica/repair-peers.ts';
import { Scrub } from '../../src/replica/scrub.ts';
import { answerHash, SliceComparer } from '../../src/replica/slice-comparer.ts';
import { appendDurable, DIRECTORY, newDisk, openLog, SMALL_SEGMENT_BYTES } from '../log/support.ts';

const GROUPS = 20;
const BODY_BYTES = 500_000;

/** @param forkedFrom from this group on other bytes than those of the others, whole in themselves; 0 = none */
async function replica(forkedFrom = 0) {
  const world = newDisk(5);
  const opened = await openLog(world);
  for (let i = 1; i <= GROUPS; i++) await appendDurable(opened, forkedFrom > 0 && i >= forkedFrom ? 1000 + i : i, BODY_BYTES);
  const { log } = opened;
  const view: RepairView = {
    verifier: log.verifier,
    committedIndex: () => GROUPS,
    lastIndex: () => GROUPS,
    givenIndex: () => GROUPS,
    isRunning: true,
  };
  return { ...world, log, view };
}
type TestReplica = Awaited<ReturnType<typeof replica>>;

function scrubOf(own: TestReplica, peer: TestReplica) {
  const events: [string, Record<string, string | number>][] = [];
  const onEvent = (name: string, fields: Record<string, string | number>): void => void events.push([name, fields]);
  const peers = {
    reachable: [2],
    ask: async (_peer: number, kind: RepairKind, a: number, b: number) => {
      const answer: OwnAnswer =
        kind === RepairKind.hash ? await answerHash(peer.log, a, b, GROUPS) : await answerGroups(peer.view, a, b, () => undefined);
      return { id: 1, status: answer.status, a: answer.a ?? 0, b: answer.b ?? 0, bytes: answer.bytes ?? new Uint8Array(0) };
    },
  };
  const repair = new LogRepair({ clock: own.clock, peers, others: () => [2], bytesPerSecond: 1e12, onEvent });
  const comparer = new SliceComparer({ log: own.log, peers, onEvent });
  let passed = (): void => undefined;
  const pass = new Promise<void>((resolve) => {
    passed = resolve;
  });
  const failures: unknown[] = [];
  const scrub = new Scrub({
    clock: own.clock,
    log: own.log,
    bytesPerSecond: 1024 * 1024,
    comparer,
    lastIndex: () => GROUPS,
    mend: (cursor) => repair.mend(own.view, cursor, cursor.endPosition),
    passed: async () => passed(),
    failed: (error) => failures.push(error),
  });
  return { scrub, comparer, repair, pass, events, failures };
}

describe('scrub', () => {
  test('FAULTS 5 bits that rot where nobody reads are found and mended, at the rate that was set', async () => {
    const [own, peer] = await Promise.all([replica(), replica()]);
    const place = own.log.groupAt(7)?.position as number;
    const path = `${DIRECTORY}/${String(place - (place % SMALL_SEGMENT_BYTES)).padStart(20, '0')}`;
    const at = (place % SMALL_SEGMENT_BYTES) + 70_000;
    const before = own.disk.peek(path, at, 1).slice();
    own.disk.poke(path, at, Uint8Array.of((before[0] as number) ^ 1));
    const { scrub, comparer, repair, pass, events, failures } = scrubOf(own, peer);
    const startedMs = own.clock.monotonicMs();
    scrub.start();
    await pass;
    await scrub.stop();
    expect(failures).toEqual([]);
    expect(own.disk.peek(path, at, 1)).toEqual(before);
    expect(repair.counts).toMatchObject({ damages: 1, repairs: 1 });
    expect(repair.found).toMatchObject([{ index: 7, position: place, fault: 'bodyChecksum' }]);
    expect(events.map(([name]) => name)).toEqual(['log damaged', 'log repaired']);
    expect(comparer).toMatchObject({ differences: 0 });
    expect(comparer.compared).toBeGreaterThan(0);
    // 10 MB, less what repair itself walked over, at 1 MiB/s.
    expect(own.clock.monotonicMs() - startedMs).toBeGreaterThan(5_000);
  });

  test('FAULTS 8 logs that differ although each is whole: the first group that differs is named', async () => {
    const [own, peer] = await Promise.all([replica(), replica(13)]);
    const { scrub, comparer, pass, events, failures } = scrubOf(own, peer);
    scrub.start();
    await pass;
    await scrub.stop();
    expect(failures).toEqual([]);
    expect(comparer.differences).toBe(1);
    expect(events).toEqual([['logs differ', { peer: 2, index: 13, position: own.log.groupAt(13)?.position }]]);
  });

  test('a peer hashes only what it has whole and committed', async () => {
    const own = await replica();
    const whole = await own.log.hashRange(1, GROUPS);
    expect(await answerHash(own.log, 1, GROUPS, GROUPS)).toMatchObject({ status: RepairStatus.ok, a: whole.crc, b: whole.sizeBytes });
    expect(await answerHash(own.log, 1, GROUPS, GROUPS - 1)).toMatchObject({ status: RepairStatus.missing });
    expect(await answerHash(own.log, 5, 4, GROUPS)).toMatchObject({ status: RepairStatus.missing });
  });
});
