import { assert } from '../base/assert.ts';
import type { Membership, ReplicaId } from './types.ts';

/** Replicas of a group at most; ids are 1…7 (Membership). */
export const MAX_REPLICAS = 7;

/**
 * Majorities over one or, during joint consensus, two sets of voters (paper section 6): a joint decision needs a majority
 * of each. Everything here runs per acknowledgement: no allocation.
 */
export class Quorum {
  readonly #sets: readonly (readonly ReplicaId[])[];
  readonly #scratch = new Float64Array(MAX_REPLICAS + 1);
  /** Every voter of either set, once. */
  readonly voters: readonly ReplicaId[];

  constructor(membership: Membership) {
    this.#sets = membership.outgoing === null ? [membership.voters] : [membership.voters, membership.outgoing];
    this.voters = [...new Set(this.#sets.flat())].sort((a, b) => a - b);
    for (const id of [...this.voters, ...membership.learners]) {
      assert(Number.isInteger(id) && id >= 1 && id <= MAX_REPLICAS, `replica id ${id} is not in 1…${MAX_REPLICAS}`);
    }
    assert(!membership.learners.some((id) => this.voters.includes(id)), 'a learner that also votes');
  }

  isVoter(id: ReplicaId): boolean {
    return this.voters.includes(id);
  }

  /** Largest value that a majority of each set has reached. @param values by replica id */
  reached(values: Float64Array): number {
    let least = Number.POSITIVE_INFINITY;
    for (const set of this.#sets) {
      const count = set.length;
      if (count === 0) continue;
      // Insertion sort, ascending: at most seven values.
      for (let at = 0; at < count; at += 1) {
        const value = values[set[at] as number] as number;
        let hole = at;
        while (hole > 0 && (this.#scratch[hole - 1] as number) > value) {
          this.#scratch[hole] = this.#scratch[hole - 1] as number;
          hole -= 1;
        }
        this.#scratch[hole] = value;
      }
      least = Math.min(least, this.#scratch[count - (count >> 1) - 1] as number);
    }
    // Without any voter nothing is ever decided.
    return this.voters.length === 0 ? Number.NEGATIVE_INFINITY : least;
  }

  /** What the votes say. @param votes by replica id: 1 granted, -1 refused, 0 not heard */
  tally(votes: Float64Array): 'won' | 'lost' | 'open' {
    if (this.reached(votes) >= 1) return 'won';
    for (const set of this.#sets) {
      let possible = 0;
      for (const id of set) if ((votes[id] as number) >= 0) possible += 1;
      if (set.length > 0 && possible < (set.length >> 1) + 1) return 'lost';
    }
    return 'open';
  }
}
