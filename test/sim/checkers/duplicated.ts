import { type FinalLog, Violation } from './violation.ts';

/** Invariant: a message is stored once, however often it was sent again. */
export function checkDuplicated(log: FinalLog): void {
  const places = new Map<string, string>();
  for (const [name, queue] of log.queues) {
    for (const seen of queue.messages) {
      // The id for resends of the client, the body for a client that gives a resent message another id.
      for (const identity of [seen.identity, `${seen.body.producer}:${seen.body.n}`]) {
        const before = places.get(identity);
        if (before !== undefined) throw new Violation('duplicated', `${identity} is stored at ${before} and at ${name}@${seen.offset}`);
        places.set(identity, `${name}@${seen.offset}`);
      }
    }
  }
}
