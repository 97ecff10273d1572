import { ALLOCATE_STRATEGIES } from './allocate-strategies.ts';
import { delayCancelRequest, delayListRequest, delayListResponse } from './delay-bodies.ts';
import { GROUP_MARKS, type GroupMarkRequest } from './group-mark.ts';
import { popAckRequest, popChangeRequest, popRequest, popResponse, pulledReference } from './pop-bodies.ts';
import type { PopAckResponse, PopChangeResponse } from './pop-requests.ts';
import type { MessageQueryRequest, MessageQueryResponse, QueriedBatch, QueryCursor } from './query-requests.ts';
import type {
  FeatureLevelRaiseRequest,
  FeatureLevelRaiseResponse,
  LogDamage,
  RaftAddRequest,
  RaftRemoveRequest,
  RaftStatus,
  RaftTransferRequest,
  RaftTransferResponse,
  VerifyChainRequest,
  VerifyChainResponse,
} from './raft-requests.ts';
import type {
  AssignedQueue,
  Assignment,
  BrokerRoute,
  ClusterStatus,
  Empty,
  GoAwayPush,
  GroupDescribeRequest,
  GroupDescription,
  GroupHeartbeatRequest,
  GroupHeartbeatResponse,
  GroupJoinRequest,
  GroupLagRequest,
  GroupLagResponse,
  GroupListResponse,
  GroupMemberRequest,
  GroupQueue,
  GroupReleaseRequest,
  GroupResetOffsetRequest,
  GroupResetOffsetResponse,
  HelloRequest,
  HelloResponse,
  LongerRetention,
  MessageGetRequest,
  MessageGetResponse,
  OffsetCommitRequest,
  OffsetCommitResponse,
  OffsetFetchRequest,
  OffsetFetchResponse,
  Place,
  Pushes,
  QueueRangeRequest,
  QueueRangeResponse,
  Quota,
  QuotaListResponse,
  QuotaRemoveRequest,
  QuotaUse,
  Requests,
  Responses,
  RetentionListResponse,
  RetentionRemoveRequest,
  RetentionUse,
  RouteRequest,
  RouteResponse,
  TopicCreateRequest,
  TopicDeleteRequest,
  TopicDescription,
  TopicListRequest,
  TopicListResponse,
  TopicPutRequest,
  TopicPutResponse,
  TopicRoute,
  TopicUpdateRequest,
} from './requests.ts';
import { Op, PushKind } from './requests.ts';
import { deadLetterMarkRequest, deadLetterMarksRequest, deadLetterMarksResponse, errors, sendBackRequest } from './retry-bodies.ts';
import { bool, int, list, map, nullable, oneOf, type Schema, text, textUpTo, u16, u32, u53, u53OrNone } from './schema.ts';
import {
  halfDescription,
  producerHeartbeatRequest,
  transactionCheckPush,
  transactionEndRequest,
  transactionEndResponse,
  transactionGetRequest,
  transactionListRequest,
  transactionListResponse,
} from './transaction-bodies.ts';

/** How a body goes over the wire. Maps go as they are; the hot operations' flat arrays are in flat-bodies.ts. */
export interface BodyCodec<T> {
  encode(body: T): unknown;
  /** @throws LedgerError BAD_REQUEST */
  decode(wire: unknown): T;
}

function asMap<T>(schema: Schema<T>): BodyCodec<T> {
  return { encode: (body) => body, decode: (wire) => schema(wire, 'body') };
}

/** Names are checked for their characters by the broker; here only their size is bounded. */
const name = textUpTo(512);
const member = map<GroupMemberRequest>({ group: name, member: name });
const queue = map<{ topic: string; queueId: number }>({ topic: name, queueId: u16 });
const empty: Schema<Empty> = map<Empty>({});

