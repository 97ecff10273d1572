import { type Checker, Findings } from './operation.ts';
import type { SeenLog } from './seen-log.ts';

/** A send is stored once, however often the client sent it again under the hood. (That a message is *given* twice is allowed: see Redeliveries.) */
export class DuplicatedChecker implements Checker {
  readonly name = 'duplicated';
  readonly #log: SeenLog;

  constructor(log: SeenLog) {
    this.#log = log;
  }

  end() {
    const findings = new Findings(this.name);
    for (const { text, indexes } of this.#log.twice) findings.add(text, ...indexes);
    return findings.all;
  }

  looked(): string {
    return `${this.#log.readMessages} messages in ${this.#log.queueList.length} queues`;
  }
}
