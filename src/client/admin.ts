import { LedgerError } from '../protocol/errors.ts';
import {
  type ClusterStatus,
  type GroupDescription,
  type GroupListResponse,
  Op,
  type RaftStatus,
  ReplicationMode,
  type RequestOp,
  type Requests,
  type Responses,
  type TopicDescription,
  type TopicRoute,
  type VerifyChainResponse,
} from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import { ReceivedBatch, ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';
import type { Replication } from './types.ts';

const PERM_READ_WRITE = 6;
/** Administration waits through an election. */
const ADMIN_TIMEOUT_MS = 15_000;

export interface TopicDefinition {
  /** Queues on each broker group, 1…65535. */
  readonly queues?: number;
  /** read 4 | write 2. */
  readonly perm?: number;
  readonly messageType?: 'normal' | 'fifo';
  /** Minimum replication of its messages; topicMinimum = the broker's default. */
  readonly replication?: Replication;
}

/** Administration: topics, groups, brokers, single messages. Changes go to every broker group, or the one that is named. */
export class Admin {
  readonly #core: ClientCore;

  constructor(core: ClientCore) {
    this.#core = core;
  }

  /** @param brokerNames default: all broker groups @throws LedgerError TOPIC_EXISTS, BAD_NAME */
  async createTopic(topic: string, definition: TopicDefinition = {}, brokerNames?: readonly string[]): Promise<TopicRoute[]> {
    const { queues = 4, perm = PERM_READ_WRITE, messageType = 'normal', replication = 'topicMinimum' } = definition;
    const request = { topic, queues, perm, messageType, replication: ReplicationMode[replication] };
    return this.#everywhere(Op.topicCreate, request, brokerNames);
  }

  /** Queues may grow, never shrink. */
  async updateTopic(topic: string, change: Omit<TopicDefinition, 'messageType'>, brokerNames?: readonly string[]): Promise<TopicRoute[]> {
    const { queues = -1, perm = -1, replication } = change;
    const request = { topic, queues, perm, replication: replication === undefined ? -1 : ReplicationMode[replication] };
    return this.#everywhere(Op.topicUpdate, request, brokerNames);
  }

  async deleteTopic(topic: string, brokerNames?: readonly string[]): Promise<void> {
    await this.#everywhere(Op.topicDelete, { topic }, brokerNames);
  }

  /** One description for each topic and broker group. @param topics default: all */
  async topics(topics: readonly string[] = []): Promise<TopicDescription[]> {
    return (await this.#everywhere(Op.topicList, { topics })).flatMap((answer) => answer.topics);
  }

  async groups(): Promise<GroupListResponse['groups'][number][]> {
    return (await this.#everywhere(Op.groupList, {})).flatMap((answer) => answer.groups);
  }

  /** One description for each broker group; its queues carry committed offset and lag. @throws LedgerError GROUP_NOT_FOUND when none knows it */
  async describeGroup(group: string): Promise<GroupDescription[]> {
    return this.#everywhere(Op.groupDescribe, { group });
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

  /** @throws LedgerError MESSAGE_NOT_FOUND */
  async message(at: string | (MessageQueue & { readonly offset: number })): Promise<ReceivedMessage> {
    if (typeof at !== 'string') return this.#message(at.brokerName, { id: '', topic: at.topic, queueId: at.queueId, offset: at.offset });
    let failure = new LedgerError('MESSAGE_NOT_FOUND', at);
    for (const { brokerName } of await this.#core.router.findBrokers(ADMIN_TIMEOUT_MS)) {
      try {
        return await this.#message(brokerName, { id: at, topic: '', queueId: 0, offset: 0 });
      } catch (error) {
        failure = error as LedgerError;
      }
    }
    throw failure;
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

  async #message(brokerName: string, request: Requests[typeof Op.messageGet]): Promise<ReceivedMessage> {
    const { body, raw } = await this.#core.askLeader(brokerName, Op.messageGet, request, ADMIN_TIMEOUT_MS);
    const queue = { topic: body.topic, brokerName, queueId: body.queueId };
    return new ReceivedMessage(new ReceivedBatch(raw, queue, body.baseOffset, body.logTimeMs), body.messageIndex);
  }

  async #everywhere<O extends RequestOp>(op: O, request: Requests[O], brokerNames?: readonly string[]): Promise<Responses[O][]> {
    const known = (await this.#core.router.findBrokers(ADMIN_TIMEOUT_MS)).map(({ brokerName }) => brokerName);
    const answers = (brokerNames ?? known).map((brokerName) => this.#core.askLeader(brokerName, op, request, ADMIN_TIMEOUT_MS));
    return (await Promise.all(answers)).map(({ body }) => body);
  }
}
