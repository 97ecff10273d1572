import type { ConsumeQueue } from '../log/consume-queue-types.ts';
import type { RaftStatus, VerifyChainRequest, VerifyChainResponse } from '../protocol/raft-requests.ts';
import type { TopicRecord } from '../routing/records.ts';
import type { Routing } from '../routing/routing.ts';

/** The ConsumeQueues of this replica, as the state machine uses them (src/log/consume-queues.ts is one). Derived data: nothing is decided from it. */
export interface QueueStore {
  /** The queue's index, made when missing; the same one when it is open already. One of another topic id under the name is discarded. */
  queue(topic: string, topicId: number, queueId: number): ConsumeQueue;
  /** The topic is gone: its files go too. */
  removeTopic(topic: string): void;
}

/** The routes that this broker group owns and tells (src/routing/static-routing.ts is one). */
export interface OwnRoutes extends Routing {
  /** @param leader 0 = unknown in this term */
  setLeader(term: number, leader: number): void;
  /** The record as this group has applied it, deleted ones too. @param logIndex of the entry that did it, or a later one */
  publishTopic(record: TopicRecord, logIndex: number): void;
}

/** What one look into the key index gave. */
export interface KeyHits {
  /** Positions of entries that may hold the key, newest first. The caller reads and verifies them. */
  readonly positions: readonly number[];
  /** Entries before this position were not looked at; null: all were. */
  readonly restBefore: number | null;
}

/** Message ids and keys → entry positions; entries → rows that deliver them (F30). Derived data. */
export interface MessageIdIndex {
  /**
   * At apply: `count` messages whose ids have this high half (8 raw bytes, a view: copy) and low halves idLow…idLow + count − 1
   * lie in the batch whose entry is at `position`.
   */
  putIds(idHigh: Uint8Array, idLow: number, count: number, position: number, logTimeMs: number): void;
  /** Positions of entries that may hold the id, newest first. The caller reads and verifies them. */
  findId(idHigh: Uint8Array, idLow: number): readonly number[] | Promise<readonly number[]>;
  /** At apply: messages of the batch whose entry is at `position` have keys of these hashes. The list is the caller's again afterwards. */
  putKeys(topicId: number, keyHashes: readonly number[], position: number, logTimeMs: number): void;
  /**
   * Entries before `beforePosition`, of that range of log time, both ends included; `max` positions at most, and fewer when the
   * search would take too long. Rejects with LedgerError INTERNAL.
   */
  findKey(
    topicId: number,
    keyHash: number,
    range: { readonly fromTimeMs: number; readonly toTimeMs: number; readonly beforePosition: number; readonly max: number },
  ): KeyHits | Promise<KeyHits>;
  /** At apply: a row at `rowPosition` gave messages of the batch whose entry is at `position` a place in a queue. */
  putRow(position: number, rowPosition: number, logTimeMs: number): void;
  /** Positions of rows that may be of that entry, oldest first. */
  findRows(position: number, max: number): readonly number[] | Promise<readonly number[]>;
  /** The log's start moved: positions below are gone. */
  cut(startPosition: number): void;
}

/** What the broker passes on to its replica's side for administration. */
export interface AdminHooks {
  raftStatus(): RaftStatus;
  /** Hands leadership to `target` (0 = the best follower). Resolves when it is gone; rejects with LedgerError. */
  transfer(target: number): Promise<void>;
  /** Resolves when it votes, having caught up; a voter at that address already: at once. Rejects with LedgerError: NOT_LEADER, BAD_REQUEST with a text. @param member its client port */
  addReplica(member: { replicaId: number; host: string; port: number }): Promise<void>;
  /** Resolves when it is gone; who is not there: at once. Rejects as addReplica(). */
  removeReplica(replicaId: number): Promise<void>;
  verifyChain(request: VerifyChainRequest): Promise<VerifyChainResponse>;
}

