import type { ErrorCode } from '../protocol/errors.ts';
import { LedgerError } from '../protocol/errors.ts';
import { GROUP_MARKS, type GroupMarkRequest } from '../protocol/group-mark.ts';
import { checkNewTopicName, checkUserGroupName } from '../protocol/names.ts';
import type { RaftAddRequest, RaftRemoveRequest, RaftTransferRequest, VerifyChainRequest } from '../protocol/raft-requests.ts';
import type {
  GroupLagRequest,
  GroupResetOffsetRequest,
  QueueRangeRequest,
  TopicCreateRequest,
  TopicListRequest,
  TopicPutRequest,
  TopicUpdateRequest,
} from '../protocol/requests.ts';
import { Op, ReplicationMode } from '../protocol/requests.ts';
import { MAX_REPLICAS } from '../raft/quorum.ts';
import { groupLagOf } from './backlog.ts';
import type { BrokerContext } from './context.ts';
import { groupDescription, groupLag, topicDescription, topicRoute } from './describe.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { StateLimits } from './limits.ts';
import { nameRefusal } from './name-refusal.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { AdminHooks, OwnRoutes } from './ports.ts';
import type { Session } from './session.ts';
import { changeOfRecord, putOfRecord, recordFault, recordOfRequest } from './topic-records.ts';
import { Perm } from './topics.ts';

export interface AdminOptions {
  readonly clusterId: string;
  readonly brokerName: string;
  readonly routes: OwnRoutes;
  readonly hooks: AdminHooks;
  /** Minimum replication of topics that name none (ReplicationMode; default quorum). */
  readonly defaultReplication?: number;
}

const isReplicaId = (id: number): boolean => Number.isInteger(id) && id >= 1 && id <= MAX_REPLICAS;
const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 0xffff;
const isPerm = (perm: number): boolean => Number.isInteger(perm) && perm >= 0 && perm <= (Perm.read | Perm.write);
const isReplication = (mode: number): boolean => Number.isInteger(mode) && mode >= ReplicationMode.leader && mode <= ReplicationMode.all;

/** Topics, groups, the cluster: what an operator asks. Changes are commands in the log; reads of the leader's tables go through ReadIndex. */
export class Admin {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #options: AdminOptions;

  constructor(context: BrokerContext, commands: PendingCommands, options: AdminOptions) {
    this.#context = context;
    this.#commands = commands;
    this.#options = options;
  }

