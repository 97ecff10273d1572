import { startBroker } from './broker-process.ts';
import { BROKER_CANARIES } from './canaries/broker.ts';
import type { Canary } from './canaries/canary.ts';
import { CARRYING_CANARIES } from './canaries/carrying.ts';
import { CHECKER_CANARIES } from './canaries/checkers.ts';
import { CONSUMER_CANARIES } from './canaries/consumers.ts';
import { DELAY_CANARIES } from './canaries/delay.ts';
import { DERIVED_CANARIES } from './canaries/derived.ts';
import { DISK_CANARIES } from './canaries/disk.ts';
import { KEEPING_CANARIES } from './canaries/keeping.ts';
import { MEMBERSHIP_CANARIES } from './canaries/membership.ts';
import { POP_CANARIES } from './canaries/pop.ts';
import { QUOTA_CANARIES } from './canaries/quotas.ts';
import { RAFT_CANARIES } from './canaries/raft.ts';
import { REPLAY_CANARIES } from './canaries/replays.ts';
import { RESET_CANARIES } from './canaries/resets.ts';
import { RETRY_CANARIES } from './canaries/retries.ts';
import { SELECTION_CANARIES } from './canaries/selection.ts';
import { TOPIC_CANARIES } from './canaries/topics.ts';
import { TRANSACTION_CANARIES } from './canaries/transactions.ts';
import { VERDICT_CANARIES } from './canaries/verdict.ts';
import { type SeedFailure, trySeed } from './run-seeds.ts';

export const CANARIES: readonly Canary[] = [
  ...DISK_CANARIES,
  ...RAFT_CANARIES,
  ...MEMBERSHIP_CANARIES,
  ...BROKER_CANARIES,
  ...POP_CANARIES,
  ...RETRY_CANARIES,
  ...CONSUMER_CANARIES,
  ...TRANSACTION_CANARIES,
  ...DELAY_CANARIES,
  ...CARRYING_CANARIES,
  ...SELECTION_CANARIES,
  ...TOPIC_CANARIES,
  ...RESET_CANARIES,
  ...DERIVED_CANARIES,
  ...QUOTA_CANARIES,
  ...REPLAY_CANARIES,
  ...KEEPING_CANARIES,
  ...CHECKER_CANARIES,
  ...VERDICT_CANARIES,
];

/** Runs the canary's seeds until one fails. @returns that failure; null when the bug was not found */
export async function runCanary(canary: Canary): Promise<SeedFailure | null> {
  const remove = canary.plant();
  try {
    for (let seed = canary.firstSeed; seed < canary.firstSeed + canary.seeds; seed++) {
      const { failure } = await trySeed(seed, canary.startBroker ?? startBroker, undefined, canary.faults, canary.workloads ?? []);
      if (failure !== null) return failure;
    }
    return null;
  } finally {
    remove();
  }
}