/** Counters and histograms that the broker feeds; whoever composes the process binds them to its metrics (no labels are built here per message). */
export interface BrokerMetrics {
  messagesIn(topic: string, messages: number, bytes: number): void;
  messagesOut(topic: string, group: string, messages: number, bytes: number): void;
  /** Bytes of batches that a pull's filter left out: they were not sent. */
  filteredOut(topic: string, group: string, bytes: number): void;
  /** Bytes of pulls that came from segment files, not from the hot tail. */
  coldReadBytes(bytes: number): void;
  /** Stored bytes failed their checksum when read. They were not served. */
  damagedRead(position: number): void;
  /** From the arrival of a send's frame to its answer, ms; per request. `error`: of its first failed part, 0 = none. */
  sendLatencyMs(ms: number, error: number): void;
  /** The same of a pull that was answered; `held`: it was a long poll. */
  pullLatencyMs(ms: number, held: boolean): void;
  /** From the request to its answer, ms, replication included. */
  topicCreatedMs(ms: number): void;
  /** An operator took this group out of the cluster with messages that nobody had consumed. */
  forcedRemoval(): void;
  /** The join that made a group. */
  groupCreatedMs(ms: number): void;
  /** Messages became dead letters of the group. @param topic that they were first in */
  deadLetters(group: string, topic: string, messages: number): void;
  /** Members, owners or targets of a group changed (on every replica). */
  groupChanged(group: string): void;
  /** Messages that waited for their time got their place; `lateMs` after the first of them was due. */
  delayedDelivered(messages: number, lateMs: number): void;
  /** Messages began to wait for their time (on the leader). */
  timersEnqueued(topic: string, messages: number): void;
  /** Their waiting ended with a place in their queue (on the leader). */
  timersDequeued(topic: string, messages: number): void;
  /** Half messages were asked for often enough, and rolled back. */
  transactionsDiscarded(messages: number): void;
  /** A transaction ended on this leader; `ms` of log time since its half message was stored. */
  transactionEnded(topic: string, committed: boolean, ms: number): void;
  /** Something that an operator wants in the log: event and fields, never payload. */
  event(name: string, fields: Readonly<Record<string, string | number>>): void;
}

export const NO_METRICS: BrokerMetrics = {
  messagesIn: () => {},
  messagesOut: () => {},
  filteredOut: () => {},
  coldReadBytes: () => {},
  damagedRead: () => {},
  sendLatencyMs: () => {},
  pullLatencyMs: () => {},
  topicCreatedMs: () => {},
  forcedRemoval: () => {},
  groupCreatedMs: () => {},
  deadLetters: () => {},
  groupChanged: () => {},
  delayedDelivered: () => {},
  timersEnqueued: () => {},
  timersDequeued: () => {},
  transactionsDiscarded: () => {},
  transactionEnded: () => {},
  event: () => {},
};

/**
 * What the services hear of apply(), in log order. Scalars only: nothing is allocated for a batch that nobody here waits for.
 * `error` is a number of protocol/errors.ts, 0 = done.
 */
export interface ApplyListener {
  onBatch(index: number, topicId: number, queueId: number, error: number, baseOffset: number, nextOffset: number, logTimeMs: number): void;
  /** A queue grew by a message that was stored before. */
  onPlaced(topicId: number, queueId: number): void;
  /** `result`: a command's own answers, in its order (errors of offset commits and releases, the offset before a reset), else empty. */
  onCommand(index: number, error: number, result: readonly number[]): void;
  /** A batch's bytes stand at the log's head again. @param position of the entry's header */
  onCarried(index: number, position: number): void;
  /** Members, owners or targets of a group changed. */
  onGroupChanged(group: string): void;
  /** A topic was created or changed, or it is not here any more (its waiters are answered): deleted, or without a place here. */
  onTopicChanged(record: TopicRecord, topicId: number, index: number): void;
  onNoop(index: number, term: number): void;
  /** End of a run of apply(). */
  onApplied(appliedIndex: number): void;
  onRestored(): void;
}
