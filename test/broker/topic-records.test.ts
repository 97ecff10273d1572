import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import type { Command } from '../../src/broker/commands.ts';
import { encodeCommand } from '../../src/broker/commands.ts';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { changeOfRecord, putOfRecord } from '../../src/broker/topic-records.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { batchChecksum } from '../../src/protocol/record-batch.ts';
import { EntryType } from '../../src/replica/types.ts';
import type { TopicRecord } from '../../src/routing/records.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { FakeReplica } from '../support/fake-replica.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';

const place = (brokerName: string, queues: number) => ({ brokerName, queues });

function record(change: Partial<TopicRecord> = {}): TopicRecord {
  return {
    name: 'T',
    incarnation: 77,
    version: 1,
    placement: [place('a', 2), place('b', 3)],
    perm: 6,
    messageType: 'normal',
    replication: 2,
    deleted: false,
    ...change,
  };
}

/** The state of one broker group, fed by hand. */
class Group {
  readonly queues = new MemoryQueues();
  readonly machine: BrokerStateMachine;
  readonly replica: FakeReplica;
  error = 0;
  changes = 0;

  constructor(brokerName = 'a') {
    this.machine = new BrokerStateMachine({ brokerName, queues: this.queues, ids: new MemoryIds() });
    this.machine.listen(
      {
        onBatch: () => {},
        onPlaced: () => {},
        onCommand: (_index, error) => {
          this.error = error;
        },
        onCarried: () => {},
        onGroupChanged: () => {},
        onTopicChanged: () => {
          this.changes += 1;
        },
        onNoop: () => {},
        onApplied: () => {},
        onRestored: () => {},
      },
      () => {},
    );
    this.replica = new FakeReplica({ machine: this.machine });
    this.replica.leadReady();
    this.apply({ type: 'featureLevelRaise', level: FEATURE_LEVELS.cluster });
  }

  /** @returns the code of the refusal, or null */
  apply(command: Command): string | null {
    const body = encodeCommand(command);
    this.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    this.replica.commit();
    return Object.entries(ERRORS).find(([, { number }]) => number === this.error)?.[0] ?? null;
  }

  put(change: Partial<TopicRecord> = {}): string | null {
    return this.apply(putOfRecord(record(change)));
  }

  /** By who saw this incarnation here. */
  change(change: Partial<TopicRecord> = {}): string | null {
    return this.apply(changeOfRecord(record(change)));
  }

  join(member: string, topics: readonly string[] = ['T']): void {
    this.apply({ type: 'groupJoin', group: 'g', member, address: 'x', topics, strategy: 'sticky', sessionTimeoutMs: 10_000 });
  }

  leave(member: string): void {
    this.apply({ type: 'groupLeave', group: 'g', member });
  }

  /** brokerName/queueId → the member that should own it. */
  targets(brokerName: string): Map<string, string> {
    const owned = this.machine.groups.named('g')?.owned.values() ?? [];
    return new Map([...owned].map(({ topicId, queueId, target }) => [`${brokerName}/${topicId}/${queueId}`, target]));
  }
}

