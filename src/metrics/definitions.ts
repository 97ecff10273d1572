/**
 * Every metric of a broker, once. Names and labels are those of RocketMQ 5 where the meaning is the same, so that its dashboards
 * read ours; what has no counterpart there starts with `ledgermq_`. docs/reference/metrics.md is generated from this table.
 *
 * Label values are bounded: topics, groups and peers by the limits of the broker, the others by closed lists.
 */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly unit: string;
  readonly labels: readonly string[];
  readonly help: string;
  /** Histograms: upper bounds, rising; +Inf is implied. */
  readonly buckets?: readonly number[];
}

/** On every series. node_id is the broker name, as with RocketMQ; replica_id tells its replicas apart. */
export const BASE_LABELS = ['node_type', 'cluster', 'node_id', 'replica_id'] as const;

const counter = (unit: string, labels: readonly string[], help: string) => ({ type: 'counter', unit, labels, help }) as const;
const gauge = (unit: string, labels: readonly string[], help: string) => ({ type: 'gauge', unit, labels, help }) as const;
const histogram = (unit: string, labels: readonly string[], buckets: readonly number[], help: string) =>
  ({ type: 'histogram', unit, labels, buckets, help }) as const;

const TOPIC_IN = ['topic', 'message_type', 'is_system'];
const TOPIC_OUT = ['topic', 'consumer_group', 'is_system', 'is_retry'];
const LAG = ['consumer_group', 'topic', 'is_retry', 'is_system'];
const CONNECTIONS = ['consumer_group', 'language', 'version', 'consume_mode', 'protocol_type', 'is_system'];
const STORAGE = ['storage_type', 'storage_medium'];
const SIZE_BUCKETS = [1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304];
const LATENCY_MS_BUCKETS = [1, 3, 5, 10, 30, 100, 300, 1000, 3000, 10_000];
const FINISH_MS_BUCKETS = [10, 100, 1000, 6000, 10_000, 60_000, 600_000, 3_600_000];
const WRITE_SECONDS_BUCKETS = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2];