const brokerRoute = map<BrokerRoute>({
  brokerName: name,
  term: u53,
  leader: u16,
  replicas: list(map<BrokerRoute['replicas'][number]>({ replicaId: u16, endpoint: text }), 64),
});
const topicRouteFields = {
  topic: name,
  topicId: u53,
  version: u53,
  perm: int(0, 7),
  messageType: oneOf('normal', 'fifo'),
  placement: list(map<Place>({ brokerName: name, queues: u16, perm: int(0, 7) }, ['perm'])),
};
const topicRoute = map<TopicRoute>(topicRouteFields);
const routeResponse = map<RouteResponse>({ brokers: list(brokerRoute), topics: list(topicRoute) });
const topicDescription = map<TopicDescription>({
  ...topicRouteFields,
  replication: int(0, 3),
  queues: list(map<TopicDescription['queues'][number]>({ queueId: u16, minOffset: u53, maxOffset: u53 })),
});
const assignment = map<Assignment>({
  group: name,
  member: name,
  epoch: u53,
  queues: list(map<AssignedQueue>({ topic: name, queueId: u16, committedOffset: u53OrNone, epoch: u53 })),
  revoking: list(queue),
});
const raftStatus = map<RaftStatus>(
  {
    brokerName: name,
    replicaId: u16,
    role: name,
    term: u53,
    leader: u16,
    firstIndex: u53,
    lastIndex: u53,
    durableIndex: u53,
    commitIndex: u53,
    appliedIndex: u53,
    startPosition: u53,
    endPosition: u53,
    peers: list(
      map<RaftStatus['peers'][number]>({
        replicaId: u16,
        matchIndex: u53,
        // A latency may be fractional, and is unknown (−1) before the first word.
        silentMs: (value, field) => (typeof value === 'number' && value >= -1 ? value : u53(value, field)),
      }),
      64,
    ),
    stateDigest: u53,
    voters: list(u16, 64),
    learners: list(u16, 64),
    outgoing: list(u16, 64),
    featureLevel: u16,
    newestFeatureLevel: u16,
    voteFloor: u53,
    machine: text,
    priority: u16,
    belowReserve: bool,
  },
  ['voters', 'learners', 'outgoing', 'featureLevel', 'newestFeatureLevel', 'voteFloor', 'machine', 'priority', 'belowReserve'],
);
const quotaFields = {
  kind: oneOf('client', 'namespace'),
  name,
  each: bool,
  bytesPerSecond: u53OrNone,
  messagesPerSecond: u53OrNone,
  connections: u53OrNone,
  topics: u53OrNone,
};
const retentionFields = { name, retentionMs: u53, maxBytes: u53 };
const queryCursor = map<QueryCursor>({ position: u53, messageIndex: u16 });
/** Where a group stands in a queue, of both answers below. */
const queueProgress = { topic: name, queueId: u16, owner: name, committedOffset: u53OrNone, maxOffset: u53, lag: u53 };
const groupDescription = map<GroupDescription>(
  {
    group: name,
    epoch: u53,
    strategy: oneOf(...ALLOCATE_STRATEGIES),
    members: list(map<GroupDescription['members'][number]>({ member: name, address: text, topics: list(name) })),
    queues: list(map<GroupQueue>(queueProgress)),
  },
  ['strategy'],
);

type Control = Exclude<keyof Requests, typeof Op.send | typeof Op.pull>;

