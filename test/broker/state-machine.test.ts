import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import type { Command } from '../../src/broker/commands.ts';
import { decodeCommand, encodeCommand, plainPackr } from '../../src/broker/commands.ts';
import { NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { ALLOCATE_STRATEGIES } from '../../src/protocol/allocate-strategies.ts';
import { batchChecksum } from '../../src/protocol/record-batch.ts';
import { EntryType } from '../../src/replica/types.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { FakeReplica } from '../support/fake-replica.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';

const SEGMENT_BYTES = 16_384;

class Machine {
  readonly queues = new MemoryQueues();
  readonly machine = new BrokerStateMachine({ brokerName: 'a', queues: this.queues, ids: new MemoryIds() });
  readonly replica = new FakeReplica({ machine: this.machine, segmentBytes: SEGMENT_BYTES });

  constructor() {
    this.replica.leadReady();
  }
  command(command: Command): void {
    const body = encodeCommand(command);
    this.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    this.replica.commit();
  }
  batch(topicId: number, queueId: number, batch: Uint8Array): void {
    this.replica.propose(EntryType.batch, topicId, queueId, batchChecksum(batch, 0), batch);
    this.replica.commit();
  }
}

const small = fc.nat({ max: 3 });
const name = small.map((n) => `topic-${n}`);
const group = small.map((n) => `group-${n}`);
const member = small.map((n) => `member-${n}`);
const offsets = fc.array(fc.tuple(fc.integer({ min: 1, max: 6 }), small, fc.nat({ max: 60 }), fc.nat({ max: 40 })), { maxLength: 4 });
const arbitraryCommand: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    type: fc.constant('topicCreate' as const),
    name,
    queues: fc.integer({ min: 1, max: 4 }),
    perm: fc.constant(6),
    messageType: fc.constant('normal' as const),
    replication: fc.constant(2),
  }),
  fc.record({
    type: fc.constant('topicUpdate' as const),
    name,
    queues: fc.constantFrom(-1, 2, 5),
    perm: fc.constantFrom(-1, 4, 6),
    replication: fc.constant(-1),
  }),
  fc.record({ type: fc.constant('topicDelete' as const), name }),
  fc.record({
    type: fc.constant('offsetCommit' as const),
    commits: fc.array(fc.tuple(group, fc.oneof(member, fc.constant('')), offsets), { maxLength: 3 }),
  }),
  fc.record({
    type: fc.constant('groupJoin' as const),
    group,
    member,
    address: fc.constant('x'),
    topics: fc.constantFrom(['topic-0'], ['topic-0', 'topic-1']),
    strategy: fc.constant('sticky' as const),
    sessionTimeoutMs: fc.constant(10_000),
  }),
  fc.record({
    type: fc.constant('groupJoinBy' as const),
    group,
    member,
    address: fc.constant('x'),
    topics: fc.constantFrom(['topic-0'], ['topic-0', 'topic-1']),
    strategy: fc.constantFrom(...ALLOCATE_STRATEGIES),
    sessionTimeoutMs: fc.constant(10_000),
    zone: fc.constantFrom('', 'east'),
    queues: fc.array(fc.tuple(fc.constantFrom('topic-0', 'topic-1'), fc.constant('a'), small), { maxLength: 3 }),
    brokerZones: fc.constantFrom([], [['a', 'east']] as [string, string][]),
    machineRooms: fc.constantFrom([], ['east']),
    retries: fc.boolean(),
    filterHash: fc.constantFrom(-1, 0, 7),
  }),
  fc.record({ type: fc.constant('retryTopicMake' as const), group, dead: fc.boolean() }),
  fc.record({ type: fc.constant('deadLetterMark' as const), group, offsets: fc.array(fc.nat({ max: 3 }), { maxLength: 3 }) }),
  fc.record({ type: fc.constant('groupLeave' as const), group, member }),
  fc.record({ type: fc.constant('groupExpire' as const), group, member, joinIndex: fc.nat({ max: 60 }) }),
  fc.record({ type: fc.constant('groupRelease' as const), group, member, queues: offsets }),
  fc.record({
    type: fc.constant('groupRevokeTimeout' as const),
    group,
    topicId: fc.integer({ min: 1, max: 6 }),
    queueId: small,
    epoch: fc.nat({ max: 60 }),
  }),
  fc.record({
    type: fc.constant('groupResetOffset' as const),
    group,
    topicId: fc.integer({ min: 1, max: 6 }),
    queueId: small,
    offset: fc.nat({ max: 60 }),
  }),
  fc.record({ type: fc.constant('cut' as const), position: fc.nat({ max: 6 }).map((n) => n * SEGMENT_BYTES) }),
  fc.record({
    type: fc.constant('setSetting' as const),
    name: fc.constantFrom('retentionMs', 'retentionBytes', 'no such'),
    value: fc.nat(),
  }),
);
const arbitraryBatch = fc.record({
  topicId: fc.integer({ min: 1, max: 6 }),
  queueId: small,
  producerId: fc.nat({ max: 2 }),
  epoch: fc.nat({ max: 2 }),
  sequence: fc.nat({ max: 6 }),
  count: fc.integer({ min: 1, max: 3 }),
  bodyBytes: fc.constantFrom(10, 3_000),
});
const arbitraryEntry = fc.oneof({ weight: 2, arbitrary: arbitraryCommand }, { weight: 3, arbitrary: arbitraryBatch });

