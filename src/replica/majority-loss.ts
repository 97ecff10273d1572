import type { ReplicaId } from '../raft/types.ts';
import type { PeerIdentity } from './formation.ts';
import { type GroupMembership, memberOf } from './membership.ts';

/** Feature level of a state that holds nothing yet. Whoever was swapped in while this replica slept has a higher one: membership entries need it. */
const EMPTY_STATE_LEVEL = 1;

export interface MajorityLossPorts {
  readonly id: ReplicaId;
  /** For so long the others must have answered as somebody else. */
  readonly graceMs: number;
  /** Who answers under this id over both links now. */
  identity(id: ReplicaId): PeerIdentity | null;
  /** All other voters have lost what they held: this replica is to go on alone. Called once. */
  lost(reason: string): void;
}

/**
 * The group's setting `onMajorityLoss=recover` (I5): when every other voter answers under a new incarnation, because its directory was
 * emptied or set aside, nobody can bring back what only they had, and waiting for an operator brings nothing either. A replica
 * that is not heard is never evidence: it may be cut off, and go on with the majority; then this one waits, as it does when
 * another voter still has its directory, since one of the two may have acknowledged what the other has not.
 */
export class MajorityLoss {
  readonly #ports: MajorityLossPorts;
  #sinceMs: number | null = null;
  #told = false;

  constructor(ports: MajorityLossPorts) {
    this.#ports = ports;
  }

  /** @param leader who leads, as far as is known here; 0 = nobody */
  tick(now: GroupMembership, leader: ReplicaId, nowMs: number): void {
    if (this.#told) return;
    const { graceMs, lost } = this.#ports;
    if (leader !== 0 || !this.#isLost(now)) {
      this.#sinceMs = null;
      return;
    }
    this.#sinceMs ??= nowMs;
    if (nowMs - this.#sinceMs < graceMs) return;
    this.#told = true;
    lost(`onMajorityLoss=recover: all other voters answer with other directories for ${graceMs} ms`);
  }

  #isLost(now: GroupMembership): boolean {
    const { id, identity } = this.#ports;
    const voters = votersOf(now);
    if (!voters.has(id) || voters.size < 2) return false;
    return lostVoters(now, id, identity).length === voters.size - 1;
  }
}

const votersOf = (now: GroupMembership): Set<ReplicaId> => new Set([...now.voters, ...(now.outgoing ?? [])]);

/** Other voters under whose id somebody answers who holds nothing: their directories were emptied, or set aside. */
export function lostVoters(now: GroupMembership, id: ReplicaId, identity: MajorityLossPorts['identity']): ReplicaId[] {
  return [...votersOf(now)].filter((voter) => {
    if (voter === id) return false;
    const answers = identity(voter);
    if (answers === null || answers.incarnation === memberOf(now, voter)?.incarnation) return false;
    return (answers.featureLevel ?? EMPTY_STATE_LEVEL) <= EMPTY_STATE_LEVEL;
  });
}
