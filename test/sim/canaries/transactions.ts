import { HalfMessages } from '../../../src/broker/half-messages.ts';
import { TransactionChecks } from '../../../src/broker/transaction-checks.ts';
import { type Canary, patch } from './canary.ts';

export const TRANSACTION_CANARIES: readonly Canary[] = [
  {
    name: 'a transaction that ended may end again',
    breaks: 'F14: the first outcome counts',
    caughtBy: ['two outcomes', 'seen twice', 'half seen', 'duplicated', 'readers disagree'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['transactions'],
    plant: () => patch(HalfMessages.prototype, 'delete', () => () => undefined),
  },
  {
    name: 'a new leader asks nobody',
    breaks: 'F14: a producer group is asked for every outcome that is missing, across leader changes',
    caughtBy: ['not live'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['transactions'],
    faults: ['transfer', 'clientCrash'],
    plant: () => patch(TransactionChecks.prototype, 'becameReady', () => () => undefined),
  },
];
