import type { Deliveries } from './deliveries.ts';
import { type Checker, Findings } from './operation.ts';
import type { SeenLog } from './seen-log.ts';

/**
 * A group that reads from the first message is given every message that is in the log, below what it was given last and below what it
 * has committed. What is not in the log either is lost, not skipped.
 */
export class SkippedChecker implements Checker {
  readonly name = 'skipped on poll';
  readonly #log: SeenLog;
  readonly #deliveries: Deliveries;

  constructor(log: SeenLog, deliveries: Deliveries) {
    this.#log = log;
    this.#deliveries = deliveries;
  }

  end() {
    const findings = new Findings(this.name);
    for (const { group, queue: name, firstAt, end, drained } of this.#deliveries.byQueue.values()) {
      const queue = this.#log.queue(name);
      // Retention may have taken what nobody was given yet.
      for (let offset = queue.final?.min ?? 0; offset < Math.max(end, drained); offset++) {
        if (firstAt.get(offset) >= 0 || queue.streamAt.get(offset) < 0) continue;
        findings.add(
          `${group} was never given ${this.#log.messageAt(queue, offset)} at ${name}@${offset}`,
          queue.readAt.get(offset),
          firstAt.get(offset + 1),
        );
      }
    }
    return findings.all;
  }

  looked(): string {
    return `${this.#deliveries.counts.size} groups, ${this.#deliveries.byQueue.size} queues of them`;
  }
}
