import type { GroupIndex } from './group-index.ts';
import type { Memberships } from './memberships.ts';
import type { Outbox } from './outbox.ts';
import { Quorum } from './quorum.ts';
import type { RaftConfig, ReplicaId, Role } from './types.ts';

/** What every role shares (paper, figure 2). Owned by Raft; the roles read it and move commitIndex and storedIndex. */
export interface CoreState {
  readonly config: RaftConfig;
  readonly memberships: Memberships;
  /** Of the current membership; membershipChanged() keeps it so. */
  quorum: Quorum;
  /** Everybody else in the group: voters of both sets and learners. */
  others: readonly ReplicaId[];
  readonly log: GroupIndex;
  readonly outbox: Outbox;
  /** Monotonic ms of the last tick. */
  nowMs: number;
  term: number;
  votedFor: ReplicaId;
  role: Role;
  leader: ReplicaId;
  commitIndex: number;
  /** Own log, durable end. */
  storedIndex: number;
}

/** After every change of `memberships`. */
export function membershipChanged(core: CoreState): void {
  const { current } = core.memberships;
  core.quorum = new Quorum(current);
  core.others = [...core.quorum.voters, ...current.learners].filter((id) => id !== core.config.id);
}