export const METRICS = {
  rocketmq_messages_in_total: counter(
    'messages',
    TOPIC_IN,
    'Messages that this leader laid into the log; a batch sent again counts again.',
  ),
  rocketmq_throughput_in_total: counter('bytes', TOPIC_IN, 'Bytes of record batches, counted like the messages.'),
  rocketmq_messages_out_total: counter(
    'messages',
    TOPIC_OUT,
    'Messages sent to consumers; the group is empty when it is none that the log knows.',
  ),
  rocketmq_throughput_out_total: counter('bytes', TOPIC_OUT, 'Bytes of record batches sent to consumers.'),
  ledgermq_filtered_out_bytes_total: counter(
    'bytes',
    TOPIC_OUT,
    'Bytes of record batches that were not sent because no message in them passed the filter of the pull.',
  ),
  rocketmq_send_to_dlq_messages_total: counter(
    'messages',
    ['consumer_group', 'topic', 'is_system'],
    'Messages that became dead letters of the group, by the topic that they were first in (leader).',
  ),
  rocketmq_message_size: histogram(
    'bytes',
    TOPIC_IN,
    SIZE_BUCKETS,
    'Size of stored messages; the mean of a batch counts for each of its messages.',
  ),
  rocketmq_rpc_latency: histogram(
    'ms',
    ['protocol_type', 'request_code', 'response_code', 'is_long_polling', 'result'],
    LATENCY_MS_BUCKETS,
    'Time from a request to its response, of sends and of answered pulls.',
  ),
  rocketmq_timing_messages: gauge(
    'messages',
    [],
    'Messages delayed by levels, and timers of other delayed batches and messages, that wait.',
  ),
  ledgermq_timers_near: gauge('timers', [], 'Timers that this leader holds in memory; the others lie in their buckets on disk.'),
  ledgermq_timers_near_bytes: gauge('bytes', [], 'Memory that these take.'),
  ledgermq_delayed_dropped_total: counter(
    'messages',
    [],
    'Delayed messages whose topic was gone when they were due, replay at start included.',
  ),
  rocketmq_timer_enqueue_total: counter('messages', ['topic'], 'Messages that began to wait for their time, retries included (leader).'),
  rocketmq_timer_dequeue_total: counter('messages', ['topic'], 'Messages that waited and got their place in their queue (leader).'),
  rocketmq_timer_dequeue_latency: gauge(
    'ms',
    [],
    'How long the first message that is not on its way to its queue yet has been due, by log time; 0: none is (leader).',
  ),
  rocketmq_delay_message_latency: histogram(
    'ms',
    [],
    LATENCY_MS_BUCKETS,
    'Time from when a delayed message was due until it had its place in its queue, by log time (leader).',
  ),
  rocketmq_topic_create_execution_time: histogram('ms', [], LATENCY_MS_BUCKETS, 'Time that creating a topic took, replication included.'),
  rocketmq_consumer_group_create_execution_time: histogram(
    'ms',
    [],
    LATENCY_MS_BUCKETS,
    'Time that the join took that made a consumer group.',
  ),
  rocketmq_half_messages: gauge('messages', [], 'Half messages that wait for the outcome of their transaction.'),
  rocketmq_commit_messages_total: counter('messages', ['topic'], 'Transactions that were committed (leader).'),
  rocketmq_rollback_messages_total: counter(
    'messages',
    ['topic'],
    'Transactions that were rolled back, by their producer or after the last check (leader).',
  ),
  rocketmq_finish_message_latency: histogram(
    'ms',
    ['topic'],
    FINISH_MS_BUCKETS,
    'Log time from a half message to the outcome of its transaction (leader).',
  ),
  ledgermq_transactions_discarded_total: counter(
    'messages',
    [],
    'Half messages that were rolled back after the last check: no producer said what became of them (leader).',
  ),
  rocketmq_processor_watermark: gauge('requests', ['processor'], 'Requests that wait for their answer, by kind.'),
  rocketmq_broker_permission: gauge('bits', [], 'What this replica takes now: 4 read, 2 write, 6 both.'),
  rocketmq_topic_number: gauge('topics', [], 'Topics of the broker group.'),
  rocketmq_consumer_group_number: gauge('groups', [], 'Consumer groups of the broker group.'),
  rocketmq_producer_connections: gauge('connections', ['language', 'version', 'protocol_type'], 'Connections that have sent a message.'),
  rocketmq_consumer_connections: gauge('connections', CONNECTIONS, 'Members of consumer groups that are connected here.'),
  rocketmq_consumer_lag_messages: gauge('messages', LAG, 'Messages stored and not yet committed by the group (leader).'),
  rocketmq_consumer_lag_latency: gauge('ms', LAG, 'Age of the oldest message not yet committed by the group (leader).'),
  rocketmq_storage_size: gauge('bytes', STORAGE, 'Bytes of the CommitLog from its start to its end.'),
  rocketmq_storage_flush_behind_bytes: gauge('bytes', STORAGE, 'Log bytes laid and not yet on stable storage here.'),
  rocketmq_storage_dispatch_behind_bytes: gauge('bytes', STORAGE, 'Committed log bytes not yet applied here.'),

  ledgermq_server_state: gauge(
    'boolean',
    ['state'],
    '1 for what this process does now: recovering, forming, running, draining, stopped, failed.',
  ),
  ledgermq_clock_skew_seconds: gauge('seconds', [], "This replica's wall clock less the median of the group's."),
  ledgermq_raft_term: gauge('term', [], 'Current term.'),
  ledgermq_raft_is_leader: gauge('boolean', [], '1 while this replica leads its group.'),
  ledgermq_raft_has_leader: gauge('boolean', [], '1 while this replica knows a leader.'),
  ledgermq_raft_leader_changes_total: counter('changes', [], 'Changes of the known leader, the first one included.'),
  ledgermq_raft_elections_total: counter('elections', [], 'Elections that this replica started, pre-votes not counted.'),
  ledgermq_raft_last_index: gauge('index', [], 'Index of the last entry laid.'),
  ledgermq_raft_durable_index: gauge('index', [], 'Index up to which the log is on stable storage here.'),
  ledgermq_raft_commit_index: gauge('index', [], 'Commit index.'),
  ledgermq_raft_applied_index: gauge('index', [], 'Index up to which entries are applied.'),
  ledgermq_raft_uncommitted_bytes: gauge('bytes', [], 'Proposed bytes that wait for their commit (leader).'),
  ledgermq_raft_refused_proposals_total: counter('proposals', ['reason'], 'Proposals refused, by reason.'),
  ledgermq_raft_read_barriers_total: counter('rounds', [], 'ReadIndex rounds.'),
  ledgermq_raft_peer_match_index: gauge('index', ['peer'], 'Highest index known to be on stable storage at a peer (leader).'),
  ledgermq_raft_peer_silent_seconds: gauge('seconds', ['peer'], 'Time since the last word of a peer (leader).'),
  ledgermq_raft_members: gauge('replicas', ['role'], 'Members of the group by the newest membership in the log here: voters and learners.'),
  ledgermq_raft_lost_voters: gauge(
    'replicas',
    [],
    'Voters under whose id somebody with another directory answers: what they held is lost, or set aside. A majority of them needs `raft recover`.',
  ),
  ledgermq_raft_vote_floor_index: gauge('index', [], 'No vote for a log that ends before this index; 0 = none.'),
  ledgermq_raft_hand_overs_total: counter(
    'hand-overs',
    ['reason'],
    'Hand-overs of leadership that this leader began: its disk is full, its clock is off, a higher leaderPriority, balance.',
  ),
  ledgermq_raft_snapshots_sent_total: counter('snapshots', [], 'Snapshots sent to peers.'),

  ledgermq_log_start_position_bytes: gauge('bytes', [], 'Position of the first retained byte.'),
  ledgermq_log_end_position_bytes: gauge('bytes', [], 'Position after the last byte laid.'),
  ledgermq_log_durable_position_bytes: gauge('bytes', [], 'Position up to which the log is on stable storage here.'),
  ledgermq_log_segments: gauge('segments', [], 'Segment files.'),
  ledgermq_log_hot_tail_bytes: gauge('bytes', [], 'Newest log bytes held in memory.'),
  ledgermq_log_written_bytes_total: counter('bytes', [], 'Bytes of write groups written, padding included.'),
  ledgermq_log_padding_bytes_total: counter('bytes', [], 'Padding of write groups.'),
  ledgermq_log_write_groups_total: counter('groups', [], 'Write groups written.'),
  ledgermq_log_write_seconds: histogram('seconds', [], WRITE_SECONDS_BUCKETS, 'Time of one durable write.'),
  ledgermq_log_write_bytes: histogram('bytes', [], SIZE_BUCKETS, 'Size of one durable write.'),
  ledgermq_log_hot_reads_total: counter('reads', [], 'Pulls and runs of write groups served from the hot tail.'),
  ledgermq_log_cold_reads_total: counter('reads', [], 'Pulls and runs of write groups served from segment files.'),
  ledgermq_log_cold_read_bytes_total: counter(
    'bytes',
    [],
    'Bytes read from segment files for consumers, followers, apply and verification.',
  ),
  ledgermq_log_recovery_seconds: gauge('seconds', [], 'Time that the last recovery took.'),
  ledgermq_log_corruptions_total: counter('findings', [], 'Checksums of stored bytes that did not hold.'),
  ledgermq_log_damages_total: counter('findings', [], 'Damaged ranges of the log that repair began with.'),
  ledgermq_log_damaged: gauge('places', [], 'Damaged places that are being repaired now.'),
  ledgermq_log_repairs_total: counter('ranges', [], 'Damaged ranges that were fetched from a peer and written again.'),
  ledgermq_log_repaired_bytes_total: counter('bytes', [], 'Bytes written again by repair.'),
  ledgermq_log_repair_seconds_total: counter('seconds', [], 'Time from the finding of a damaged range to its repair.'),
  ledgermq_log_scrubbed_bytes_total: counter('bytes', [], 'Stored bytes read again and verified in the background.'),
  ledgermq_log_scrub_passes_total: counter('passes', [], 'Passes of that over the whole log.'),
  ledgermq_log_compared_slices_total: counter('slices', [], 'Slices of the log whose hash was compared with a peer.'),
  ledgermq_log_differences_total: counter('slices', [], 'Slices that are whole here and at the peer and differ all the same.'),
  ledgermq_log_snapshots_total: counter('snapshots', [], 'State snapshots written.'),

  ledgermq_disk_free_bytes: gauge('bytes', [], 'Free bytes of the file system with the data directory.'),
  ledgermq_disk_total_bytes: gauge('bytes', [], 'Size of that file system.'),
  ledgermq_disk_below_reserve: gauge('boolean', [], '1 while the disk has less room than the reserve: what clients send is refused.'),
  ledgermq_disk_poisoned: gauge('boolean', [], '1 after a failed write or sync; the process is ending.'),

  ledgermq_broker_queues: gauge('queues', [], 'Queues of the broker group.'),
  ledgermq_broker_producers: gauge('producers', [], 'Producer sequences kept against duplicates.'),
  ledgermq_broker_duplicates_total: counter(
    'batches',
    [],
    'Batches that apply recognised as sent again and gave no second place, replay at start included.',
  ),
  ledgermq_broker_rebalances_total: counter(
    'assignments',
    ['consumer_group'],
    'Changes of members or assignment of a consumer group that were applied.',
  ),
  ledgermq_broker_quota_refused_total: counter('refusals', ['kind', 'name'], 'Sends, connections and topics that a quota refused here.'),
  ledgermq_broker_feature_level: gauge('level', [], 'Feature level of the broker group: what all its replicas can read.'),
  ledgermq_broker_newest_feature_level: gauge('level', [], "Highest feature level that this replica's release knows."),
  ledgermq_broker_state_digest: gauge('hash', [], 'Running digest of the replicated state at the applied index.'),
  ledgermq_broker_digest_checkpoint_index: gauge(
    'index',
    [],
    'The last entry before the current minute of log time: the same one on all replicas that have come so far.',
  ),
  ledgermq_broker_digest_checkpoint: gauge(
    'hash',
    [],
    'Digest of the state at that index. Two replicas that differ at the same index are not the same any more.',
  ),
  ledgermq_retention_held_bytes: gauge(
    'bytes',
    [],
    'Bytes of log that retention would remove and may not: something that is pending refers to them (leader).',
  ),
  ledgermq_log_carried_bytes_total: counter(
    'bytes',
    [],
    'Bytes of entries that were copied to the head of the log, so that it could be cut: what waits for its time or its outcome, and what is to be read again (leader).',
  ),
  ledgermq_log_kept_bytes: gauge(
    'bytes',
    [],
    'Bytes of messages that are kept for longer than the log that they were stored in: their copies at its head.',
  ),
  ledgermq_log_carried_batches: gauge(
    'batches',
    [],
    'Batches that are read from their copies: something refers to them where the log was cut.',
  ),

  ledgermq_gossip_members: gauge('brokers', ['state'], 'Brokers of the cluster that this one knows, by state; itself is alive.'),
  ledgermq_gossip_groups: gauge('groups', [], 'Broker groups that are known.'),
  ledgermq_gossip_topic_records: gauge('records', [], 'Topic records, one for each group that applied a topic.'),
  ledgermq_gossip_rumors: gauge('records', [], 'News that is still being told.'),
  ledgermq_gossip_datagrams_in_total: counter('datagrams', [], 'Gossip datagrams received.'),
  ledgermq_gossip_datagrams_out_total: counter('datagrams', [], 'Gossip datagrams sent.'),
  ledgermq_gossip_bytes_in_total: counter('bytes', [], 'Bytes of gossip received.'),
  ledgermq_gossip_bytes_out_total: counter('bytes', [], 'Bytes of gossip sent.'),
  ledgermq_gossip_refused_total: counter(
    'datagrams',
    ['reason'],
    'Datagrams of another cluster or version (foreign), with a wrong MAC (mac), or malformed.',
  ),
  ledgermq_gossip_records_taken_total: counter('records', [], 'Records that were news here.'),
  ledgermq_gossip_records_dropped_total: counter('records', [], 'Records that a bound kept out.'),
  ledgermq_gossip_conflicts_total: counter(
    'records',
    [],
    'Records of one epoch with different bodies: two processes under one identity, or a bug.',
  ),
  ledgermq_topic_conflicts: gauge(
    'topics',
    [],
    'Topics that broker groups hold as different ones under one name: made twice while the groups did not hear each other. Delete one of them.',
  ),
  ledgermq_group_mark: gauge('mark', [], 'What an operator decided about this broker group: 0 open, 1 drained, 2 removed.'),
  ledgermq_forced_removals_total: counter(
    'removals',
    [],
    'Removals of this broker group with messages that nobody had consumed (cluster remove --force), asked of this replica.',
  ),
  ledgermq_gossip_suspicions_total: counter('suspicions', [], 'Brokers that became suspects here.'),
  ledgermq_gossip_refutations_total: counter(
    'suspicions',
    [],
    'Suspicions about this broker that it refuted: it is slow, or datagrams are lost.',
  ),
  ledgermq_gossip_deaths_total: counter('brokers', [], 'Brokers that were found dead.'),
  ledgermq_gossip_health_score: gauge('score', [], '0: this broker believes its own probes; up to 3: it stood still or is deaf.'),

  ledgermq_gateway_connections: gauge('connections', [], 'Client connections.'),
  ledgermq_gateway_connections_refused_total: counter('connections', ['reason'], 'Client connections refused or closed by a bound.'),
  ledgermq_gateway_frames_in_total: counter('frames', [], 'Frames received.'),
  ledgermq_gateway_frames_out_total: counter('frames', [], 'Frames sent.'),
  ledgermq_gateway_bytes_in_total: counter('bytes', [], 'Bytes of frames received.'),
  ledgermq_gateway_bytes_out_total: counter('bytes', [], 'Bytes of frames sent.'),
  ledgermq_gateway_errors_total: counter('responses', ['code'], 'Error responses, by code.'),
  ledgermq_gateway_waiters: gauge('pulls', [], 'Long polls that wait.'),
  ledgermq_gateway_paused_connections: gauge('connections', [], 'Connections that are not read from because their window is full.'),

  // The last one: what the others left out in the same scrape is known by then.
  ledgermq_metrics_left_out_series: gauge('series', [], 'Series that this page left out because a metric has too many.'),
} as const satisfies Record<string, MetricDefinition>;

export type MetricName = keyof typeof METRICS;

export const METRIC_NAMES = Object.keys(METRICS) as readonly MetricName[];

export function metricOf(name: MetricName): MetricDefinition {
  return METRICS[name];
}

/** docs/reference/metrics.md */
export function metricsReference(): string {
  const rows = METRIC_NAMES.map((name) => {
    const { type, unit, labels, help } = metricOf(name);
    return `| \`${name}\` | ${type} | ${unit} | ${labels.join(', ') || '–'} | ${help} |`;
  });
  return [
    '# Metrics',
    '',
    'Generated from `src/metrics/definitions.ts` by `npm run reference`; do not edit.',
    '',
    `Served at \`http://HOST:P+2/metrics\`. Every series also has ${BASE_LABELS.map((label) => `\`${label}\``).join(', ')}. Names and labels of`,
    'RocketMQ 5 are used where the meaning is the same. Series of deleted topics and groups end. `process_*` and `nodejs_*`',
    '(memory, processor time, event loop lag, garbage collection) come besides, by prom-client.',
    '',
    '| name | type | unit | labels | meaning |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}
