/**
 * The vocabulary between the Raft core and its driver (src/replica/).
 *
 * The core is pure: it reads no clock and does no I/O. The driver feeds it events and carries out the effects.
 * Indexes and terms count from 1; 0 means "none". Everything is below 2^53.
 */

/** Stable number of a replica within its broker group, 1…7. It never changes; addresses may. */
export type ReplicaId = number;

/**
 * A write group as Raft sees it: the entries firstIndex…lastIndex, all proposed by the leader of `term`.
 * Groups are stored, replicated and truncated whole, so two logs that share one entry of a group share the group.
 */
export interface GroupMeta {
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly term: number;
  /** Byte position of the group in the CommitLog. */
  readonly position: number;
  /** Padded size, a multiple of the block size. */
  readonly sizeBytes: number;
}

/** Term and vote: on stable storage before anything that depends on them is said (Raft paper, figure 2, "persistent state"). */
export interface HardState {
  readonly term: number;
  /** 0 = none. */
  readonly votedFor: ReplicaId;
}

/** Who votes (paper section 6; thesis 4.2.1 learners, 4.3 joint consensus: `outgoing` is null outside it). */
export interface Membership {
  readonly voters: readonly ReplicaId[];
  readonly learners: readonly ReplicaId[];
  readonly outgoing: readonly ReplicaId[] | null;
}

interface MessageBase {
  readonly from: ReplicaId;
  readonly to: ReplicaId;
  /** The sender's term; for a pre-vote the term it would campaign in. Every reply carries it. */
  readonly term: number;
}

export interface PreVoteRequest extends MessageBase {
  readonly type: 'preVoteRequest';
  readonly lastIndex: number;
  readonly lastTerm: number;
}
export interface PreVoteResponse extends MessageBase {
  readonly type: 'preVoteResponse';
  readonly granted: boolean;
}
export interface VoteRequest extends MessageBase {
  readonly type: 'voteRequest';
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** Set by leadership transfer: overrides "I still hear a leader" (thesis 3.10, 4.2.3). */
  readonly transfer: boolean;
}
export interface VoteResponse extends MessageBase {
  readonly type: 'voteResponse';
  readonly granted: boolean;
}

/**
 * AppendEntries. The core says which range goes (`firstIndex`…`lastIndex`, whole groups; empty when lastIndex < firstIndex);
 * the driver adds the bytes on the wire, and on arrival decodes `groups` from them.
 */
export interface AppendRequest extends MessageBase {
  readonly type: 'appendRequest';
  readonly prevIndex: number;
  readonly prevTerm: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly commitIndex: number;
  /** Filled by the receiving driver; the core passes `groups` back in its store effect. */
  readonly groups: readonly GroupMeta[];
}
export interface AppendResponse extends MessageBase {
  readonly type: 'appendResponse';
  /** false: prevIndex/prevTerm did not match; `lastIndex`, `hintTerm` say where to try next. A rejection counts as contact. */
  readonly success: boolean;
  /** success: everything up to here is stored durably and equal to the leader's log (cumulative). Else the hint index. */
  readonly lastIndex: number;
  readonly hintTerm: number;
  /** The prevIndex that was rejected, to recognise stale rejections. 0 on success. */
  readonly rejectedIndex: number;
}

/** Leader contact, commit index, check-quorum and ReadIndex in one small message (thesis 6.4). */
export interface HeartbeatRequest extends MessageBase {
  readonly type: 'heartbeatRequest';
  readonly commitIndex: number;
  /** ReadIndex round; 0 = none. */
  readonly readContext: number;
}
export interface HeartbeatResponse extends MessageBase {
  readonly type: 'heartbeatResponse';
  readonly readContext: number;
}

/** Thesis 3.10: campaign at once. */
export interface TimeoutNow extends MessageBase {
  readonly type: 'timeoutNow';
}

/**
 * The follower is behind the log's start. The driver sends the state at the log's start; the follower then gets every
 * retained group, so that its log is byte-identical. `index`, `lastTerm`: the last entry that the snapshot covers.
 */
export interface SnapshotRequest extends MessageBase {
  readonly type: 'snapshotRequest';
  readonly index: number;
  readonly lastTerm: number;
}
export interface SnapshotResponse extends MessageBase {
  readonly type: 'snapshotResponse';
  readonly index: number;
  readonly success: boolean;
}

export type Message =
  | PreVoteRequest
  | PreVoteResponse
  | VoteRequest
  | VoteResponse
  | AppendRequest
  | AppendResponse
  | HeartbeatRequest
  | HeartbeatResponse
  | TimeoutNow
  | SnapshotRequest
  | SnapshotResponse;

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';

/** Carried out in this order by the driver. */
export interface Effects {
  /** Write to stable storage; `messages` and everything later that speaks of this term or vote wait for it. */
  readonly hardState: HardState | null;
  /** Follower: cut the log so that truncateFrom is the first index gone (null: nothing), then append `groups`. Report with stored(). */
  readonly store: readonly StoreEffect[];
  readonly messages: readonly Message[];
  /** The commit index when it moved, else null: apply in order up to it. */
  readonly commitIndex: number | null;
  /** ReadIndex answers: state applied up to `index` may serve the reads of `context`; index null = refused (not leader). */
  readonly reads: readonly { readonly context: number; readonly index: number | null }[];
  /** Set when role, term or leader changed. */
  readonly roleChange: { readonly role: Role; readonly term: number; readonly leader: ReplicaId } | null;
}

export interface StoreEffect {
  readonly truncateFrom: number | null;
  /** A suffix of the message's groups: those not yet held. May be empty when only the truncation counts. */
  readonly groups: readonly GroupMeta[];
}

export interface RaftConfig {
  readonly id: ReplicaId;
  readonly membership: Membership;
  /** Election timeout, ms: each election draws from [electionTimeoutMs, 2 * electionTimeoutMs). */
  readonly electionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  /** Bounds of what is sent to one follower and not acknowledged yet. */
  readonly maxInflightMessages: number;
  readonly maxInflightBytes: number;
  /** Bound of one append message; a larger single group goes alone. */
  readonly maxAppendBytes: number;
  /** Uncommitted bytes at the leader; propose() refuses beyond. */
  readonly maxUncommittedBytes: number;
  /** Uniform in [0, 1): randomised election timeouts. */
  readonly random: () => number;
}
