import { assert } from '../base/assert.ts';
import type { Membership, ReplicaId } from './types.ts';

/** Changes in the log behind the committed one: one at a time may be under way, and leaving a joint one is the second half of it. */
const MAX_UNCOMMITTED = 1024;

export interface MembershipAt {
  /** Index of its entry; 0 for the one that the group was formed with. */
  readonly index: number;
  readonly membership: Membership;
}

/**
 * Who belongs to the group, by log index. A membership counts from the moment its entry is in the log, committed or not (paper
 * section 6; thesis 4.1), so the newest one in the log is the current one, and a truncation brings the one before it back.
 */
export class Memberships {
  /** Ascending; the first is the newest one known to be committed. */
  readonly #known: MembershipAt[];

  /** @param base the newest one at or before the start of `rest` @param rest those in the log behind it, ascending */
  constructor(base: MembershipAt, rest: readonly MembershipAt[] = []) {
    this.#known = [base];
    for (const { index, membership } of rest) this.append(index, membership);
  }

  get current(): Membership {
    return this.#last.membership;
  }

  /** Index of the entry of the current one. */
  get index(): number {
    return this.#last.index;
  }

  /**
   * A voter of the current membership, or of one that is only about to be replaced by it. Thesis 4.2.2: who proposed to remove himself
   * and holds the longest log must still be able to campaign, or with that change uncommitted nobody could win.
   */
  mayLead(id: ReplicaId, isSelf: (membership: Membership) => boolean = () => true): boolean {
    return this.#known.some(
      ({ membership }) => (membership.voters.includes(id) || (membership.outgoing?.includes(id) ?? false)) && isSelf(membership),
    );
  }

  get #last(): MembershipAt {
    return this.#known[this.#known.length - 1] as MembershipAt;
  }

  append(index: number, membership: Membership): void {
    assert(index > this.index, `membership at ${index} is not behind the one at ${this.index}`);
    assert(membership.voters.length > 0, `a membership without voters at ${index}`);
    assert(this.#known.length <= MAX_UNCOMMITTED, 'too many uncommitted memberships');
    this.#known.push({ index, membership });
  }

  /** @returns whether the current one changed */
  truncateFrom(index: number): boolean {
    const before = this.#known.length;
    while (this.#known.length > 1 && this.index >= index) this.#known.pop();
    assert(this.index < index, `the committed membership at ${this.index} is truncated from ${index}`);
    return this.#known.length < before;
  }

  /** What lies before the newest committed one is history. */
  committed(commitIndex: number): void {
    while (this.#known.length > 1 && (this.#known[1] as MembershipAt).index <= commitIndex) this.#known.shift();
  }

  /** A snapshot took the log's place. */
  reset(base: MembershipAt): void {
    this.#known.length = 0;
    this.#known.push(base);
  }
}
