import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { type Command, encodeCommand, type GroupJoinBy } from '../../src/broker/commands.ts';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { putOfRecord } from '../../src/broker/topic-records.ts';
import { consumerSettings } from '../../src/client/consumer-settings.ts';
import { filterHash } from '../../src/client/message-filter.ts';
import type { Subscription } from '../../src/client/types.ts';
import { ALLOCATE_STRATEGIES, type AllocateStrategy } from '../../src/protocol/allocate-strategies.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { decodeRequest, encodeRequest } from '../../src/protocol/frame.ts';
import type { GroupJoinRequest } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { EntryType } from '../../src/replica/types.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import { FakeReplica } from '../support/fake-replica.ts';
import type { FakeSession } from '../support/fake-session.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';

const QUEUES = 4;

function start(level: number = FEATURE_LEVELS.messaging): BrokerHarness {
  const broker = BrokerHarness.ready({ T: QUEUES });
  if (level > 1) {
    const body = encodeCommand({ type: 'featureLevelRaise', level });
    broker.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    broker.replica.settle();
  }
  const session = broker.session();
  for (let queueId = 0; queueId < QUEUES; queueId++) broker.sent(session, 'T', queueId, makeBatch({ count: 10 }));
  return broker;
}

const joinOf = (member: string, strategy: AllocateStrategy, more: Partial<GroupJoinRequest> = {}): GroupJoinRequest => ({
  group: 'g',
  member,
  topics: ['T'],
  strategy,
  sessionTimeoutMs: 10_000,
  ...more,
});
const refusalOrIds = (answer: unknown): unknown =>
  typeof answer === 'string' ? answer : (answer as { queues: { queueId: number }[] }).queues.map(({ queueId }) => queueId);

