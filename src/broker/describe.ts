import type { GroupDescription, TopicDescription, TopicRoute } from '../protocol/requests.ts';
import type { GroupState } from './groups.ts';
import type { BrokerStateMachine } from './state-machine.ts';
import { routeOfRecord } from './topic-records.ts';
import type { QueueState, TopicState } from './topics.ts';
import { queueIdOf, queueKey, recordOf, topicIdOf } from './topics.ts';

export function topicRoute(topic: TopicState): TopicRoute {
  return routeOfRecord(recordOf(topic));
}

export function topicDescription(topic: TopicState): TopicDescription {
  return {
    ...topicRoute(topic),
    replication: topic.replication,
    queues: topic.queues.map(({ queueId, minOffset, nextOffset }) => ({ queueId, minOffset, maxOffset: nextOffset })),
  };
}

/** Messages not consumed yet: from the committed offset, or from the first retained one where nothing was committed. */
function lagOf(queue: QueueState, committedOffset: number): number {
  return queue.nextOffset - Math.max(queue.minOffset, committedOffset);
}

/** Queues of the topics that members subscribe to, and those with an offset: by key. */
function keysOf(group: GroupState): number[] {
  return [...new Set([...group.owned.keys(), ...group.offsets.keys()])].sort((a, b) => a - b);
}

export function groupLag(group: GroupState, state: BrokerStateMachine): number {
  let lag = 0;
  const add = (key: number, committedOffset: number): void => {
    const queue = state.topics.queue(topicIdOf(key), queueIdOf(key));
    if (queue !== undefined) lag += lagOf(queue, committedOffset);
  };
  // A sum needs no order: a list of 10,000 groups is made in one turn.
  for (const [key, offset] of group.offsets) add(key, offset);
  for (const key of group.owned.keys()) if (!group.offsets.has(key)) add(key, -1);
  return lag;
}

export function groupDescription(group: GroupState, state: BrokerStateMachine): GroupDescription {
  const members = [...group.members.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    group: group.name,
    epoch: group.epoch,
    strategy: group.plan.strategy,
    members: members.map(({ name, address, topics }) => ({ member: name, address, topics })),
    queues: keysOf(group).flatMap((key) => {
      const queue = state.topics.queue(topicIdOf(key), queueIdOf(key));
      if (queue === undefined) return [];
      const committedOffset = group.offsets.get(queueKey(queue.topic.id, queue.queueId)) ?? -1;
      return [
        {
          topic: queue.topic.name,
          queueId: queue.queueId,
          owner: group.owned.get(key)?.owner ?? '',
          committedOffset,
          maxOffset: queue.nextOffset,
          lag: lagOf(queue, committedOffset),
        },
      ];
    }),
  };
}
