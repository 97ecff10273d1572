import { Keeping, type KeepPlan } from '../../../src/broker/keeping.ts';
import { KeptMessages } from '../../../src/broker/kept-messages.ts';
import { type AnyMethod, type Canary, patch } from './canary.ts';

/** What every queue's part of a plan is instead of what it should be. */
function changePlans(change: (queue: KeepPlan['queues'][number]) => KeepPlan['queues'][number]): () => void {
  return patch(
    Keeping.prototype,
    'plan',
    (original: AnyMethod) =>
      async function (this: Keeping, ...args: never[]) {
        const plan = (await original.apply(this, args)) as KeepPlan;
        return { ...plan, queues: plan.queues.map(change) };
      },
  );
}

export const KEEPING_CANARIES: readonly Canary[] = [
  {
    name: 'what was kept is not copied again when the log is cut behind its copy',
    breaks: 'F34: a longer retention is not that of one cut',
    caughtBy: ['not kept'],
    firstSeed: 1,
    seeds: 60,
    workloads: ['keeping'],
    plant: () => changePlans((queue) => ({ ...queue, again: [] })),
  },
  {
    name: 'a restored state has lost what is kept',
    breaks: 'F34: what is kept is part of the state',
    caughtBy: ['state differs', 'not kept', 'lost'],
    firstSeed: 1,
    seeds: 60,
    workloads: ['keeping'],
    faults: ['kill'],
    plant: () => patch(KeptMessages.prototype, 'unpack', () => () => undefined),
  },
  {
    name: 'of what is to be kept the newest batch of a queue is forgotten',
    breaks: 'F34: what is kept has no gap',
    caughtBy: ['not kept', 'lost', 'offset gap', 'not live'],
    firstSeed: 1,
    seeds: 60,
    workloads: ['keeping'],
    plant: () => changePlans((queue) => ({ ...queue, to: queue.to - 1 })),
  },
];
