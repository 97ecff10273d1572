import { type FinalLog, Violation } from './violation.ts';

/** Invariant: the offsets of a queue are dense: each retained offset has exactly one message. */
export function checkOffsetGap(log: FinalLog): void {
  for (const [name, queue] of log.queues) {
    queue.messages.forEach((seen, at) => {
      const expected = queue.minOffset + at;
      if (seen.offset !== expected) throw new Violation('offset gap', `${name}: offset ${seen.offset} where ${expected} should be`);
    });
  }
}
