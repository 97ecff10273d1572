import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueryResult, SendResult } from '../../src/index.ts';
import { dense, numbered, TestCluster, until } from './test-cluster.ts';

const GROUPS = ['a', 'b'];

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start({}, { groups: 2 });
  client = cluster.client();
}, 60_000);
afterAll(() => cluster.stop());

const idsOf = ({ messages }: MessageQueryResult): string[] => messages.map(({ msgId }) => msgId);
const byTime = (results: readonly SendResult[]): string[] => results.map(({ msgId }) => msgId).reverse();

describe('search and backlog', () => {
  const sent: SendResult[] = [];
  let secondHalfAt = 0;

  test('F30 by topic, key and time, by id and by offset, over two broker groups', async () => {
    await client.admin().createTopic('orders', { queues: 2 });
    const producer = client.producer();
    for (let i = 0; i < 20; i++) {
      if (i === 10) secondHalfAt = (await client.admin().message((sent[9] as SendResult).msgId)).storeTimeMs + 1;
      const queue = { topic: 'orders', brokerName: GROUPS[i % 2] as string, queueId: (i >> 1) % 2 };
      await producer.send({ topic: 'orders', body: `m${i}`, queue, keys: ['filler', `n${i}`] });
      sent.push(await producer.send({ topic: 'orders', body: `order ${i}`, queue, keys: [`n${i}`, 'customer-7'] }));
    }
    const admin = client.admin();
    const all = await admin.queryMessages({ topic: 'orders', key: 'customer-7', max: 100 });
    expect(all).toMatchObject({ status: 'found', next: null });
    expect(all.groups.map(({ brokerName, status }) => `${brokerName} ${status}`).sort()).toEqual(['a found', 'b found']);
    expect(new Set(idsOf(all))).toEqual(new Set(byTime(sent)));
    for (const name of GROUPS) {
      const mine = all.messages.filter(({ brokerName }) => brokerName === name).map(({ msgId }) => msgId);
      expect(mine).toEqual(byTime(sent.filter(({ brokerName }) => brokerName === name)));
    }
    const [one] = (await admin.queryMessages({ topic: 'orders', key: 'n7' })).messages.filter((message) => message.text() === 'order 7');
    expect(one).toMatchObject({ msgId: sent[7]?.msgId, offset: sent[7]?.offset, queueId: sent[7]?.queueId, keys: ['n7', 'customer-7'] });
    expect(await admin.queryMessages({ topic: 'orders', key: 'customer' })).toMatchObject({ status: 'notFound', messages: [] });
    await expect(admin.queryMessages({ topic: 'nope', key: 'k' })).rejects.toThrow('TOPIC_NOT_FOUND');

    for (const { msgId, brokerName, queueId, offset } of sent) {
      const byId = await admin.message(msgId);
      expect([byId.brokerName, byId.queueId, byId.offset]).toEqual([brokerName, queueId, offset]);
      expect((await admin.message({ topic: 'orders', brokerName, queueId, offset: offset as number })).msgId).toBe(msgId);
    }
  });

  test('F30 F42 pages and time ranges at the command line', async () => {
    const seen: string[] = [];
    let cursor: string[] = [];
    for (let pages = 0; pages < 20; pages++) {
      const page = await cluster.json('message', 'query', '--topic', 'orders', '--key', 'customer-7', '--max', '6', ...cursor);
      const messages = page['messages'] as { msgId: string }[];
      seen.push(...messages.map(({ msgId }) => msgId));
      if (page['next'] === null) break;
      expect(page['status']).toBe('truncated');
      expect(messages).toHaveLength(6);
      cursor = ['--cursor', page['next'] as string];
    }
    expect(seen).toHaveLength(20);
    expect(new Set(seen)).toEqual(new Set(byTime(sent)));
    const queryOf = async (...args: string[]): Promise<number> =>
      ((await cluster.json('message', 'query', '--topic', 'orders', '--key', 'customer-7', ...args))['messages'] as unknown[]).length;
    const all = (await client.admin().queryMessages({ topic: 'orders', key: 'customer-7', max: 100 })).messages;
    const before = all.filter(({ storeTimeMs }) => storeTimeMs < secondHalfAt).length;
    expect(before).toBeGreaterThan(0);
    expect(await queryOf('--to', String(secondHalfAt - 1))).toBe(before);
    expect(await queryOf('--from', String(secondHalfAt))).toBe(20 - before);
    // Both groups have a queue 0.
    expect((await cluster.cli('message', 'get', '--topic', 'orders', '--queue', '0', '--offset', '0')).exit).toBe(2);
    const got = await cluster.json('message', 'get', '--topic', 'orders', '--broker-group', 'b', '--queue', '0', '--offset', '0');
    expect(got).toMatchObject({ brokerName: 'b', queueId: 0, offset: 0 });
  });

  test('F30 F13 by key a delayed message is found when it is delivered, at its place in the queue, and not before', async () => {
    const admin = client.admin();
    const queue = { topic: 'orders', brokerName: 'a', queueId: 1 };
    const before = await client.pullConsumer().range(queue);
    const { msgId } = await client.producer().send({ topic: 'orders', body: 'late', queue, keys: ['x', 'late-1'], delayMs: 1_500 });
    expect(await admin.queryMessages({ topic: 'orders', key: 'late-1' })).toMatchObject({ status: 'notFound' });
    await until('it is delivered', async () => (await client.pullConsumer().range(queue)).maxOffset > before.maxOffset);
    const found = await admin.queryMessages({ topic: 'orders', key: 'late-1' });
    expect(found.messages.map((message) => [message.msgId, message.queueId, message.offset])).toEqual([[msgId, 1, before.maxOffset]]);
    expect(await admin.message(msgId)).toMatchObject({ msgId, brokerName: 'a', queueId: 1, offset: before.maxOffset });
  });

  test('F30 a replica without a key index gets it from its log; what was found before is found by it as leader', async () => {
    const leader = await cluster.local.waitLeader();
    const other = (leader % 3) + 1;
    await cluster.local.stopReplica(other);
    rmSync(join(cluster.local.dir, `a-${other}`, 'keyindex'), { recursive: true });
    await cluster.local.restart(other);
    await cluster.lead(other);
    const all = await client.admin().queryMessages({ topic: 'orders', key: 'customer-7', max: 100, timeoutMs: 15_000 });
    expect(all.status).toBe('found');
    expect(new Set(idsOf(all))).toEqual(new Set(byTime(sent)));
  });

  test('F27 backlog over two broker groups: in messages and by the age of the oldest; offsets reset and skipped while a member runs', async () => {
    const admin = client.admin();
    await admin.createTopic('work', { queues: 2 });
    const producer = client.producer();
    const send = (from: number, count: number): Promise<SendResult[]> =>
      Promise.all(
        dense(count).map((i) =>
          producer.send({
            topic: 'work',
            body: `m${from + i}`,
            queue: { topic: 'work', brokerName: GROUPS[i % 2] as string, queueId: (i >> 1) % 2 },
          }),
        ),
      );
    await send(0, 40);
    const handled: string[] = [];
    let gate = Promise.resolve();
    const consumer = client.consumer({
      group: 'desk',
      topics: ['work'],
      consumeFromWhere: 'first',
      concurrency: 1,
      handler: async (message) => {
        await gate;
        handled.push(message.text());
      },
    });
    await consumer.start();
    const committed = async (): Promise<boolean> => (await admin.backlog('desk', 'work')).lag === 0;
    const all = numbered(40);
    await until('all is handled', async () => handled.length === 40 && (await committed()));
    expect(await admin.backlog('desk', 'work')).toMatchObject({ lag: 0, ageMs: 0, failed: [] });
    const member = consumer.member;

    // Back to the first: the same member handles all of it again, without being started anew.
    handled.length = 0;
    const back = await admin.resetOffsets('desk', 'work', 'first');
    expect(back.queues.map(({ brokerName, queueId, previous, offset }) => [brokerName, queueId, previous, offset])).toEqual([
      ['a', 0, 10, 0],
      ['a', 1, 10, 0],
      ['b', 0, 10, 0],
      ['b', 1, 10, 0],
    ]);
    await until('all is handled again', async () => handled.length === 40 && (await committed()));
    expect(new Set(handled)).toEqual(new Set(all));

    // To a time: what was stored from then on.
    handled.length = 0;
    const later = await send(40, 8);
    const [first] = later as [SendResult];
    const { storeTimeMs } = await admin.message(first.msgId);
    await until('the later ones are handled', async () => handled.length === 8 && (await committed()));
    handled.length = 0;
    expect((await admin.resetOffsets('desk', 'work', { timeMs: storeTimeMs }, { brokerName: 'a', queueId: 0 })).queues).toHaveLength(1);
    await until('it is handled again', async () => handled.includes('m40') && (await committed()));
    expect(new Set(handled)).toEqual(new Set(['m40', 'm44']));

    // Skipped: what is stored now is passed over but for what handlers have at hand; what comes is handled.
    let open = (): void => {};
    gate = new Promise((resolve) => {
      open = resolve;
    });
    handled.length = 0;
    await send(100, 40);
    const behind = await cluster.json('group', 'lag', 'desk', '--topic', 'work');
    expect(behind).toMatchObject({ lag: 40, failed: [] });
    const ages = (behind['queues'] as { ageMs: number }[]).map(({ ageMs }) => ageMs);
    expect(ages).toHaveLength(4);
    expect(Math.max(...ages)).toBe(behind['ageMs']);
    const skipped = await cluster.json('group', 'skip', 'desk', '--topic', 'work');
    expect(skipped['queues']).toHaveLength(4);
    expect(await admin.backlog('desk', 'work')).toMatchObject({ lag: 0 });
    open();
    await send(200, 4);
    await until('what came after is handled', async () => numbered(4, 200).every((body) => handled.includes(body)));
    expect(handled.filter((body) => Number(body.slice(1)) < 200).length).toBeLessThanOrEqual(4);
    expect(consumer.member).toBe(member);
    await consumer.close();
    await expect(admin.backlog('nobody')).rejects.toThrow('GROUP_NOT_FOUND');
    await expect(admin.resetOffsets('desk', 'nope', 'first')).rejects.toThrow('TOPIC_NOT_FOUND');
    await expect(admin.resetOffsets('desk', 'work', { offset: 1 })).rejects.toThrow('BAD_REQUEST');
  });

  test('F30 F27 a broker group that is down is failed, by key and by id; what the other one has is given', async () => {
    await cluster.local.killGroup('b');
    const admin = client.admin();
    const found = await admin.queryMessages({ topic: 'orders', key: 'customer-7', max: 100, timeoutMs: 1_000 });
    expect(found.status).toBe('failed');
    expect(found.groups.map(({ brokerName, status }) => `${brokerName} ${status}`).sort()).toEqual(['a found', 'b failed']);
    expect(new Set(idsOf(found))).toEqual(new Set(byTime(sent.filter(({ brokerName }) => brokerName === 'a'))));
    const ran = await cluster.cli('message', 'query', '--topic', 'orders', '--key', 'nothing', '--timeout', '1', '--json');
    expect(ran.exit).toBe(1);
    expect(JSON.parse(ran.stdout)).toMatchObject({ status: 'failed', messages: [] });
    expect(ran.stderr).toContain('broker group b could not be asked');
    const known = await admin.backlog('desk', 'work', 1_000);
    expect(known.failed.map(({ brokerName }) => brokerName)).toEqual(['b']);
    expect(known.queues.every(({ brokerName }) => brokerName === 'a')).toBe(true);
    await cluster.local.restartGroup('b');
    expect(await admin.queryMessages({ topic: 'orders', key: 'nothing', timeoutMs: 15_000 })).toMatchObject({ status: 'notFound' });
  }, 60_000);
});
