import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../src/protocol/errors.ts';
import type { OffsetFetchResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import type { FakeSession } from '../support/fake-session.ts';

function start() {
  const broker = BrokerHarness.ready({ T: 2 });
  broker.sent(broker.session(), 'T', 0, makeBatch({ count: 20 }));
  return broker;
}

const request = (broker: BrokerHarness, session: FakeSession, offset: number, member = '', epoch = 0, group = 'g') =>
  broker.request(session, Op.offsetCommit, { group, member, epoch, offsets: [{ topic: 'T', queueId: 0, offset }] });

function commit(broker: BrokerHarness, session: FakeSession, offset: number, member = '', epoch = 0): unknown {
  const id = request(broker, session, offset, member, epoch);
  broker.clock.advance(100);
  broker.replica.settle();
  return session.answers.get(id);
}

const fetch = (broker: BrokerHarness, session: FakeSession): readonly number[] | string => {
  const answer = broker.ask(session, Op.offsetFetch, { group: 'g', queues: [{ topic: 'T', queueId: 0 }] }) as OffsetFetchResponse | string;
  return typeof answer === 'string' ? answer : answer.offsets;
};
const DONE = { errors: [0] };

describe('offsets', () => {
  test('F21 many commits, one entry per 100 ms, acknowledged when applied', () => {
    const broker = start();
    const sessions = Array.from({ length: 50 }, () => broker.session());
    const before = broker.replica.positions.length;
    const commits = sessions.map((session, i) => request(broker, session, 5, '', 0, `group-${i}`));
    broker.clock.advance(0);
    expect(broker.replica.positions.length).toBe(before + 1);
    const more = sessions.map((session, i) => request(broker, session, 6, '', 0, `group-${i}`));
    broker.clock.advance(99);
    expect(broker.replica.positions.length).toBe(before + 1);
    broker.clock.advance(1);
    expect(broker.replica.positions.length).toBe(before + 2);
    expect(sessions.every((session, i) => !session.answers.has(commits[i] as number))).toBe(true);
    broker.replica.commit();
    for (const [i, session] of sessions.entries()) {
      expect(session.answers.get(commits[i] as number)).toEqual(DONE);
      expect(session.answers.get(more[i] as number)).toEqual(DONE);
    }
  });

  test('F21 an offset never goes back by a commit', () => {
    const broker = start();
    const session = broker.session();
    expect(fetch(broker, session)).toEqual([-1]);
    expect(commit(broker, session, 9)).toEqual(DONE);
    expect(commit(broker, session, 4)).toEqual(DONE);
    expect(fetch(broker, session)).toEqual([9]);
    expect(commit(broker, session, 21)).toEqual({ errors: [ERRORS.OFFSET_OUT_OF_RANGE.number] });
  });

  test('F21 offsets and fences survive a leader change', () => {
    const broker = start();
    const session = broker.session();
    const { queues } = broker.join(session, 'g', 'a@1');
    const epoch = queues[0]?.epoch as number;
    expect(commit(broker, session, 9, 'a@1', epoch)).toEqual(DONE);
    broker.replica.follow(2);
    broker.replica.leadReady(3);
    expect(fetch(broker, session)).toEqual([9]);
    expect(commit(broker, session, 12, 'a@1', epoch)).toEqual(DONE);
    expect(commit(broker, session, 13, 'a@1', epoch - 1)).toEqual({ errors: [ERRORS.FENCED.number] });
  });

  test('F21 leadership lost: a commit that was proposed is unknown, one that waited was certainly not stored', () => {
    const broker = start();
    const session = broker.session();
    const proposed = request(broker, session, 5);
    broker.clock.advance(0);
    const waiting = request(broker, session, 6);
    broker.replica.follow(2);
    expect([session.answers.get(proposed), session.answers.get(waiting)]).toEqual(['OUTCOME_UNKNOWN', 'NOT_LEADER']);
  });

  test('F21 a reset is the only way back, and starts a new ownership', () => {
    const broker = start();
    const session = broker.session();
    const before = broker.join(session, 'g', 'a@1').queues[0]?.epoch as number;
    commit(broker, session, 15, 'a@1', before);
    expect(broker.ask(session, Op.groupResetOffset, { group: 'g', topic: 'T', queueId: 0, offset: 3 })).toEqual({ previous: 15 });
    expect(fetch(broker, session)).toEqual([3]);
    expect(commit(broker, session, 16, 'a@1', before)).toEqual({ errors: [ERRORS.FENCED.number] });
    const pushed = session.pushes.at(-1) as { queues: { queueId: number; epoch: number; committedOffset: number }[] };
    const mine = pushed.queues.find(({ queueId }) => queueId === 0);
    expect(mine?.committedOffset).toBe(3);
    expect(commit(broker, session, 4, 'a@1', mine?.epoch)).toEqual(DONE);
  });

  test('F21 an unfenced commit is for groups without members', () => {
    const broker = start();
    const session = broker.session();
    broker.join(session, 'g', 'a@1');
    expect(commit(broker, session, 5)).toEqual({ errors: [ERRORS.NOT_OWNER.number] });
    expect(commit(broker, session, 5, 'stranger@1')).toEqual({ errors: [ERRORS.UNKNOWN_MEMBER.number] });
    const id = broker.request(session, Op.offsetCommit, {
      group: 'g',
      member: '',
      epoch: 0,
      offsets: [
        { topic: 'nope', queueId: 0, offset: 1 },
        { topic: 'T', queueId: 9, offset: 1 },
        { topic: 'T', queueId: 0, offset: -1 },
      ],
    });
    broker.clock.advance(100);
    broker.replica.settle();
    expect(session.answers.get(id)).toEqual({
      errors: [ERRORS.TOPIC_NOT_FOUND.number, ERRORS.QUEUE_NOT_FOUND.number, ERRORS.BAD_REQUEST.number],
    });
  });
});
