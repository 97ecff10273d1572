import { StoredConsumeQueue } from '../../../src/log/consume-queue.ts';
import { DerivedStores } from '../../../src/server/derived-files.ts';
import { type Canary, patch } from './canary.ts';

/** Files that are built anew from the log, and are not. */
export const DERIVED_CANARIES: readonly Canary[] = [
  {
    name: 'a queue that lost units to damage counts as whole',
    breaks: 'FAULTS 5: what is derived and damaged is built anew from the log',
    caughtBy: ['AssertionError', 'lost', 'not live', 'offset gap', 'not found', 'Error'],
    firstSeed: 1,
    seeds: 20,
    faults: ['rot', 'kill'],
    plant: () =>
      patch(
        StoredConsumeQueue.prototype,
        'restore',
        (original) =>
          function (this: StoredConsumeQueue, ...args: never[]) {
            original.apply(this, args);
            return true;
          },
      ),
  },
  {
    name: 'an index that lost items to damage counts as whole',
    breaks: 'FAULTS 5, F30: what is retained is found, or it is said that it cannot be told',
    caughtBy: ['not found', 'not live', 'lost'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['selection'],
    faults: ['rot', 'kill'],
    plant: () => patch(DerivedStores.prototype, 'covers', () => () => true),
  },
];
