import type { AllocateStrategy } from './allocate-strategies.ts';
import type { DelayRequests, DelayResponses } from './delay-requests.ts';
import type { GroupMark, GroupMarkRequest } from './group-mark.ts';
import type { PopAckRequest, PopAckResponse, PopChangeRequest, PopChangeResponse, PopRequest, PopResponse } from './pop-requests.ts';
import type { PulledBatch, PulledReference } from './pulled-batch.ts';
import type { MessageQueryRequest, MessageQueryResponse } from './query-requests.ts';
import type {
  FeatureLevelRaiseRequest,
  FeatureLevelRaiseResponse,
  RaftAddRequest,
  RaftRemoveRequest,
  RaftStatus,
  RaftTransferRequest,
  RaftTransferResponse,
  VerifyChainRequest,
  VerifyChainResponse,
} from './raft-requests.ts';
import type {
  DeadLetterMarkRequest,
  DeadLetterMarkResponse,
  DeadLetterMarksRequest,
  DeadLetterMarksResponse,
  SendBackRequest,
  SendBackResponse,
} from './retry-requests.ts';
import type { TransactionCheckPush, TransactionRequests, TransactionResponses } from './transaction-requests.ts';

/**
 * The native protocol's operations as typed values; docs/protocol.md has the bytes.
 *
 * A frame is [header size u32 LE][msgpack header][raw region]. Requests: [op, requestId, deadlineMs, body];
 * responses: [RESPONSE, requestId, errorNumber, body | detail]; pushes: [PUSH, 0, kind, body]. `deadlineMs` is relative
 * (ms that the client will still wait). Raw regions carry record batches, back to back.
 * Every broker answers metadata; what needs the leader answers NOT_LEADER elsewhere.
 */
export const PROTOCOL_VERSION = 1;

/** Operation numbers are on the wire and never reused. */
export const Op = {
  response: 0,
  push: 1,
  hello: 2,
  ping: 3,
  route: 4,
  /** From the broker: the answers to many sends in one frame (docs/protocol.md, "Send acks"). */
  sendAcks: 5,
  send: 10,
  pull: 11,
  offsetCommit: 12,
  offsetFetch: 13,
  groupJoin: 14,
  groupHeartbeat: 15,
  groupRelease: 16,
  groupLeave: 17,
  queueRange: 18,
  topicCreate: 30,
  topicUpdate: 31,
  topicDelete: 32,
  topicList: 33,
  groupList: 34,
  groupDescribe: 35,
  groupResetOffset: 36,
  messageGet: 37,
  topicPut: 38,
  clusterStatus: 40,
  raftStatus: 41,
  raftTransfer: 42,
  verifyChain: 43,
  raftAdd: 44,
  raftRemove: 45,
  groupMark: 46,
  featureLevelRaise: 47,
  delayCancel: 60,
  delayList: 61,
  sendBack: 70,
  deadLetterMark: 71,
  deadLetterMarks: 72,
  transactionEnd: 65,
  producerHeartbeat: 66,
  transactionGet: 67,
  transactionList: 68,
  messageQuery: 90,
  groupLag: 91,
  pop: 80,
  popAck: 81,
  popChange: 82,
  quotaSet: 95,
  quotaRemove: 96,
  quotaList: 97,
  retentionSet: 98,
  retentionRemove: 99,
  retentionList: 100,
} as const;
export type Op = (typeof Op)[keyof typeof Op];

export const PushKind = { routeChanged: 1, assignment: 2, goAway: 3, transactionCheck: 16 } as const;

// ---- connection ----------------------------------------------------------------------------------------------------

