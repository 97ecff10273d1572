import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Consumer, LedgerClient, Producer } from '../../src/index.ts';
import { TestCluster, until } from './test-cluster.ts';

const GROUPS = ['a', 'b', 'c'];
const TIMEOUT_MS = 90_000;

/** Counts what a consumer group is given: each message once, whoever gets it. */
class Tally {
  readonly seen = new Map<string, number>();
  readonly handler = (message: { text(): string }): void => {
    this.seen.set(message.text(), (this.seen.get(message.text()) ?? 0) + 1);
  };
  get doubled(): string[] {
    return [...this.seen].filter(([, count]) => count > 1).map(([text]) => text);
  }
}

describe('three broker groups, each its own process', () => {
  let cluster: TestCluster;
  const client = (endpoint: string): LedgerClient => cluster.client({ endpoints: [endpoint] });
  const endpointOf = (brokerName: string): string => cluster.local.replica(1, brokerName).endpoint;

  beforeAll(async () => {
    cluster = await TestCluster.start({}, { groups: 3, replicas: 1 });
  }, TIMEOUT_MS);
  afterAll(() => cluster?.stop(), TIMEOUT_MS);

  const consume = async (from: string, group: string, topic: string, tally: Tally): Promise<Consumer> => {
    const consumer = client(endpointOf(from)).consumer({ group, topics: [topic], consumeFromWhere: 'first', handler: tally.handler });
    await consumer.start();
    return consumer;
  };

  /** Sends unkeyed messages one after the other. @returns the broker groups that took them */
  const sendEach = async (producer: Producer, topic: string, count: number, prefix: string): Promise<Set<string>> => {
    const taken = new Set<string>();
    for (let i = 0; i < count; i++) taken.add((await producer.send({ topic, body: `${prefix}${i}` })).brokerName);
    return taken;
  };

  test(
    'F01 F02 F07 a topic on all groups from one address: sends reach every group, members share all queues without skew',
    async () => {
      const { basePort, replicas } = cluster.local;
      expect(replicas.map(({ endpoint }) => Number(endpoint.split(':')[2]) - basePort)).toEqual([0, 10, 20]);
      const created = await cluster.json('topic', 'create', 'shared', '--queues', '3');
      expect(created['groups']).toEqual(GROUPS.map((brokerName) => ({ brokerName, error: null })));
      const producer = client(endpointOf('b')).producer();
      expect(await sendEach(producer, 'shared', 30, 'm')).toEqual(new Set(GROUPS));
      const tally = new Tally();
      const consumers = [await consume('a', 'sharing', 'shared', tally), await consume('c', 'sharing', 'shared', tally)];
      await until(
        'both own their part',
        () =>
          consumers.reduce((sum, { assignment }) => sum + assignment.length, 0) === 9 &&
          consumers.every(({ assignment }) => assignment.length >= 4),
      );
      await until('all consumed', () => tally.seen.size === 30);
      const keys = consumers.flatMap(({ assignment }) => assignment.map(({ brokerName, queueId }) => `${brokerName}/${queueId}`));
      expect(new Set(keys).size).toBe(9);
      const described = (await cluster.json('group', 'describe', 'sharing')) as { members: unknown[]; queues: unknown[] };
      expect(described.members).toHaveLength(2);
      expect(described.queues).toHaveLength(9);
      await until('nothing is left', async () => (await cluster.json('group', 'lag', 'sharing'))['lag'] === 0);
      await Promise.all(consumers.map((consumer) => consumer.close()));
      const status = (await cluster.json('cluster', 'status')) as { groups: { brokerName: string; leader: number }[] };
      expect(new Set(status.groups.map(({ brokerName }) => brokerName))).toEqual(new Set(GROUPS));
      expect(status.groups.every(({ leader }) => leader === 1)).toBe(true);
      expect(await cluster.json('verify')).toMatchObject({ identical: true });
    },
    TIMEOUT_MS,
  );

  test(
    'F01 a group that joins takes queues when told, and running clients use them',
    async () => {
      await cluster.json('topic', 'create', 'growing', '--queues', '1', '--group', 'a,b');
      const producer = client(endpointOf('a')).producer();
      const tally = new Tally();
      const consumer = await consume('b', 'growing', 'growing', tally);
      expect(await sendEach(producer, 'growing', 10, 'before')).toEqual(new Set(['a', 'b']));
      await cluster.json('topic', 'update', 'growing', '--group', 'c', '--queues', '2');
      await until('the new queues are owned', () => consumer.assignment.length === 4);
      await until('the new queues are written', async () => (await sendEach(producer, 'growing', 1, `x${performance.now()}-`)).has('c'));
      await cluster.json('topic', 'delete', 'growing');
      await expect(client(endpointOf('c')).producer().send({ topic: 'growing', body: 'x' })).rejects.toThrow('TOPIC_NOT_FOUND');
      expect(tally.doubled).toEqual([]);
      await consumer.close();
    },
    TIMEOUT_MS,
  );

  test(
    'F05 F12 one group down harms its own queues alone: unkeyed sends go elsewhere, its keys wait for it',
    async () => {
      await cluster.json('topic', 'create', 'harmed', '--queues', '1');
      const producer = client(endpointOf('a')).producer();
      const keyed = new Map<string, string>();
      for (let i = 0; i < 20; i++) {
        keyed.set(`k${i}`, (await producer.send({ topic: 'harmed', body: `first${i}`, orderingKey: `k${i}` })).brokerName);
      }
      await cluster.local.killGroup('c');
      const waiting = [...keyed].map(([key, brokerName]) => {
        const sent = producer.send({ topic: 'harmed', body: `second-${key}`, orderingKey: key });
        return sent.then((result) => expect(result.brokerName).toBe(brokerName));
      });
      const others = [...keyed.values()].flatMap((brokerName, i) => (brokerName === 'c' ? [] : [waiting[i]]));
      expect(others.length).toBeGreaterThan(0);
      expect(others.length).toBeLessThan(20);
      await Promise.all(others);
      expect((await sendEach(producer, 'harmed', 20, 'free')).has('c')).toBe(false);
      await cluster.local.restartGroup('c');
      await Promise.all(waiting);
    },
    TIMEOUT_MS,
  );

  test(
    'F02 F48 a drained group takes nothing, is consumed, leaves the routes; a client that was given its address goes on without it',
    async () => {
      await cluster.json('topic', 'create', 'leaving', '--queues', '2');
      const one = client(endpointOf('a'));
      const producer = one.producer();
      const tally = new Tally();
      for (let i = 0; i < 20; i++) await producer.send({ topic: 'leaving', body: `m${i}`, orderingKey: `k${i}` });
      await cluster.json('cluster', 'drain', 'a');
      // Keyed ones, too: keys are hashed over the queues that are left.
      for (let i = 20; i < 40; i++) {
        const { brokerName } = await producer.send({ topic: 'leaving', body: `m${i}`, orderingKey: `k${i}` });
        expect(brokerName).not.toBe('a');
      }
      // A topic that is made now gets no queues there, and not by name either; until the drain is taken back.
      const placementOf = async (topic: string) =>
        ((await cluster.json('topic', 'describe', topic))['placement'] as { brokerName: string }[]).map(({ brokerName }) => brokerName);
      await cluster.json('topic', 'create', 'later', '--queues', '2');
      expect(await placementOf('later')).toEqual(['b', 'c']);
      const named = await cluster.cli('topic', 'create', 'latest', '--queues', '2', '--group', 'a');
      expect(named.exit).toBe(1);
      expect(named.stderr).toContain('is drained');
      await cluster.json('cluster', 'drain', 'a', '--undo');
      await cluster.json('topic', 'create', 'latest', '--queues', '2');
      expect(await placementOf('latest')).toEqual(['a', 'b', 'c']);
      let opened = 0;
      await until('it is written again', async () => (await sendEach(producer, 'leaving', 1, `open${opened++}-`)).has('a'));
      await cluster.json('cluster', 'drain', 'a');
      const refused = await cluster.cli('cluster', 'remove', 'a');
      expect(refused.exit).toBe(1);
      expect(refused.stderr).toContain('not empty');
      const consumer = await consume('a', 'leaving', 'leaving', tally);
      const all = 40 + opened;
      await until('all consumed', () => tally.seen.size === all);
      // Other topics hold messages that nobody wants.
      for (const topic of ['shared', 'harmed', 'latest']) await cluster.json('topic', 'delete', topic);
      await until('the group may go', async () => (await cluster.cli('cluster', 'remove', 'a')).exit === 0);
      await until('its queues are given up', () => consumer.assignment.every(({ brokerName }) => brokerName !== 'a'));
      expect((await cluster.json('topic', 'describe', 'leaving'))['placement']).toEqual(
        ['b', 'c'].map((brokerName) => ({ brokerName, queues: 2 })),
      );
      await cluster.local.killGroup('a');
      expect(await sendEach(producer, 'leaving', 10, 'after')).toEqual(new Set(['b', 'c']));
      await until('what came after is consumed', () => tally.seen.size === all + 10);
      expect(tally.doubled).toEqual([]);
      await consumer.close();
      // With messages that nobody has consumed, by an operator who says so: noted and counted.
      await cluster.json('topic', 'create', 'lost', '--queues', '1', '--group', 'b,c');
      expect(await sendEach(producer, 'lost', 6, 'lost')).toEqual(new Set(['b', 'c']));
      expect(await cluster.metric(1, 'ledgermq_forced_removals_total', 'b')).toBe(0);
      await cluster.json('cluster', 'remove', 'b', '--force');
      expect(await cluster.metric(1, 'ledgermq_forced_removals_total', 'b')).toBe(1);
      expect(await cluster.metric(1, 'ledgermq_group_mark', 'b')).toBe(2);
      await until('its queues leave the routes', async () => !(await sendEach(producer, 'lost', 2, 'later')).has('b'));
    },
    TIMEOUT_MS,
  );
});
