/**
 * Bounds of the replicated state. They decide verdicts in apply(), so all replicas must agree on them: constants of the
 * feature level, changed only together with it (I6).
 */
export const StateLimits = {
  maxTopics: 10_000,
  /** Over all topics of a broker group: 48 bytes of unit cache and three numbers each. */
  maxQueues: 100_000,
  maxQueuesPerTopic: 65_535,
  /** Broker groups in one placement. */
  maxPlaces: 1_024,
  /** Deleted or moved topics whose other groups have not followed yet; beyond: a deletion is TOO_MANY. */
  maxTombstones: 10_000,
  /** Ended topics whose older records are refused; beyond, the oldest is forgotten. */
  maxPastTopics: 10_000,
  maxGroups: 10_000,
  maxQuotas: 1_000,
  maxMembersPerGroup: 1_000,
  maxTopicsPerMember: 100,
  /** Strategy byConfig. */
  maxConfiguredQueuesPerMember: 1_000,
  /** Offsets kept over all groups. */
  maxOffsets: 1_000_000,
  /** (producer id, queue) pairs; at the bound the least recently used one is forgotten: its producer gets UNKNOWN_PRODUCER and starts anew. ≈ 400 bytes each. */
  maxProducerStates: 100_000,
  /** Of one group and queue: offsets sent back above the committed one; beyond, a send-back is TOO_MANY until the commits follow. */
  maxSentBackPerQueue: 8_192,
  /** The same over all groups. */
  maxSentBack: 1_000_000,
  /** Dead letters noted as replayed, over all groups; beyond, a note is TOO_MANY. */
  maxReplayMarks: 1_000_000,
  producerExpiryMs: 24 * 3_600_000,
  /** Half messages of all producer groups; a group may hold as many as are still free, beyond: TOO_MANY. ≈ 250 bytes each. */
  maxHalfMessages: 100_000,
  /** A message's own wait before its first check at most: RocketMQ's retention. A longer one is taken as this. */
  maxCheckImmunityMs: 72 * 3_600_000,
  /** Outcomes that are remembered, for so long; at the bound the oldest is forgotten: TRANSACTION_NOT_FOUND. ≈ 120 bytes each. */
  maxEndedTransactions: 100_000,
  endedTransactionMs: 24 * 3_600_000,
  /** Batch results kept per (producer id, queue): also the number of batches a producer may have in flight there. */
  keptBatchResults: 8,
  /** Cancelled messages whose batches still wait; beyond: TOO_MANY. */
  maxCancelledMessages: 100_000,
  /** Carried batches that rows in queues refer to, and timers that wait elsewhere until the cut; beyond, nothing more is carried and the log is held. ≈ 150 bytes each. */
  maxCarried: 500_000,
  /** Topics, or dead letters, that are kept for longer than the log. */
  maxLongerRetentions: 1_000,
  maxLongerRetentionMs: 10 * 365 * 24 * 3_600_000,
  /** Batches, and single deliveries, that are kept, over all queues; beyond, the oldest of what is to be kept is dropped as by its quota. ≈ 150 bytes each. */
  maxKeptUnits: 262_144,
  /** (group, queue) pairs that were popped; beyond: pops are TOO_MANY. */
  maxPopQueues: 100_000,
  /** Deliveries whose messages are invisible, in all and of one group and queue; beyond: that queue gives nothing until some are done. ≈ 200 bytes each. */
  maxPopCheckpoints: 200_000,
  maxPopCheckpointsPerQueue: 4_096,
} as const;

/** Messages of a delayed batch of which single ones can be cancelled: the others get a row each. */
export const MAX_CANCELLABLE_MESSAGES = 1_024;

/** Topic and group names: protocol/names.ts. */
export const MAX_MEMBER_NAME_CHARACTERS = 255;