/** First frame on every connection. */
export interface HelloRequest {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly clientId: string;
  readonly namespace: string;
  readonly zone: string;
  /** Name and version of the client library. */
  readonly agent: string;
  readonly credentials?: { readonly user: string; readonly secret: string };
}
export interface HelloResponse {
  readonly version: number;
  readonly clusterId: string;
  readonly brokerName: string;
  readonly replicaId: number;
  readonly maxFrameBytes: number;
  readonly maxBatchBytes: number;
  /** Credit: sum of raw bytes of send requests that may be unanswered on this connection. */
  readonly sendWindowBytes: number;
  /** Highest codec number (record-batch.ts) that batches sent here may have; missing: 0, bodies as they are. */
  readonly maxCodec?: number;
}

// ---- routing ---------------------------------------------------------------------------------------------------------

export interface BrokerRoute {
  readonly brokerName: string;
  /** Raft term of `leader`; a higher term wins when two answers differ. */
  readonly term: number;
  /** Replica id of the leader; 0 = unknown. brokerId 0 of RocketMQ is this one. */
  readonly leader: number;
  readonly replicas: readonly { readonly replicaId: number; readonly endpoint: string }[];
}
export interface TopicRoute {
  readonly topic: string;
  readonly topicId: number;
  readonly version: number;
  /** read 4 | write 2 (RocketMQ's perm bits). */
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  /** Configured queues per broker group: what key selectors hash over, without groups that are drained. */
  readonly placement: readonly Place[];
}
/** A broker group's share of a topic. */
export interface Place {
  readonly brokerName: string;
  readonly queues: number;
  /** What these queues allow, at most the topic's perm: read 4 while the group is drained. Missing: the topic's. */
  readonly perm?: number;
}
/** An empty list asks for the brokers only. */
export interface RouteRequest {
  readonly topics: readonly string[];
}
export interface RouteResponse {
  readonly brokers: readonly BrokerRoute[];
  readonly topics: readonly TopicRoute[];
}

// ---- produce -----------------------------------------------------------------------------------------------------------

/** 0: at least the topic's minimum. leader < quorum < all. */
export const ReplicationMode = { topicMinimum: 0, leader: 1, quorum: 2, all: 3 } as const;

/** Several batches in one frame, in order; the raw region holds them back to back. oneWay: no response at all. */
export interface SendRequest {
  readonly oneWay: boolean;
  readonly replication: number;
  readonly parts: readonly SendPart[];
}
export interface SendPart {
  readonly topic: string;
  readonly queueId: number;
  readonly sizeBytes: number;
}
/** One per part, in order. offset −1 for leader-only acks. */
export interface SendResponse {
  readonly results: readonly SendResult[];
}
export interface SendResult {
  /** 0 = stored. */
  readonly error: number;
  readonly baseOffset: number;
  /** With QUOTA_EXCEEDED: ms to wait before the next attempt. */
  readonly logTimeMs: number;
}

// ---- consume -------------------------------------------------------------------------------------------------------------

export interface PullRequest {
  readonly topic: string;
  readonly queueId: number;
  readonly offset: number;
  readonly maxBytes: number;
  readonly maxMessages: number;
  /** Long poll: ms to wait when there is nothing; 0 answers at once. */
  readonly waitMs: number;
  /** Group members give these and are fenced by them; a plain pull leaves group empty. */
  readonly group: string;
  readonly member: string;
  readonly epoch: number;
  /** Tag hashes wanted; empty = all. Batches without a match are not sent. */
  readonly tagHashes: readonly number[];
  /** SQL92 over the messages' properties (docs/guide/filters.md); missing = all. A release that does not know it sends all. */
  readonly filter?: string;
  /** The leader said to read here (PullResponse.suggest): a follower serves it from what it has applied, or says NOT_LEADER. */
  readonly suggested?: boolean;
}
/** Raw region: the batches, back to back. */
export interface PullResponse {
  readonly minOffset: number;
  readonly maxOffset: number;
  /** Where to pull next: past everything that this answer covers, filtered batches included. */
  readonly nextOffset: number;
  readonly batches: readonly PulledBatch[];
  /** F08: the replica to read from next, a follower of the group; missing = the leader. Heeding it is the client's choice. */
  readonly suggest?: number;
}

