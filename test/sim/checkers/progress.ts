import { Violation } from './violation.ts';

/** What a replica says of itself, as seen from within its process. */
export interface ReplicaView {
  readonly term: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
}

/**
 * Invariant: a replica's term never goes back, and through a crash not behind what was on its disk;
 * its commit and applied index never go back within one life, and nothing is applied before it is committed.
 */
export class ProgressChecker {
  readonly #views = new Map<number, ReplicaView>();

  saw(replicaId: number, view: ReplicaView): void {
    const before = this.#views.get(replicaId);
    if (view.appliedIndex > view.commitIndex) {
      throw new Violation('went back', `replica ${replicaId} applied ${view.appliedIndex}, committed is ${view.commitIndex}`);
    }
    if (before !== undefined) {
      for (const what of ['term', 'commitIndex', 'appliedIndex'] as const) {
        if (view[what] < before[what])
          throw new Violation('went back', `replica ${replicaId}: ${what} from ${before[what]} to ${view[what]}`);
      }
    }
    this.#views.set(replicaId, view);
  }

  /** The next life starts from what was on disk. @param durableTerm what was certainly there; a term not yet there was not spoken of */
  restarted(replicaId: number, durableTerm: number): void {
    this.#views.set(replicaId, { term: durableTerm, commitIndex: 0, appliedIndex: 0 });
  }
}
