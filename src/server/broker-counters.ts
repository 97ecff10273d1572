import type { BrokerMetrics } from '../broker/ports.ts';
import { BucketCounts } from '../metrics/bucket-counts.ts';
import { METRICS } from '../metrics/definitions.ts';
import { MAX_SERIES_PER_METRIC } from '../metrics/registry.ts';
import { TransactionCounters } from './transaction-counters.ts';

export class TopicIn {
  messages = 0;
  bytes = 0;
  readonly messageBytes = new BucketCounts(METRICS.rocketmq_message_size.buckets);
}

export interface TopicOut {
  messages: number;
  bytes: number;
  filteredBytes: number;
}

export interface TopicTimers {
  enqueued: number;
  dequeued: number;
}

/** What exists now: series of everything else end. */
export interface KnownNames {
  hasTopic(topic: string): boolean;
  hasGroup(group: string): boolean;
}

/** The broker's counters as plain numbers. A message costs a share of two additions for its batch, and no memory. */
export class BrokerCounters implements BrokerMetrics {
  readonly topicsIn = new Map<string, TopicIn>();
  /** By topic, then by group. */
  readonly topicsOut = new Map<string, Map<string, TopicOut>>();
  readonly rebalances = new Map<string, number>();
  /** Messages that became dead letters here, by group, then by topic. */
  readonly deadLettersOf = new Map<string, Map<string, number>>();
  /** By error number, 0 = stored. */
  readonly sendMs = new Map<number, BucketCounts>();
  readonly pullMs = new BucketCounts(METRICS.rocketmq_rpc_latency.buckets);
  readonly longPullMs = new BucketCounts(METRICS.rocketmq_rpc_latency.buckets);
  readonly topicCreateMs = new BucketCounts(METRICS.rocketmq_topic_create_execution_time.buckets);
  readonly groupCreateMs = new BucketCounts(METRICS.rocketmq_consumer_group_create_execution_time.buckets);
  readonly delayedLateMs = new BucketCounts(METRICS.rocketmq_delay_message_latency.buckets);
  readonly transactions = new TransactionCounters();
  discardedTransactions = 0;
  /** Messages that began to wait, and whose waiting ended, by topic. */
  readonly timers = new Map<string, TopicTimers>();
  coldBytes = 0;
  damagedReads = 0;
  forcedRemovals = 0;
  readonly #known: KnownNames;
  readonly #onEvent: BrokerMetrics['event'];
  #outSeries = 0;

  constructor(known: KnownNames, onEvent: BrokerMetrics['event']) {
    this.#known = known;
    this.#onEvent = onEvent;
  }

  messagesIn(topic: string, messages: number, bytes: number): void {
    let counts = this.topicsIn.get(topic);
    if (counts === undefined) {
      if (this.topicsIn.size >= MAX_SERIES_PER_METRIC) this.forgetDeleted();
      counts = new TopicIn();
      this.topicsIn.set(topic, counts);
    }
    counts.messages += messages;
    counts.bytes += bytes;
    counts.messageBytes.observe(bytes / messages, messages);
  }

  messagesOut(topic: string, group: string, messages: number, bytes: number): void {
    const counts = this.#topicOut(topic, group);
    counts.messages += messages;
    counts.bytes += bytes;
  }

  filteredOut(topic: string, group: string, bytes: number): void {
    this.#topicOut(topic, group).filteredBytes += bytes;
  }

  #topicOut(topic: string, group: string): TopicOut {
    let groups = this.topicsOut.get(topic);
    if (groups === undefined) {
      groups = new Map();
      this.topicsOut.set(topic, groups);
    }
    // A pull may name any group: only those of the log are label values, or a client could make series without end.
    const label = this.#known.hasGroup(group) ? group : '';
    let counts = groups.get(label);
    if (counts === undefined) {
      if (this.#outSeries >= MAX_SERIES_PER_METRIC) this.forgetDeleted();
      counts = { messages: 0, bytes: 0, filteredBytes: 0 };
      groups.set(label, counts);
      this.#outSeries++;
    }
    return counts;
  }

  coldReadBytes(bytes: number): void {
    this.coldBytes += bytes;
  }

  damagedRead(position: number): void {
    this.damagedReads++;
    this.#onEvent('damaged bytes read', { position });
  }

  sendLatencyMs(ms: number, error: number): void {
    let counts = this.sendMs.get(error);
    if (counts === undefined) {
      counts = new BucketCounts(METRICS.rocketmq_rpc_latency.buckets);
      this.sendMs.set(error, counts);
    }
    counts.observe(ms);
  }

  pullLatencyMs(ms: number, held: boolean): void {
    (held ? this.longPullMs : this.pullMs).observe(ms);
  }

  forcedRemoval(): void {
    this.forcedRemovals++;
  }

  topicCreatedMs(ms: number): void {
    this.topicCreateMs.observe(ms);
  }

  groupCreatedMs(ms: number): void {
    this.groupCreateMs.observe(ms);
  }

  deadLetters(group: string, topic: string, messages: number): void {
    const topics = this.deadLettersOf.get(group) ?? new Map<string, number>();
    this.deadLettersOf.set(group, topics);
    topics.set(topic, (topics.get(topic) ?? 0) + messages);
  }

  groupChanged(group: string): void {
    this.rebalances.set(group, (this.rebalances.get(group) ?? 0) + 1);
  }

  delayedDelivered(messages: number, lateMs: number): void {
    this.delayedLateMs.observe(lateMs, messages);
  }

  timersEnqueued(topic: string, messages: number): void {
    this.#timersOf(topic).enqueued += messages;
  }

  timersDequeued(topic: string, messages: number): void {
    this.#timersOf(topic).dequeued += messages;
  }

  #timersOf(topic: string): TopicTimers {
    let counts = this.timers.get(topic);
    if (counts === undefined) {
      if (this.timers.size >= MAX_SERIES_PER_METRIC) this.forgetDeleted();
      counts = { enqueued: 0, dequeued: 0 };
      this.timers.set(topic, counts);
    }
    return counts;
  }

  transactionsDiscarded(messages: number): void {
    this.discardedTransactions += messages;
  }

  transactionEnded(topic: string, committed: boolean, ms: number): void {
    this.transactions.ended(topic, committed, ms, (name) => this.#known.hasTopic(name));
  }

  event(name: string, fields: Readonly<Record<string, string | number>>): void {
    this.#onEvent(name, fields);
  }

  /** Called at each scrape: what was deleted since has no series any more. */
  forgetDeleted(): void {
    const known = this.#known;
    this.transactions.forgetDeleted((name) => known.hasTopic(name));
    for (const topic of this.topicsIn.keys()) if (!known.hasTopic(topic)) this.topicsIn.delete(topic);
    for (const topic of this.timers.keys()) if (!known.hasTopic(topic)) this.timers.delete(topic);
    for (const group of this.rebalances.keys()) if (!known.hasGroup(group)) this.rebalances.delete(group);
    for (const [group, topics] of this.deadLettersOf) {
      for (const topic of topics.keys()) if (!known.hasTopic(topic)) topics.delete(topic);
      if (!known.hasGroup(group)) this.deadLettersOf.delete(group);
    }
    this.#outSeries = 0;
    for (const [topic, groups] of this.topicsOut) {
      for (const group of groups.keys()) if (group !== '' && !known.hasGroup(group)) groups.delete(group);
      if (!known.hasTopic(topic)) this.topicsOut.delete(topic);
      else this.#outSeries += groups.size;
    }
  }
}
