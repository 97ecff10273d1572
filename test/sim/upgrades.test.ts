import { expect, test } from 'vitest';
import { trySeed } from './run-seeds.ts';
import { upgradingBrokers } from './upgrades.ts';

const SEEDS = 16;
const MIN_RAISES = 2;

test('F38 a group that is upgraded while replicas die and the network fails: no rule is broken, the level is raised in the middle', async () => {
  let raises = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const brokers = upgradingBrokers(seed);
    let plan = '';
    const first = (line: string): void => {
      plan ||= line;
    };
    const { failure } = await trySeed(seed, brokers.startBroker, first, ['kill'], []);
    // A release of the first level repairs nothing and takes nobody in: seeds whose disks rot or are emptied, or whose members change, are not for it.
    if (/\b(rot|members|emptied)\//.test(plan)) continue;
    expect(failure, `seed ${seed}`).toBeNull();
    expect(brokers.started.old).toBeGreaterThan(0);
    if (brokers.started.upgraded > 0) raises += brokers.raises;
  }
  expect(raises).toBeGreaterThan(MIN_RAISES);
}, 300_000);