/** Bounds of what one leader holds in memory: each replica may have its own. */
export interface BrokerLimits {
  /** Send parts that wait for apply; beyond: BUSY. */
  readonly maxPendingSends: number;
  /** Commands (joins, commits, topics) that wait for apply; beyond: BUSY. */
  readonly maxPendingCommands: number;
  /** Held pulls; beyond: a pull is answered empty at once. */
  readonly maxWaiters: number;
  readonly maxWaitersPerQueue: number;
  readonly maxPullWaitMs: number;
  /** A pull's answer at most (a single larger batch goes alone). */
  readonly maxPullBytes: number;
  readonly maxPullMessages: number;
  /** Compiled filter expressions; beyond: the one not asked for longest is compiled again when it is. ≈ 4 KB each, 100 KB at most. */
  readonly maxSqlFilters: number;
  /** What testing batches against an expression may cost one pull: bytes of index units and properties, or their worth; then it is answered with what there is. */
  readonly maxFilterWorkBytes: number;
  /** Pulls that read segment files at the same time; beyond: they queue. */
  readonly maxColdReads: number;
  readonly maxQueuedColdReads: number;
  /** F08: a reader of the files that is further behind the log's end is told to read from a follower; 0 = never. */
  readonly followerReadBehindBytes: number;
  /** Messages of one page of a search by key at most; a page ends earlier at maxPullBytes. */
  readonly maxQueryMessages: number;
  /** Entries that one page of a search reads at most. */
  readonly maxQueryEntries: number;
  /** Searches under way; beyond: TOO_MANY. */
  readonly maxQueries: number;
  readonly maxMessageBytes: number;
  readonly maxPropertiesBytes: number;
  readonly maxBatchBytes: number;
  readonly maxPartsPerSend: number;
  readonly offsetCommitIntervalMs: number;
  /** Offset commits gathered for one entry; beyond: the entry goes at once. */
  readonly maxGatheredCommits: number;
  readonly minSessionTimeoutMs: number;
  readonly maxSessionTimeoutMs: number;
  readonly defaultSessionTimeoutMs: number;
  /** After a connection closed without groupLeave. */
  readonly closeGraceMs: number;
  readonly revokeTimeoutMs: number;
  readonly retentionCheckMs: number;
  /** A producer that was silent for longer is not asked for outcomes; its client says hello every third of it. */
  readonly producerSessionMs: number;
  /** (producer group, connection) pairs; beyond: TOO_MANY. */
  readonly maxProducerSessions: number;
  /** Timers that the leader holds in memory, ≈ 100 bytes each; beyond: the later half is read from disk again when its time comes. */
  readonly maxNearTimers: number;
}

export const DEFAULT_BROKER_LIMITS: BrokerLimits = {
  maxPendingSends: 65_536,
  maxPendingCommands: 8_192,
  maxWaiters: 65_536,
  maxWaitersPerQueue: 16_384,
  maxPullWaitMs: 60_000,
  maxPullBytes: 8 * 1024 * 1024,
  maxPullMessages: 65_535,
  maxSqlFilters: 1_024,
  maxFilterWorkBytes: 1024 * 1024,
  maxColdReads: 4,
  maxQueuedColdReads: 4_096,
  followerReadBehindBytes: 64 * 1024 * 1024,
  maxQueryMessages: 256,
  maxQueryEntries: 256,
  maxQueries: 16,
  maxMessageBytes: 4 * 1024 * 1024,
  maxPropertiesBytes: 32_767,
  maxBatchBytes: 4 * 1024 * 1024 + 64 * 1024,
  maxPartsPerSend: 1_024,
  offsetCommitIntervalMs: 100,
  maxGatheredCommits: 1_024,
  minSessionTimeoutMs: 1_000,
  maxSessionTimeoutMs: 300_000,
  defaultSessionTimeoutMs: 10_000,
  closeGraceMs: 3_000,
  revokeTimeoutMs: 10_000,
  retentionCheckMs: 10_000,
  producerSessionMs: 30_000,
  maxProducerSessions: 65_536,
  maxNearTimers: 524_288,
};
