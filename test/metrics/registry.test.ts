import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { NodeClock } from '../../src/io/node/clock.ts';
import { BucketCounts } from '../../src/metrics/bucket-counts.ts';
import { METRIC_NAMES, metricOf } from '../../src/metrics/definitions.ts';
import { MAX_SERIES_PER_METRIC, MetricsRegistry } from '../../src/metrics/registry.ts';

const identity = { cluster: 'c', brokerName: 'a', replicaId: 2 };
const BASE = 'node_type="broker",cluster="c",node_id="a",replica_id="2"';

/** RocketMQ 5.x names (its PopConsumerService, proxy and timers excluded) with the labels that its dashboards select by. */
const ROCKETMQ_LABELS: Readonly<Record<string, readonly string[]>> = {
  rocketmq_messages_in_total: ['topic', 'message_type', 'is_system'],
  rocketmq_throughput_in_total: ['topic', 'message_type', 'is_system'],
  rocketmq_messages_out_total: ['topic', 'consumer_group', 'is_system', 'is_retry'],
  rocketmq_send_to_dlq_messages_total: ['consumer_group', 'topic', 'is_system'],
  rocketmq_throughput_out_total: ['topic', 'consumer_group', 'is_system', 'is_retry'],
  rocketmq_message_size: ['topic', 'message_type', 'is_system'],
  rocketmq_rpc_latency: ['protocol_type', 'request_code', 'response_code', 'is_long_polling', 'result'],
  rocketmq_processor_watermark: ['processor'],
  rocketmq_broker_permission: [],
  rocketmq_topic_number: [],
  rocketmq_consumer_group_number: [],
  rocketmq_consumer_connections: ['consumer_group', 'language', 'version', 'consume_mode', 'protocol_type', 'is_system'],
  rocketmq_consumer_lag_messages: ['consumer_group', 'topic', 'is_retry', 'is_system'],
  rocketmq_consumer_lag_latency: ['consumer_group', 'topic', 'is_retry', 'is_system'],
  rocketmq_storage_size: ['storage_type', 'storage_medium'],
  rocketmq_storage_flush_behind_bytes: ['storage_type', 'storage_medium'],
  rocketmq_storage_dispatch_behind_bytes: ['storage_type', 'storage_medium'],
};

