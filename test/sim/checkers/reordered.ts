import { type FinalLog, Violation } from './violation.ts';

/** Invariant: messages of one producer with one ordering key lie in one queue, in the order in which they were sent. */
export function checkReordered(log: FinalLog): void {
  const last = new Map<string, { readonly n: number; readonly queue: string }>();
  for (const [name, queue] of log.queues) {
    for (const { body, offset } of queue.messages) {
      // Without a key a message may go to any queue, and after a refusal to another one: no order is promised.
      if (body.key === 0) continue;
      const stream = `producer ${body.producer} key ${body.key}`;
      const before = last.get(stream);
      if (before !== undefined && before.queue !== name)
        throw new Violation('reordered', `${stream} lies in ${before.queue} and in ${name}`);
      if (before !== undefined && before.n >= body.n) {
        throw new Violation('reordered', `${stream}: message ${body.n} at ${name}@${offset} comes after message ${before.n}`);
      }
      last.set(stream, { n: body.n, queue: name });
    }
  }
}
