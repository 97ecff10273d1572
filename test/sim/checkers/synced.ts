import { Violation } from './violation.ts';

/** Durable images of all machines, as the probe reads them. */
export interface DurableView {
  /** The sets of voters that may have decided on this batch: those in force when it was laid, and all later ones. */
  deciders(bodyChecksum: number): readonly (readonly (readonly number[])[])[];
  /** Last index up to which its log, or a snapshot in its place, is on stable storage. @param atLeast no need to look for more */
  durableIndex(replicaId: number, atLeast: number): number;
  durableTerm(replicaId: number): { readonly term: number; readonly votedFor: number };
  /** Is the batch with this checksum on its stable storage? */
  holdsBatch(replicaId: number, bodyChecksum: number): boolean;
}

/** Invariant (I2, FAULTS 1): no acknowledgement, vote, append reply before its write is on stable storage. */
export class SyncedChecker {
  readonly #view: DurableView;

  constructor(view: DurableView) {
    this.#view = view;
  }

  appendResponse(replicaId: number, term: number, lastIndex: number): void {
    const durable = this.#view.durableIndex(replicaId, lastIndex);
    if (durable < lastIndex) {
      throw new Violation('not synced', `replica ${replicaId} acknowledges up to index ${lastIndex}, its disk holds up to ${durable}`);
    }
    this.#term(replicaId, term, 'an append response');
  }

  vote(replicaId: number, term: number, candidate: number): void {
    const durable = this.#view.durableTerm(replicaId);
    // In a term that the disk has left behind nobody can be voted for any more.
    if (durable.term > term || (durable.term === term && durable.votedFor === candidate)) return;
    throw new Violation(
      'not synced',
      `replica ${replicaId} votes for ${candidate} in term ${term}, its disk says ${durable.votedFor} in ${durable.term}`,
    );
  }

  /** A client is told that this batch is stored. */
  clientAck(replicaId: number, bodyChecksum: number): void {
    const holders = this.#holders(bodyChecksum);
    if (holders === null) return;
    throw new Violation(
      'not synced',
      `replica ${replicaId} acknowledges a batch that is on the disks of ${holders.join(', ') || 'nobody'} only`,
    );
  }

  /** null: a majority of each set of one of the memberships that may have decided on it. */
  #holders(bodyChecksum: number): readonly number[] | null {
    const memberships = this.#view.deciders(bodyChecksum);
    const holders = [...new Set(memberships.flat(2))].filter((id) => this.#view.holdsBatch(id, bodyChecksum));
    const decided = memberships.some((sets) => sets.every((set) => set.filter((id) => holders.includes(id)).length * 2 > set.length));
    return decided ? null : holders;
  }

  /** A reader is shown this batch: it is committed, so a majority of the disks holds it. */
  shown(queue: string, baseOffset: number, bodyChecksum: number): void {
    const holders = this.#holders(bodyChecksum);
    if (holders === null) return;
    throw new Violation(
      'uncommitted shown',
      `${queue}@${baseOffset} is shown while it is on the disks of ${holders.join(', ') || 'nobody'} only`,
    );
  }

  /** Any message but a pre-vote: the term it carries is on stable storage. */
  spoke(replicaId: number, term: number, what: string): void {
    this.#term(replicaId, term, what);
  }

  #term(replicaId: number, term: number, what: string): void {
    const durable = this.#view.durableTerm(replicaId);
    if (durable.term < term)
      throw new Violation('not synced', `replica ${replicaId} speaks ${what} in term ${term}, its disk says ${durable.term}`);
  }
}
