import { expect, test } from 'vitest';
import type { AppliedTopic, TopicRecord } from '../../src/routing/records.ts';
import { ORDERS, proposedOnHearing } from '../support/heard-topics.ts';

/**
 * Simulation seed 1063 with the workload `topics`: a topic of two broker groups was deleted, both groups confirmed it and forgot their
 * tombstones, since each had heard that the other had followed. 38 ms later the leadership of one moved to a replica that had not
 * heard the other group's deletion by gossip yet. It had no record of the topic, heard the older one, and made the topic again, empty;
 * the other group would have followed. Now what its own group has said of the incarnation, that it is deleted, counts against
 * every record of it, also against one that is not deleted.
 */
const deleted: TopicRecord = { ...ORDERS, version: 2, deleted: true };

/** What the new leader of group b proposes, which has no record of the topic, and whose gossip says this. */
function proposedBy(applied: readonly AppliedTopic[]): object[] {
  const state = { topics: { record: () => null, gone: () => null, allGone: () => [] }, pastTopics: { has: () => false } };
  return proposedOnHearing(state, 'b', applied);
}

test('F01 a new leader that heard late of the other groups does not bring back what its own group has deleted', () => {
  const late = { brokerName: 'a', logIndex: 10, record: ORDERS };
  const own = { brokerName: 'b', logIndex: 20, record: deleted };
  expect(proposedBy([late, own])).toEqual([]);
  expect(proposedBy([late])).toHaveLength(1);
  expect(proposedBy([{ ...late, record: { ...ORDERS, incarnation: 8 } }, own])).toHaveLength(1);
});
