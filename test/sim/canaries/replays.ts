import { Retries } from '../../../src/broker/retries.ts';
import { type AnyMethod, type Canary, patch } from './canary.ts';

export const REPLAY_CANARIES: readonly Canary[] = [
  {
    name: 'a restored state has forgotten which dead letters were replayed',
    breaks: 'F23: a replayed dead letter says so, to whoever lists it later',
    caughtBy: ['not noted', 'state differs'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['replays'],
    faults: ['kill'],
    plant: () =>
      patch(Retries.prototype, 'unpack', (original: AnyMethod) => {
        return function (this: Retries, ...[packed]: never[]) {
          const [sentBack] = packed as unknown as [unknown, unknown];
          return original.call(this, [sentBack, []]) as unknown;
        };
      }),
  },
  {
    name: 'the newest replay of a page of dead letters is not told',
    breaks: 'F23: a replayed dead letter says so, to whoever lists it later',
    caughtBy: ['not noted'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['replays'],
    plant: () =>
      patch(Retries.prototype, 'marks', (original: AnyMethod) => {
        return function (this: Retries, ...args: never[]) {
          return (original.apply(this, args) as unknown[]).slice(0, -1);
        };
      }),
  },
];