  topicCreate(session: Session, requestId: number, request: TopicCreateRequest): void {
    const { topic, queues, perm, messageType } = request;
    const replication =
      request.replication === ReplicationMode.topicMinimum
        ? (this.#options.defaultReplication ?? ReplicationMode.quorum)
        : request.replication;
    const name = nameRefusal(() => checkNewTopicName(topic));
    const fits = Number.isInteger(queues) && queues >= 1 && queues <= StateLimits.maxQueuesPerTopic;
    const known = messageType === 'normal' || messageType === 'fifo';
    if (name !== null || !fits || !isPerm(perm) || !isReplication(replication) || !known) {
      session.refuse(requestId, name?.code ?? 'BAD_REQUEST', name?.detail);
      return;
    }
    const isNew = this.#context.state.topics.named(topic) === undefined;
    if (isNew && !(this.#takesTopics(session, requestId) && this.#hasRoom(session, requestId, topic))) return;
    const { clock, metrics } = this.#context;
    const arrivedMs = clock.monotonicMs();
    this.#commands.propose({ type: 'topicCreate', name: topic, queues, perm, messageType, replication }, (error) => {
      if (error === null) metrics.topicCreatedMs(clock.monotonicMs() - arrivedMs);
      this.#note(session, requestId, 'topic create', { topic, queues, perm, messageType, replication }, error);
      this.#answerRoute(session, requestId, Op.topicCreate, topic, error);
    });
  }

  /** A topic that is made while the group is drained gets no queues here (F48). Those of other groups are not its concern. */
  #takesTopics(session: Session, requestId: number): boolean {
    const mark = GROUP_MARKS[this.#context.state.setting('groupMark')];
    if (mark === 'open') return true;
    session.refuse(requestId, 'QUEUES_CLOSED', `broker group ${this.#options.brokerName} is ${mark} (ledgermq cluster drain --undo)`);
    return false;
  }

  /** F48: the mark is replicated state of the group; who asked for it is noted. */
  groupMark(session: Session, requestId: number, { mark, forced }: GroupMarkRequest): void {
    const { state, metrics } = this.#context;
    if (state.featureLevel < FEATURE_LEVELS.messaging) {
      session.refuse(requestId, 'FEATURE_LEVEL', 'a replica of the group cannot read its mark');
      return;
    }
    this.#commands.propose({ type: 'setSetting', name: 'groupMark', value: GROUP_MARKS.indexOf(mark) }, (error) => {
      const event =
        mark === 'removed' ? (forced ? 'group remove forced' : 'group remove') : mark === 'drained' ? 'group drain' : 'group open';
      this.#note(session, requestId, event, { brokerName: this.#options.brokerName }, error);
      if (error === null && forced) metrics.forcedRemoval();
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.groupMark, requestId, {});
    });
  }

  #hasRoom(session: Session, requestId: number, topic: string): boolean {
    const room = this.#context.quotas.hasRoomFor(topic);
    if (!room) session.refuse(requestId, 'QUOTA_EXCEEDED', `the namespace of ${topic} has all the topics that it may have`);
    return room;
  }

  topicUpdate(session: Session, requestId: number, request: TopicUpdateRequest): void {
    const { topic, queues, perm, replication } = request;
    const fits = queues === -1 || (Number.isInteger(queues) && queues >= 1 && queues <= StateLimits.maxQueuesPerTopic);
    if (!fits || !(perm === -1 || isPerm(perm)) || !(replication === -1 || isReplication(replication))) {
      session.refuse(requestId, 'BAD_REQUEST');
      return;
    }
    this.#commands.propose({ type: 'topicUpdate', name: topic, queues, perm, replication }, (error) => {
      this.#note(session, requestId, 'topic update', { topic, queues, perm, replication }, error);
      this.#answerRoute(session, requestId, Op.topicUpdate, topic, error);
    });
  }

  #answerRoute(
    session: Session,
    requestId: number,
    op: typeof Op.topicCreate | typeof Op.topicUpdate,
    name: string,
    error: ErrorCode | null,
  ): void {
    const topic = this.#context.state.topics.named(name);
    if (error !== null || topic === undefined) session.refuse(requestId, error ?? 'TOPIC_NOT_FOUND');
    else session.respond(op, requestId, topicRoute(topic));
  }

  topicDelete(session: Session, requestId: number, topic: string): void {
    this.#commands.propose({ type: 'topicDelete', name: topic }, (error) => {
      this.#note(session, requestId, 'topic delete', { topic }, error);
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.topicDelete, requestId, {});
    });
  }

  /** The cluster-wide record of a topic, from who changes it on all groups: each does its part, any number of times. */
  topicPut(session: Session, requestId: number, request: TopicPutRequest): void {
    const named = recordOfRequest(request);
    const record =
      named.replication === ReplicationMode.topicMinimum
        ? { ...named, replication: this.#options.defaultReplication ?? ReplicationMode.quorum }
        : named;
    const { topics } = this.#context.state;
    const isNew = !record.deleted && topics.named(record.name) === undefined;
    const name = isNew ? nameRefusal(() => checkNewTopicName(record.name)) : null;
    const fault = name?.code ?? recordFault(record);
    if (fault !== null) {
      session.refuse(requestId, fault, name?.detail);
      return;
    }
    const here = record.placement.some(({ brokerName }) => brokerName === this.#options.brokerName);
    if (isNew && here && !this.#takesTopics(session, requestId)) return;
    if (isNew && !this.#hasRoom(session, requestId, record.name)) return;
    const { clock, metrics } = this.#context;
    const arrivedMs = clock.monotonicMs();
    const isKnown = request.known === true && this.#context.state.featureLevel >= FEATURE_LEVELS.messaging;
    this.#commands.propose(isKnown ? changeOfRecord(record) : putOfRecord(record), (error) => {
      if (error === null && isNew) metrics.topicCreatedMs(clock.monotonicMs() - arrivedMs);
      const { name: topic, incarnation, version } = record;
      const placement = record.placement.map(({ brokerName, queues }) => `${brokerName}:${queues}`).join(',');
      this.#note(session, requestId, record.deleted ? 'topic delete' : 'topic put', { topic, incarnation, version, placement }, error);
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.topicPut, requestId, { replication: record.replication });
    });
  }

  topicList(session: Session, requestId: number, request: TopicListRequest): void {
    this.read(session, requestId, () => {
      const { topics } = this.#context.state;
      const wanted = request.topics.length === 0 ? topics.public() : request.topics.flatMap((name) => topics.named(name) ?? []);
      const mark = GROUP_MARKS[this.#context.state.setting('groupMark')] ?? 'open';
      session.respond(Op.topicList, requestId, { topics: wanted.map(topicDescription), ...(mark === 'open' ? {} : { mark }) });
    });
  }

  groupList(session: Session, requestId: number): void {
    this.read(session, requestId, () => {
      const { state } = this.#context;
      const groups = state.groups.all().map((group) => ({
        group: group.name,
        epoch: group.epoch,
        members: group.members.size,
        lag: groupLag(group, state),
      }));
      session.respond(Op.groupList, requestId, { groups });
    });
  }

  groupDescribe(session: Session, requestId: number, name: string): void {
    this.read(session, requestId, () => {
      const group = this.#context.state.groups.named(name);
      if (group === undefined) session.refuse(requestId, 'GROUP_NOT_FOUND');
      else session.respond(Op.groupDescribe, requestId, groupDescription(group, this.#context.state));
    });
  }

  groupLag(session: Session, requestId: number, { group: name, topic }: GroupLagRequest): void {
    this.read(session, requestId, () => {
      const { state, replica } = this.#context;
      const group = state.groups.named(name);
      if (group === undefined) session.refuse(requestId, 'GROUP_NOT_FOUND');
      else {
        groupLagOf(group, topic, state, replica.logTimeMs()).then(
          (lag) => session.respond(Op.groupLag, requestId, lag),
          (error: unknown) => refuseWith(session, requestId, error),
        );
      }
    });
  }

  groupResetOffset(session: Session, requestId: number, request: GroupResetOffsetRequest): void {
    const { group, queueId, offset } = request;
    const name = nameRefusal(() => checkUserGroupName(group));
    const topic = this.#context.state.topics.named(request.topic);
    const refusal = this.#context.leadership.refusal() ?? name?.code ?? (topic === undefined ? 'TOPIC_NOT_FOUND' : null);
    if (refusal !== null || topic === undefined || !(Number.isSafeInteger(offset) && offset >= 0)) {
      session.refuse(requestId, refusal ?? 'BAD_REQUEST');
      return;
    }
    this.#commands.propose({ type: 'groupResetOffset', group, topicId: topic.id, queueId, offset }, (error, results) => {
      this.#note(session, requestId, 'offset reset', { group, topic: topic.name, queueId, offset }, error);
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.groupResetOffset, requestId, { previous: results[0] ?? -1 });
    });
  }

  queueRange(session: Session, requestId: number, request: QueueRangeRequest): void {
    this.read(session, requestId, () => {
      const topic = this.#context.state.topics.named(request.topic);
      const queue = topic?.queues[request.queueId];
      if (queue === undefined) {
        session.refuse(requestId, topic === undefined ? 'TOPIC_NOT_FOUND' : 'QUEUE_NOT_FOUND');
        return;
      }
      const answer = (timeOffset: number): void => {
        session.respond(Op.queueRange, requestId, { minOffset: queue.minOffset, maxOffset: queue.nextOffset, timeOffset });
      };
      const timeOffset = queue.offsetAtTime(request.timeMs);
      if (typeof timeOffset === 'number') answer(timeOffset);
      else timeOffset.then(answer, (error: unknown) => refuseWith(session, requestId, error));
    });
  }

  raftStatus(session: Session, requestId: number): void {
    session.respond(Op.raftStatus, requestId, this.#options.hooks.raftStatus());
  }

  clusterStatus(session: Session, requestId: number): void {
    const { clusterId, routes, hooks } = this.#options;
    session.respond(Op.clusterStatus, requestId, { clusterId, brokers: routes.route([]).brokers, self: hooks.raftStatus() });
  }

  raftTransfer(session: Session, requestId: number, { target }: RaftTransferRequest): void {
    this.#note(session, requestId, 'transfer asked for', { target }, null);
    this.#options.hooks.transfer(target).then(
      () => session.respond(Op.raftTransfer, requestId, { target }),
      (error: unknown) => refuseWith(session, requestId, error),
    );
  }

  raftAdd(session: Session, requestId: number, { replicaId, host, port }: RaftAddRequest): void {
    if (!isReplicaId(replicaId) || !isPort(port) || host === '') {
      session.refuse(requestId, 'BAD_REQUEST', `a replica id 1…${MAX_REPLICAS}, its host and client port`);
      return;
    }
    const change = () => this.#options.hooks.addReplica({ replicaId, host, port });
    this.#changeMembers(session, requestId, Op.raftAdd, 'replica add', { replicaId, host, port }, change);
  }

  raftRemove(session: Session, requestId: number, { replicaId }: RaftRemoveRequest): void {
    if (!isReplicaId(replicaId)) {
      session.refuse(requestId, 'BAD_REQUEST', `a replica id 1…${MAX_REPLICAS}`);
      return;
    }
    this.#changeMembers(session, requestId, Op.raftRemove, 'replica remove', { replicaId }, () =>
      this.#options.hooks.removeReplica(replicaId),
    );
  }

  /** Noted when it is asked for, too: it may take minutes, and end under another leader. */
  #changeMembers(
    session: Session,
    requestId: number,
    op: typeof Op.raftAdd | typeof Op.raftRemove,
    event: string,
    fields: Readonly<Record<string, string | number>>,
    change: () => Promise<void>,
  ): void {
    if (!this.#context.leadership.leader) {
      session.refuse(requestId, 'NOT_LEADER');
      return;
    }
    this.#note(session, requestId, `${event} asked for`, fields, null);
    change().then(
      () => {
        this.#note(session, requestId, event, fields, null);
        session.respond(op, requestId, {});
      },
      (error: unknown) => {
        this.#note(session, requestId, event, fields, error instanceof LedgerError ? error.code : 'INTERNAL');
        refuseWith(session, requestId, error);
      },
    );
  }

  verifyChain(session: Session, requestId: number, request: VerifyChainRequest): void {
    this.#options.hooks.verifyChain(request).then(
      (response) => session.respond(Op.verifyChain, requestId, response),
      (error: unknown) => refuseWith(session, requestId, error),
    );
  }

  /** What an operator changed, and by which request: one line of the log each. */
  #note(
    session: Session,
    requestId: number,
    event: string,
    fields: Readonly<Record<string, string | number>>,
    error: ErrorCode | null,
  ): void {
    this.#context.metrics.event(event, { ...fields, requestId, client: session.clientId, address: session.address, error: error ?? '' });
  }

  /** Runs when the state here includes everything acknowledged before now (FAULTS 12). */
  read(session: Session, requestId: number, answer: () => void): void {
    this.#context.replica.readBarrier((ok) => {
      if (ok) answer();
      else session.refuse(requestId, this.#context.leadership.leader ? 'NOT_READY' : 'NOT_LEADER');
    });
  }
}

export function refuseWith(session: Session, requestId: number, error: unknown): void {
  if (error instanceof LedgerError) session.refuse(requestId, error.code, error.detail);
  else session.refuse(requestId, 'INTERNAL', String(error));
}
