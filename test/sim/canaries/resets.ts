import { Groups } from '../../../src/broker/groups.ts';
import { queueKey } from '../../../src/broker/topics.ts';
import { type Canary, patch } from './canary.ts';

type Reset = [group: string, topicId: number, queueId: number, offset: number, index: number];

export const RESET_CANARIES: readonly Canary[] = [
  {
    name: 'a reset leaves the ownership as it was',
    breaks: 'F27: what members had on its way is refused after a reset',
    caughtBy: ['reset lost', 'not live'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['resets'],
    plant: () =>
      patch(
        Groups.prototype,
        'resetOffset',
        (original) =>
          function (this: Groups, ...args: never[]) {
            const [group, topicId, queueId] = args as unknown as Reset;
            const owned = this.named(group)?.owned.get(queueKey(topicId, queueId));
            const epoch = owned?.ownerEpoch ?? 0;
            const refusal = original.apply(this, args) as unknown;
            if (owned !== undefined) owned.ownerEpoch = epoch;
            return refusal;
          },
      ),
  },
  {
    name: 'a reset to what is done already is confirmed and moves nothing',
    breaks: 'F27: an offset is reset either way',
    caughtBy: ['reset lost', 'not live'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['resets'],
    plant: () =>
      patch(
        Groups.prototype,
        'resetOffset',
        (original) =>
          function (this: Groups, ...args: never[]) {
            const [group, topicId, queueId, offset, index] = args as unknown as Reset;
            const committed = this.named(group)?.offsets.get(queueKey(topicId, queueId)) ?? 0;
            return original.call(this, group, topicId, queueId, Math.max(committed, offset), index) as unknown;
          },
      ),
  },
  {
    name: 'a queue that is reset forward is read from where it was',
    breaks: 'F27: after a reset to the end nothing older is given',
    caughtBy: ['reset lost'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['resets'],
    plant: () =>
      patch(
        Groups.prototype,
        'resetOffset',
        (original) =>
          function (this: Groups, ...args: never[]) {
            const [group, topicId, queueId, offset] = args as unknown as Reset;
            const refusal = original.apply(this, args) as unknown;
            if (refusal === null && offset > 0) this.named(group)?.offsets.set(queueKey(topicId, queueId), offset - 1);
            return refusal;
          },
      ),
  },
];
