import { expect, test } from 'vitest';
import type { DerivedFiles } from '../../src/replica/derived.ts';
import { Snapshots, type SnapshotsPorts } from '../../src/replica/snapshots.ts';
import { ManualClock } from '../support/manual-clock.ts';

/**
 * Simulation seed 5532 with the workload `selection` and rot of derived files. A damaged key index was built anew: the replica replayed its
 * log from the beginning. While it waited for the commit index the derived files were flushed "up to the durable end", so the new
 * index said in its header that it covers the whole log, and held next to nothing. The replica was killed then; the next start found a
 * newer state and an index that claimed to cover it, and searches left out what was missing, for ever and without a word. Now
 * the files are flushed up to what is durable and applied.
 */
test('FAULTS 5, F30 derived files that are built anew claim no more than what was applied', async () => {
  const clock = new ManualClock();
  const flushed: number[] = [];
  const derived: Partial<DerivedFiles> = {
    flush: async (position) => {
      flushed.push(position);
    },
  };
  let applied = 4096;
  let synced = 1_000_000;
  const log = {
    start: { index: 0, position: 4096 },
    get syncedPosition() {
      return synced;
    },
  };
  new Snapshots({
    clock,
    log,
    store: { newest: () => null, list: () => [] },
    stateMachine: { startPosition: () => 4096 },
    derived,
    segmentBytes: 1 << 20,
    intervalBytes: 1 << 20,
    appliedPosition: () => applied,
    headCut: () => undefined,
    onEvent: () => undefined,
    failed: (error: unknown) => {
      throw error;
    },
  } as unknown as SnapshotsPorts);
  await clock.run(5_000);
  expect(flushed.at(-1)).toBe(4096);
  applied = 2_000_000;
  await clock.run(5_000);
  expect(flushed.at(-1)).toBe(1_000_000);
  synced = 3_000_000;
  await clock.run(5_000);
  expect(flushed.at(-1)).toBe(2_000_000);
});
