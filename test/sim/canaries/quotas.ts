import { QuotaMeters } from '../../../src/broker/quota-meters.ts';
import { Quotas } from '../../../src/broker/quotas.ts';
import { type Canary, patch } from './canary.ts';

export const QUOTA_CANARIES: readonly Canary[] = [
  {
    name: 'what is sent is not counted against its quota',
    breaks: 'F44: no more is stored than a rate allows',
    caughtBy: ['over quota'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['quotas'],
    plant: () => patch(QuotaMeters.prototype, 'take', () => () => undefined),
  },
  {
    name: 'a restored state has no quotas',
    breaks: 'F44: quotas are in the log, every leader holds to the same',
    caughtBy: ['state differs', 'quotas differ', 'over quota'],
    firstSeed: 1,
    seeds: 30,
    workloads: ['quotas'],
    faults: ['kill'],
    plant: () => patch(Quotas.prototype, 'unpack', () => () => undefined),
  },
];
