import { type Checker, Findings } from './operation.ts';
import { type AcknowledgedRun, message, type SeenLog, type SeenQueue } from './seen-log.ts';

/**
 * What was acknowledged is in the log: at its offset, when it was told one, else anywhere. Judged by the reading of the whole topic at
 * the end; what retention took before that is nobody's loss, and what was acknowledged after it is not judged.
 */
export class LostChecker implements Checker {
  readonly name = 'lost';
  readonly #log: SeenLog;

  constructor(log: SeenLog) {
    this.#log = log;
  }

  end() {
    const findings = new Findings(this.name);
    for (const queue of this.#log.queueList) for (const run of queue.acknowledged) this.#checkPlaced(findings, queue, run);
    for (const run of this.#log.placeless) this.#checkPlaceless(findings, run);
    return findings.all;
  }

  #checkPlaced(findings: Findings, queue: SeenQueue, { stream, n, count, offset, completed }: AcknowledgedRun): void {
    const { final } = queue;
    for (let at = 0; at < count; at++) {
      const place = (offset as number) + at;
      const found = queue.streamAt.get(place);
      if (found === stream.id && queue.numberAt.get(place) === n + at) continue;
      const said = `${message(stream.name, n + at)} was acknowledged at ${queue.name}@${place}`;
      if (found >= 0) findings.add(`${said}, where ${this.#log.messageAt(queue, place)} is`, completed.index, queue.readAt.get(place));
      else if (final !== null && place >= final.min && completed.time < final.beganTime)
        findings.add(`${said}, and nothing is there: the queue was read to ${final.next}`, completed.index);
    }
  }

  /** It may be in any queue of its topic, so all of them must have been read since. */
  #checkPlaceless(findings: Findings, { stream, n, count, completed }: AcknowledgedRun): void {
    const { topic, runs } = completed.value as { topic: string; runs: readonly (readonly [string, number, number, string])[] };
    const queueNames = new Set(runs.map(([, , , queue]) => queue));
    const read = this.#log.queueList.filter(
      ({ name, final }) => queueNames.has(name) && final !== null && completed.time < final.beganTime,
    );
    // What retention took could be it.
    if (read.length < queueNames.size || read.some(({ final }) => (final?.min ?? 0) > 0)) return;
    for (let at = 0; at < count; at++) {
      if (stream.queueOf.get(n + at) < 0)
        findings.add(`${message(stream.name, n + at)} was acknowledged in ${topic}, and never came`, completed.index);
    }
  }
}