describe('F01 topics over several broker groups', () => {
  test('a record is applied once, a lower or equal version is done already, another incarnation is never overwritten', () => {
    const group = new Group();
    expect(group.put()).toBe(null);
    const topic = group.machine.topics.named('T');
    expect(topic).toMatchObject({ incarnation: 77, version: 1, id: 1 });
    expect(topic?.queues).toHaveLength(2);
    expect(group.put()).toBe(null);
    expect(group.changes).toBe(1);
    expect(group.put({ placement: [place('a', 4)] })).toBe('TOPIC_CONFLICT');
    expect(group.put({ version: 3, placement: [place('a', 4), place('b', 3), place('c', 1)] })).toBe(null);
    expect(topic?.queues).toHaveLength(4);
    expect(group.put({ version: 2 })).toBe(null);
    expect(group.put({ incarnation: 78, version: 9 })).toBe('TOPIC_CONFLICT');
    expect(group.put({ incarnation: 78, version: 9, deleted: true })).toBe('TOPIC_CONFLICT');
    expect(topic).toMatchObject({ incarnation: 77, version: 3 });
    expect(group.put({ version: 4 })).toBe('BAD_REQUEST');
  });

  test('a change of what was seen is refused when it is not so any more, and is not taken for done', () => {
    const group = new Group();
    group.apply({ type: 'featureLevelRaise', level: FEATURE_LEVELS.messaging });
    group.put();
    expect(group.change({ version: 2, perm: 4 })).toBe(null);
    // Asked again after a lost answer.
    expect(group.change({ version: 2, perm: 4 })).toBe(null);
    expect(group.change({ version: 3, perm: 6 })).toBe(null);
    // By who saw version 1, after two others: as done it would never have been.
    expect(group.change({ version: 2, placement: [place('a', 9), place('b', 3)] })).toBe('TOPIC_CONFLICT');
    expect(group.put({ version: 2 })).toBe(null);
    expect(group.machine.topics.named('T')).toMatchObject({ version: 3, perm: 6 });
  });

  test('a change that comes behind the deletion does not bring the topic back, empty; a record that is passed on makes it', () => {
    const group = new Group();
    group.apply({ type: 'featureLevelRaise', level: FEATURE_LEVELS.messaging });
    const alone = { placement: [place('a', 2)] };
    group.put(alone);
    expect(group.change({ ...alone, version: 2, deleted: true })).toBe(null);
    expect(group.change({ ...alone, version: 2, perm: 4 })).toBe('TOPIC_NOT_FOUND');
    expect(group.machine.topics.named('T')).toBe(undefined);
    expect(group.change({ ...alone, version: 2, deleted: true })).toBe(null);
    expect(group.put({ ...alone, version: 2 })).toBe(null);
    expect(group.machine.topics.named('T')).toMatchObject({ version: 2 });
  });

  test('a malformed record is refused by every group alike', () => {
    const group = new Group();
    expect(group.put({ placement: [] })).toBe('BAD_REQUEST');
    expect(group.put({ placement: [place('b', 1), place('a', 1)] })).toBe('BAD_REQUEST');
    expect(group.put({ placement: [place('a', 1), place('a', 1)] })).toBe('BAD_REQUEST');
    expect(group.put({ placement: [place('a', 0)] })).toBe('BAD_REQUEST');
    expect(group.put({ perm: 7 })).toBe('BAD_REQUEST');
    expect(group.put({ replication: 0 })).toBe('BAD_REQUEST');
    expect(group.put({ name: 'no good' })).toBe('BAD_NAME');
    expect(group.machine.topics.all()).toEqual([]);
  });

  test('a tombstone wins over every version, keeps late records and the name away, and goes when all groups have it', () => {
    const group = new Group();
    group.put({ version: 5 });
    expect(group.put({ version: 2, deleted: true })).toBe(null);
    expect(group.machine.topics.named('T')).toBe(undefined);
    expect(group.put({ version: 6 })).toBe('TOPIC_NOT_FOUND');
    expect(group.put({ version: 9, deleted: true })).toBe(null);
    expect(group.machine.topics.gone('T')?.version).toBe(2);
    expect(group.put({ incarnation: 80 })).toBe('TOPIC_CONFLICT');
    group.apply({ type: 'topicForget', name: 'T', incarnation: 77, version: 3 });
    expect(group.put({ incarnation: 80 })).toBe('TOPIC_CONFLICT');
    group.apply({ type: 'topicForget', name: 'T', incarnation: 77, version: 2 });
    expect(group.put({ incarnation: 80 })).toBe(null);
    expect(group.machine.topics.named('T')).toMatchObject({ id: 2, incarnation: 80 });
  });

  test('a deletion is noted where the topic never came', () => {
    const group = new Group();
    expect(group.put({ version: 2, deleted: true })).toBe(null);
    expect(group.put()).toBe('TOPIC_NOT_FOUND');
  });

  test('a topic that is on this group alone leaves no tombstone', () => {
    const group = new Group();
    group.put({ placement: [place('a', 2)] });
    expect(group.put({ version: 2, placement: [place('a', 2)], deleted: true })).toBe(null);
    expect(group.machine.topics.allGone()).toEqual([]);
    expect(group.put({ incarnation: 5, placement: [place('a', 1)] })).toBe(null);
  });

  test('F48 a group that left the placement drops its queues, an older record does not bring them back, a newer one does', () => {
    const group = new Group();
    group.put();
    expect(group.put({ version: 2, placement: [place('b', 3)] })).toBe(null);
    expect(group.machine.topics.named('T')).toBe(undefined);
    expect(group.put()).toBe(null);
    expect(group.machine.topics.named('T')).toBe(undefined);
    expect(group.put({ version: 3 })).toBe(null);
    expect(group.machine.topics.named('T')?.queues).toHaveLength(2);
  });

  test('F38 commands of feature level 1 change the same records', () => {
    const group = new Group();
    group.apply({ type: 'topicCreate', name: 'old', queues: 2, perm: 6, messageType: 'normal', replication: 2 });
    const old = group.machine.topics.named('old');
    expect(old).toMatchObject({ incarnation: 1, placement: [place('a', 2)] });
    const before = old?.version as number;
    group.apply({ type: 'topicUpdate', name: 'old', queues: 3, perm: 4, replication: -1 });
    expect(old).toMatchObject({ placement: [place('a', 3)], perm: 4, ownPerm: 4 });
    expect(old?.version).toBeGreaterThan(before);
    const moved = { name: 'old', incarnation: 1, version: (old?.version as number) + 1 };
    expect(group.put({ ...moved, placement: [place('a', 3), place('b', 3)] })).toBe(null);
    group.apply({ type: 'topicDelete', name: 'old' });
    expect(group.machine.topics.gone('old')).toMatchObject({ deleted: true, version: moved.version + 1 });
  });

  test('a snapshot gives the same state again', () => {
    const group = new Group();
    group.put();
    group.put({ name: 'drained', placement: [{ ...place('a', 2), perm: 4 }, place('b', 2)] });
    group.put({ name: 'gone', version: 2, deleted: true });
    const snapshot = group.machine.snapshot();
    const other = new Group();
    other.machine.restore(snapshot);
    expect(Buffer.compare(other.machine.snapshot(), snapshot)).toBe(0);
    expect(other.machine.topics.record('gone')).toEqual(group.machine.topics.record('gone'));
    expect(other.machine.topics.named('drained')).toMatchObject({ perm: 6, ownPerm: 4 });
    expect(other.machine.digest()).toBe(group.machine.digest());
  });

  test('queues of a drained group are read, not written: the log still takes what was on its way', () => {
    const group = new Group();
    group.put();
    group.put({ version: 2, placement: [{ ...place('a', 2), perm: 4 }, place('b', 3)] });
    const topic = group.machine.topics.named('T');
    expect(topic).toMatchObject({ perm: 6, ownPerm: 4 });
    const batch = makeBatch();
    group.replica.propose(EntryType.batch, 1, 0, batchChecksum(batch, 0), batch);
    group.replica.commit();
    expect(topic?.queues[0]?.nextOffset).toBe(1);
  });
});

