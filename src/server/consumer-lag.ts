import { oldestTimeMs } from '../broker/backlog.ts';
import { groupDescription } from '../broker/describe.ts';
import type { BrokerStateMachine } from '../broker/state-machine.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';

/** Queues that one scrape looks into for the age of their oldest message; the topics of further ones have no age. */
const MAX_AGE_LOOKUPS = 4096;

export interface TopicLag {
  readonly group: string;
  readonly topic: string;
  /** Stored and not committed by the group. */
  messages: number;
  /** Log time of the oldest of them; Infinity when there is none, NaN when it was not looked for. */
  oldestTimeMs: number;
}

/** What each group has not consumed of each topic. Of the leader's state: elsewhere it may be behind. */
export async function consumerLags(state: BrokerStateMachine): Promise<TopicLag[]> {
  const units = new UnitBatch(1);
  const lags: TopicLag[] = [];
  let lookups = 0;
  for (const group of state.groups.all()) {
    const byTopic = new Map<string, TopicLag>();
    for (const { topic, queueId, committedOffset, lag } of groupDescription(group, state).queues) {
      let sum = byTopic.get(topic);
      if (sum === undefined) {
        sum = { group: group.name, topic, messages: 0, oldestTimeMs: Number.POSITIVE_INFINITY };
        byTopic.set(topic, sum);
      }
      sum.messages += lag;
      if (lag <= 0) continue;
      const queue = state.topics.named(topic)?.queues[queueId];
      if (queue === undefined) continue;
      if (++lookups > MAX_AGE_LOOKUPS) {
        sum.oldestTimeMs = Number.NaN;
        continue;
      }
      sum.oldestTimeMs = Math.min(sum.oldestTimeMs, (await oldestTimeMs(queue, committedOffset, units)) ?? Number.NaN);
    }
    lags.push(...byTopic.values());
  }
  return lags;
}
