import type { ReplicaId, Role } from '../raft/types.ts';

/** What an entry holds. Values are on disk: never reuse one. */
export const EntryType = {
  /** First entry of a term (paper section 5.4.2, thesis 6.4). */
  noop: 1,
  /** Raft membership; applied by the replica. */
  membership: 2,
  /** A record batch of one topic and queue, as the client laid it out. */
  batch: 3,
  /** A msgpack-encoded command of the state machine. */
  command: 4,
  /** A command and rows that give messages stored before a place in a queue (src/broker/delivery.ts). */
  delivery: 5,
  /** The body of a batch that was stored before, at the log's head again: what its old position stands for is there (src/broker/carried.ts). */
  carried: 6,
} as const;
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

/** A committed entry, in log order. `body` is a view of the log's memory: valid during apply() only. */
export interface AppliedEntry {
  readonly index: number;
  readonly term: number;
  readonly type: EntryType;
  /** Position of the entry's header; the body follows after ENTRY_HEADER_BYTES. */
  readonly position: number;
  /** ms since 1970 by the replicated clock; never decreases along the log. */
  readonly logTimeMs: number;
  /** batch entries only, else 0. */
  readonly topicId: number;
  readonly queueId: number;
  readonly body: Uint8Array;
}

/** The deterministic state machine that a replica drives (src/broker/). */
export interface StateMachine {
  /** Everything that changes replicated state. Reads nothing but the entry and the state (I6). */
  apply(entry: AppliedEntry): void;
  /** End of a run of apply() calls: wake waiters, send acks. `appliedIndex` is safe to serve. */
  applied(appliedIndex: number): void;
  /**
   * The next entry to be applied is the first of the segment at `basePosition`. Called before its apply() on every replica,
   * also in recovery, and before snapshot() of the state that stands at the segment's head. The state then notes every
   * queue's next offset for it: what minimum offsets become when the log is cut there. Saying it twice is harmless.
   */
  onSegmentStart(basePosition: number): void;
  /** The log's start by the replicated cuts (a segment's base, 0 at first); segments wholly below it may be deleted. Ask after applied(). */
  startPosition(): number;
  /** Serialised state at the current applied index (msgpack). Deterministic: equal states give equal bytes. */
  snapshot(): Uint8Array;
  /**
   * Replaces the state. The ConsumeQueues must have been cut back to the snapshot's position before.
   * @returns false when derived files do not cover what the state says is retained: restore an older snapshot (at worst the
   *   one at the log's start) and replay from there
   */
  restore(snapshot: Uint8Array): boolean;
  /** The newest membership entry that was applied: a snapshot carries it. Null: as the group was formed. */
  membership?(): { readonly index: number; readonly body: Uint8Array } | null;
  /** The state before the first entry: what a log without a snapshot is replayed into. */
  clear(): void;
  /** Running digest of the state, compared between replicas at equal indexes (I6). */
  digest(): number;
  onRoleChange(role: ReplicaRole): void;
}

export interface ReplicaRole {
  readonly role: Role;
  readonly term: number;
  /** 0 = unknown. */
  readonly leader: ReplicaId;
}

export type ProposeRefusal = 'notLeader' | 'tooManyUncommitted' | 'diskFull' | 'poisoned';

/** Where committed bytes are read again: pulls, message get, verify. */
export interface LogReader {
  /** Bytes of [position, position + sizeBytes) if they are still in the hot tail, else null. A view: copy before the turn ends. */
  readHot(position: number, sizeBytes: number): Uint8Array | null;
  /** From the segment files. Verified entry by entry by the caller. */
  readCold(into: Uint8Array, position: number): Promise<number>;
  /** First retained position; everything before is gone. */
  startPosition(): number;
  /** What readCold() gave at this position is not what was stored: it is fetched from a peer. */
  damagedRead?(position: number): void;
}

/** What the broker may ask of its replica. */
export interface ReplicaApi extends LogReader {
  readonly id: ReplicaId;
  role(): ReplicaRole;
  /** Lays `body` into the open write group. @returns the entry's index, or why not. The body is copied during the call. */
  propose(type: EntryType, topicId: number, queueId: number, bodyChecksum: number, body: Uint8Array): number | ProposeRefusal;
  appliedIndex(): number;
  /** Nothing waits to be written, committed or applied: the next entry carries a log time of now. */
  allApplied(): boolean;
  commitIndex(): number;
  /** Calls back when the state applied here includes everything acknowledged before the call (ReadIndex), or with false when that cannot be known now. One round serves all calls of a turn. */
  readBarrier(done: (ok: boolean) => void): void;
  /**
   * Calls back with true once every in-sync replica's durable end covers `index` (replication mode `all`), with false when
   * leadership is lost first. Called for entries that are applied already; callbacks come in index order.
   */
  whenAllInSync(index: number, done: (ok: boolean) => void): void;
  /** True while this leader heard a quorum within the last election timeout: leader-only acks are allowed (F32). */
  quorumIsFresh(): boolean;
  /** Leader: followers that are in step and may serve reads (F08). */
  readFollowers?(): readonly ReplicaId[];
  /** The disk is full: the log lives on its reserve (FAULTS 3). */
  diskFull?(): boolean;
  /** End of the log here. */
  endPosition?(): number;
  /** Current log time, ms: for checks against the log's own time (never the wall clock). */
  logTimeMs(): number;
}