describe('F07 a group and its strategy', () => {
  test('below feature level 3 only sticky is taken, with a code that says so', () => {
    const broker = start(FEATURE_LEVELS.cluster);
    const session = broker.session();
    for (const strategy of ALLOCATE_STRATEGIES) {
      const answer = refusalOrIds(broker.ask(session, Op.groupJoin, joinOf('a@1', strategy)));
      if (strategy === 'sticky') expect(answer).toEqual([0, 1, 2, 3]);
      else expect(answer).toBe('FEATURE_LEVEL');
    }
  });

  test('the first member decides; another strategy, other zones or rooms are refused; one that is alone may change its mind', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    const zones = [
      { brokerName: 'x', zone: 'east' },
      { brokerName: 'broker-a', zone: 'west' },
    ];
    const rooms = { brokerZones: zones, machineRooms: ['west', 'east'] };
    expect(refusalOrIds(broker.ask(a, Op.groupJoin, joinOf('a@1', 'byMachineRoom', rooms)))).toEqual([0, 1, 2, 3]);
    const others: GroupJoinRequest[] = [
      joinOf('b@1', 'sticky'),
      joinOf('b@1', 'averagely'),
      joinOf('b@1', 'broadcasting'),
      joinOf('b@1', 'byMachineRoom', { ...rooms, machineRooms: ['west'] }),
      joinOf('b@1', 'byMachineRoom', { ...rooms, brokerZones: zones.slice(1) }),
      joinOf('b@1', 'byMachineRoom', { ...rooms, brokerZones: [{ brokerName: 'x', zone: 'west' }, zones[1] as (typeof zones)[1]] }),
    ];
    for (const other of others) expect(broker.ask(b, Op.groupJoin, other)).toBe('GROUP_MODE_CONFLICT');
    // Said in another order it is the same.
    const same = joinOf('b@1', 'byMachineRoom', { brokerZones: zones.toReversed(), machineRooms: ['east', 'west', 'west'] });
    expect(refusalOrIds(broker.ask(b, Op.groupJoin, same))).toEqual([]);
    expect(broker.ask(a, Op.groupJoin, joinOf('a@1', 'averagely'))).toBe('GROUP_MODE_CONFLICT');
    broker.ask(b, Op.groupLeave, { group: 'g', member: 'b@1' });
    expect(refusalOrIds(broker.ask(a, Op.groupJoin, joinOf('a@1', 'averagely')))).toEqual([0, 1, 2, 3]);
    expect(broker.ask(b, Op.groupJoin, joinOf('b@1', 'sticky'))).toBe('GROUP_MODE_CONFLICT');
    // Nobody left: the next one decides.
    broker.ask(a, Op.groupLeave, { group: 'g', member: 'a@1' });
    expect(refusalOrIds(broker.ask(b, Op.groupJoin, joinOf('b@1', 'sticky')))).toEqual([0, 1, 2, 3]);
  });

  test('byConfig: a queue that no member wants any more is let go, and is nobody’s', () => {
    const broker = start();
    const session = broker.session();
    const wish = (...ids: number[]) => ({ queues: ids.map((queueId) => ({ topic: 'T', brokerName: 'broker-a', queueId })) });
    expect(refusalOrIds(broker.ask(session, Op.groupJoin, joinOf('a@1', 'byConfig', wish(2, 0))))).toEqual([0, 2]);
    const again = broker.ask(session, Op.groupJoin, joinOf('a@1', 'byConfig', wish(0)));
    expect(again.revoking).toEqual([{ topic: 'T', queueId: 2 }]);
    const epoch = again.queues.find(({ queueId }) => queueId === 2)?.epoch as number;
    const queues = [{ topic: 'T', queueId: 2, epoch, offset: 5 }];
    expect(broker.ask(session, Op.groupRelease, { group: 'g', member: 'a@1', queues })).toEqual({});
    const owned = [...(broker.machine.groups.named('g')?.owned.values() ?? [])];
    expect(owned.map(({ owner }) => owner)).toEqual(['a@1', '', '', '']);
    expect(session.answers.get(broker.pull(session, { group: 'g', member: 'a@1', queueId: 2, epoch }))).toBe('NOT_OWNER');
  });

  test('joins that name too much or the same group twice are refused', () => {
    const broker = start();
    const session = broker.session();
    const queue = { topic: 'T', brokerName: 'broker-a', queueId: 0 };
    const zone = { brokerName: 'a', zone: 'z' };
    for (const more of [
      { queues: new Array(1_001).fill(queue) },
      { brokerZones: [zone, { ...zone, zone: 'y' }] },
      { machineRooms: new Array(1_025).fill('z') },
    ]) {
      expect(broker.ask(session, Op.groupJoin, joinOf('a@1', 'byConfig', more))).toBe('BAD_REQUEST');
    }
  });
});

describe('F18 broadcasting at the broker', () => {
  test('every member may read every queue, without an epoch; strangers may not, and nobody’s offset is the group’s', () => {
    const broker = start();
    const sessions = [broker.session(), broker.session()] as const;
    for (const [at, session] of sessions.entries()) {
      expect(refusalOrIds(broker.ask(session, Op.groupJoin, joinOf(`m${at}`, 'broadcasting')))).toEqual([]);
    }
    for (const [at, session] of sessions.entries()) {
      for (let queueId = 0; queueId < QUEUES; queueId++) {
        const pull = broker.pull(session, { group: 'g', member: `m${at}`, queueId, epoch: 0 });
        expect(session.answers.get(pull)).toMatchObject({ nextOffset: 10 });
      }
      const offsets = [{ topic: 'T', queueId: 0, offset: 5 }];
      const id = broker.request(session, Op.offsetCommit, { group: 'g', member: `m${at}`, epoch: 0, offsets });
      broker.clock.advance(100);
      broker.replica.settle();
      expect(session.answers.get(id)).toEqual({ errors: [ERRORS.GROUP_MODE_CONFLICT.number] });
    }
    const [session] = sessions;
    expect(session.answers.get(broker.pull(session, { group: 'g', member: 'stranger', epoch: 0 }))).toBe('UNKNOWN_MEMBER');
    expect(broker.ask(session, Op.groupJoin, joinOf('m3', 'sticky'))).toBe('GROUP_MODE_CONFLICT');
    expect(broker.machine.groups.named('g')?.offsets.size).toBe(0);
  });
});

