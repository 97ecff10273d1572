import { expect, test } from 'vitest';
import type { BrokerContext } from '../../src/broker/context.ts';
import type { PendingCommands } from '../../src/broker/pending-commands.ts';
import { TopicReconciler } from '../../src/broker/topic-reconciler.ts';
import type { AppliedTopic, TopicRecord } from '../../src/routing/records.ts';

/**
 * Simulation seed 1063 with the workload `topics`: a topic of two broker groups was deleted, both groups confirmed it and forgot their
 * tombstones, since each had heard that the other had followed. 38 ms later the leadership of one moved to a replica that had not
 * heard the other group's deletion by gossip yet. It had no record of the topic, heard the older one, and made the topic again, empty;
 * the other group would have followed. Now what its own group has said of the incarnation, that it is deleted, counts against
 * every record of it, also against one that is not deleted.
 */
const made: TopicRecord = {
  name: 'orders',
  incarnation: 7,
  version: 1,
  placement: [
    { brokerName: 'a', queues: 1 },
    { brokerName: 'b', queues: 1 },
  ],
  perm: 6,
  messageType: 'normal',
  replication: 2,
  deleted: false,
};
const deleted: TopicRecord = { ...made, version: 2, deleted: true };

/** What the new leader of group b proposes, whose gossip says this. */
function proposedBy(applied: readonly AppliedTopic[]): object[] {
  const proposed: object[] = [];
  const context = {
    leadership: { ready: true },
    deadlines: { set: () => undefined, remove: () => undefined },
    state: { topics: { record: () => null, gone: () => null, allGone: () => [] }, pastTopics: { has: () => false } },
    metrics: { event: () => undefined },
  } as unknown as BrokerContext;
  const commands = { propose: (command: object) => void proposed.push(command) } as unknown as PendingCommands;
  const cluster = {
    onTopic: () => () => undefined,
    appliedTopics: (topic: string) => applied.filter(({ record }) => record.name === topic),
    allAppliedTopics: () => applied,
  };
  new TopicReconciler(context, commands, cluster, 'b').becameReady();
  return proposed;
}

test('F01 a new leader that heard late of the other groups does not bring back what its own group has deleted', () => {
  const late = { brokerName: 'a', logIndex: 10, record: made };
  const own = { brokerName: 'b', logIndex: 20, record: deleted };
  expect(proposedBy([late, own])).toEqual([]);
  expect(proposedBy([late])).toHaveLength(1);
  expect(proposedBy([{ ...late, record: { ...made, incarnation: 8 } }, own])).toHaveLength(1);
});
