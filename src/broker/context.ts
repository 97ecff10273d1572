import type { Clock } from '../io/clock.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import type { ProposeRefusal, ReplicaApi } from '../replica/types.ts';
import type { Deadlines } from './deadlines.ts';
import type { BrokerLimits } from './limits.ts';
import type { BrokerMetrics } from './ports.ts';
import type { QuotaMeters } from './quota-meters.ts';
import type { BrokerStateMachine } from './state-machine.ts';

/** What every service of a broker works with. */
export interface BrokerContext {
  readonly clock: Clock;
  readonly state: BrokerStateMachine;
  readonly replica: ReplicaApi;
  readonly deadlines: Deadlines;
  readonly limits: BrokerLimits;
  readonly metrics: BrokerMetrics;
  readonly leadership: Leadership;
  readonly quotas: QuotaMeters;
}

/**
 * Leader, and ready: an entry of the own term is applied, so the state holds everything that earlier leaders acknowledged
 * (Raft paper, section 8). Before that a topic or an owner could be missing that is long committed.
 */
export class Leadership {
  /** 0 = not the leader. */
  #leaderTerm = 0;
  #appliedTerm = 0;

  get ready(): boolean {
    return this.#leaderTerm !== 0 && this.#appliedTerm === this.#leaderTerm;
  }

  get leader(): boolean {
    return this.#leaderTerm !== 0;
  }

  /** @returns whether a leadership ended by it; a new one of the same replica in a later term is another one */
  roleChanged(leader: boolean, term: number): boolean {
    const before = this.#leaderTerm;
    this.#leaderTerm = leader ? term : 0;
    return before !== 0 && before !== this.#leaderTerm;
  }

  /** The no-op that begins a leader's term was applied. @returns whether this replica became ready by it */
  noopApplied(term: number): boolean {
    const before = this.ready;
    this.#appliedTerm = term;
    return this.ready && !before;
  }

  refusal(): ErrorCode | null {
    if (!this.leader) return 'NOT_LEADER';
    return this.ready ? null : 'NOT_READY';
  }
}

/** What a client is told when the replica does not take a proposal. Nothing was stored in any of these cases. */
export function refusalCode(refusal: ProposeRefusal): ErrorCode {
  switch (refusal) {
    case 'notLeader':
      return 'NOT_LEADER';
    case 'tooManyUncommitted':
      return 'BUSY';
    case 'diskFull':
      return 'DISK_FULL';
    case 'poisoned':
      return 'STORE_POISONED';
  }
}
