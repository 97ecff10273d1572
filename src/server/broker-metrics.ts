import { Perm } from '../broker/topics.ts';
import type { BucketCounts } from '../metrics/bucket-counts.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import { errorCodeOf } from '../protocol/errors.ts';
import { isReservedTopic, isRetryTopic, isSystemGroup } from '../protocol/names.ts';
import type { BrokerCounters, TopicOut } from './broker-counters.ts';
import type { BindGauge, Sampled } from './sampled.ts';
import type { ServerView } from './server-view.ts';

const PROTOCOL = 'native';
/** Client libraries told apart; what more of them say of themselves is `other`. */
const MAX_AGENTS = 32;
const OTHER_AGENT = ['other', 'other'] as const;

type OutMetric = 'rocketmq_messages_out_total' | 'rocketmq_throughput_out_total' | 'ledgermq_filtered_out_bytes_total';
type CountsByAgent = Map<string, { readonly labels: readonly [string, string]; count: number }>;

const isSystem = (topic: string, group = ''): string => String(isReservedTopic(topic) || isSystemGroup(group));

export function bindBroker(
  registry: MetricsRegistry,
  gauge: BindGauge,
  view: ServerView,
  counters: BrokerCounters,
  sampled: Sampled,
): void {
  const state = () => view.stateMachine;
  gauge('rocketmq_broker_permission', () => permission(view));
  gauge('rocketmq_topic_number', () => state()?.topics.public().length);
  gauge('rocketmq_consumer_group_number', () => state()?.groups.all().length);
  gauge('rocketmq_half_messages', () => state()?.transactions.halves.size);
  counters.transactions.bind(registry);
  gauge('ledgermq_group_mark', () => state()?.setting('groupMark'));
  gauge('ledgermq_forced_removals_total', () => counters.forcedRemovals);
  gauge('ledgermq_broker_queues', () => state()?.topics.queueCount);
  gauge('ledgermq_broker_producers', () => state()?.producers.size);
  gauge('ledgermq_broker_duplicates_total', () => state()?.duplicateBatches);
  gauge('ledgermq_broker_feature_level', () => state()?.featureLevel);
  gauge('ledgermq_broker_newest_feature_level', () => state()?.newestFeatureLevel);
  gauge('ledgermq_broker_state_digest', () => state()?.digest());
  gauge('ledgermq_broker_digest_checkpoint_index', () => state()?.digestCheckpoint?.index);
  gauge('ledgermq_broker_digest_checkpoint', () => state()?.digestCheckpoint?.digest);
  gauge('ledgermq_retention_held_bytes', () => (view.broker?.ready === true ? view.broker.gauges.heldBytes : null));
  gauge('ledgermq_log_carried_bytes_total', () => view.broker?.gauges.carriedBytes);
  gauge('ledgermq_log_carried_batches', () => state()?.carried.size);
  gauge('ledgermq_log_kept_bytes', () => state()?.kept.bytes);
  gauge('ledgermq_transactions_discarded_total', () => counters.discardedTransactions);
  gauge('rocketmq_timing_messages', () => {
    const { levels, wheel } = state()?.timers ?? { levels: null, wheel: null };
    let waiting = wheel?.pending ?? 0;
    for (let level = 1; level <= (levels?.count ?? 0); level++) waiting += levels?.pending(level) ?? 0;
    return waiting;
  });
  gauge('ledgermq_timers_near', () => view.broker?.gauges.nearTimers);
  gauge('ledgermq_timers_near_bytes', () => view.broker?.gauges.nearTimerBytes);
  gauge('rocketmq_timer_dequeue_latency', () => timerLatencyMs(view));
  registry.source('rocketmq_timer_enqueue_total', (emit) => {
    for (const [topic, { enqueued }] of counters.timers) emit(enqueued, topic);
  });
  registry.source('rocketmq_timer_dequeue_total', (emit) => {
    for (const [topic, { dequeued }] of counters.timers) emit(dequeued, topic);
  });
  gauge('ledgermq_delayed_dropped_total', () => state()?.timers.droppedMessages);
  registry.source('ledgermq_broker_rebalances_total', (emit) => {
    for (const [group, count] of counters.rebalances) emit(count, group);
  });
  registry.source('ledgermq_broker_quota_refused_total', (emit) => {
    for (const { kind, name, refused } of view.broker?.quotaUse() ?? []) emit(refused, kind, name);
  });
  registry.source('rocketmq_processor_watermark', (emit) => {
    const gauges = view.broker?.gauges;
    if (gauges === undefined) return;
    emit(gauges.pendingSends, 'send');
    emit(gauges.waiters, 'pull');
    emit(gauges.pendingCommands, 'admin');
  });
  bindTopics(registry, view, counters);
  bindLatencies(registry, counters);
  bindConnections(registry, view);
  bindLags(registry, view, sampled);
}

/** By log time; of the leader, which alone has a schedule. */
function timerLatencyMs({ broker, replica }: ServerView): number | null {
  if (broker?.ready !== true || replica === null) return null;
  const { nextDueMs } = broker.gauges;
  return nextDueMs < 0 ? 0 : Math.max(0, replica.logTimeMs() - nextDueMs);
}

/** What clients may do here now, in RocketMQ's bits. */
function permission({ state, broker, recovered }: ServerView): number {
  if (state !== 'running') return 0;
  const writable = broker?.ready === true && recovered?.log.diskFull === false;
  return writable ? Perm.read | Perm.write : Perm.read;
}