/** The replicated state of one broker group out of several, at feature level 3. */
class Group {
  readonly machine: BrokerStateMachine;
  readonly #replica: FakeReplica;

  constructor(brokerName: string) {
    this.machine = new BrokerStateMachine({ brokerName, queues: new MemoryQueues(), ids: new MemoryIds() });
    this.#replica = new FakeReplica({ machine: this.machine });
    this.#replica.leadReady();
    this.apply({ type: 'featureLevelRaise', level: FEATURE_LEVELS.messaging });
  }

  apply(command: Command): void {
    const body = encodeCommand(command);
    this.#replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    this.#replica.commit();
  }
}

describe('F07 several broker groups and one strategy', () => {
  const brokerNames = ['a', 'b', 'c'];
  const placement = [
    { brokerName: 'a', queues: 1 },
    { brokerName: 'b', queues: 5 },
    { brokerName: 'c', queues: 2 },
  ];
  const topic = {
    name: 'T',
    incarnation: 7,
    version: 1,
    placement,
    perm: 6,
    messageType: 'normal',
    replication: 2,
    deleted: false,
  } as const;
  const step = fc.record({ kind: fc.constantFrom('join', 'leave'), member: fc.nat({ max: 5 }) });

  test.each(ALLOCATE_STRATEGIES.filter((strategy) => strategy !== 'broadcasting'))(
    '%s: in whatever order members come at each leader, all slices together are one assignment without skew; a snapshot keeps it',
    (strategy) => {
      const joinBy = (member: number): GroupJoinBy => ({
        type: 'groupJoinBy',
        group: 'g',
        member: `m${member}`,
        address: 'x',
        topics: ['T'],
        strategy,
        sessionTimeoutMs: 10_000,
        zone: member % 2 === 0 ? 'east' : 'west',
        queues: strategy === 'byConfig' ? [['T', 'b', member % 5]] : [],
        brokerZones: [['a', 'east'] as const, ['c', 'west'] as const],
        machineRooms: strategy === 'byMachineRoom' ? ['', 'east'] : [],
        retries: member % 3 === 0,
        filterHash: -1,
      });
      fc.assert(
        fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), fc.infiniteStream(fc.nat()), (steps, noise) => {
          const members = new Set<number>();
          for (const { kind, member } of steps) {
            if (kind === 'join') members.add(member);
            else members.delete(member);
          }
          const targets: string[] = [];
          for (const brokerName of brokerNames) {
            const group = new Group(brokerName);
            group.apply(putOfRecord(topic));
            // One leader saw all of the churn, another one only who is left, in another order.
            if (brokerName === 'a') {
              for (const { kind, member } of steps) {
                group.apply(kind === 'join' ? joinBy(member) : { type: 'groupLeave', group: 'g', member: `m${member}` });
              }
            } else {
              const shuffled = [...members].map((member) => ({ member, at: noise.next().value as number })).sort((x, y) => x.at - y.at);
              for (const { member } of shuffled) group.apply(joinBy(member));
            }
            const owned = [...(group.machine.groups.named('g')?.owned.values() ?? [])].sort((x, y) => x.queueId - y.queueId);
            targets.push(...owned.map(({ target }) => target));

            const restored = new BrokerStateMachine({ brokerName, queues: new MemoryQueues(), ids: new MemoryIds() });
            restored.restore(group.machine.snapshot());
            expect(restored.groups.named('g')).toEqual(group.machine.groups.named('g'));
          }
          if (members.size === 0) return;
          expect(targets).toHaveLength(8);
          const loads = [...members].map((member) => targets.filter((target) => target === `m${member}`).length);
          const even = strategy !== 'consistentHash' && strategy !== 'byConfig' && strategy !== 'machineRoomNearby';
          if (even) expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(1);
          if (strategy === 'byMachineRoom') expect(targets.filter((target) => target === '')).toHaveLength(2);
          if (strategy === 'byConfig') {
            // b's five queues, each wanted by the member of its number; m5 wants what m0 does.
            const wanted = new Set([...members].map((member) => member % 5));
            expect(targets.filter((target) => target !== '')).toHaveLength(wanted.size);
          }
          if (strategy === 'machineRoomNearby' && [...members].some((member) => member % 2 === 0)) {
            expect(Number(targets[0]?.slice(1)) % 2).toBe(0);
          }
        }),
        { numRuns: 25 },
      );
    },
  );
});

