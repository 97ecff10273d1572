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
  /** Set when the group is one membership entry, which is always alone in its group: it counts once it is in the log. */
  readonly membership?: Membership;
}

/** Term and vote: on stable storage before anything that depends on them is said (Raft paper, figure 2, "persistent state"). */
export interface HardState {
  readonly term: number;
  /** 0 = none. */
  readonly votedFor: ReplicaId;
}

/**
 * Who votes (paper section 6; thesis 4.2.1 learners, 4.3 joint consensus: `outgoing` is null outside it). No voters at all: a
 * replica that nobody has added yet; it takes what a leader sends and never campaigns.
 */
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
  /** Set when role, term or leader changed. On becoming leader the driver lays a no-op group at once. */
  readonly roleChange: { readonly role: Role; readonly term: number; readonly leader: ReplicaId } | null;
  /**
   * Follower: fetch and install the state at `index` from the leader; end with installed() or installFailed().
   * Until then the core takes no entries and does not campaign.
   */
  readonly install: { readonly from: ReplicaId; readonly index: number; readonly lastTerm: number } | null;
}

export interface StoreEffect {
  readonly truncateFrom: number | null;
  /** A suffix of the message's groups: those not yet held. May be empty when only the truncation counts. */
  readonly groups: readonly GroupMeta[];
}

export interface RaftConfig {
  readonly id: ReplicaId;
  /** The newest one that is known to be committed. */
  readonly membership: Membership;
  /** Index of its entry; default 0: the group was formed with it. */
  readonly membershipIndex?: number;
  /** Memberships in the log behind it, ascending; committed or not. */
  readonly laterMemberships?: readonly { readonly index: number; readonly membership: Membership }[];
  /**
   * Whether the id in this membership is this replica itself and not another one that had it before. A replica that takes over an id
   * reads, while it catches up, memberships in which its id votes; it may not campaign by them. Default: always.
   */
  readonly isSelf?: (membership: Membership) => boolean;
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

/** What the leader knows about a follower (thesis 10.2: probe, then pipeline). */
export type ProgressState = 'probe' | 'replicate' | 'snapshot';

export interface PeerStatus {
  readonly id: ReplicaId;
  readonly learner: boolean;
  readonly state: ProgressState;
  /** Stored durably there and equal to the leader's log. */
  readonly matchIndex: number;
  readonly nextIndex: number;
  readonly inflightMessages: number;
  readonly inflightBytes: number;
  /** Monotonic ms of the last answer in this term. */
  readonly lastContactMs: number;
}

/** The port between the core and its driver. Implemented by `Raft` (src/raft/raft.ts), whose package comment shows the loop. */
export interface RaftCore {
  readonly role: Role;
  readonly term: number;
  /** 0 = unknown. */
  readonly leader: ReplicaId;
  readonly votedFor: ReplicaId;
  readonly commitIndex: number;
  /** Durable end of the own log. */
  readonly storedIndex: number;
  readonly isSingleVoter: boolean;
  /** By the newest membership in its log, and under the identity that it has there. */
  readonly isVoter: boolean;
  /** It leads, or holds everything that this term's leader knew to be committed when it last sent of its log. */
  readonly holdsCommitted: boolean;
  /** The newest membership in the log, and where its entry lies. */
  readonly membership: Membership;
  readonly membershipIndex: number;
  /** Leader: the current membership is committed and so is an entry of this term, so a change may be proposed (thesis 4.1). */
  readonly mayChangeMembership: boolean;
  /** Elections that this replica started since it was made, pre-votes not counted. */
  readonly elections: number;
  /** Leader: bytes in the log that wait for their commit; 0 elsewhere. */
  readonly uncommittedBytes: number;
  /** Target of a leadership transfer under way, else 0. */
  readonly transferTarget: ReplicaId;
  /** Monotonic ms. First call of a turn: everything else is measured with it. */
  tick(nowMs: number): void;
  step(message: Message): void;
  /** Leader: `group` was laid at lastIndex + 1 with the current term. @returns false when this is no leader; bounds are asked of canPropose() before a group is laid. */
  propose(group: GroupMeta): boolean;
  /** False unless leader, no transfer under way, and within maxUncommittedBytes. The first group of a term is always allowed. */
  canPropose(sizeBytes: number): boolean;
  /** The own disk is durable up to `lastIndex`, written under `term` (the term of that entry). */
  stored(lastIndex: number, term: number): void;
  /** Answered in `Effects.reads`; `context` is the caller's. */
  readIndex(context: number): void;
  /** @returns false when this is no leader, or `to` is no other voter, or a transfer is under way. */
  transferLeadership(to: ReplicaId): boolean;
  /** The connection of `id` was reset: evidence that it died (follower), or that what was in flight is lost (leader). */
  peerReset(id: ReplicaId): void;
  /** Poisoned disk, drain: hands over to the best follower and does not campaign until allowCampaign(). */
  stepDown(reason: string): void;
  allowCampaign(): void;
  /**
   * I4: grants no vote to a log that ends before `index`, nor campaigns with one. Kept on disk by the driver.
   * @param term of the entry there, by which logs are compared first (paper section 5.4.1); 0 = not known: the index alone counts
   */
  setVoteFloor(index: number | null, term?: number): void;
  /**
   * The snapshot of an install effect is durable: the log now starts after `index`, the next group lies at `position`.
   * @param membership the newest one up to `index`, which the snapshot carries; default: the current one stays
   */
  installed(index: number, term: number, position: number, membership?: { readonly index: number; readonly membership: Membership }): void;
  installFailed(index: number): void;
  /** The log's head was cut (retention): first retained entry is startIndex + 1 at startPosition. startIndex <= commitIndex. */
  cutHead(startIndex: number, startTerm: number, startPosition: number): void;
  /** Everything to be carried out since the last call. */
  takeEffects(): Effects;
  /** Leader: what it knows about each follower; empty elsewhere. */
  progress(): readonly PeerStatus[];
  /** Leader heard a quorum within the last election timeout. */
  quorumFresh(nowMs: number): boolean;
}
