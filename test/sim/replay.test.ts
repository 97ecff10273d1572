import { describe, expect, test } from 'vitest';
import { startBroker } from './broker-process.ts';
import { CANARIES, runCanary } from './canaries.ts';
import { trySeed } from './run-seeds.ts';

const REPLAYED = 20;
/** Planted bugs that every test run looks for; npm run canary looks for all. */
const IN_EVERY_TEST_RUN = ['a follower acknowledges on receipt', 'a vote is spoken before it is on the disk', 'an unsynced write counts'];

describe('simulation', () => {
  test('the same seed is the same run', async () => {
    for (let seed = 1001; seed <= 1000 + REPLAYED; seed++) {
      const [first, again] = [await trySeed(seed, startBroker), await trySeed(seed, startBroker)];
      expect(again, `seed ${seed}`).toEqual(first);
      expect(first.failure, `seed ${seed}`).toBeNull();
    }
  }, 300_000);

  test.each(IN_EVERY_TEST_RUN)(
    'canary: %s',
    async (name) => {
      const canary = CANARIES.find((other) => other.name === name);
      if (canary === undefined) throw new Error(`no planted bug "${name}"`);
      const caught = await runCanary(canary);
      expect(caught?.checker, `seeds ${canary.firstSeed}…${canary.firstSeed + canary.seeds - 1}`).toBeDefined();
      expect(canary.caughtBy).toContain(caught?.checker);
    },
    120_000,
  );
});
