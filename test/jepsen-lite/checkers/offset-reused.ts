import { type Checker, Findings } from './operation.ts';
import { type AcknowledgedRun, message, type SeenLog, type SeenQueue } from './seen-log.ts';

/** An offset holds one message for ever: no reader is shown another one there, and no two sends are told the same one. */
export class OffsetReusedChecker implements Checker {
  readonly name = 'offset reused';
  readonly #log: SeenLog;

  constructor(log: SeenLog) {
    this.#log = log;
  }

  end() {
    const findings = new Findings(this.name);
    for (const { text, indexes } of this.#log.reused) findings.add(text, ...indexes);
    for (const queue of this.#log.queueList) this.#checkAcknowledged(findings, queue);
    return findings.all;
  }

  looked(): string {
    return `${this.#log.readMessages} messages in ${this.#log.queueList.length} queues`;
  }

  #checkAcknowledged(findings: Findings, queue: SeenQueue): void {
    const runs = queue.acknowledged.toSorted((a, b) => (a.offset as number) - (b.offset as number));
    let before: AcknowledgedRun | null = null;
    for (const run of runs) {
      const offset = run.offset as number;
      const taken = before === null ? -1 : (before.offset as number) + before.count;
      if (before !== null && offset < taken) {
        const at = before.n + offset - (before.offset as number);
        const first = message(before.stream.name, at);
        const second = message(run.stream.name, run.n);
        if (first !== second)
          findings.add(
            `${first} and ${second} were both acknowledged at ${queue.name}@${offset}`,
            before.completed.index,
            run.completed.index,
          );
      }
      if (offset + run.count > taken) before = run;
    }
  }
}
