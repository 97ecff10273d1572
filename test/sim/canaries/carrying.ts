import { Carried } from '../../../src/broker/carried.ts';
import { type Canary, patch } from './canary.ts';

export const CARRYING_CANARIES: readonly Canary[] = [
  {
    name: 'what was carried is looked for where it was stored first',
    breaks: 'F34: a delivery is retained as long as its own entry, though its bytes are older',
    caughtBy: ['lost', 'not live', 'readers disagree'],
    firstSeed: 60,
    seeds: 20,
    workloads: ['delay'],
    plant: () => patch(Carried.prototype, 'placeOf', () => (name: number) => name),
  },
  {
    name: 'a timer that was carried counts at its old place, too',
    breaks: 'F13: what waits is delivered once, wherever its unit lies',
    caughtBy: ['delivered twice', 'not live', 'lost', 'AssertionError'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['delay'],
    plant: () => patch(Carried.prototype, 'isMoved', () => () => false),
  },
];
