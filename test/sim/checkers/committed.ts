import { Violation } from './violation.ts';

/**
 * Invariant (state machine safety, I6): the state digests of all replicas, in every life, are equal at equal indexes. The digest
 * holds the time of every entry and what came of it; that the entries' bytes are equal is `not identical`'s to find.
 */
export class CommittedChecker {
  readonly #digests = new Map<number, number>();

  digest(replicaId: number, index: number, digest: number): void {
    const before = this.#digests.get(index);
    if (before === undefined) this.#digests.set(index, digest);
    else if (before !== digest)
      throw new Violation('state differs', `replica ${replicaId} has digest ${digest} at index ${index}, another ${before}`);
  }
}
