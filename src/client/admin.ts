import type { ErrorCode } from '../protocol/errors.ts';
import type { RaftStatus, VerifyChainResponse } from '../protocol/raft-requests.ts';
import type { ClusterStatus } from '../protocol/requests.ts';
import {
  type GroupDescription,
  type GroupListResponse,
  Op,
  ReplicationMode,
  type RequestOp,
  type Requests,
  type Responses,
  type TopicDescription,
  type TopicRoute,
} from '../protocol/requests.ts';
import { type Backlog, backlog, type ResetOutcome, type ResetScope, type ResetTarget, resetOffsets } from './backlog.ts';
import type { ClientCore } from './client-core.ts';
import { DeadLetters } from './dead-letters.ts';
import { cancelDelayed, type DelayedInGroup, delayed } from './delay-admin.ts';
import type { GroupOutcome } from './every-group.ts';
import { askEveryGroup } from './every-group.ts';
import { mergeGroups } from './group-merge.ts';
import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';
import { findMessage, foundMessage, type GroupPort, type MessageQuery, type MessageQueryResult, queryMessages } from './message-search.ts';
import { type GroupQuota, type QuotaLimits, type QuotaSubject, quotaOf, quotas, removeQuota, setQuota } from './quotas.ts';
import { type GroupRetention, removeRetention, retentions, setRetention, type TopicRetention } from './retentions.ts';
import { assertApplied, type LeaderPort, TopicAdmin, type TopicOutcome } from './topic-admin.ts';
import { endByHand, type PendingTransaction, pendingTransactions } from './transaction-admin.ts';
import type { Replication } from './types.ts';

const PERM_READ_WRITE = 6;
/** Administration waits through an election. */
const ADMIN_TIMEOUT_MS = 15_000;
/** A new replica votes when it holds the whole log. Asking again goes on where this ended. */
const MEMBERSHIP_TIMEOUT_MS = 600_000;

export interface TopicDefinition {
  /** Queues on each broker group, 1…65535. */
  readonly queues?: number;
  /** read 4 | write 2. */
  readonly perm?: number;
  readonly messageType?: 'normal' | 'fifo';
  /** Minimum replication of its messages; topicMinimum = the broker's default. */
  readonly replication?: Replication;
}

/** Administration: topics, groups, brokers, single messages. Changes go to every broker group, or those that are named. */
export class Admin {
  readonly #core: ClientCore;
  readonly #topics: TopicAdmin;

  constructor(core: ClientCore) {
    this.#core = core;
    this.#topics = new TopicAdmin(leadersOf(core));
  }

