import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LedgerClient } from '../../src/index.ts';
import { metricValue, TestGroup } from './group.ts';

/** Metrics of what is not a plain send: transactions, delays, members, the digest; on three replicas. */
let group: TestGroup;
let client: LedgerClient;
let leader = 0;
beforeAll(async () => {
  group = await TestGroup.make();
  await group.start(1, 2, 3);
  await group.ready();
  client = new LedgerClient({ endpoints: group.endpoints() });
  for (const id of [1, 2, 3]) {
    const page = await group.until(id, '/metrics', ({ text }) => metricValue(text, 'ledgermq_broker_feature_level') >= 3);
    if (metricValue(page, 'ledgermq_raft_is_leader') === 1) leader = id;
  }
});
afterAll(async () => {
  await client.close();
  await group[Symbol.asyncDispose]();
});

const page = async (replicaId = leader): Promise<string> => (await group.get(replicaId, '/metrics')).text;

describe('metrics of features', () => {
  test('F14 F39 transactions: committed, rolled back and their time, by topic, at the leader alone', async () => {
    await client.admin().createTopic('pay', { queues: 1 });
    const producer = client.transactionProducer({ group: 'payers', checkLocalTransaction: async () => 'unknown' });
    for (const outcome of ['commit', 'commit', 'rollback'] as const) {
      await producer.sendInTransaction({ topic: 'pay', body: outcome }, async () => outcome);
    }
    const open = await producer.begin({ topic: 'pay', body: 'open' });
    const text = await page();
    expect(metricValue(text, 'rocketmq_commit_messages_total', { topic: 'pay' })).toBe(2);
    expect(metricValue(text, 'rocketmq_rollback_messages_total', { topic: 'pay' })).toBe(1);
    expect(metricValue(text, 'rocketmq_finish_message_latency_count', { topic: 'pay' })).toBe(3);
    expect(metricValue(text, 'rocketmq_half_messages')).toBe(1);
    expect(metricValue(text, 'ledgermq_transactions_discarded_total')).toBe(0);
    expect(metricValue(await page((leader % 3) + 1), 'rocketmq_commit_messages_total')).toBeNaN();
    await open.rollback();
    expect(metricValue(await page(), 'rocketmq_rollback_messages_total', { topic: 'pay' })).toBe(2);
    await producer.close();
    await client.admin().deleteTopic('pay');
    expect(await page()).not.toContain('topic="pay"');
  });

  test('F13 F39 delays: what waits and what got its place, by topic; nothing of it is left when the topic is gone', async () => {
    await client.admin().createTopic('later', { queues: 1 });
    const producer = client.producer();
    for (let at = 0; at < 5; at++) await producer.send({ topic: 'later', body: `${at}`, delayMs: 200 });
    await producer.send({ topic: 'later', body: 'far', delayMs: 3_600_000 });
    const text = await group.until(
      leader,
      '/metrics',
      (answer) => metricValue(answer.text, 'rocketmq_timer_dequeue_total', { topic: 'later' }) === 5,
    );
    expect(metricValue(text, 'rocketmq_timer_enqueue_total', { topic: 'later' })).toBe(6);
    expect(metricValue(text, 'rocketmq_timing_messages')).toBe(1);
    expect(metricValue(text, 'rocketmq_timer_dequeue_latency')).toBe(0);
    expect(metricValue(text, 'rocketmq_delay_message_latency_count')).toBe(5);
    expect(metricValue(text, 'ledgermq_retention_held_bytes')).toBe(0);
    const follower = await page((leader % 3) + 1);
    expect(metricValue(follower, 'rocketmq_timer_enqueue_total')).toBeNaN();
    expect(metricValue(follower, 'rocketmq_timer_dequeue_latency')).toBeNaN();
    await client.admin().deleteTopic('later');
    expect(await page()).not.toContain('topic="later"');
  });

  test('F39 a topic that goes takes every series with its name along, those of its consumer groups too', async () => {
    await client.admin().createTopic('gone', { queues: 1 });
    await client.producer().send({ topic: 'gone', body: 'x' });
    const consumer = client.consumer({ group: 'gone-readers', topics: ['gone'], consumeFromWhere: 'first' });
    for await (const _ of consumer) break;
    await consumer.close();
    const named = (text: string): Set<string> => new Set([...text.matchAll(/^(\w+?)\{[^\n]*topic="gone"/gm)].map(([, name]) => name ?? ''));
    expect([...named(await page())]).toEqual(
      expect.arrayContaining(['rocketmq_messages_in_total', 'rocketmq_messages_out_total', 'rocketmq_consumer_lag_messages']),
    );
    await client.admin().deleteTopic('gone');
    for (const id of [1, 2, 3]) expect([...named(await page(id))]).toEqual([]);
  });

  test('F39 what the replica is, who belongs to the group, and one digest at one index', async () => {
    const pages = await Promise.all([1, 2, 3].map((id) => page(id)));
    for (const text of pages) {
      expect(metricValue(text, 'ledgermq_server_state', { state: 'running' })).toBe(1);
      expect(metricValue(text, 'ledgermq_server_state')).toBe(1);
      expect(metricValue(text, 'ledgermq_raft_members', { role: 'voter' })).toBe(3);
      expect(metricValue(text, 'ledgermq_raft_members', { role: 'learner' })).toBe(0);
      expect(metricValue(text, 'ledgermq_raft_lost_voters')).toBe(0);
      expect(metricValue(text, 'ledgermq_raft_vote_floor_index')).toBe(0);
      expect(metricValue(text, 'ledgermq_disk_below_reserve')).toBe(0);
      expect(metricValue(text, 'ledgermq_metrics_left_out_series')).toBe(0);
      expect(Math.abs(metricValue(text, 'ledgermq_clock_skew_seconds'))).toBeLessThan(1);
    }
    const checkpoints = new Map<number, Set<number>>();
    for (const text of pages) {
      const index = metricValue(text, 'ledgermq_broker_digest_checkpoint_index');
      checkpoints.set(index, (checkpoints.get(index) ?? new Set()).add(metricValue(text, 'ledgermq_broker_digest_checkpoint')));
    }
    for (const [index, digests] of checkpoints) {
      expect(index).toBeGreaterThanOrEqual(0);
      expect(digests.size).toBe(1);
    }
  });
});
