import { type FinalLog, placeOf, type Seen, Violation } from './violation.ts';

/** Invariant (I1): every reader, of every replica, at every time sees the same message at an offset. */
export class ReadersChecker {
  readonly #seen = new Map<string, Seen>();

  seen(seen: Seen): void {
    const place = placeOf(seen);
    const before = this.#seen.get(place);
    if (before === undefined) this.#seen.set(place, seen);
    else if (before.fingerprint !== seen.fingerprint || before.identity !== seen.identity) {
      throw new Violation('readers disagree', `${place}: ${before.identity} for one, ${seen.identity} for another`);
    }
  }

  /** Invariant: nothing is shown before it is committed, so whatever was shown is in the log at the end. */
  checkShown(log: FinalLog): void {
    for (const [place, seen] of this.#seen) {
      const queue = log.queues.get(seen.queue);
      // Topics of the workloads are not read again in the end: that two readers agree is all that is asked of them here.
      if (queue === undefined || seen.offset < queue.minOffset) continue;
      const found = queue.messages[seen.offset - queue.minOffset];
      if (found?.fingerprint !== seen.fingerprint) {
        throw new Violation(
          'uncommitted shown',
          `${seen.identity} was shown at ${place}; in the end ${found?.identity ?? 'nothing'} is there`,
        );
      }
    }
  }
}
