import type { GroupMembership } from '../../../src/replica/membership.ts';
import { Violation } from './violation.ts';

/** What the checker asks of the disks. */
export interface MembershipDisks {
  /** Is this very entry, or a snapshot in its place, on the replica's stable storage? */
  holdsMembership(replicaId: number, index: number, checksum: number): boolean;
}

interface Known {
  readonly index: number;
  readonly checksum: number;
  readonly membership: GroupMembership;
}

/**
 * Invariants (Raft paper, section 6; thesis 4.1, 4.2.2): memberships change one at a time, by way of a joint one when voters change, and the
 * next one is laid only after majorities of both sets of the one before hold it. Invariant (I5): who speaks under an id is the
 * incarnation to which the log gave that id.
 */
export class MembershipsChecker {
  readonly #disks: MembershipDisks;
  readonly #seen = new Set<string>();
  /** Every one that ever was on a disk, by index, ascending; of those at one index the newest. */
  readonly #known: Known[] = [];
  #committedIndex = 0;

  constructor(disks: MembershipDisks) {
    this.#disks = disks;
  }

  /** The group as it is formed, before any entry. */
  formed(membership: GroupMembership): void {
    this.#add({ index: 0, checksum: 0, membership });
  }

  get isFormed(): boolean {
    return this.#known[0]?.index === 0;
  }

  /** @param before of the same log; null: there is none, or it was cut away */
  durable(index: number, checksum: number, membership: GroupMembership, before: Known | null): void {
    const name = `${index} ${checksum}`;
    if (this.#seen.has(name)) return;
    this.#seen.add(name);
    this.#add({ index, checksum, membership });
    if (before === null) return;
    const broken = brokenStep(before.membership, membership);
    if (broken !== null) {
      throw new Violation('wrong membership', `${describe(membership)} at ${index} follows ${describe(before.membership)}: ${broken}`);
    }
    for (const set of setsOf(before.membership)) {
      const holders = this.#holders(before.index, before.checksum, set);
      if (holders.length * 2 > set.length) continue;
      const who = holders.join(', ') || 'nobody';
      throw new Violation(
        'wrong membership',
        `${describe(membership)} at ${index} is laid while ${describe(before.membership)} at ${before.index} is on the disks of ${who} of ${set.join(', ')} only`,
      );
    }
  }

  #holders(index: number, checksum: number, set: readonly number[]): readonly number[] {
    return set.filter((id) => this.#disks.holdsMembership(id, index, checksum));
  }

  /**
   * Sets of voters that may have decided on what lies at `index`: of the membership that was in force then, and of all later ones. The
   * end of a joint one counts as soon as it may be laid: the leader has it in memory before any disk does.
   */
  deciders(index: number): (readonly (readonly number[])[])[] {
    const since = this.#since(index);
    const ends = since.filter((one) => one.membership.outgoing !== null && this.#isKept(one));
    return [...since.map(({ membership }) => setsOf(membership)), ...ends.map(({ membership }) => [membership.voters])];
  }

  committed(index: number): void {
    this.#committedIndex = Math.max(this.#committedIndex, index);
  }

  /** From the one that was in force at `index` on. One that only a minority has may be overwritten, and then the one before it stayed. */
  since(index: number): GroupMembership[] {
    return this.#since(index).map(({ membership }) => membership);
  }

  #since(index: number): readonly Known[] {
    const base = this.#known.findLastIndex((one) => one.index <= index && this.#isKept(one));
    return this.#known.slice(Math.max(0, base));
  }

  #isKept({ index, checksum, membership }: Known): boolean {
    return index === 0 || setsOf(membership).every((set) => this.#holders(index, checksum, set).length * 2 > set.length);
  }

  #add(known: Known): void {
    const at = this.#known.findLastIndex(({ index }) => index <= known.index);
    const isSame = this.#known[at]?.index === known.index;
    this.#known.splice(isSame ? at : at + 1, isSame ? 1 : 0, known);
  }

  /** A vote, an acknowledgement or a leader's word: not under an id that belongs to another directory. */
  speaks(replicaId: number, incarnation: string | null, what: string): void {
    if (incarnation === null) return;
    const named = this.since(this.#committedIndex).flatMap(({ voters, learners, outgoing, members }) =>
      [...voters, ...learners, ...(outgoing ?? [])].includes(replicaId) ? members.filter((member) => member.replicaId === replicaId) : [],
    );
    if (named.length === 0 || named.some((member) => member.incarnation === incarnation)) return;
    throw new Violation(
      'wrong incarnation',
      `directory ${incarnation.slice(0, 8)} says ${what} as replica ${replicaId}, which is ${named.map((member) => member.incarnation.slice(0, 8)).join(' or ')}`,
    );
  }
}

const setsOf = ({ voters, outgoing }: GroupMembership): (readonly number[])[] => (outgoing === null ? [voters] : [voters, outgoing]);

function brokenStep(before: GroupMembership, next: GroupMembership): string | null {
  const same = (a: readonly number[], b: readonly number[]): boolean => [...a].sort().join() === [...b].sort().join();
  if (next.outgoing !== null) {
    if (before.outgoing !== null) return 'a joint one follows a joint one';
    if (!same(before.voters, next.outgoing)) return 'its outgoing voters are not those of the one before';
    const moved = [...next.voters.filter((id) => !before.voters.includes(id)), ...before.voters.filter((id) => !next.voters.includes(id))];
    return moved.length === 1 ? null : `${moved.length} voters change at once`;
  }
  return same(before.voters, next.voters) ? null : 'voters change without a joint membership between';
}

const describe = ({ voters, learners, outgoing }: GroupMembership): string =>
  `{${voters.join(' ')}${outgoing === null ? '' : ` | ${outgoing.join(' ')}`}${learners.length === 0 ? '' : `, learners ${learners.join(' ')}`}}`;
