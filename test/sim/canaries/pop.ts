import { Checkpoint } from '../../../src/broker/pop/checkpoints.ts';
import { PopTable } from '../../../src/broker/pop/pop-table.ts';
import { type Canary, patch } from './canary.ts';

export const POP_CANARIES: readonly Canary[] = [
  {
    name: 'a confirmed acknowledgement of a popped message is not kept',
    breaks: 'F25: an acknowledgement that was confirmed ends its message',
    caughtBy: ['popped again', 'AssertionError', 'not live'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['pop'],
    faults: ['reset', 'transfer'],
    plant: () =>
      patch(
        Checkpoint.prototype,
        'ack',
        (original) =>
          function (this: Checkpoint, ...args: never[]) {
            return (args as unknown as [number])[0] % 20 === 7 || original.apply(this, args);
          },
      ),
  },
  {
    name: 'a popped message that comes again has a receipt of nothing',
    breaks: 'F25: what is not acknowledged comes again',
    caughtBy: ['not live', 'lost'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['pop'],
    faults: ['clientCrash'],
    plant: () =>
      patch(
        PopTable.prototype,
        'handle',
        (original) =>
          function (this: PopTable, ...args: never[]) {
            const [command] = args as unknown as [{ type: string; upTo: number }];
            if (command.type === 'popRevive') command.upTo = 0;
            return original.apply(this, args);
          },
      ),
  },
];
