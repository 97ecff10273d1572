import type { Prng } from './prng.ts';
import { makeBroadcasting } from './workloads/broadcasting.ts';
import { makeDelay } from './workloads/delay.ts';
import { makeKeeping } from './workloads/keeping.ts';
import { makeOrderly } from './workloads/orderly.ts';
import { makePop } from './workloads/pop.ts';
import { makeQuotas } from './workloads/quotas.ts';
import { makeReplays } from './workloads/replays.ts';
import { makeResets } from './workloads/resets.ts';
import { makeRetries } from './workloads/retries.ts';
import { makeSelection } from './workloads/selection.ts';
import { makeTopics } from './workloads/topics.ts';
import { makeTransactions } from './workloads/transactions.ts';
import type { MakeWorkload, Workload } from './workloads/workload.ts';

/** Features that are attacked, by name. */
export const WORKLOADS = {
  pop: makePop,
  retries: makeRetries,
  broadcasting: makeBroadcasting,
  orderly: makeOrderly,
  transactions: makeTransactions,
  delay: makeDelay,
  selection: makeSelection,
  topics: makeTopics,
  resets: makeResets,
  quotas: makeQuotas,
  replays: makeReplays,
  keeping: makeKeeping,
} as const satisfies Record<string, MakeWorkload>;
export type WorkloadName = keyof typeof WORKLOADS;
const MAKERS: Readonly<Record<WorkloadName, MakeWorkload>> = WORKLOADS;

/** How many a run has: each costs about as much as everything else in it. */
const COUNTS = [0, 0, 1, 1, 1, 1, 2];

/** @param wanted on in any case; an empty list: none */
export function drawWorkloads(
  prng: Prng,
  brokerNames: readonly string[],
  wanted?: readonly WorkloadName[],
): { readonly name: WorkloadName; readonly workload: Workload }[] {
  const drawn = prng.shuffle(Object.keys(WORKLOADS) as WorkloadName[]).slice(0, prng.pick(COUNTS));
  return (wanted ?? drawn).map((name) => ({ name, workload: MAKERS[name](prng.fork(), brokerNames) }));
}