function run(
  entries: readonly (
    | Command
    | { topicId: number; queueId: number; producerId: number; epoch: number; sequence: number; count: number; bodyBytes: number }
  )[],
): Machine {
  const one = new Machine();
  one.command({ type: 'topicCreate', name: 'topic-0', queues: 3, perm: 6, messageType: 'normal', replication: 2 });
  for (const entry of entries) {
    one.replica.passTime(1);
    if ('type' in entry) one.command(entry);
    else one.batch(entry.topicId, entry.queueId, makeBatch({ ...entry, sequence: entry.producerId === 0 ? 0 : entry.sequence }));
  }
  return one;
}

const sha = (machine: BrokerStateMachine): string => createHash('sha256').update(machine.snapshot()).digest('hex');

describe('state machine', () => {
  test('I6 the same entries give the same digest and the same snapshot bytes, also over snapshot and restore at any point', () => {
    fc.assert(
      fc.property(fc.array(arbitraryEntry, { maxLength: 60 }), fc.nat(), (entries, point) => {
        const one = run([{ type: 'featureLevelRaise', level: NEWEST_FEATURE_LEVEL }, ...entries]);
        const last = one.replica.appliedIndex();
        const middle = 1 + (point % last);

        const twin = new MemoryQueues();
        const again = new BrokerStateMachine({ brokerName: 'a', queues: twin, ids: new MemoryIds() });
        one.replica.replay(again, 1, middle);
        const snapshot = again.snapshot();
        const queues = new MemoryQueues();
        const restored = new BrokerStateMachine({ brokerName: 'a', queues, ids: new MemoryIds() });
        // Its own derived files, as far as they went.
        for (const [key, queue] of twin.open) {
          const copy = queues.queue(queue.topic, queue.topicId, queue.queueId);
          copy.rows.push(...queue.rows);
          queues.open.set(key, copy);
        }
        expect(restored.restore(snapshot)).toBe(true);
        expect(sha(restored)).toBe(sha(again));
        one.replica.replay(restored, middle + 1, last);
        one.replica.replay(again, middle + 1, last);

        expect(again.digest()).toBe(one.machine.digest());
        expect(restored.digest()).toBe(one.machine.digest());
        expect(sha(again)).toBe(sha(one.machine));
        expect(sha(restored)).toBe(sha(again));
      }),
      { numRuns: 150 },
    );
  });

  test('I6 a different verdict changes the digest', () => {
    const one = run([{ topicId: 1, queueId: 0, producerId: 1, epoch: 0, sequence: 0, count: 2, bodyBytes: 10 }]);
    const other = run([{ topicId: 1, queueId: 0, producerId: 1, epoch: 0, sequence: 1, count: 2, bodyBytes: 10 }]);
    expect(one.machine.digest()).not.toBe(other.machine.digest());
  });

  test('I6 another log time changes the digest', () => {
    const atTime = (passedMs: number): number => {
      const one = new Machine();
      one.replica.passTime(passedMs);
      one.command({ type: 'topicCreate', name: 'topic-0', queues: 3, perm: 6, messageType: 'normal', replication: 2 });
      return one.machine.digest();
    };
    expect(atTime(5)).toBe(atTime(5));
    expect(atTime(5)).not.toBe(atTime(6));
  });

  test('F01 offsets are dense from 0 in each queue; F29 one unit a batch; refused batches have neither', () => {
    const batch = { topicId: 1, producerId: 0, epoch: 0, sequence: 0, bodyBytes: 10 };
    const one = run([
      { ...batch, queueId: 0, count: 3 },
      { ...batch, queueId: 1, count: 1 },
      { ...batch, queueId: 0, producerId: 1, sequence: 5, count: 2 },
      { ...batch, queueId: 3, count: 1 },
      { ...batch, queueId: 0, count: 2 },
    ]);
    const rows = (queueId: number) => one.queues.queue('topic-0', 1, queueId).rows.map(({ baseOffset, count }) => [baseOffset, count]);
    expect(rows(0)).toEqual([
      [0, 3],
      [3, 2],
    ]);
    expect(rows(1)).toEqual([[0, 1]]);
    expect(one.machine.topics.queue(1, 0)?.nextOffset).toBe(5);
    const unit = one.queues.queue('topic-0', 1, 0).rows[0];
    expect(one.replica.entry(3).position).toBe(unit?.position);
  });

  test('a command of a newer release stops the replica instead of splitting it', () => {
    const body = encodeCommand({ type: 'cut', position: 0 });
    expect(decodeCommand(body)).toEqual({ type: 'cut', position: 0 });
    const newer = (values: unknown[]): Uint8Array => new Uint8Array([0, 0, 0, 0, ...plainPackr.pack(values)]);
    expect(() => decodeCommand(newer([2, 11, 0]))).toThrow('not known to this release');
    expect(() => decodeCommand(newer([99, 11, 0]))).toThrow('this release knows');
    expect(() => decodeCommand(newer([1, 99, 0]))).toThrow('not known to this release');
  });

  test('F01 topics: made again is done, otherwise defined is refused; a deleted one comes back empty under another id', () => {
    const one = run([]);
    const create = { type: 'topicCreate' as const, name: 'topic-0', queues: 3, perm: 6, messageType: 'normal' as const, replication: 2 };
    const before = one.machine.topics.named('topic-0');
    one.command(create);
    one.command({ ...create, queues: 4 });
    expect(one.machine.topics.named('topic-0')).toBe(before);
    expect(before?.queues.length).toBe(3);
    one.batch(1, 0, makeBatch({ producerId: 7 }));
    one.command({ type: 'offsetCommit', commits: [['g', '', [[1, 0, 1, 0]]]] });
    one.command({ type: 'topicDelete', name: 'topic-0' });
    expect(one.machine.producers.size).toBe(0);
    expect(one.machine.groups.named('g')?.offsets.size).toBe(0);
    one.command(create);
    expect(one.machine.topics.named('topic-0')?.id).toBe(2);
    expect(one.machine.topics.queue(2, 0)?.nextOffset).toBe(0);
    expect(one.machine.topics.named('topic-0')?.version).toBeGreaterThan(before?.version ?? 0);
  });

  test('F29 restore says when derived files do not cover what the state retains', () => {
    const one = run([{ topicId: 1, queueId: 0, producerId: 0, epoch: 0, sequence: 0, count: 2, bodyBytes: 10 }]);
    const snapshot = one.machine.snapshot();
    const fresh = new Machine();
    expect(fresh.machine.restore(snapshot)).toBe(false);
    expect(one.machine.restore(snapshot)).toBe(true);
    one.queues.truncateFrom(0);
    expect(one.machine.restore(snapshot)).toBe(false);
    // At the worst the log is replayed from its start, where nothing is retained yet.
    const empty = new Machine();
    const beginning = new BrokerStateMachine({ brokerName: 'a', queues: new MemoryQueues(), ids: new MemoryIds() }).snapshot();
    expect(empty.machine.restore(beginning)).toBe(true);
    one.replica.replay(empty.machine, 1, one.replica.appliedIndex());
    expect(sha(empty.machine)).toBe(sha(one.machine));
  });
});
