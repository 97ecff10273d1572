import type { CoreState } from './core-state.ts';
import { MAX_REPLICAS } from './quorum.ts';
import type { ReplicaId } from './types.ts';

/** After a reset connection a follower waits up to this part of an election timeout: two followers seldom split the vote. */
const RESET_DELAY_PART = 0.1;

/** Election timer, votes given and received (paper section 5.2, 5.4.1; thesis 9.6 pre-vote, 4.2.3 disruptive servers). */
export class Election {
  readonly #core: CoreState;
  /** By replica id: 1 granted, -1 refused, 0 not heard. */
  readonly #votes = new Float64Array(MAX_REPLICAS + 1);
  #deadlineMs = Number.POSITIVE_INFINITY;
  #heardLeaderMs = Number.NEGATIVE_INFINITY;
  /** I4: a log that ends before it may lack what was acknowledged. */
  voteFloor: number | null = null;
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
    this.restartTimer();
  }

  /** The leader's connection was reset (the caller forgets the leader, so that others may be voted for): nearly time to campaign. */
  leaderSuspected(): void {
    const { config, nowMs } = this.#core;
    this.#deadlineMs = Math.min(this.#deadlineMs, nowMs + config.electionTimeoutMs * RESET_DELAY_PART * config.random());
  }

  /** Thesis 4.2.3: while a leader is alive, nobody who cannot hear it may depose it. */
  get hasLiveLeader(): boolean {
    const { role, leader, nowMs, config } = this.#core;
    if (role === 'leader') return true; // check-quorum ends a leader that only believes to be one
    return leader !== 0 && nowMs - this.#heardLeaderMs < config.electionTimeoutMs;
  }

  get mayCampaign(): boolean {
    const { quorum, config, log } = this.#core;
    if (this.barred || this.diskStuck) return false;
    return quorum.isVoter(config.id) && (this.voteFloor === null || log.lastIndex >= this.voteFloor);
  }

  /** Paper section 5.4.1: only to a log at least as up-to-date as the own one. A learner does not vote. */
  mayGrant(lastIndex: number, lastTerm: number): boolean {
    const { quorum, config, log } = this.#core;
    if (!quorum.isVoter(config.id)) return false;
    if (this.voteFloor !== null && lastIndex < this.voteFloor) return false;
    return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex);
  }

  beginRound(): void {
    this.#votes.fill(0);
    this.#votes[this.#core.config.id] = 1;
    this.restartTimer();
  }

  count(from: ReplicaId, granted: boolean): void {
    // A grant stands: what comes later from the same voter belongs to an older round.
    if (this.#votes[from] !== 1) this.#votes[from] = granted ? 1 : -1;
  }

  outcome(): 'won' | 'lost' | 'open' {
    return this.#core.quorum.tally(this.#votes);
  }
}