export const CONTROL_REQUESTS: { readonly [O in Control]: BodyCodec<Requests[O]> } = {
  [Op.hello]: asMap(
    map<HelloRequest>(
      {
        minVersion: u16,
        maxVersion: u16,
        clientId: name,
        namespace: name,
        zone: name,
        agent: name,
        credentials: map<{ user: string; secret: string }>({ user: name, secret: text }),
      },
      ['credentials'],
    ),
  ),
  [Op.ping]: asMap(empty),
  [Op.route]: asMap(map<RouteRequest>({ topics: list(name) })),
  [Op.offsetCommit]: asMap(
    map<OffsetCommitRequest>({
      group: name,
      member: name,
      epoch: u53,
      offsets: list(map<OffsetCommitRequest['offsets'][number]>({ topic: name, queueId: u16, offset: u53 })),
    }),
  ),
  [Op.offsetFetch]: asMap(map<OffsetFetchRequest>({ group: name, queues: list(queue) })),
  [Op.groupJoin]: asMap(
    map<GroupJoinRequest>(
      {
        group: name,
        member: name,
        topics: list(name),
        strategy: oneOf(...ALLOCATE_STRATEGIES),
        sessionTimeoutMs: u32,
        queues: list(map<{ topic: string; brokerName: string; queueId: number }>({ topic: name, brokerName: name, queueId: u16 })),
        brokerZones: list(map<{ brokerName: string; zone: string }>({ brokerName: name, zone: name })),
        machineRooms: list(name),
        retries: bool,
        filterHash: u32,
      },
      ['queues', 'brokerZones', 'machineRooms', 'retries', 'filterHash'],
    ),
  ),
  [Op.groupHeartbeat]: asMap(map<GroupHeartbeatRequest>({ group: name, member: name, epoch: u53, retries: bool }, ['retries'])),
  [Op.groupRelease]: asMap(
    map<GroupReleaseRequest>({
      group: name,
      member: name,
      queues: list(map<GroupReleaseRequest['queues'][number]>({ topic: name, queueId: u16, epoch: u53, offset: u53OrNone })),
    }),
  ),
  [Op.groupLeave]: asMap(member),
  [Op.queueRange]: asMap(map<QueueRangeRequest>({ topic: name, queueId: u16, timeMs: u53 })),
  [Op.topicCreate]: asMap(
    map<TopicCreateRequest>({
      topic: name,
      queues: u16,
      perm: int(0, 7),
      messageType: oneOf('normal', 'fifo'),
      replication: int(0, 3),
    }),
  ),
  [Op.topicUpdate]: asMap(map<TopicUpdateRequest>({ topic: name, queues: int(-1, 0xffff), perm: int(-1, 7), replication: int(-1, 3) })),
  [Op.topicDelete]: asMap(map<TopicDeleteRequest>({ topic: name })),
  [Op.topicList]: asMap(map<TopicListRequest>({ topics: list(name) })),
  [Op.topicPut]: asMap(map<TopicPutRequest>({ ...topicRouteFields, replication: int(0, 3), deleted: bool, known: bool }, ['known'])),
  [Op.groupList]: asMap(empty),
  [Op.groupDescribe]: asMap(map<GroupDescribeRequest>({ group: name })),
  [Op.groupResetOffset]: asMap(map<GroupResetOffsetRequest>({ group: name, topic: name, queueId: u16, offset: u53 })),
  [Op.messageGet]: asMap(map<MessageGetRequest>({ id: name, topic: name, queueId: u16, offset: u53 })),
  [Op.clusterStatus]: asMap(empty),
  [Op.raftStatus]: asMap(empty),
  [Op.raftTransfer]: asMap(map<RaftTransferRequest>({ target: u16 })),
  [Op.verifyChain]: asMap(map<VerifyChainRequest>({ fromIndex: u53, toIndex: u53 })),
  [Op.raftAdd]: asMap(map<RaftAddRequest>({ replicaId: u16, host: textUpTo(256), port: u16 })),
  [Op.raftRemove]: asMap(map<RaftRemoveRequest>({ replicaId: u16 })),
  [Op.groupMark]: asMap(map<GroupMarkRequest>({ mark: oneOf(...GROUP_MARKS), forced: bool })),
  [Op.featureLevelRaise]: asMap(map<FeatureLevelRaiseRequest>({ level: u16 })),
  [Op.transactionEnd]: asMap(transactionEndRequest),
  [Op.producerHeartbeat]: asMap(producerHeartbeatRequest),
  [Op.transactionGet]: asMap(transactionGetRequest),
  [Op.transactionList]: asMap(transactionListRequest),
  [Op.messageQuery]: asMap(
    map<MessageQueryRequest>({ topic: name, key: textUpTo(0xffff), fromTimeMs: u53, toTimeMs: u53, max: u16, before: queryCursor }, [
      'before',
    ]),
  ),
  [Op.delayCancel]: asMap(delayCancelRequest),
  [Op.delayList]: asMap(delayListRequest),
  [Op.sendBack]: asMap(sendBackRequest),
  [Op.deadLetterMark]: asMap(deadLetterMarkRequest),
  [Op.deadLetterMarks]: asMap(deadLetterMarksRequest),
  [Op.groupLag]: asMap(map<GroupLagRequest>({ group: name, topic: name })),
  [Op.pop]: asMap(popRequest),
  [Op.popAck]: asMap(popAckRequest),
  [Op.popChange]: asMap(popChangeRequest),
  [Op.quotaSet]: asMap(map<Quota>(quotaFields)),
  [Op.quotaRemove]: asMap(map<QuotaRemoveRequest>({ kind: quotaFields.kind, name })),
  [Op.quotaList]: asMap(empty),
  [Op.retentionSet]: asMap(map<LongerRetention>(retentionFields)),
  [Op.retentionRemove]: asMap(map<RetentionRemoveRequest>({ name })),
  [Op.retentionList]: asMap(empty),
};

