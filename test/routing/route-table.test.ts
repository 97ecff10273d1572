import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BrokerRoute, TopicRoute } from '../../src/protocol/requests.ts';
import { RouteTable } from '../../src/routing/route-table.ts';
import type { RouteChange } from '../../src/routing/routing.ts';
import { StaticRouting } from '../../src/routing/static-routing.ts';

const replicas = [1, 2, 3].map((replicaId) => ({ replicaId, endpoint: `ws://h${replicaId}:7460` }));
const broker = (term: number, leader: number, brokerName = 'a'): BrokerRoute => ({ brokerName, term, leader, replicas });
const topic = (version: number, queues = 8, name = 't'): TopicRoute => ({
  topic: name,
  topicId: 1,
  version,
  perm: 6,
  messageType: 'normal',
  placement: [{ brokerName: 'a', queues }],
});

describe('route table', () => {
  test('the higher term or version wins; an older one changes nothing', () => {
    const table = new RouteTable();
    expect(table.mergeBroker(broker(2, 1))).toBe('taken');
    expect(table.mergeBroker(broker(1, 3))).toBe('older');
    expect(table.mergeBroker(broker(2, 1))).toBe('known');
    expect(table.mergeBroker(broker(2, 3))).toBe('conflict');
    expect(table.mergeBroker(broker(3, 0))).toBe('taken');
    expect(table.mergeBroker(broker(3, 2))).toBe('taken');
    expect(table.mergeBroker(broker(3, 0))).toBe('older');
    expect(table.route([])).toEqual({ brokers: [broker(3, 2)], topics: [] });
    expect(table.mergeTopic(topic(2))).toBe('taken');
    expect(table.mergeTopic(topic(1, 4))).toBe('older');
    expect(table.mergeTopic(topic(2, 4))).toBe('conflict');
    expect(table.route(['t', 'unknown']).topics).toEqual([topic(2)]);
  });

  test('a deleted topic is not brought back by a late record, but by a newer one', () => {
    const table = new RouteTable();
    table.mergeTopic(topic(2));
    expect(table.removeTopic('t', 3)).toBe('taken');
    expect(table.mergeTopic(topic(2))).toBe('older');
    expect(table.topic('t')).toBeNull();
    expect([...table.topics()]).toEqual([]);
    expect(table.mergeTopic(topic(4))).toBe('taken');
    expect(table.topic('t')).toEqual(topic(4));
  });

  test('listeners hear each change once, with the table already changed', () => {
    const table = new RouteTable();
    const heard: RouteChange[] = [];
    const end = table.onChange((change) => {
      heard.push(change);
      if (change.brokers.length > 0) expect(table.broker('a')?.term).toBe(change.brokers[0]?.term);
    });
    table.mergeBroker(broker(1, 1));
    table.mergeBroker(broker(1, 1));
    table.mergeTopic(topic(1));
    table.removeTopic('t', 2);
    table.removeTopic('t', 2);
    end();
    table.mergeBroker(broker(2, 1));
    expect(heard).toEqual([
      { brokers: [broker(1, 1)], topics: [], deletedTopics: [] },
      { brokers: [], topics: [topic(1)], deletedTopics: [] },
      { brokers: [], topics: [], deletedTopics: ['t'] },
    ]);
  });

  test('merges in any order end alike and never go back', () => {
    const records = fc.array(fc.record({ name: fc.constantFrom('a', 'b'), version: fc.integer({ min: 1, max: 6 }), topic: fc.boolean() }), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(records, fc.infiniteStream(fc.nat()), (list, order) => {
        const merge = (table: RouteTable, { name, version, topic: isTopic }: (typeof list)[number]): void => {
          // A record's body is a function of its version, as its single owner makes it.
          if (!isTopic) table.mergeBroker(broker(version, (version % 3) + 1, name));
          else if (version % 3 === 0) table.removeTopic(name, version);
          else table.mergeTopic(topic(version, version, name));
        };
        const shuffled = list.map((record) => ({ record, key: order.next().value as number })).sort((x, y) => x.key - y.key);
        const one = new RouteTable();
        const other = new RouteTable();
        let last = 0;
        for (const record of list) {
          merge(one, record);
          const term = one.broker('a')?.term ?? 0;
          expect(term).toBeGreaterThanOrEqual(last);
          last = term;
        }
        for (const { record } of shuffled) merge(other, record);
        for (const name of ['a', 'b']) {
          expect(other.broker(name)).toEqual(one.broker(name));
          expect(other.topic(name)).toEqual(one.topic(name));
        }
      }),
    );
  });
});

describe('static routing', () => {
  test('configured replicas from the start, the leader as soon as it is known', () => {
    const routing = new StaticRouting({ brokerName: 'a', replicas });
    const heard: RouteChange[] = [];
    routing.onChange((change) => heard.push(change));
    expect(routing.route([])).toEqual({ brokers: [broker(0, 0)], topics: [] });
    routing.setLeader(4, 0);
    routing.setLeader(4, 2);
    const { topic: name, topicId: incarnation, ...rest } = topic(1);
    const record = { ...rest, name, incarnation, replication: 2, deleted: false };
    routing.publishTopic(record, 1);
    routing.publishTopic({ ...record, version: 2, deleted: true }, 2);
    expect(heard.map((change) => [change.brokers[0]?.leader, change.topics[0]?.topic, change.deletedTopics[0]])).toEqual([
      [0, undefined, undefined],
      [2, undefined, undefined],
      [undefined, 't', undefined],
      [undefined, undefined, 't'],
    ]);
    expect(routing.route(['t'])).toEqual({ brokers: [broker(4, 2)], topics: [] });
  });
});
