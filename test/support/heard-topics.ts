import type { BrokerContext } from '../../src/broker/context.ts';
import type { PendingCommands } from '../../src/broker/pending-commands.ts';
import { TopicReconciler } from '../../src/broker/topic-reconciler.ts';
import type { AppliedTopic, TopicRecord } from '../../src/routing/records.ts';

/** A topic of one queue in each of the groups a and b. */
export const ORDERS: TopicRecord = {
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

/** What a new leader of the group proposes whose state is this and whose gossip tells that. */
export function proposedOnHearing(state: object, brokerName: string, applied: readonly AppliedTopic[]): object[] {
  const proposed: object[] = [];
  const context = {
    leadership: { ready: true },
    deadlines: { set: () => undefined, remove: () => undefined },
    state,
    metrics: { event: () => undefined },
  } as unknown as BrokerContext;
  const commands = { propose: (command: object) => void proposed.push(command) } as unknown as PendingCommands;
  const cluster = {
    onTopic: () => () => undefined,
    appliedTopics: (topic: string) => applied.filter(({ record }) => record.name === topic),
    allAppliedTopics: () => applied,
  };
  new TopicReconciler(context, commands, cluster, brokerName).becameReady();
  return proposed;
}
