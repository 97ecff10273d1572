import { Groups } from '../../../src/broker/groups.ts';
import { BrokerOffsetStore } from '../../../src/client/broker-offset-store.ts';
import type { OffsetOwner, StoredOffset } from '../../../src/client/offset-store.ts';
import { ProcessQueue } from '../../../src/client/process-queue.ts';
import { type Canary, patch } from './canary.ts';

/** What members of groups do wrong, and the broker with them. */
export const CONSUMER_CANARIES: readonly Canary[] = [
  {
    name: 'a broadcasting member keeps an offset ahead of its work',
    breaks: 'F18: every member gets every message, whatever dies',
    caughtBy: ['not live', 'lost'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['broadcasting'],
    faults: ['clientCrash'],
    plant: () =>
      patch(
        BrokerOffsetStore.prototype,
        'save',
        (original) =>
          function (this: BrokerOffsetStore, owner: OffsetOwner, offsets: readonly StoredOffset[]) {
            const ahead = offsets.map((stored) => ({ ...stored, offset: stored.offset + 1 }));
            return (original.call(this, owner, ahead) as Promise<void>).catch(() => original.call(this, owner, offsets) as Promise<void>);
          },
      ),
  },
  {
    name: 'a queue changes hands under the token of before',
    breaks: 'F19: every ownership of a queue has a higher fencing token than all before',
    caughtBy: ['two owners', 'reordered', 'not live', 'lost'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['orderly'],
    plant: () =>
      patch(
        Groups.prototype,
        'release',
        (original) =>
          function (this: Groups, ...args: never[]) {
            const [name] = args as unknown as [string];
            const before = new Map([...(this.named(name)?.owned ?? [])].map(([key, { ownerEpoch }]) => [key, ownerEpoch]));
            const results = original.apply(this, args) as number[];
            for (const [key, queue] of this.named(name)?.owned ?? []) queue.ownerEpoch = before.get(key) ?? queue.ownerEpoch;
            return results;
          },
      ),
  },
  {
    name: 'an orderly member gives up a queue ahead of what it has done',
    breaks: 'F19, F21: the next owner begins where the last one ended',
    caughtBy: ['reordered', 'not live', 'lost'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['orderly'],
    plant: () => {
      const original = Object.getOwnPropertyDescriptor(ProcessQueue.prototype, 'doneOffset') as PropertyDescriptor;
      Object.defineProperty(ProcessQueue.prototype, 'doneOffset', {
        configurable: true,
        get(this: ProcessQueue) {
          const done = (original.get as () => number).call(this);
          return this.state === 'revoking' && done >= 0 ? done + 1 : done;
        },
      });
      return () => Object.defineProperty(ProcessQueue.prototype, 'doneOffset', original);
    },
  },
];
