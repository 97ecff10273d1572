import { Topics } from '../../../src/broker/topics.ts';
import type { TopicRecord } from '../../../src/routing/records.ts';
import { type Canary, patch } from './canary.ts';

export const TOPIC_CANARIES: readonly Canary[] = [
  {
    name: 'a change that comes behind the deletion makes the topic again',
    breaks: 'F01: a deleted topic stays deleted, whatever comes late',
    caughtBy: ['topic came back'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['topics'],
    plant: () =>
      patch(
        Topics.prototype,
        'verdict',
        (original) =>
          function (this: Topics, record: TopicRecord) {
            return original.call(this, record, false) as unknown;
          },
      ),
  },
  {
    name: 'a change of a topic is confirmed and not done',
    breaks: 'F01: what was changed is seen by every later question',
    caughtBy: ['topic went back', 'topic lost', 'not live'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['topics'],
    plant: () =>
      patch(
        Topics.prototype,
        'verdict',
        (original) =>
          function (this: Topics, ...args: never[]) {
            const verdict = original.apply(this, args) as unknown;
            const [{ version }] = args as unknown as [TopicRecord];
            return verdict === 'change' && version % 3 === 0 ? 'done' : verdict;
          },
      ),
  },
];