describe('F07 assignment over several broker groups', () => {
  test('whatever joins, leaves and grows: one target for each queue, members differ by one at most over all groups', () => {
    const names = ['a', 'b', 'c'];
    const step = fc.oneof(
      fc.record({ kind: fc.constant('join' as const), member: fc.nat({ max: 6 }) }),
      fc.record({ kind: fc.constant('leave' as const), member: fc.nat({ max: 6 }) }),
      fc.record({ kind: fc.constant('grow' as const), group: fc.nat({ max: 2 }), queues: fc.integer({ min: 1, max: 4 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
        const groups = names.map((name) => new Group(name));
        let version = 1;
        let placement = [place('a', 1), place('b', 5)];
        const put = (): void => {
          for (const group of groups) expect(group.put({ version, placement })).toBe(null);
        };
        put();
        const members = new Set<string>();
        for (const { kind, ...what } of steps) {
          if (kind === 'grow') {
            const { group, queues } = what as { group: number; queues: number };
            const brokerName = names[group] as string;
            const old = placement.find((each) => each.brokerName === brokerName)?.queues ?? 0;
            const others = placement.filter((each) => each.brokerName !== brokerName);
            placement = [...others, place(brokerName, old + queues)].sort((x, y) => (x.brokerName < y.brokerName ? -1 : 1));
            version += 1;
            put();
            // A member joins every group of the placement.
            for (const member of members) for (const each of groups) each.join(member);
          } else {
            const member = `m${(what as { member: number }).member}`;
            for (const group of groups)
              if (kind === 'join') group.join(member);
              else group.leave(member);
            if (kind === 'join') members.add(member);
            else members.delete(member);
          }
          const targets = groups.flatMap((group, at) => [...group.targets(names[at] as string)]);
          const total = placement.reduce((sum, { queues }) => sum + queues, 0);
          expect(targets).toHaveLength(members.size === 0 ? 0 : total);
          const counts = [...members].map((member) => targets.filter(([, target]) => target === member).length);
          if (members.size > 0) expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        }
      }),
      { numRuns: 60 },
    );
  });
});