describe('F24 a group and its filters', () => {
  test('members that say what they filter by say the same; one that does not say is believed; one that is alone may change its mind', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    const join = (session: FakeSession, member: string, filterHash?: number): unknown =>
      refusalOrIds(
        broker.ask(session, Op.groupJoin, joinOf(member, 'sticky', { retries: true, ...(filterHash === undefined ? {} : { filterHash }) })),
      );
    expect(join(a, 'a@1', 7)).toEqual([0, 1, 2, 3]);
    expect(join(a, 'a@1', 8)).toEqual([0, 1, 2, 3]);
    expect(join(b, 'b@1', 7)).toBe('GROUP_MODE_CONFLICT');
    expect(join(b, 'b@1', 0)).toBe('GROUP_MODE_CONFLICT');
    expect(join(b, 'old@1')).not.toBe('GROUP_MODE_CONFLICT');
    expect(join(b, 'b@1', 9)).toBe('GROUP_MODE_CONFLICT');
    expect(join(b, 'b@1', 8)).not.toBe('GROUP_MODE_CONFLICT');
    // What was said is part of the saved state.
    const restored = new BrokerStateMachine({ brokerName: 'broker-a', queues: new MemoryQueues(), ids: new MemoryIds() });
    restored.restore(broker.machine.snapshot());
    expect([...(restored.groups.named('g')?.members.values() ?? [])].map(({ name, filterHash }) => [name, filterHash])).toEqual([
      ['a@1', 8],
      ['b@1', 8],
      ['old@1', -1],
    ]);
  });

  test('the hash is of what is written, whatever its order, and not of functions', () => {
    const hash = (...subscriptions: Subscription[]): number => filterHash(consumerSettings({ group: 'g', subscriptions }).filters);
    const paid = hash({ topic: 't', filter: 'a || b' }, { topic: 'u', sql: 'x = 1' });
    expect(hash({ topic: 'u', sql: 'x = 1' }, { topic: 't', filter: 'b||a' })).toBe(paid);
    expect(hash({ topic: 't', filter: 'a || b' }, { topic: 'u', sql: 'x = 2' })).not.toBe(paid);
    expect([hash({ topic: 't' }), hash({ topic: 't', filter: '*' }), hash({ topic: 't', filter: () => true })]).toEqual([0, 0, 0]);
  });
});

describe('F07 joins on the wire', () => {
  test('wishes and zones come as they were said; an older client says nothing of them', () => {
    const join = joinOf('a@1', 'byConfig', {
      queues: [{ topic: 'T', brokerName: 'a', queueId: 3 }],
      brokerZones: [{ brokerName: 'a', zone: 'east' }],
      machineRooms: ['east'],
    });
    for (const body of [join, joinOf('a@1', 'sticky')]) {
      expect(decodeRequest(encodeRequest(Op.groupJoin, 1, 3_000, body))).toMatchObject({ op: Op.groupJoin, body });
    }
    const unknown = encodeRequest(Op.groupJoin, 1, 3_000, joinOf('a@1', 'byHoroscope' as AllocateStrategy));
    expect(decodeRequest(unknown)).toMatchObject({
      requestId: 1,
      error: { code: 'BAD_REQUEST', detail: expect.stringContaining('strategy') },
    });
  });
});