export interface OffsetCommitRequest {
  readonly group: string;
  /** Empty for a plain (unfenced) commit, allowed only while the group has no members. */
  readonly member: string;
  readonly epoch: number;
  readonly offsets: readonly { readonly topic: string; readonly queueId: number; readonly offset: number }[];
}
/** One error number per offset, in order. */
export interface OffsetCommitResponse {
  readonly errors: readonly number[];
}
export interface OffsetFetchRequest {
  readonly group: string;
  readonly queues: readonly { readonly topic: string; readonly queueId: number }[];
}
/** −1 = never committed. */
export interface OffsetFetchResponse {
  readonly offsets: readonly number[];
}
/** First retained and next offset of a queue, and the first offset at or after a log time (timeMs >= 0). */
export interface QueueRangeRequest {
  readonly topic: string;
  readonly queueId: number;
  readonly timeMs: number;
}
export interface QueueRangeResponse {
  readonly minOffset: number;
  readonly maxOffset: number;
  readonly timeOffset: number;
}

export interface GroupJoinRequest {
  readonly group: string;
  /** Client-made, unique: `<clientId>@<number>`. Joining again with the same name renews. */
  readonly member: string;
  readonly topics: readonly string[];
  /** All members say the same. Others than sticky: a broker group of feature level 3, else FEATURE_LEVEL. */
  readonly strategy: AllocateStrategy;
  readonly sessionTimeoutMs: number;
  /** byConfig: the queues that this member wants. */
  readonly queues?: readonly { readonly topic: string; readonly brokerName: string; readonly queueId: number }[];
  /** By zone: where broker groups are, all members alike. The member's own zone is that of its hello. */
  readonly brokerZones?: readonly { readonly brokerName: string; readonly zone: string }[];
  /** byMachineRoom: the zones whose queues are consumed, all members alike. */
  readonly machineRooms?: readonly string[];
  /** The member knows of retries: it may be given the group's %RETRY% queue, and reads PulledBatch.reference. */
  readonly retries?: boolean;
  /** What the member's subscriptions filter by at the broker, 32 bits; 0 = nothing. Members that say it say the same. */
  readonly filterHash?: number;
}
/** Also pushed (PushKind.assignment) when it changes: the slice of this broker group. */
export interface Assignment {
  readonly group: string;
  readonly member: string;
  /** Raised at each change; older epochs are fenced for queues that moved. */
  readonly epoch: number;
  /** All queues that the member owns now, those in `revoking` too. */
  readonly queues: readonly AssignedQueue[];
  /** A subset of `queues`: owned now but wanted elsewhere. Finish, then groupRelease with the final offset. */
  readonly revoking: readonly { readonly topic: string; readonly queueId: number }[];
}
export interface AssignedQueue {
  readonly topic: string;
  readonly queueId: number;
  /** −1 = never committed: the consumer applies its consumeFromWhere. */
  readonly committedOffset: number;
  /** Epoch at which this member became the owner: sent with pulls and commits. */
  readonly epoch: number;
}
export interface GroupMemberRequest {
  readonly group: string;
  readonly member: string;
}
export interface GroupReleaseRequest extends GroupMemberRequest {
  readonly queues: readonly { readonly topic: string; readonly queueId: number; readonly epoch: number; readonly offset: number }[];
}

// ---- administration --------------------------------------------------------------------------------------------------------

export interface TopicCreateRequest {
  readonly topic: string;
  /** Queues on the broker group that is asked, 1…65535. */
  readonly queues: number;
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  /** Minimum replication of its messages. */
  readonly replication: number;
}
export interface TopicUpdateRequest {
  readonly topic: string;
  /** May grow, never shrink; −1 leaves it. */
  readonly queues: number;
  /** −1 leaves it. */
  readonly perm: number;
  readonly replication: number;
}
/**
 * The whole cluster-wide record, to the leader of each group of its placement, and of those that it leaves. A lower or equal
 * version of the same incarnation is done already; another incarnation is TOPIC_CONFLICT.
 * With `known` a lower version, and an equal one that says something else, are TOPIC_CONFLICT too, and a topic that is gone is
 * TOPIC_NOT_FOUND.
 */