describe('metrics', () => {
  test('F39 metrics: the names and labels of RocketMQ 5 are kept, ours start with ledgermq_', () => {
    for (const [name, labels] of Object.entries(ROCKETMQ_LABELS)) {
      expect(METRIC_NAMES, name).toContain(name);
      expect(metricOf(name as never).labels, name).toEqual(labels);
    }
    for (const name of METRIC_NAMES) expect(name).toMatch(/^(rocketmq|ledgermq)_[a-z_]+$/);
    for (const name of METRIC_NAMES.filter((known) => metricOf(known).type === 'counter')) expect(name).toMatch(/_total$/);
  });

  test('F39 metrics: every name of the table is in the scrape with type and help', async () => {
    const text = await new MetricsRegistry(identity).scrape();
    for (const name of METRIC_NAMES) {
      expect(text).toContain(`# TYPE ${name} ${metricOf(name).type}\n`);
      expect(text).toContain(`# HELP ${name} `);
    }
  });

  test('F39 metrics: memory, processor time and event loop come besides', async () => {
    const text = await new MetricsRegistry(identity, new NodeClock()).scrape();
    expect(text).toContain('nodejs_eventloop_lag_p99_seconds');
    expect(text).toContain('process_resident_memory_bytes');
    expect(text).not.toMatch(/^# TYPE \w+_total gauge$/m);
  });

  test('F39 metrics: a scrape that waited behind a stall of the event loop says it', async () => {
    const metrics = new MetricsRegistry(identity, new NodeClock());
    // The timer that measures delays is due every 10 ms, and timers run in the order in which they are due.
    await sleep(50);
    const stalledUntil = performance.now() + 300;
    while (performance.now() < stalledUntil) Math.random();
    const text = await metrics.scrape();
    expect(Number(/^nodejs_eventloop_lag_max_seconds\{.*\} (.*)$/m.exec(text)?.[1])).toBeGreaterThan(0.25);
  });

  test('a metric that nothing reports has no series, and is known', async () => {
    const metrics = new MetricsRegistry(identity);
    metrics.value('ledgermq_raft_term', () => 7);
    const text = await metrics.scrape();
    expect(text).toContain(`ledgermq_raft_term{${BASE}} 7`);
    expect(text).not.toContain('ledgermq_raft_commit_index{');
    expect(metrics.withoutSource()).not.toContain('ledgermq_raft_term');
    expect(metrics.withoutSource()).toContain('ledgermq_raft_commit_index');
  });

  test('values are read at the scrape; series of a deleted topic end', async () => {
    const topics = new Map([
      ['keep', 1],
      ['drop', 2],
    ]);
    const metrics = new MetricsRegistry(identity);
    metrics.source('rocketmq_messages_in_total', (emit) => {
      for (const [topic, count] of topics) emit(count, topic, 'normal', 'false');
    });
    expect(await metrics.scrape()).toContain(`topic="drop",message_type="normal",is_system="false",${BASE}} 2`);
    topics.delete('drop');
    topics.set('keep', 5);
    const text = await metrics.scrape();
    expect(text).not.toContain('topic="drop"');
    expect(text).toContain(`topic="keep",message_type="normal",is_system="false",${BASE}} 5`);
  });

  test('several sources of one metric add up to its series', async () => {
    const metrics = new MetricsRegistry(identity);
    metrics.source('ledgermq_raft_peer_match_index', (emit) => emit(1, '1'));
    metrics.source('ledgermq_raft_peer_match_index', (emit) => emit(3, '3'));
    const text = await metrics.scrape();
    expect(text).toContain('peer="1"');
    expect(text).toContain('peer="3"');
  });

  test('histograms show counts that others keep: cumulative, with sum and count', async () => {
    const counts = new BucketCounts([1, 10, 100]);
    counts.observe(1);
    counts.observe(5, 3);
    counts.observe(1000);
    const metrics = new MetricsRegistry(identity);
    metrics.histogram('ledgermq_log_write_bytes', (emit) => emit(counts));
    const text = await metrics.scrape();
    expect(text).toContain(`ledgermq_log_write_bytes_bucket{le="1",${BASE}} 1`);
    expect(text).toContain(`ledgermq_log_write_bytes_bucket{le="10",${BASE}} 4`);
    expect(text).toContain(`ledgermq_log_write_bytes_bucket{le="100",${BASE}} 4`);
    expect(text).toContain(`ledgermq_log_write_bytes_bucket{le="+Inf",${BASE}} 5`);
    expect(text).toContain(`ledgermq_log_write_bytes_sum{${BASE}} 1016`);
    expect(text).toContain(`ledgermq_log_write_bytes_count{${BASE}} 5`);
  });

  test('a metric has a bounded number of series', async () => {
    const metrics = new MetricsRegistry(identity);
    metrics.source('ledgermq_gateway_errors_total', (emit) => {
      for (let at = 0; at < MAX_SERIES_PER_METRIC + 10; at++) emit(1, String(at));
    });
    const text = await metrics.scrape();
    expect(text.match(/^ledgermq_gateway_errors_total\{/gm)).toHaveLength(MAX_SERIES_PER_METRIC);
    // What is not there is said, once a scrape.
    expect(text).toContain(`ledgermq_metrics_left_out_series{${BASE}} 10\n`);
    expect(await metrics.scrape()).toContain(`ledgermq_metrics_left_out_series{${BASE}} 10\n`);
  });

  test('a label too few is a broken program', async () => {
    const metrics = new MetricsRegistry(identity);
    metrics.source('rocketmq_messages_in_total', (emit) => emit(1, 'topic'));
    await expect(metrics.scrape()).rejects.toThrow('one value a label');
    expect(() => metrics.value('rocketmq_messages_in_total', () => 1)).toThrow('needs a source');
  });
});
