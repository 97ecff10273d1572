import { describe, expect, test } from 'vitest';
import type { MessageGetResponse, RouteResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const MESSAGE_ID = '0102030405060708000000000000000B';

describe('administration', () => {
  test.each([false, true])('F30 a message by id and by offset, verified in its batch (cold: %s)', async (cold) => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const batch = makeBatch({ producerId: 9, count: 3, idLow: 10 });
    broker.sent(session, 'T', 2, makeBatch({ idLow: 500 }));
    broker.sent(session, 'T', 2, batch);
    // The retry lies in the log, too, newer; it is in no queue, so it is not what is found.
    broker.sent(session, 'T', 2, batch);
    const duplicate = broker.replica.positions.at(-1) as number;
    broker.ids.putIds(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 10, 3, duplicate);
    if (cold) broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    const get = async (request: { id?: string; queueId?: number; offset?: number }): Promise<unknown> => {
      const id = broker.request(session, Op.messageGet, { id: '', topic: 'T', queueId: 2, offset: 0, ...request });
      for (let i = 0; i < 4; i++) await tick();
      if (session.raws.has(id)) expect(Buffer.compare(session.raws.get(id) as Uint8Array, batch)).toBe(0);
      return session.answers.get(id);
    };
    const byId = (await get({ id: MESSAGE_ID })) as MessageGetResponse;
    expect(byId).toMatchObject({ topic: 'T', queueId: 2, baseOffset: 1, messageIndex: 1 });
    expect(await get({ offset: 2 })).toEqual(byId);
    expect(await get({ offset: 4 })).toBe('MESSAGE_NOT_FOUND');
    expect(await get({ id: '0102030405060708000000000000000D' })).toBe('MESSAGE_NOT_FOUND');
    expect(await get({ id: 'xyz' })).toBe('BAD_REQUEST');
  });

  test('F42 topics: names and bounds are checked, definitions answered, again is fine', () => {
    const broker = BrokerHarness.ready({});
    const session = broker.session();
    const create = (topic: string, queues = 2) =>
      broker.ask(session, Op.topicCreate, { topic, queues, perm: 6, messageType: 'fifo', replication: 0 });
    expect(create('no good')).toBe('BAD_NAME');
    expect(create('%RETRY%g')).toBe('BAD_NAME');
    expect(create('x'.repeat(128))).toBe('BAD_NAME');
    expect(create('T', 0)).toBe('BAD_REQUEST');
    const route = create('T');
    expect(route).toMatchObject({
      topic: 'T',
      topicId: 1,
      perm: 6,
      messageType: 'fifo',
      placement: [{ brokerName: 'broker-a', queues: 2 }],
    });
    expect(create('T')).toEqual(route);
    expect(create('T', 3)).toBe('TOPIC_EXISTS');
    expect(broker.ask(session, Op.topicUpdate, { topic: 'T', queues: 1, perm: -1, replication: -1 })).toBe('BAD_REQUEST');
    expect(broker.ask(session, Op.topicUpdate, { topic: 'nope', queues: 1, perm: -1, replication: -1 })).toBe('TOPIC_NOT_FOUND');
    expect(broker.ask(session, Op.topicList, { topics: [] }).topics.map(({ topic }) => topic)).toEqual(['T']);
    expect(broker.ask(session, Op.topicDelete, { topic: 'T' })).toEqual({});
    expect(broker.ask(session, Op.topicDelete, { topic: 'T' })).toBe('TOPIC_NOT_FOUND');
  });

  test('F42 groups: lag counts from the committed offset, or from the first retained one', () => {
    const broker = BrokerHarness.ready({ T: 2 });
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ count: 10 }));
    const { queues } = broker.join(session, 'g', 'a@1');
    broker.request(session, Op.offsetCommit, {
      group: 'g',
      member: 'a@1',
      epoch: queues[0]?.epoch as number,
      offsets: [{ topic: 'T', queueId: 0, offset: 4 }],
    });
    broker.clock.advance(100);
    broker.replica.settle();
    expect(broker.ask(session, Op.groupList, {}).groups).toMatchObject([{ group: 'g', members: 1, lag: 6 }]);
    const described = broker.ask(session, Op.groupDescribe, { group: 'g' });
    expect(described.queues.map(({ owner, committedOffset, lag }) => [owner, committedOffset, lag])).toEqual([
      ['a@1', 4, 6],
      ['a@1', -1, 0],
    ]);
    expect(broker.ask(session, Op.groupDescribe, { group: 'nope' })).toBe('GROUP_NOT_FOUND');
  });

  test('F01 routes come from the log and are pushed to those who asked when they change', () => {
    const broker = BrokerHarness.ready({ T: 2, U: 1 });
    const [session, other] = [broker.session(), broker.session()];
    const route = session.answers.get(broker.request(session, Op.route, { topics: ['T', 'nope'] })) as RouteResponse;
    expect(route.topics.map(({ topic }) => topic)).toEqual(['T']);
    expect(route.brokers).toMatchObject([{ brokerName: 'broker-a', leader: 1 }]);
    broker.request(other, Op.route, { topics: ['U'] });
    broker.ask(session, Op.topicUpdate, { topic: 'T', queues: 3, perm: -1, replication: -1 });
    expect(session.pushes).toMatchObject([{ topics: [{ topic: 'T', placement: [{ queues: 3 }] }] }]);
    expect(other.pushes).toEqual([]);
    broker.replica.follow(2, 2);
    expect(session.pushes.at(-1)).toMatchObject({ brokers: [{ leader: 2, term: 2 }] });
  });

  test('F42 the range of a queue, and the offset at a time', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ count: 2 }));
    broker.replica.passTime(1_000);
    const later = broker.replica.logTimeMs();
    broker.sent(session, 'T', 0, makeBatch());
    const range = (timeMs: number) => broker.ask(session, Op.queueRange, { topic: 'T', queueId: 0, timeMs });
    expect(range(0)).toEqual({ minOffset: 0, maxOffset: 3, timeOffset: 0 });
    expect(range(later)).toEqual({ minOffset: 0, maxOffset: 3, timeOffset: 2 });
    expect(range(later + 1)).toEqual({ minOffset: 0, maxOffset: 3, timeOffset: 3 });
  });

  test('F01 a replica that installs a snapshot tells its topics, and answers the pulls it held', () => {
    const source = BrokerHarness.ready({ T: 2, V: 1, W: 1 });
    source.ask(source.session(), Op.topicDelete, { topic: 'W' });
    const behind = BrokerHarness.ready({ T: 2, U: 1 });
    behind.replica.follow(2);
    const session = behind.session();
    const held = behind.pull(session, { topic: 'U', waitMs: 30_000 });
    expect(behind.machine.restore(source.machine.snapshot())).toBe(true);
    expect(session.answers.get(held)).toBe('NOT_LEADER');
    expect(behind.routing.route(['T', 'U', 'V']).topics.map(({ topic }) => topic)).toEqual(['T', 'V']);
  });
});
