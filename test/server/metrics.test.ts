import { describe, expect, test } from 'vitest';
import { LedgerClient } from '../../src/index.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import type { BucketCounts } from '../../src/metrics/bucket-counts.ts';
import { METRIC_NAMES, metricOf } from '../../src/metrics/definitions.ts';
import { MAX_SERIES_PER_METRIC } from '../../src/metrics/registry.ts';
import { BrokerCounters } from '../../src/server/broker-counters.ts';
import { ServerMetrics } from '../../src/server/server-metrics.ts';
import { metricValue, TestGroup } from './group.ts';

const NOTHING_YET = {
  state: 'recovering',
  missing: [],
  recovered: null,
  stateMachine: null,
  replica: null,
  broker: null,
  gateway: null,
} as const;

describe('metrics of a server', () => {
  test('F39 metrics: every metric of the table has a source, and the page is there before anything else is', async () => {
    const group = await TestGroup.make();
    await using _ = group;
    const metrics = new ServerMetrics(group.config(1), nodeIo(), () => undefined);
    metrics.watch(NOTHING_YET);
    expect(metrics.withoutSource()).toEqual([]);
    const text = await metrics.scrape();
    for (const name of METRIC_NAMES) expect(text).toContain(`# TYPE ${name} ${metricOf(name).type}\n`);
    expect(metricValue(text, 'ledgermq_raft_is_leader')).toBe(0);
    expect(metricValue(text, 'ledgermq_raft_commit_index')).toBeNaN();
  });

  test('F39 metrics: three replicas show what was produced and consumed, one leader, and no series of what was deleted', async () => {
    await using group = await TestGroup.make();
    await group.start(1, 2, 3);
    await group.ready();
    await using client = new LedgerClient({ endpoints: group.endpoints() });
    await client.admin().createTopic('orders', { queues: 2 });
    await client.admin().createTopic('doomed', { queues: 1 });
    const producer = client.producer();
    const send = (topic: string, count: number) =>
      Promise.all(Array.from({ length: count }, (_, at) => producer.send({ topic, body: `message ${at}` })));
    await send('orders', 100);
    await send('doomed', 7);
    const consumer = client.consumer({ group: 'billing', topics: ['orders'], consumeFromWhere: 'first' });
    let consumed = 0;
    for await (const _ of consumer) if (++consumed === 100) break;
    await consumer.close();

    const pages = await Promise.all([1, 2, 3].map((id) => group.get(id, '/metrics').then(({ text }) => text)));
    for (const page of pages) {
      const shown = [...page.matchAll(/^# TYPE ((?:rocketmq|ledgermq)_\w+) /gm)].map((match) => match[1]);
      expect(new Set(shown)).toEqual(new Set(METRIC_NAMES));
      expect(shown).toHaveLength(METRIC_NAMES.length);
      expect(page).toContain('nodejs_eventloop_lag_p99_seconds');
      expect(metricValue(page, 'ledgermq_raft_has_leader')).toBe(1);
      expect(metricValue(page, 'ledgermq_raft_commit_index')).toBeGreaterThan(3);
      expect(metricValue(page, 'ledgermq_log_written_bytes_total')).toBeGreaterThan(4096);
      expect(metricValue(page, 'ledgermq_log_write_seconds_count')).toBeGreaterThan(0);
      expect(metricValue(page, 'ledgermq_disk_free_bytes')).toBeGreaterThan(0);
      expect(metricValue(page, 'ledgermq_disk_poisoned')).toBe(0);
      expect(metricValue(page, 'ledgermq_log_recovery_seconds')).toBeGreaterThanOrEqual(0);
      expect(metricValue(page, 'rocketmq_topic_number')).toBe(2);
      expect(metricValue(page, 'rocketmq_storage_size', { storage_type: 'local', storage_medium: 'disk' })).toBeGreaterThan(4096);
    }
    expect(pages.reduce((sum, page) => sum + metricValue(page, 'ledgermq_raft_is_leader'), 0)).toBe(1);
    const leader = pages.findIndex((page) => metricValue(page, 'ledgermq_raft_is_leader') === 1) + 1;
    const page = pages[leader - 1] as string;
    expect(metricValue(page, 'rocketmq_messages_in_total', { topic: 'orders', message_type: 'normal', is_system: 'false' })).toBe(100);
    expect(metricValue(page, 'rocketmq_message_size_count', { topic: 'orders' })).toBe(100);
    expect(metricValue(page, 'rocketmq_messages_out_total', { topic: 'orders', consumer_group: 'billing' })).toBeGreaterThanOrEqual(100);
    // The loop was left with the hundredth message in hand: it is not done, so the group lags by it.
    expect(metricValue(page, 'rocketmq_consumer_lag_messages', { topic: 'orders', consumer_group: 'billing' })).toBe(1);
    expect(metricValue(page, 'rocketmq_consumer_lag_latency', { topic: 'orders', consumer_group: 'billing' })).toBeGreaterThanOrEqual(0);
    expect(metricValue(page, 'rocketmq_rpc_latency_count', { request_code: 'send', result: 'success' })).toBeGreaterThan(0);
    expect(metricValue(page, 'rocketmq_rpc_latency_count', { request_code: 'pull' })).toBeGreaterThan(0);
    expect(metricValue(page, 'rocketmq_topic_create_execution_time_count')).toBe(2);
    expect(metricValue(page, 'rocketmq_consumer_group_create_execution_time_count')).toBe(1);
    expect(metricValue(page, 'rocketmq_producer_connections', { language: 'ledgermq-node', protocol_type: 'native' })).toBe(1);
    expect(metricValue(page, 'rocketmq_broker_permission')).toBe(6);
    expect(metricValue(page, 'ledgermq_gateway_frames_in_total')).toBeGreaterThan(5);
    expect(metricValue(page, 'ledgermq_gateway_bytes_in_total')).toBeGreaterThan(100 * 'message 00'.length);
    expect(metricValue(page, 'ledgermq_raft_peer_match_index')).toBeGreaterThan(0);
    expect(metricValue(page, 'ledgermq_log_hot_reads_total')).toBeGreaterThan(0);
    expect(metricValue(page, 'ledgermq_broker_rebalances_total', { consumer_group: 'billing' })).toBeGreaterThan(0);
    expect(metricValue(page, 'rocketmq_messages_in_total', { topic: 'doomed' })).toBe(7);
    // Followers took nothing from clients, and what the leader alone knows is not told by them.
    const follower = pages[leader % 3] as string;
    expect(metricValue(follower, 'rocketmq_messages_in_total')).toBeNaN();
    expect(metricValue(follower, 'rocketmq_consumer_lag_messages')).toBeNaN();

    await send('orders', 5);
    await client.admin().deleteTopic('doomed');
    await expect(producer.send({ topic: 'doomed', body: 'late' })).rejects.toThrow();
    const { text: after } = await group.get(leader, '/metrics');
    expect(metricValue(after, 'rocketmq_messages_in_total', { topic: 'orders' })).toBe(105);
    expect(metricValue(after, 'rocketmq_consumer_lag_messages', { topic: 'orders', consumer_group: 'billing' })).toBe(6);
    expect(metricValue(after, 'rocketmq_consumer_lag_latency', { topic: 'orders' })).toBeGreaterThanOrEqual(0);
    expect(metricValue(after, 'ledgermq_raft_commit_index')).toBeGreaterThan(metricValue(page, 'ledgermq_raft_commit_index'));
    expect(after).not.toContain('doomed');
  });

  test('F39 metrics: a client cannot make series by naming groups that do not exist', () => {
    const topics = new Set(['orders']);
    const counters = new BrokerCounters(
      { hasTopic: (topic) => topics.has(topic), hasGroup: (name) => name === 'billing' },
      () => undefined,
    );
    for (let at = 0; at < 1000; at++) counters.messagesOut('orders', `made-up-${at}`, 1, 10);
    counters.messagesOut('orders', 'billing', 2, 20);
    expect([...(counters.topicsOut.get('orders')?.keys() ?? [])]).toEqual(['', 'billing']);
    expect(counters.topicsOut.get('orders')?.get('')).toEqual({ messages: 1000, bytes: 10_000, filteredBytes: 0 });
  });

  test('F39 metrics: counters of deleted topics and groups are dropped, also when nobody scrapes', () => {
    let live = 0;
    const counters = new BrokerCounters({ hasTopic: (topic) => topic === `t-${live}`, hasGroup: () => false }, () => undefined);
    for (; live < MAX_SERIES_PER_METRIC + 10; live++) counters.messagesIn(`t-${live}`, 1, 1);
    expect(counters.topicsIn.size).toBeLessThanOrEqual(MAX_SERIES_PER_METRIC);
    counters.groupChanged('gone');
    counters.forgetDeleted();
    expect([counters.topicsIn.size, counters.rebalances.size]).toEqual([0, 0]);
  });

  test('latencies are kept by outcome', () => {
    const counters = new BrokerCounters({ hasTopic: () => true, hasGroup: () => true }, () => undefined);
    counters.sendLatencyMs(2, 0);
    counters.sendLatencyMs(2, 22);
    counters.pullLatencyMs(4, true);
    expect([...counters.sendMs.keys()]).toEqual([0, 22]);
    expect((counters.sendMs.get(0) as BucketCounts).count).toBe(1);
    expect([counters.pullMs.count, counters.longPullMs.count]).toEqual([0, 1]);
  });
});
