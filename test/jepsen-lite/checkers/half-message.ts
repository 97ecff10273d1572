import type { HistoryLine, ReadRun, SentRun } from '../history.ts';
import { type Checker, Findings, type Operation, shownBy } from './operation.ts';
import { message } from './seen-log.ts';

/**
 * A half message is seen by nobody before somebody said that its transaction is committed: its producer (`end`), or who was asked
 * (`check`). So never, when all who were asked said that it is rolled back.
 */
export class HalfMessageChecker implements Checker {
  readonly name = 'half message seen';
  #transactions = 0;
  readonly #findings = new Findings(this.name);
  /** Begun, and not yet said to be committed: where. */
  readonly #half = new Map<string, number>();
  readonly #streams = new Set<string>();

  invoked({ f, value, index }: HistoryLine): void {
    if (f === 'begin') {
      for (const [stream, n] of (value as { runs: readonly SentRun[] }).runs) {
        this.#transactions++;
        this.#half.set(message(stream, n), index);
        this.#streams.add(stream);
      }
    } else if (f === 'end' || f === 'check') {
      const { outcome, message: of } = value as { outcome: string; message: readonly [string, number] };
      if (outcome === 'commit') this.#half.delete(message(...of));
    }
  }

  operation(operation: Operation): void {
    for (const { queue, runs } of shownBy(operation)) this.#read(queue, runs, (operation.completed as HistoryLine).index);
  }

  end() {
    return this.#findings.all;
  }

  looked(): string {
    return `${this.#transactions} transactions`;
  }

  #read(queue: string, runs: readonly ReadRun[], index: number): void {
    for (const [offset, count, stream, first] of runs) {
      if (!this.#streams.has(stream) || typeof first !== 'number') continue;
      for (let at = 0; at < count; at++) {
        const begun = this.#half.get(message(stream, first + at));
        if (begun !== undefined)
          this.#findings.add(
            `${message(stream, first + at)} is seen at ${queue}@${offset + at}, and nobody has committed it`,
            begun,
            index,
          );
      }
    }
  }
}
