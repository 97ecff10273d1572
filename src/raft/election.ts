import type { CoreState } from './core-state.ts';
import { MAX_REPLICAS } from './quorum.ts';
import type { ReplicaId } from './types.ts';

/**
 * After a reset connection the followers campaign one after the other, in the order of their ids, each this part of an election
 * timeout behind the one before: all see the reset at the same moment, and a random delay that is short enough to help
 * splits the vote every third time (measured: 4 of 10 kills, each then waiting for a whole election timeout).
 */
const RESET_STAGGER_PART = 0.15;
/** Added at random, so that nothing depends on exactly equal delays. */
const RESET_JITTER_PART = 0.03;
/**
 * After a reset the pre-vote, which costs no term, is asked again soon: the first one often comes while the others have not
 * noticed yet that the leader is gone, and the better log may be the one that asked too early.
 */
const PRE_VOTE_RETRY_PART = 0.15;

/** Election timer, votes given and received (paper section 5.2, 5.4.1; thesis 9.6 pre-vote, 4.2.3 disruptive servers). */
export class Election {
  readonly #core: CoreState;
  /** By replica id: 1 granted, -1 refused, 0 not heard. */
  readonly #votes = new Float64Array(MAX_REPLICAS + 1);
  #deadlineMs = Number.POSITIVE_INFINITY;
  #heardLeaderMs = Number.NEGATIVE_INFINITY;
  /** The last leader's connection was reset, and no leader was heard since. */
  #suspected = false;
  /** I4: a log that ends before it may lack what was acknowledged. */
  voteFloor: number | null = null;
  /** Term of the entry there: a longer log of an older term may lack it, too. 0 = not known. */
  voteFloorTerm = 0;
  /** Stepped down by the driver: the disk cannot carry a leader. */
  barred: boolean = false;
  /** Stepped down because the own disk stood still: no campaign before it has caught up. */
  diskStuck: boolean = false;

  constructor(core: CoreState) {
    this.#core = core;
  }

  get isDue(): boolean {
    return this.#core.nowMs >= this.#deadlineMs;
  }

  /** Draws a new election timeout (paper section 5.2: randomised, so that split votes are rare). */
  restartTimer(): void {
    const { config, nowMs } = this.#core;
    this.#deadlineMs = nowMs + config.electionTimeoutMs * (1 + config.random());
  }

  leaderHeard(): void {
    this.#heardLeaderMs = this.#core.nowMs;
    this.#suspected = false;
    this.restartTimer();
  }

  /** The leader's connection was reset (the caller forgets the leader, so that others may be voted for): nearly time to campaign. */
  leaderSuspected(leader: ReplicaId): void {
    const { config, nowMs, quorum } = this.#core;
    this.#suspected = true;
    const rank = quorum.voters.filter((id) => id < config.id && id !== leader).length;
    const part = RESET_STAGGER_PART * rank + RESET_JITTER_PART * config.random();
    this.#deadlineMs = Math.min(this.#deadlineMs, nowMs + config.electionTimeoutMs * part);
  }

  /** Thesis 4.2.3: while a leader is alive, nobody who cannot hear it may depose it. */
  get hasLiveLeader(): boolean {
    const { role, leader, nowMs, config } = this.#core;
    if (role === 'leader') return true; // check-quorum ends a leader that only believes to be one
    return leader !== 0 && nowMs - this.#heardLeaderMs < config.electionTimeoutMs;
  }

  get mayCampaign(): boolean {
    const { memberships, config, log } = this.#core;
    if (this.barred || this.diskStuck) return false;
    return memberships.mayLead(config.id, config.isSelf) && this.#reachesFloor(log.lastIndex, log.lastTerm);
  }

  /**
   * Paper section 5.4.1: only to a log at least as up-to-date as the own one. Also who does not know to be a voter answers: the
   * candidate's log may hold the change that made it one, and without its vote nobody would ever tell it (thesis 4.2.1).
   */
  mayGrant(lastIndex: number, lastTerm: number): boolean {
    const { log } = this.#core;
    if (!this.#reachesFloor(lastIndex, lastTerm)) return false;
    return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex);
  }

  #reachesFloor(lastIndex: number, lastTerm: number): boolean {
    if (this.voteFloor === null) return true;
    if (this.voteFloorTerm === 0) return lastIndex >= this.voteFloor;
    return lastTerm > this.voteFloorTerm || (lastTerm === this.voteFloorTerm && lastIndex >= this.voteFloor);
  }

  beginRound(preVote: boolean): void {
    const { config, nowMs } = this.#core;
    this.#votes.fill(0);
    this.#votes[config.id] = 1;
    if (preVote && this.#suspected) this.#deadlineMs = nowMs + config.electionTimeoutMs * PRE_VOTE_RETRY_PART * (1 + config.random());
    else this.restartTimer();
  }

  count(from: ReplicaId, granted: boolean): void {
    // A grant stands: what comes later from the same voter belongs to an older round.
    if (this.#votes[from] !== 1) this.#votes[from] = granted ? 1 : -1;
  }

  outcome(): 'won' | 'lost' | 'open' {
    return this.#core.quorum.tally(this.#votes);
  }
}
