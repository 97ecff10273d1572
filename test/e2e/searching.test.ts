import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueryResult, SendResult } from '../../src/index.ts';
import { TestCluster } from './test-cluster.ts';

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

describe('searching', () => {
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

  test('F30 a broker group that is down is failed, by key and by id; what the other one has is given', async () => {
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
    await cluster.local.restartGroup('b');
    expect(await admin.queryMessages({ topic: 'orders', key: 'nothing', timeoutMs: 15_000 })).toMatchObject({ status: 'notFound' });
  }, 60_000);
});
