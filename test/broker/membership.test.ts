import { describe, expect, test } from 'vitest';
import { type ErrorCode, LedgerError } from '../../src/protocol/errors.ts';
import { Op } from '../../src/protocol/requests.ts';
import { BrokerHarness } from '../support/fake-broker.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const MEMBER = { replicaId: 4, host: 'd.example', port: 7460 };

describe('membership changes', () => {
  test('F42 raft add and remove: answered when the change is done, noted when it is asked for and when it is done', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const seen: unknown[] = [];
    let done = (): void => {};
    broker.membershipChange = (change) => {
      seen.push(change);
      return new Promise((resolve) => {
        done = resolve;
      });
    };
    const requests = [
      ['replica add', broker.request(session, Op.raftAdd, MEMBER)],
      ['replica remove', broker.request(session, Op.raftRemove, { replicaId: 4 })],
    ] as const;
    expect(seen).toEqual([MEMBER, 4]);
    await turn();
    for (const [event, id] of requests) {
      expect(session.answers.has(id)).toBe(false);
      expect(broker.events).toContain(`${event} asked for`);
      expect(broker.events).not.toContain(event);
    }
    done();
    await turn();
    expect(session.answers.has(requests[0][1])).toBe(false);
    expect(session.answers.get(requests[1][1])).toEqual({});
    expect(broker.events).toContain('replica remove');
  });

  test.each<ErrorCode>(['NOT_LEADER', 'BAD_REQUEST', 'FEATURE_LEVEL', 'DEADLINE_EXCEEDED'])(
    'F42 raft add and remove: a refusal with %s is passed on, and noted',
    async (code) => {
      const broker = BrokerHarness.ready();
      const session = broker.session();
      broker.membershipChange = () => Promise.reject(new LedgerError(code, 'why'));
      const ids = [broker.request(session, Op.raftAdd, MEMBER), broker.request(session, Op.raftRemove, { replicaId: 4 })];
      await turn();
      expect(ids.map((id) => session.answers.get(id))).toEqual([code, code]);
      expect(broker.events.filter((event) => event === 'replica add' || event === 'replica remove')).toHaveLength(2);
    },
  );

  test('F42 raft add and remove: what is no replica, and what is asked of a follower, goes no further', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    let changes = 0;
    broker.membershipChange = () => {
      changes++;
      return Promise.resolve();
    };
    for (const wrong of [{ replicaId: 0 }, { replicaId: 8 }, { port: 0 }, { host: '' }]) {
      expect(broker.ask(session, Op.raftAdd, { ...MEMBER, ...wrong })).toBe('BAD_REQUEST');
    }
    expect(broker.ask(session, Op.raftRemove, { replicaId: 0 })).toBe('BAD_REQUEST');
    expect(broker.ask(session, Op.raftRemove, { replicaId: 8 })).toBe('BAD_REQUEST');
    broker.replica.follow(99);
    expect(broker.ask(session, Op.raftAdd, MEMBER)).toBe('NOT_LEADER');
    expect(broker.ask(session, Op.raftRemove, { replicaId: 4 })).toBe('NOT_LEADER');
    expect(changes).toBe(0);
    expect(broker.events.filter((event) => event.startsWith('replica '))).toEqual([]);
  });
});
