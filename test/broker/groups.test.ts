import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../src/protocol/errors.ts';
import type { Assignment, GroupHeartbeatResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import type { FakeSession } from '../support/fake-session.ts';

const QUEUES = 6;
const ids = (queues: readonly { queueId: number }[]): number[] => queues.map(({ queueId }) => queueId).sort((a, b) => a - b);

function start(limits = {}) {
  const broker = BrokerHarness.ready({ T: QUEUES }, limits);
  const session = broker.session();
  for (let queueId = 0; queueId < QUEUES; queueId++) broker.sent(session, 'T', queueId, makeBatch({ count: 10 }));
  return broker;
}

/** Beats every 3 s for so long. */
function beat(broker: BrokerHarness, ms: number, members: readonly [FakeSession, string][]): void {
  for (let passed = 0; passed < ms; passed += 3_000) {
    for (const [session, member] of members) broker.request(session, Op.groupHeartbeat, { group: 'g', member, epoch: 0 });
    broker.clock.advance(Math.min(3_000, ms - passed));
    broker.replica.settle();
  }
}

function owners(broker: BrokerHarness): string[] {
  const owned = broker.machine.groups.named('g')?.owned ?? new Map();
  return [...owned.values()].sort((a, b) => a.queueId - b.queueId).map(({ owner }) => owner);
}

function release(broker: BrokerHarness, session: FakeSession, member: string, assignment: Assignment, offset: number): unknown {
  const queues = assignment.revoking.map((queue) => {
    const epoch = assignment.queues.find(({ queueId }) => queueId === queue.queueId)?.epoch as number;
    return { ...queue, epoch, offset };
  });
  return broker.ask(session, Op.groupRelease, { group: 'g', member, queues });
}

describe('consumer groups', () => {
  test('F18 F07 cooperative hand-over: the new owner waits until the old one has released, and starts at its final offset', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    const alone = broker.join(a, 'g', 'a@1');
    expect(ids(alone.queues)).toEqual([0, 1, 2, 3, 4, 5]);
    const joined = broker.join(b, 'g', 'b@1');
    expect(joined.queues).toEqual([]);
    const pushed = a.pushes.at(-1) as Assignment;
    expect(pushed.queues).toHaveLength(QUEUES);
    expect(pushed.revoking).toHaveLength(QUEUES / 2);
    expect(new Set(owners(broker))).toEqual(new Set(['a@1']));
    const [moving] = pushed.revoking;
    const queueId = moving?.queueId as number;
    expect(session(broker, b, 'b@1', queueId, joined.epoch)).toBe('NOT_OWNER');

    expect(release(broker, a, 'a@1', pushed, 7)).toEqual({});
    const now = b.pushes.at(-1) as Assignment;
    expect(ids(now.queues)).toEqual(ids(pushed.revoking));
    expect(now.queues.map(({ committedOffset }) => committedOffset)).toEqual([7, 7, 7]);
    const epoch = now.queues.find((queue) => queue.queueId === queueId)?.epoch as number;
    expect(session(broker, b, 'b@1', queueId, epoch)).toMatchObject({ nextOffset: 10 });
    expect(session(broker, a, 'a@1', queueId, alone.epoch)).toBe('NOT_OWNER');
    const commit = { group: 'g', member: 'a@1', epoch: alone.epoch, offsets: [{ topic: 'T', queueId, offset: 9 }] };
    const id = broker.request(a, Op.offsetCommit, commit);
    broker.clock.advance(100);
    broker.replica.settle();
    expect(a.answers.get(id)).toEqual({ errors: [ERRORS.NOT_OWNER.number] });
    expect(broker.machine.groups.named('g')?.offsets.get(65_536 + queueId)).toBe(7);
  });

  test('F07 an owner that does not release is revoked after 10 s, and refused from then on', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    broker.join(a, 'g', 'a@1');
    broker.join(b, 'g', 'b@1');
    beat(broker, 9_000, [
      [a, 'a@1'],
      [b, 'b@1'],
    ]);
    expect(new Set(owners(broker))).toEqual(new Set(['a@1']));
    beat(broker, 1_000, [
      [a, 'a@1'],
      [b, 'b@1'],
    ]);
    expect(owners(broker).filter((owner) => owner === 'b@1')).toHaveLength(3);
    const late = a.pushes.findLast((push) => (push as Assignment).revoking.length > 0) as Assignment;
    expect(release(broker, a, 'a@1', late, 5)).toBe('NOT_OWNER');
  });

  test('F06 sessions: 10 s of silence end one, a heartbeat renews it, leaving ends it at once', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    broker.join(a, 'g', 'a@1');
    broker.join(b, 'g', 'b@1');
    beat(broker, 30_000, [
      [a, 'a@1'],
      [b, 'b@1'],
    ]);
    expect(new Set(owners(broker)).size).toBe(2);
    // It was heard last 3 s ago.
    beat(broker, 6_999, [[a, 'a@1']]);
    expect(broker.machine.groups.named('g')?.members.size).toBe(2);
    beat(broker, 1_000, [[a, 'a@1']]);
    expect(new Set(owners(broker))).toEqual(new Set(['a@1']));
    expect(broker.ask(b, Op.groupHeartbeat, { group: 'g', member: 'b@1', epoch: 0 })).toBe('UNKNOWN_MEMBER');
    expect(broker.ask(a, Op.groupLeave, { group: 'g', member: 'a@1' })).toEqual({});
    expect(broker.machine.groups.named('g')?.members.size).toBe(0);
  });

  test('F06 a closed connection has 3 s of grace; a member heard over another one stays', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    broker.join(a, 'g', 'a@1');
    broker.join(b, 'g', 'b@1');
    for (const session of [a, b]) {
      session.closed = true;
      broker.broker.closed(session);
    }
    const again = broker.session();
    beat(broker, 2_999, [[again, 'a@1']]);
    expect(broker.machine.groups.named('g')?.members.size).toBe(2);
    beat(broker, 1, []);
    expect([...(broker.machine.groups.named('g')?.members.keys() ?? [])]).toEqual(['a@1']);
  });

  test('F06 30 s / 120 s as RocketMQ clients have them', () => {
    const broker = start();
    const session = broker.session();
    broker.ask(session, Op.groupJoin, { group: 'g', member: 'a@1', topics: ['T'], strategy: 'sticky', sessionTimeoutMs: 120_000 });
    broker.clock.advance(119_999);
    broker.replica.settle();
    expect(broker.machine.groups.named('g')?.members.size).toBe(1);
    broker.clock.advance(1);
    broker.replica.settle();
    expect(broker.machine.groups.named('g')?.members.size).toBe(0);
  });

  test('F06 an expiry that crosses a new join does not end it', () => {
    const broker = start();
    const session = broker.session();
    broker.join(session, 'g', 'a@1');
    broker.clock.advance(9_999);
    const again = { group: 'g', member: 'a@1', topics: ['T'], strategy: 'sticky' as const, sessionTimeoutMs: 10_000 };
    const id = broker.request(session, Op.groupJoin, again);
    broker.clock.advance(1);
    expect(broker.events).toContain('group member expired');
    broker.replica.settle();
    expect(session.answers.get(id)).toMatchObject({ queues: { length: QUEUES } });
    expect(broker.machine.groups.named('g')?.members.size).toBe(1);
    broker.clock.advance(9_000);
    broker.replica.settle();
    expect(broker.machine.groups.named('g')?.members.size).toBe(1);
  });

  test('F06 a new leader grants one full session; members go on with the owners and epochs of the log', () => {
    const broker = start();
    const a = broker.session();
    const { queues, epoch } = broker.join(a, 'g', 'a@1');
    broker.clock.advance(9_000);
    broker.replica.follow(2);
    expect(broker.ask(a, Op.groupHeartbeat, { group: 'g', member: 'a@1', epoch })).toBe('NOT_LEADER');
    broker.clock.advance(60_000);
    broker.replica.lead(3);
    expect(broker.ask(a, Op.groupHeartbeat, { group: 'g', member: 'a@1', epoch })).toBe('NOT_READY');
    broker.replica.settle();
    broker.clock.advance(9_999);
    broker.replica.settle();
    expect(broker.ask(a, Op.groupHeartbeat, { group: 'g', member: 'a@1', epoch })).toEqual({ assignment: null });
    const pull = broker.pull(a, { group: 'g', member: 'a@1', queueId: 2, epoch: queues[2]?.epoch as number });
    expect(a.answers.get(pull)).toMatchObject({ nextOffset: 10 });
    broker.clock.advance(10_000);
    broker.replica.settle();
    expect(broker.machine.groups.named('g')?.members.size).toBe(0);
  });

  test('F07 a heartbeat with an old epoch mends a lost push; more queues are handed out', () => {
    const broker = start();
    const a = broker.session();
    const { epoch } = broker.join(a, 'g', 'a@1');
    broker.ask(a, Op.topicUpdate, { topic: 'T', queues: 8, perm: -1, replication: -1 });
    expect((a.pushes.at(-1) as Assignment).queues).toHaveLength(8);
    const { assignment } = broker.ask(a, Op.groupHeartbeat, { group: 'g', member: 'a@1', epoch }) as GroupHeartbeatResponse;
    expect(assignment?.queues).toHaveLength(8);
    const current = assignment?.epoch as number;
    expect(broker.ask(a, Op.groupHeartbeat, { group: 'g', member: 'a@1', epoch: current })).toEqual({ assignment: null });
    broker.ask(a, Op.topicDelete, { topic: 'T' });
    expect((a.pushes.at(-1) as Assignment).queues).toEqual([]);
  });

  test('F06 bad joins: names, topics, a subscription unlike the others', () => {
    const broker = start();
    const [a, b] = [broker.session(), broker.session()];
    broker.ask(a, Op.topicCreate, { topic: 'U', queues: 1, perm: 6, messageType: 'normal', replication: 2 });
    expect(broker.join(a, 'no good', 'a@1')).toBe('BAD_NAME');
    expect(broker.join(a, 'g', '')).toBe('BAD_NAME');
    expect(broker.join(a, 'g', 'a@1', ['nope'])).toBe('TOPIC_NOT_FOUND');
    expect(broker.join(a, 'g', 'a@1', [])).toBe('BAD_REQUEST');
    broker.join(a, 'g', 'a@1', ['T']);
    expect(broker.join(b, 'g', 'b@1', ['U'])).toBe('GROUP_MODE_CONFLICT');
    expect(ids(broker.join(a, 'g', 'a@1', ['U']).queues)).toEqual([0]);
  });

  test('F07 no queue ever has two valid owners, and every queue finds its target, whatever members do', () => {
    const member = fc.nat({ max: 3 }).map((n) => `m${n}@1`);
    const action = fc.record({ kind: fc.constantFrom('join', 'leave', 'release', 'crash', 'wait', 'pull'), member });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const broker = start();
        const sessions = new Map<string, FakeSession>();
        // (queue, epoch) → the only member that was ever told it owns the queue under that epoch.
        const told = new Map<string, string>();
        const note = (assignment: Assignment): void => {
          for (const { queueId, epoch } of assignment.queues) {
            const key = `${queueId}/${epoch}`;
            expect(told.get(key) ?? assignment.member).toBe(assignment.member);
            told.set(key, assignment.member);
          }
        };
        const latest = new Map<string, Assignment>();
        const listen = (): void => {
          for (const session of sessions.values()) {
            for (const push of session.pushes.splice(0)) {
              note(push as Assignment);
              latest.set((push as Assignment).member, push as Assignment);
            }
          }
        };
        for (const { kind, member: name } of actions) {
          const session = sessions.get(name) ?? broker.session();
          sessions.set(name, session);
          const mine = latest.get(name);
          if (kind === 'join') {
            const assignment = broker.join(session, 'g', name);
            note(assignment);
            latest.set(name, assignment);
          } else if (kind === 'leave') broker.ask(session, Op.groupLeave, { group: 'g', member: name });
          else if (kind === 'release' && mine !== undefined) release(broker, session, name, mine, 1);
          else if (kind === 'crash') {
            session.closed = true;
            broker.broker.closed(session);
            sessions.delete(name);
          } else if (kind === 'wait')
            beat(
              broker,
              4_000,
              [...sessions].map(([other, its]) => [its, other] as [FakeSession, string]),
            );
          listen();
          // Whoever pulls with what it was told last: at most one of all is served.
          for (let queueId = 0; queueId < QUEUES; queueId++) {
            const served = [...told].filter(([key, who]) => {
              const [queue, epoch] = key.split('/').map(Number);
              if (queue !== queueId) return false;
              const probe = broker.session();
              return (
                typeof probe.answers.get(broker.pull(probe, { group: 'g', member: who, queueId, epoch: epoch as number })) !== 'string'
              );
            });
            expect(served.length).toBeLessThanOrEqual(1);
          }
        }
        beat(
          broker,
          24_000,
          [...sessions].map(([name, session]) => [session, name] as [FakeSession, string]),
        );
        for (const { owner, target } of broker.machine.groups.named('g')?.owned.values() ?? []) expect(owner).toBe(target);
      }),
      { numRuns: 40 },
    );
  });
});

function session(broker: BrokerHarness, of: FakeSession, member: string, queueId: number, epoch: number): unknown {
  return of.answers.get(broker.pull(of, { group: 'g', member, queueId, epoch }));
}