export interface TopicPutRequest extends TopicRoute {
  readonly replication: number;
  /** The topic is gone, with all its messages. */
  readonly deleted: boolean;
  /** The group described this incarnation to who changes it. Below feature level 3 it counts for nothing. */
  readonly known?: boolean;
}
/** As it was applied: a record that left the replication to the broker is given the same one on all groups. */
export interface TopicPutResponse {
  readonly replication: number;
}
export interface TopicDescription extends TopicRoute {
  readonly replication: number;
  /** Of the broker group that answers. */
  readonly queues: readonly { readonly queueId: number; readonly minOffset: number; readonly maxOffset: number }[];
}
/** Where a consumer group stands in a queue. */
export interface GroupQueue {
  readonly topic: string;
  readonly queueId: number;
  readonly owner: string;
  /** −1 = nothing was committed yet. */
  readonly committedOffset: number;
  readonly maxOffset: number;
  readonly lag: number;
}
export interface GroupDescription {
  readonly group: string;
  readonly epoch: number;
  /** How queues are shared out; `broadcasting`: nobody owns one. Missing: an older release, so sticky. */
  readonly strategy?: AllocateStrategy;
  readonly members: readonly { readonly member: string; readonly address: string; readonly topics: readonly string[] }[];
  readonly queues: readonly GroupQueue[];
}
export interface GroupResetOffsetRequest {
  readonly group: string;
  readonly topic: string;
  readonly queueId: number;
  readonly offset: number;
}
/** By id, or by queue and offset (id empty). Raw region of the response: the batch. */
export interface MessageGetRequest {
  readonly id: string;
  readonly topic: string;
  readonly queueId: number;
  readonly offset: number;
}
export interface MessageGetResponse {
  readonly topic: string;
  readonly queueId: number;
  readonly baseOffset: number;
  readonly logTimeMs: number;
  readonly position: number;
  /** Which message of the batch. */
  readonly messageIndex: number;
  /** `baseOffset` is the place of that message alone, which was stored before. */
  readonly reference?: PulledReference;
  /** It is delayed: due then, ms of log time, and in no queue yet; `baseOffset` is 0. */
  readonly pendingUntilMs?: number;
}
/** F44: limits of what a client, or everything in a namespace, may use of a broker group; −1 = no limit. */
export interface Quota {
  readonly kind: 'client' | 'namespace';
  /** A client id, or the beginning of client ids and `*`; a namespace is what stands before `%` in a topic's name. */
  readonly name: string;
  /** Each matching client has these limits for itself; else all of them together. Clients only. */
  readonly each: boolean;
  /** Bytes of sent batches, and messages, over all of them; at the leader of each broker group. */
  readonly bytesPerSecond: number;
  readonly messagesPerSecond: number;
  /** At each broker. Clients only. */
  readonly connections: number;
  /** Namespaces only. */
  readonly topics: number;
}
export interface QuotaRemoveRequest {
  readonly kind: 'client' | 'namespace';
  readonly name: string;
}
export interface QuotaUse extends Quota {
  /** Connections, or topics, at the broker that answers. */
  readonly used: number;
  /** Sends, connections and topics refused by it since it came to lead, or since the process started. */
  readonly refused: number;
}
/** F34: a topic, or dead letters, whose messages are kept for longer than the log. */
export interface LongerRetention {
  /** Of a topic; `%DLQ%group`: of a group's dead letters; `%DLQ%*`: of all that have none of their own. */
  readonly name: string;
  /** Of each message, from when it was stored, ms. */
  readonly retentionMs: number;
  /** Of what is kept, at each broker group: the oldest go beyond it. */
  readonly maxBytes: number;
}
export interface RetentionRemoveRequest {
  readonly name: string;
}
export interface RetentionUse extends LongerRetention {
  /** Kept now, copied to the log's head; what the log holds by itself is not in it. */
  readonly keptBytes: number;
  readonly keptMessages: number;
}
export interface RetentionListResponse {
  readonly retentions: readonly RetentionUse[];
}
export interface QuotaListResponse {
  readonly quotas: readonly QuotaUse[];
}
/** An empty topic asks for all. */
export interface GroupLagRequest {
  readonly group: string;
  readonly topic: string;
}
export interface GroupLagResponse {
  /** Of the broker group, now: what ages count from. */
  readonly logTimeMs: number;
  readonly queues: readonly (GroupQueue & {
    /** Log time of the oldest message that is not committed; −1 = there is none, or it could not be read. */
    readonly oldestTimeMs: number;
  })[];
}

