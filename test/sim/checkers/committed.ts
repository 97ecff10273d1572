import { Violation } from './violation.ts';

/**
 * Invariant (state machine safety): all replicas apply the same entry at an index, in every life, and their state digests are
 * equal at equal indexes (I6).
 */
export class CommittedChecker {
  readonly #entries = new Map<number, string>();
  readonly #digests = new Map<number, number>();

  applied(replicaId: number, index: number, entry: string): void {
    const before = this.#entries.get(index);
    if (before === undefined) this.#entries.set(index, entry);
    else if (before !== entry)
      throw new Violation('committed differs', `replica ${replicaId} applied ${entry} at index ${index}, another ${before}`);
  }

  digest(replicaId: number, index: number, digest: number): void {
    const before = this.#digests.get(index);
    if (before === undefined) this.#digests.set(index, digest);
    else if (before !== digest)
      throw new Violation('state differs', `replica ${replicaId} has digest ${digest} at index ${index}, another ${before}`);
  }

  get entries(): number {
    return this.#entries.size;
  }
}