function bindTopics(registry: MetricsRegistry, view: ServerView, counters: BrokerCounters): void {
  const typeOf = (topic: string): string => view.stateMachine?.topics.named(topic)?.messageType ?? 'normal';
  registry.source('rocketmq_messages_in_total', (emit) => {
    for (const [topic, { messages }] of counters.topicsIn) emit(messages, topic, typeOf(topic), isSystem(topic));
  });
  registry.source('rocketmq_throughput_in_total', (emit) => {
    for (const [topic, { bytes }] of counters.topicsIn) emit(bytes, topic, typeOf(topic), isSystem(topic));
  });
  registry.histogram('rocketmq_message_size', (emit) => {
    for (const [topic, { messageBytes }] of counters.topicsIn) emit(messageBytes, topic, typeOf(topic), isSystem(topic));
  });
  const out = (name: OutMetric, value: keyof TopicOut): void => {
    registry.source(name, (emit) => {
      for (const [topic, groups] of counters.topicsOut) {
        for (const [group, counts] of groups) emit(counts[value], topic, group, isSystem(topic, group), String(isRetryTopic(topic)));
      }
    });
  };
  registry.source('rocketmq_send_to_dlq_messages_total', (emit) => {
    for (const [group, topics] of counters.deadLettersOf) {
      for (const [topic, messages] of topics) emit(messages, group, topic, isSystem(topic, group));
    }
  });
  out('rocketmq_messages_out_total', 'messages');
  out('rocketmq_throughput_out_total', 'bytes');
  out('ledgermq_filtered_out_bytes_total', 'filteredBytes');
}

function bindLatencies(registry: MetricsRegistry, counters: BrokerCounters): void {
  registry.histogram('rocketmq_rpc_latency', (emit) => {
    for (const [error, counts] of counters.sendMs) {
      emit(counts, PROTOCOL, 'send', error === 0 ? 'OK' : errorCodeOf(error), 'false', error === 0 ? 'success' : 'failed');
    }
    const pulls: readonly (readonly [BucketCounts, string])[] = [
      [counters.pullMs, 'false'],
      [counters.longPullMs, 'true'],
    ];
    for (const [counts, isLongPolling] of pulls) if (counts.count > 0) emit(counts, PROTOCOL, 'pull', 'OK', isLongPolling, 'success');
  });
  registry.histogram('rocketmq_delay_message_latency', (emit) => emit(counters.delayedLateMs));
  registry.histogram('rocketmq_topic_create_execution_time', (emit) => emit(counters.topicCreateMs));
  registry.histogram('rocketmq_consumer_group_create_execution_time', (emit) => emit(counters.groupCreateMs));
}

function bindConnections(registry: MetricsRegistry, view: ServerView): void {
  registry.source('rocketmq_producer_connections', (emit) => {
    const agents = new Agents();
    const byAgent: CountsByAgent = new Map();
    for (const agent of view.gateway?.producerAgents() ?? []) add(byAgent, agents.labels(agent));
    for (const { labels, count } of byAgent.values()) emit(count, ...labels, PROTOCOL);
  });
  registry.source('rocketmq_consumer_connections', (emit) => {
    const agents = new Agents();
    const byGroup = new Map<string, CountsByAgent>();
    for (const { group, session } of view.broker?.connectedMembers() ?? []) {
      const byAgent: CountsByAgent = byGroup.get(group) ?? new Map();
      byGroup.set(group, byAgent);
      add(byAgent, agents.labels(session.agent));
    }
    for (const [group, byAgent] of byGroup) {
      for (const { labels, count } of byAgent.values()) emit(count, group, ...labels, 'push', PROTOCOL, isSystem('', group));
    }
  });
}

function add(into: CountsByAgent, labels: readonly [string, string]): void {
  const key = labels.join(' ');
  const known = into.get(key);
  if (known === undefined) into.set(key, { labels, count: 1 });
  else known.count++;
}

/** `name/version` of client libraries as label values; their number is bounded, since clients say what they like. */
class Agents {
  readonly #known = new Set<string>();

  labels(agent: string): readonly [string, string] {
    const [, language, version] = /^([A-Za-z][A-Za-z0-9_-]{0,31})\/([0-9][0-9A-Za-z.-]{0,31})$/.exec(agent) ?? [];
    if (language === undefined || version === undefined) return OTHER_AGENT;
    if (!this.#known.has(agent) && this.#known.size >= MAX_AGENTS) return OTHER_AGENT;
    this.#known.add(agent);
    return [language, version];
  }
}

function bindLags(registry: MetricsRegistry, view: ServerView, sampled: Sampled): void {
  registry.source('rocketmq_consumer_lag_messages', (emit) => {
    for (const { group, topic, messages } of sampled.lags) {
      emit(messages, group, topic, String(isRetryTopic(topic)), isSystem(topic, group));
    }
  });
  registry.source('rocketmq_consumer_lag_latency', (emit) => {
    const nowMs = view.replica?.logTimeMs() ?? 0;
    for (const { group, topic, oldestTimeMs } of sampled.lags) {
      if (Number.isNaN(oldestTimeMs)) continue;
      emit(Math.max(0, nowMs - Math.min(oldestTimeMs, nowMs)), group, topic, String(isRetryTopic(topic)), isSystem(topic, group));
    }
  });
}
