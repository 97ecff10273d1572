import { type Checker, Findings } from './operation.ts';
import { message, type SeenLog, type SeenQueue } from './seen-log.ts';

/** Everything that is read was sent before, in these bytes, and was not refused: an error code tells the truth. */
export class FabricatedChecker implements Checker {
  readonly name = 'fabricated';
  readonly #log: SeenLog;

  constructor(log: SeenLog) {
    this.#log = log;
  }

  end() {
    const findings = new Findings(this.name);
    for (const { text, indexes } of this.#log.fabricated) findings.add(text, ...indexes);
    for (const stream of this.#log.streamList) {
      for (let n = 0; n < stream.refusedAt.room; n++) {
        const refused = stream.refusedAt.get(n);
        const queue = stream.queueOf.get(n);
        if (refused < 0 || queue < 0) continue;
        const place = `${(this.#log.queueList[queue] as SeenQueue).name}@${stream.offsetOf.get(n)}`;
        findings.add(`${message(stream.name, n)} was refused, and is stored at ${place}`, refused);
      }
    }
    return findings.all;
  }

  looked(): string {
    return `${this.#log.readMessages} messages in ${this.#log.queueList.length} queues`;
  }
}
