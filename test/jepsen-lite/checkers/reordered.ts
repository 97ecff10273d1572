import { type Checker, Findings } from './operation.ts';
import { message, type SeenLog, type SeenQueue, type Stream } from './seen-log.ts';

/**
 * The messages of one producer and key lie in one queue in the order of the calls; and whatever the producers, a message that was
 * acknowledged before another one was sent lies before it, when both are in one queue.
 */
export class ReorderedChecker implements Checker {
  readonly name = 'reordered';
  readonly #log: SeenLog;

  constructor(log: SeenLog) {
    this.#log = log;
  }

  end() {
    const findings = new Findings(this.name);
    const last = new Map<number, { readonly n: number; readonly queue: SeenQueue }>();
    for (const queue of this.#log.queueList) {
      for (let offset = 0; offset < queue.end; offset++) this.#checkStream(findings, queue, offset, last);
      this.#checkRealTime(findings, queue);
    }
    return findings.all;
  }

  looked(): string {
    return `${this.#log.readMessages} messages in ${this.#log.queueList.length} queues`;
  }

  #checkStream(
    findings: Findings,
    queue: SeenQueue,
    offset: number,
    last: Map<number, { readonly n: number; readonly queue: SeenQueue }>,
  ): void {
    const id = queue.streamAt.get(offset);
    if (id < 0) return;
    const stream = this.#log.streamList[id] as Stream;
    const n = queue.numberAt.get(offset);
    // Another place of a message that was seen elsewhere is a duplicate, not a matter of order.
    if (!stream.keyed || stream.queueOf.get(n) !== queue.id || stream.offsetOf.get(n) !== offset) return;
    const before = last.get(id);
    if (before !== undefined && before.queue !== queue)
      findings.add(`${stream.name} lies in ${before.queue.name} and, from ${n} on, in ${queue.name}`, queue.readAt.get(offset));
    else if (before !== undefined && before.n > n) {
      const text = `${message(stream.name, n)} at ${queue.name}@${offset} comes after ${message(stream.name, before.n)}`;
      findings.add(text, queue.readAt.get(offset));
    }
    last.set(id, { n: Math.max(n, before?.n ?? -1), queue });
  }

  /** From the end of the queue: the earliest acknowledgement behind each message. */
  #checkRealTime(findings: Findings, queue: SeenQueue): void {
    const runs = queue.acknowledged.toSorted((a, b) => (b.offset as number) - (a.offset as number));
    let behind = runs[0];
    for (const run of runs) {
      if (behind !== undefined && behind.offset !== run.offset && behind.completed.time < run.invoked.time) {
        const text = `${message(run.stream.name, run.n)} was sent after ${message(behind.stream.name, behind.n)} was acknowledged, and lies before it: ${queue.name}@${run.offset} and @${behind.offset}`;
        findings.add(text, behind.completed.index, run.invoked.index, run.completed.index);
      }
      if (behind === undefined || run.completed.time < behind.completed.time) behind = run;
    }
  }
}