// ---- what the remaining operations carry -------------------------------------------------------------------------------------

/** Nothing to say. */
export type Empty = Readonly<Record<string, never>>;

/** `epoch`: of the assignment that the member has; 0 = none. */
export interface GroupHeartbeatRequest extends GroupMemberRequest {
  readonly epoch: number;
  /** As in the join. A member that joined when the group could not keep it yet is asked to join again. */
  readonly retries?: boolean;
}
/** null when the member's epoch is the current one: a lost push mends itself at the next heartbeat. */
export interface GroupHeartbeatResponse {
  readonly assignment: Assignment | null;
}
export interface TopicDeleteRequest {
  readonly topic: string;
}
/** An empty list asks for all. */
export interface TopicListRequest {
  readonly topics: readonly string[];
}
export interface TopicListResponse {
  readonly topics: readonly TopicDescription[];
  /** Of the broker group that answers. Missing: of an earlier release, or `open`. */
  readonly mark?: GroupMark;
}
export interface GroupListResponse {
  readonly groups: readonly { readonly group: string; readonly epoch: number; readonly members: number; readonly lag: number }[];
}
export interface GroupDescribeRequest {
  readonly group: string;
}
/** `previous`: the committed offset before; −1 = none. */
export interface GroupResetOffsetResponse {
  readonly previous: number;
}

/** `self` is the replica that answers; `brokers` what it knows of all groups. */
export interface ClusterStatus {
  readonly clusterId: string;
  readonly brokers: readonly BrokerRoute[];
  readonly self: RaftStatus;
}

/** Pushed to every connection that asked for a route (Op.route) when a record in it changed: the whole new records. */
export type RouteChangedPush = RouteResponse;
/** The broker is about to close the connection; `error` is a number of ERRORS, 0 = an orderly stop. */
export interface GoAwayPush {
  readonly error: number;
  readonly detail: string;
}

