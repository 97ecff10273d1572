import { IndexFiles, type IndexHits } from '../../../src/log/index-files.ts';
import { SqlFilter } from '../../../src/protocol/sql-filter/sql-filter.ts';
import { type Canary, patch } from './canary.ts';

/** Who selects gets less than was selected. */
export const SELECTION_CANARIES: readonly Canary[] = [
  {
    name: 'an expression is not tried on the last message of a batch',
    breaks: 'F24: a batch is left out only when nothing in it matches',
    caughtBy: ['not live', 'lost'],
    firstSeed: 1,
    seeds: 5,
    workloads: ['selection'],
    plant: () =>
      patch(
        SqlFilter.prototype,
        'matchesSome',
        (original) =>
          function (this: SqlFilter, bytes: Uint8Array, at: number, from: number, to: number, wanted: unknown) {
            return original.call(this, bytes, at, from, to - 1, wanted) as boolean;
          },
      ),
  },
  {
    name: 'a search leaves out the newest entry that it finds',
    breaks: 'F30: what is retained is found by its key',
    caughtBy: ['not live', 'lost'],
    firstSeed: 1,
    seeds: 5,
    workloads: ['selection'],
    plant: () =>
      patch(
        IndexFiles.prototype,
        'search',
        (original) =>
          async function (this: IndexFiles, ...args: never[]) {
            const hits = (await original.apply(this, args)) as IndexHits;
            return { ...hits, positions: hits.positions.slice(1) };
          },
      ),
  },
];