export const CONTROL_RESPONSES: { readonly [O in Control]: BodyCodec<Responses[O]> } = {
  [Op.hello]: asMap(
    map<HelloResponse>(
      {
        version: u16,
        clusterId: name,
        brokerName: name,
        replicaId: u16,
        maxFrameBytes: u32,
        maxBatchBytes: u32,
        sendWindowBytes: u53,
        maxCodec: u16,
      },
      ['maxCodec'],
    ),
  ),
  [Op.ping]: asMap(empty),
  [Op.route]: asMap(routeResponse),
  [Op.offsetCommit]: asMap(map<OffsetCommitResponse>({ errors: list(u16) })),
  [Op.offsetFetch]: asMap(map<OffsetFetchResponse>({ offsets: list(u53OrNone) })),
  [Op.groupJoin]: asMap(assignment),
  [Op.groupHeartbeat]: asMap(map<GroupHeartbeatResponse>({ assignment: nullable(assignment) })),
  [Op.groupRelease]: asMap(empty),
  [Op.groupLeave]: asMap(empty),
  [Op.queueRange]: asMap(map<QueueRangeResponse>({ minOffset: u53, maxOffset: u53, timeOffset: u53 })),
  [Op.topicCreate]: asMap(topicRoute),
  [Op.topicUpdate]: asMap(topicRoute),
  [Op.topicDelete]: asMap(empty),
  [Op.topicList]: asMap(map<TopicListResponse>({ topics: list(topicDescription), mark: oneOf(...GROUP_MARKS) }, ['mark'])),
  [Op.topicPut]: asMap(map<TopicPutResponse>({ replication: int(0, 3) })),
  [Op.groupList]: asMap(
    map<GroupListResponse>({
      groups: list(map<GroupListResponse['groups'][number]>({ group: name, epoch: u53, members: u32, lag: u53 })),
    }),
  ),
  [Op.groupDescribe]: asMap(groupDescription),
  [Op.groupResetOffset]: asMap(map<GroupResetOffsetResponse>({ previous: u53OrNone })),
  [Op.messageGet]: asMap(
    map<MessageGetResponse>(
      {
        topic: name,
        queueId: u16,
        baseOffset: u53,
        logTimeMs: u53,
        position: u53,
        messageIndex: u16,
        reference: pulledReference,
        pendingUntilMs: u53,
      },
      ['reference', 'pendingUntilMs'],
    ),
  ),
  [Op.clusterStatus]: asMap(map<ClusterStatus>({ clusterId: name, brokers: list(brokerRoute), self: raftStatus })),
  [Op.raftStatus]: asMap(raftStatus),
  [Op.raftTransfer]: asMap(map<RaftTransferResponse>({ target: u16 })),
  [Op.verifyChain]: asMap(
    map<VerifyChainResponse>(
      {
        fromIndex: u53,
        toIndex: u53,
        slices: list(map<VerifyChainResponse['slices'][number]>({ firstIndex: u53, lastIndex: u53, position: u53, hash: u32 })),
        stateDigest: u53,
        digestIndex: u53,
        damages: list(map<LogDamage>({ index: u53, position: u53, fault: text })),
      },
      ['damages'],
    ),
  ),
  [Op.raftAdd]: asMap(empty),
  [Op.raftRemove]: asMap(empty),
  [Op.groupMark]: asMap(empty),
  [Op.featureLevelRaise]: asMap(map<FeatureLevelRaiseResponse>({ featureLevel: u16 })),
  [Op.transactionEnd]: asMap(transactionEndResponse),
  [Op.producerHeartbeat]: asMap(empty),
  [Op.transactionGet]: asMap(halfDescription),
  [Op.transactionList]: asMap(transactionListResponse),
  [Op.messageQuery]: asMap(
    map<MessageQueryResponse>({
      found: list(
        map<QueriedBatch>(
          {
            queueId: u16,
            baseOffset: u53,
            logTimeMs: u53,
            position: u53,
            sizeBytes: u32,
            messageIndexes: list(u16),
            reference: pulledReference,
          },
          ['reference'],
        ),
      ),
      next: nullable(queryCursor),
    }),
  ),
  [Op.delayCancel]: asMap(empty),
  [Op.delayList]: asMap(delayListResponse),
  [Op.sendBack]: asMap(errors),
  [Op.deadLetterMark]: asMap(errors),
  [Op.deadLetterMarks]: asMap(deadLetterMarksResponse),
  [Op.groupLag]: asMap(
    map<GroupLagResponse>({
      logTimeMs: u53,
      queues: list(map<GroupLagResponse['queues'][number]>({ ...queueProgress, oldestTimeMs: u53OrNone })),
    }),
  ),
  [Op.pop]: asMap(popResponse),
  [Op.popAck]: asMap(map<PopAckResponse>({ errors: list(u16) })),
  [Op.popChange]: asMap(map<PopChangeResponse>({ checkpoint: u53 })),
  [Op.quotaSet]: asMap(empty),
  [Op.quotaRemove]: asMap(empty),
  [Op.quotaList]: asMap(map<QuotaListResponse>({ quotas: list(map<QuotaUse>({ ...quotaFields, used: u53, refused: u53 })) })),
  [Op.retentionSet]: asMap(empty),
  [Op.retentionRemove]: asMap(empty),
  [Op.retentionList]: asMap(
    map<RetentionListResponse>({ retentions: list(map<RetentionUse>({ ...retentionFields, keptBytes: u53, keptMessages: u53 })) }),
  ),
};

export const PUSHES: { readonly [K in keyof Pushes]: BodyCodec<Pushes[K]> } = {
  [PushKind.routeChanged]: asMap(routeResponse),
  [PushKind.assignment]: asMap(assignment),
  [PushKind.goAway]: asMap(map<GoAwayPush>({ error: u16, detail: text })),
  [PushKind.transactionCheck]: asMap(transactionCheckPush),
};