/** Request bodies by operation. */
export interface Requests extends TransactionRequests, DelayRequests {
  [Op.hello]: HelloRequest;
  [Op.ping]: Empty;
  [Op.route]: RouteRequest;
  [Op.send]: SendRequest;
  [Op.pull]: PullRequest;
  [Op.offsetCommit]: OffsetCommitRequest;
  [Op.offsetFetch]: OffsetFetchRequest;
  [Op.groupJoin]: GroupJoinRequest;
  [Op.groupHeartbeat]: GroupHeartbeatRequest;
  [Op.groupRelease]: GroupReleaseRequest;
  [Op.groupLeave]: GroupMemberRequest;
  [Op.queueRange]: QueueRangeRequest;
  [Op.topicCreate]: TopicCreateRequest;
  [Op.topicUpdate]: TopicUpdateRequest;
  [Op.topicDelete]: TopicDeleteRequest;
  [Op.topicList]: TopicListRequest;
  [Op.topicPut]: TopicPutRequest;
  [Op.groupList]: Empty;
  [Op.groupDescribe]: GroupDescribeRequest;
  [Op.groupResetOffset]: GroupResetOffsetRequest;
  [Op.messageGet]: MessageGetRequest;
  [Op.clusterStatus]: Empty;
  [Op.raftStatus]: Empty;
  [Op.raftTransfer]: RaftTransferRequest;
  [Op.verifyChain]: VerifyChainRequest;
  [Op.raftAdd]: RaftAddRequest;
  [Op.raftRemove]: RaftRemoveRequest;
  [Op.groupMark]: GroupMarkRequest;
  [Op.featureLevelRaise]: FeatureLevelRaiseRequest;
  [Op.sendBack]: SendBackRequest;
  [Op.deadLetterMark]: DeadLetterMarkRequest;
  [Op.deadLetterMarks]: DeadLetterMarksRequest;
  [Op.messageQuery]: MessageQueryRequest;
  [Op.groupLag]: GroupLagRequest;
  [Op.pop]: PopRequest;
  [Op.popAck]: PopAckRequest;
  [Op.popChange]: PopChangeRequest;
  [Op.quotaSet]: Quota;
  [Op.quotaRemove]: QuotaRemoveRequest;
  [Op.quotaList]: Empty;
  [Op.retentionSet]: LongerRetention;
  [Op.retentionRemove]: RetentionRemoveRequest;
  [Op.retentionList]: Empty;
}
/** Bodies of successful responses by operation. */
export interface Responses extends TransactionResponses, DelayResponses {
  [Op.hello]: HelloResponse;
  [Op.ping]: Empty;
  [Op.route]: RouteResponse;
  [Op.send]: SendResponse;
  [Op.pull]: PullResponse;
  [Op.offsetCommit]: OffsetCommitResponse;
  [Op.offsetFetch]: OffsetFetchResponse;
  [Op.groupJoin]: Assignment;
  [Op.groupHeartbeat]: GroupHeartbeatResponse;
  [Op.groupRelease]: Empty;
  [Op.groupLeave]: Empty;
  [Op.queueRange]: QueueRangeResponse;
  [Op.topicCreate]: TopicRoute;
  [Op.topicUpdate]: TopicRoute;
  [Op.topicDelete]: Empty;
  [Op.topicList]: TopicListResponse;
  [Op.topicPut]: TopicPutResponse;
  [Op.groupList]: GroupListResponse;
  [Op.groupDescribe]: GroupDescription;
  [Op.groupResetOffset]: GroupResetOffsetResponse;
  [Op.messageGet]: MessageGetResponse;
  [Op.clusterStatus]: ClusterStatus;
  [Op.raftStatus]: RaftStatus;
  [Op.raftTransfer]: RaftTransferResponse;
  [Op.verifyChain]: VerifyChainResponse;
  [Op.raftAdd]: Empty;
  [Op.raftRemove]: Empty;
  [Op.groupMark]: Empty;
  [Op.featureLevelRaise]: FeatureLevelRaiseResponse;
  [Op.sendBack]: SendBackResponse;
  [Op.deadLetterMark]: DeadLetterMarkResponse;
  [Op.deadLetterMarks]: DeadLetterMarksResponse;
  [Op.messageQuery]: MessageQueryResponse;
  [Op.groupLag]: GroupLagResponse;
  [Op.pop]: PopResponse;
  [Op.popAck]: PopAckResponse;
  [Op.popChange]: PopChangeResponse;
  [Op.quotaSet]: Empty;
  [Op.quotaRemove]: Empty;
  [Op.quotaList]: QuotaListResponse;
  [Op.retentionSet]: Empty;
  [Op.retentionRemove]: Empty;
  [Op.retentionList]: RetentionListResponse;
}
export type RequestOp = keyof Requests;

/** Push bodies by kind. */
export interface Pushes {
  [PushKind.routeChanged]: RouteChangedPush;
  [PushKind.assignment]: Assignment;
  [PushKind.goAway]: GoAwayPush;
  [PushKind.transactionCheck]: TransactionCheckPush;
}
export type PushKindNumber = keyof Pushes;
