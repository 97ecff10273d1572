import { expect } from 'vitest';
import { startBroker } from './broker-process.ts';
import { runSeeds, seedRange } from './run-seeds.ts';

/** Seeds of `npm test`; the two shards run side by side, one on each core. */
const SEEDS = 500;
export const SHARDS = 2;
/** A slow machine with other work; the seeds themselves take three minutes or four. */
export const SHARD_TIMEOUT_MS = 1_500_000;

/** Runs every second seed from 1 on. What failed, and how to see it again, is in the assertion's message. */
export async function runShard(shard: number): Promise<void> {
  const startedMs = performance.now();
  let simulatedMs = 0;
  let acked = 0;
  const failure = await runSeeds(seedRange(1 + shard, SEEDS - shard, SHARDS), startBroker, ({ result }) => {
    simulatedMs += result?.simulatedMs ?? 0;
    acked += result?.acked ?? 0;
  });
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(
    `simulation, shard ${shard}: ${Math.round(simulatedMs / 1000)} simulated s in ${seconds.toFixed(0)} s, ${acked} acknowledged messages`,
  );
  expect(failure, failure === null ? '' : `${failure.message}\nnpm run sim -- --seed ${failure.seed} --trace`).toBeNull();
  expect(acked).toBeGreaterThan(SEEDS);
}
