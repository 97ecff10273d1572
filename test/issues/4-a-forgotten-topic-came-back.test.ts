import { expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { type Command, encodeCommand } from '../../src/broker/commands.ts';
import { FEATURE_LEVELS, NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { StateLimits } from '../../src/broker/limits.ts';
import { PastTopics } from '../../src/broker/past-topics.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { putOfRecord } from '../../src/broker/topic-records.ts';
import { EntryType } from '../../src/replica/types.ts';
import type { TopicRecord } from '../../src/routing/records.ts';
import { FakeReplica } from '../support/fake-replica.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';
import { ORDERS, proposedOnHearing } from '../support/heard-topics.ts';

/**
 * Simulation seed 1064: a topic of two broker groups was deleted, and both had forgotten their tombstones. Then every process was killed.
 * The first replicas of one group that came back had not heard where their log ends and told of the topic as their saved state had it; the
 * other group's new leader, whose gossip knew nothing else, made it again, empty. What a group has forgotten is now remembered by name,
 * incarnation and version, in its state.
 */
const made: TopicRecord = { ...ORDERS, version: 2 };
const deleted: TopicRecord = { ...made, version: 3, deleted: true };
const moved: TopicRecord = { ...made, version: 3, placement: [{ brokerName: 'b', queues: 1 }] };

function groupAt(level: number) {
  const machine = new BrokerStateMachine({ brokerName: 'a', queues: new MemoryQueues(), ids: new MemoryIds() });
  const replica = new FakeReplica({ machine });
  replica.leadReady();
  const apply = (command: Command): void => {
    const body = encodeCommand(command);
    replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    replica.commit();
  };
  apply({ type: 'featureLevelRaise', level });
  const end = (record: TopicRecord): void => {
    apply(putOfRecord(record));
    apply({ type: 'topicForget', name: record.name, incarnation: record.incarnation, version: record.version });
  };
  return { machine, apply, end, there: () => machine.topics.named('orders')?.version };
}

/** How many proposals its leader makes that was told this by the other group. */
function proposed(machine: BrokerStateMachine, record: TopicRecord): number {
  return proposedOnHearing(machine, 'a', [{ brokerName: 'b', logIndex: 10, record }]).length;
}

test('F01 a topic that all have forgotten does not come back by an older record, not after a snapshot either', () => {
  const group = groupAt(NEWEST_FEATURE_LEVEL);
  group.apply(putOfRecord(made));
  group.end(deleted);
  expect(group.machine.topics.record('orders')).toBe(null);
  expect(proposed(group.machine, made)).toBe(0);
  group.apply(putOfRecord({ ...made, version: 9 }));
  expect(group.there()).toBe(undefined);

  const restored = new BrokerStateMachine({ brokerName: 'a', queues: new MemoryQueues(), ids: new MemoryIds() });
  restored.restore(group.machine.snapshot());
  expect(restored.digest()).toBe(group.machine.digest());
  expect(proposed(restored, made)).toBe(0);
  expect(restored.topics.verdict(made, false)).toBe('TOPIC_NOT_FOUND');

  // The name is free, and who waits for the word that the deletion was heard is given it.
  expect(proposed(group.machine, deleted)).toBe(1);
  group.apply(putOfRecord({ ...made, incarnation: 8, version: 1 }));
  expect(group.there()).toBe(1);
  expect(proposed(group.machine, made)).toBe(0);
});

test('F48 a topic that has left the group comes back by a newer record only', () => {
  const group = groupAt(NEWEST_FEATURE_LEVEL);
  group.apply(putOfRecord(made));
  group.end(moved);
  expect(proposed(group.machine, made)).toBe(0);
  group.apply(putOfRecord(made));
  expect(group.there()).toBe(undefined);
  expect(proposed(group.machine, { ...made, version: 4 })).toBe(1);
  group.apply(putOfRecord({ ...made, version: 4 }));
  expect(group.there()).toBe(4);
});

test('nothing is remembered below the feature level that every replica can read it at', () => {
  const group = groupAt(FEATURE_LEVELS.carrying);
  group.apply(putOfRecord(made));
  group.end(deleted);
  expect(group.machine.pastTopics.pack()).toEqual([]);
});

test('the oldest is forgotten above the bound', () => {
  const past = new PastTopics();
  for (let i = 0; i <= StateLimits.maxPastTopics; i++) past.remember({ ...deleted, name: `t${i}` });
  expect(past.has({ ...made, name: 't0' })).toBe(false);
  expect(past.has({ ...made, name: 't1' })).toBe(true);
  expect(past.has({ ...made, name: `t${StateLimits.maxPastTopics}` })).toBe(true);
});
