import { type FinalLog, Violation } from './violation.ts';

/** Invariant: messages of one producer with one ordering key lie in one queue, in the order in which they were sent. */
export function checkReordered(log: FinalLog): void {
  const last = new Map<string, { readonly n: number; readonly queue: string }>();
  for (const [name, queue] of log.queues) {
    for (const { body, offset } of queue.messages) {
      const stream = `producer ${body.producer} key ${body.key}`;
      const before = last.get(stream);
      if (body.key !== 0 && before !== undefined && before.queue !== name) {
        throw new Violation('reordered', `${stream} lies in ${before.queue} and in ${name}`);
      }
      const inQueue = `${stream} in ${name}`;
      const previous = body.key === 0 ? last.get(inQueue) : before;
      if (previous !== undefined && previous.n >= body.n) {
        throw new Violation('reordered', `${stream}: message ${body.n} at ${name}@${offset} comes after message ${previous.n}`);
      }
      last.set(body.key === 0 ? inQueue : stream, { n: body.n, queue: name });
    }
  }
}
