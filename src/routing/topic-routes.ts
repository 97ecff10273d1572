import type { TopicRoute } from '../protocol/requests.ts';
import type { AppliedTopic, TopicRecord } from './records.ts';

/** What follows from the records of all groups for one topic. */
export interface ResolvedTopic {
  /** null: the topic is deleted, or was never there. */
  readonly route: TopicRoute | null;
  /** Two topics of one name exist: made on both sides of a cut, for example. An operator has to delete one. */
  readonly conflict: boolean;
}

/**
 * A topic's record is the newest that some group has applied; the others follow (they reconcile by what they hear). Of two topics
 * of one name the one with the lower incarnation is routed to, on every broker alike.
 */
export function resolveTopic(applied: Iterable<AppliedTopic>): ResolvedTopic {
  const newest = new Map<number, TopicRecord>();
  for (const { record } of applied) {
    const known = newest.get(record.incarnation);
    if (known === undefined || record.version > known.version) newest.set(record.incarnation, record);
  }
  const existing = [...newest.values()].filter(({ deleted }) => !deleted).sort((x, y) => x.incarnation - y.incarnation);
  const record = existing[0];
  if (record === undefined) return { route: null, conflict: false };
  const { name, incarnation, version, perm, messageType, placement } = record;
  return { route: { topic: name, topicId: incarnation, version, perm, messageType, placement }, conflict: existing.length > 1 };
}

export function sameTopicRoute(x: TopicRoute | null, y: TopicRoute | null): boolean {
  if (x === null || y === null) return x === y;
  return x.topicId === y.topicId && x.version === y.version && x.perm === y.perm && samePlacement(x.placement, y.placement);
}

function samePlacement(x: TopicRoute['placement'], y: TopicRoute['placement']): boolean {
  return x.length === y.length && x.every((place, at) => place.brokerName === y[at]?.brokerName && place.queues === y[at].queues);
}