  /**
   * Again with the same definition is fine: a group that missed it takes it.
   * @param brokerNames default: all broker groups
   * @returns the route, once for each group of it
   * @throws LedgerError TOPIC_EXISTS, BAD_NAME, or what a group said that did not apply it: the others have
   */
  async createTopic(topic: string, definition: TopicDefinition = {}, brokerNames?: readonly string[]): Promise<TopicRoute[]> {
    const { queues = 4, perm = PERM_READ_WRITE, messageType = 'normal', replication = 'topicMinimum' } = definition;
    const wanted = { queues, perm, messageType, replication: ReplicationMode[replication] };
    return routesOf(await this.#topics.create(topic, wanted, brokerNames));
  }

  /**
   * Queues may grow, never shrink.
   * @param brokerNames groups that are to have so many queues, those that join the topic, too; default: all that have it
   */
  async updateTopic(topic: string, change: Omit<TopicDefinition, 'messageType'>, brokerNames?: readonly string[]): Promise<TopicRoute[]> {
    const { queues, perm, replication } = change;
    const wanted = { queues, perm, replication: replication === undefined ? undefined : ReplicationMode[replication] };
    return routesOf(await this.#topics.update(topic, wanted, brokerNames));
  }

  /** On all broker groups. */
  async deleteTopic(topic: string): Promise<void> {
    for (const outcome of await this.#topics.delete(topic)) assertApplied(outcome);
  }

  /** One description for each topic and broker group. @param topics default: all */
  async topics(topics: readonly string[] = []): Promise<TopicDescription[]> {
    return this.#topics.describe(topics);
  }

  async groups(): Promise<GroupListResponse['groups'][number][]> {
    const answers = await this.#everywhere(Op.groupList, {});
    return mergeGroups(answers.map(({ body }) => body.groups));
  }

  /** One description for each broker group; its queues carry committed offset and lag. @throws LedgerError GROUP_NOT_FOUND when none knows it */
  async describeGroup(group: string): Promise<GroupDescription[]> {
    return (await this.#everywhere(Op.groupDescribe, { group }, 'GROUP_NOT_FOUND')).map(({ body }) => body);
  }

  /** What the group gave up: to be looked at, and sent again. */
  deadLetters(group: string): DeadLetters {
    return new DeadLetters(this.#core, group);
  }

  /** Messages that the group has not acknowledged. */
  async lag(group: string): Promise<number> {
    const descriptions = await this.describeGroup(group);
    return descriptions.flatMap(({ queues }) => queues).reduce((sum, { lag }) => sum + lag, 0);
  }

  /** @returns the committed offset before; null = none */
  async resetOffset(group: string, { topic, queueId, brokerName }: MessageQueue, offset: number): Promise<number | null> {
    const { body } = await this.#core.askLeader(brokerName, Op.groupResetOffset, { group, topic, queueId, offset }, ADMIN_TIMEOUT_MS);
    return body.previous < 0 ? null : body.previous;
  }

  /**
   * Not consumed yet, by queue, in messages and by the age of the oldest. Broker groups that could not be asked are named.
   * @param topic default: all
   * @param timeoutMs for how long a broker group without a leader is asked
   * @throws LedgerError GROUP_NOT_FOUND when all say so
   */
  backlog(group: string, topic = '', timeoutMs = ADMIN_TIMEOUT_MS): Promise<Backlog> {
    return backlog(groupsOf(this.#core), group, topic, timeoutMs);
  }

  /**
   * Moves a group's offsets on all broker groups while its members go on; RocketMQ's resetOffsetByTime.
   * @throws LedgerError TOPIC_NOT_FOUND, QUEUE_NOT_FOUND, BAD_REQUEST (an offset without one queue)
   */
  resetOffsets(group: string, topic: string, to: ResetTarget, scope: ResetScope = {}): Promise<ResetOutcome> {
    return resetOffsets(groupsOf(this.#core), group, topic, to, scope, ADMIN_TIMEOUT_MS);
  }

  /** What is stored now is not consumed any more; what comes is. RocketMQ's skipAccumulatedMessage. */
  skipAccumulatedMessages(group: string, topic: string): Promise<ResetOutcome> {
    return this.resetOffsets(group, topic, 'last');
  }

  /** On all broker groups; a quota of that subject is replaced. @throws LedgerError BAD_REQUEST: not a quota */
  setQuota(subject: QuotaSubject, limits: QuotaLimits): Promise<GroupOutcome> {
    return setQuota(groupsOf(this.#core), quotaOf(subject, limits), ADMIN_TIMEOUT_MS);
  }

  removeQuota(subject: QuotaSubject): Promise<GroupOutcome> {
    return removeQuota(groupsOf(this.#core), subject, ADMIN_TIMEOUT_MS);
  }

  /** As each broker group has them, with what is used. */
  quotas(): Promise<{ readonly quotas: readonly GroupQuota[] } & GroupOutcome> {
    return quotas(groupsOf(this.#core), ADMIN_TIMEOUT_MS);
  }

  /**
   * Messages of a topic, of a group's dead letters (`%DLQ%group`) or of all dead letters (`%DLQ%*`) are kept for longer than the log. On
   * all broker groups; what was set for that name is replaced. What the log has cut already does not come back.
   * @throws LedgerError BAD_REQUEST: not a retention; in `failed` FEATURE_LEVEL: a replica is of a release that knows of none
   */
  setRetention(name: string, { retentionMs, maxBytes }: TopicRetention): Promise<GroupOutcome> {
    return setRetention(groupsOf(this.#core), { name, retentionMs, maxBytes }, ADMIN_TIMEOUT_MS);
  }

  /** What was kept by it goes with the next cut of the log. */
  removeRetention(name: string): Promise<GroupOutcome> {
    return removeRetention(groupsOf(this.#core), name, ADMIN_TIMEOUT_MS);
  }

  /** As each broker group has them, with what is kept. */
  retentions(): Promise<{ readonly retentions: readonly GroupRetention[] } & GroupOutcome> {
    return retentions(groupsOf(this.#core), ADMIN_TIMEOUT_MS);
  }

  /**
   * A delayed message is not delivered. Doing it again is fine while it would still wait.
   * @param msgId as send() gave it @param topic that it was sent to
   * @throws LedgerError ALREADY_DELIVERED: it is in its queue, or was never delayed; MESSAGE_NOT_FOUND, TOPIC_NOT_FOUND
   */
  cancelDelayed(msgId: string, topic: string): Promise<void> {
    return cancelDelayed(groupsOf(this.#core), msgId, topic, ADMIN_TIMEOUT_MS);
  }

  /** What waits for its time, in each broker group. @param maxBuckets of the time buckets, the earliest ones */
  delayed(maxBuckets = 10): Promise<DelayedInGroup[]> {
    return delayed(groupsOf(this.#core), maxBuckets, ADMIN_TIMEOUT_MS);
  }

  async clusterStatus(): Promise<ClusterStatus> {
    return (await this.#core.askAny(Op.clusterStatus, {})).body;
  }

  /** Status of every replica that answers. */
  async raftStatus(): Promise<RaftStatus[]> {
    const { connections, requestTimeoutMs } = this.#core;
    await this.#core.router.findBrokers(ADMIN_TIMEOUT_MS);
    const asked = [...connections.all].filter(({ ready }) => ready);
    const answers = await Promise.allSettled(asked.map((link) => this.#core.ask(link, Op.raftStatus, {}, requestTimeoutMs)));
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value.body] : []));
  }

  /** @param target replica id; 0 = the best one @returns the replica that is to lead */
  async transferLeadership(brokerName: string, target = 0): Promise<number> {
    return (await this.#core.askLeader(brokerName, Op.raftTransfer, { target }, ADMIN_TIMEOUT_MS)).body.target;
  }

  /**
   * A replica that runs and waits to be added; a member at that address already is fine. Resolves when it votes.
   * @param member with its client port
   * @throws LedgerError BAD_REQUEST: a member at another address, or no replica id; FEATURE_LEVEL; DEADLINE_EXCEEDED after 10 min
   */
  async addReplica(
    brokerName: string,
    member: { readonly replicaId: number; readonly host: string; readonly port: number },
  ): Promise<void> {
    await this.#core.askLeader(brokerName, Op.raftAdd, member, MEMBERSHIP_TIMEOUT_MS);
  }

  /** Resolves when it is gone; who is not there is fine. @throws LedgerError BAD_REQUEST for the last voter; as addReplica() */
  async removeReplica(brokerName: string, replicaId: number): Promise<void> {
    await this.#core.askLeader(brokerName, Op.raftRemove, { replicaId }, MEMBERSHIP_TIMEOUT_MS);
  }

  /**
   * By id, or by queue and offset.
   * @throws LedgerError MESSAGE_NOT_FOUND when all that could have it say so; else what kept a broker group from answering
   */
  async message(at: string | (MessageQueue & { readonly offset: number })): Promise<ReceivedMessage> {
    if (typeof at === 'string') return (await findMessage(groupsOf(this.#core), at, ADMIN_TIMEOUT_MS)).message;
    const request = { id: '', topic: at.topic, queueId: at.queueId, offset: at.offset };
    const { body, raw } = await this.#core.askLeader(at.brokerName, Op.messageGet, request, ADMIN_TIMEOUT_MS);
    return foundMessage(at.brokerName, body, raw).message;
  }

  /** By topic, key and time, on all broker groups. @throws LedgerError TOPIC_NOT_FOUND, BAD_NAME (key), BAD_REQUEST (cursor) */
  queryMessages(query: MessageQuery): Promise<MessageQueryResult> {
    return queryMessages(groupsOf(this.#core), query, query.timeoutMs ?? this.#core.requestTimeoutMs);
  }

  /** Hashes of the log of every replica of a broker group, by replica id; equal answers mean equal bytes. */
  async verifyChain(brokerName: string, fromIndex: number, toIndex: number): Promise<Map<number, VerifyChainResponse>> {
    const { connections, router } = this.#core;
    await router.findBrokers(ADMIN_TIMEOUT_MS);
    const replicas = [...router.brokers].find((broker) => broker.brokerName === brokerName)?.replicas ?? [];
    const answers = await Promise.all(
      replicas.map(async ({ replicaId, endpoint }) => {
        const { body } = await this.#core.ask(connections.to(endpoint), Op.verifyChain, { fromIndex, toIndex }, ADMIN_TIMEOUT_MS);
        return [replicaId, body] as const;
      }),
    );
    return new Map(answers);
  }

  /** Half messages that wait for their outcome, oldest first. @param options default: of all producer groups, 1,000 at most */
  async pendingTransactions(
    options: { readonly producerGroup?: string; readonly max?: number } = {},
  ): Promise<readonly PendingTransaction[]> {
    const { producerGroup = '', max = 1_000 } = options;
    return (await pendingTransactions(groupsOf(this.#core), producerGroup, max, ADMIN_TIMEOUT_MS)).transactions;
  }

  /**
   * Ends a transaction in its producer group's place; written to the broker's log.
   * @returns the offset of the committed message; null for a rollback
   * @throws LedgerError TRANSACTION_NOT_FOUND: it has ended
   */
  endTransaction(transactionId: string, outcome: 'commit' | 'rollback'): Promise<number | null> {
    return endByHand(groupsOf(this.#core), transactionId, outcome, ADMIN_TIMEOUT_MS);
  }

  /**
   * Asks the leaders of all broker groups.
   * @param absent a refusal that only says that the group has none of it
   * @throws LedgerError what a group refused or failed with; `absent` when all say so
   */
  async #everywhere<O extends RequestOp>(
    op: O,
    request: Requests[O],
    absent?: ErrorCode,
  ): Promise<{ readonly brokerName: string; readonly body: Responses[O] }[]> {
    const known = await this.#core.router.findBrokers(ADMIN_TIMEOUT_MS);
    const ask = async (brokerName: string) => (await this.#core.askLeader(brokerName, op, request, ADMIN_TIMEOUT_MS)).body;
    return askEveryGroup(
      known.map(({ brokerName }) => brokerName),
      ask,
      absent,
    );
  }
}

function leadersOf(core: ClientCore): LeaderPort {
  return {
    clock: core.io.clock,
    random: core.io.random,
    brokerNames: async () => (await core.router.findBrokers(ADMIN_TIMEOUT_MS)).map(({ brokerName }) => brokerName),
    askLeader: async (brokerName, op, body, timeoutMs) => (await core.askLeader(brokerName, op, body, timeoutMs)).body,
    sleep: (delayMs) => core.sleep(delayMs),
  };
}

function groupsOf(core: ClientCore): GroupPort {
  return {
    brokerNames: async () => (await core.router.findBrokers(ADMIN_TIMEOUT_MS)).map(({ brokerName }) => brokerName),
    askLeader: (brokerName, op, body, timeoutMs) => core.askLeader(brokerName, op, body, timeoutMs),
  };
}

function routesOf(outcome: TopicOutcome): TopicRoute[] {
  assertApplied(outcome);
  const { topic, topicId, version, perm, messageType, placement } = outcome.record;
  return placement.map(() => ({ topic, topicId, version, perm, messageType, placement }));
}
