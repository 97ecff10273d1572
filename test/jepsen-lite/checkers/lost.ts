import type { HistoryLine, SentRun } from '../history.ts';
import { type Checker, Findings, type Operation } from './operation.ts';
import { type AcknowledgedRun, message, type SeenLog, type SeenQueue } from './seen-log.ts';

/**
 * What was acknowledged is in the log: at its offset, when it was told one, else anywhere. Judged by what all readers saw together, and
 * by the reading of the whole topic at the end. What was acknowledged after that is not judged; what retention took before anybody
 * had read it can't be, and is counted.
 */
export class LostChecker implements Checker {
  readonly name = 'lost';
  readonly #log: SeenLog;
  /** Half messages that are stored and whose transactions everybody says are committed. */
  readonly #halves: HistoryLine[] = [];
  /** When the last half message of a topic had its outcome. */
  readonly #settled = new Map<string, number>();
  readonly #seen = new Map<string, boolean>();
  /** Acknowledged, and cut before anybody had read it. */
  unjudged = 0;

  constructor(log: SeenLog) {
    this.#log = log;
  }

  operation({ f, type, completed }: Operation): void {
    if (type !== 'ok' || completed === null) return;
    if (f === 'begin' && (completed.value as Half).plan === 'commit') this.#halves.push(completed);
    else if (f === 'settle') this.#settled.set((completed.value as Half).topic, completed.time);
  }

  end() {
    const findings = new Findings(this.name);
    for (const queue of this.#log.queueList) for (const run of queue.acknowledged) this.#checkPlaced(findings, queue, run);
    for (const run of this.#log.placeless) this.#checkPlaceless(findings, run);
    for (const half of this.#halves) this.#checkHalf(findings, half);
    return findings.all;
  }

  looked(): string {
    return `${this.#log.acknowledgedMessages} acknowledged messages, ${this.#halves.length} half messages to be committed`;
  }

  #checkPlaced(findings: Findings, queue: SeenQueue, { stream, n, count, offset, completed }: AcknowledgedRun): void {
    const { final } = queue;
    for (let at = 0; at < count; at++) {
      const place = (offset as number) + at;
      const found = queue.streamAt.get(place);
      if (found === stream.id && queue.numberAt.get(place) === n + at) continue;
      const said = `${message(stream.name, n + at)} was acknowledged at ${queue.name}@${place}`;
      if (found >= 0) findings.add(`${said}, where ${this.#log.messageAt(queue, place)} is`, completed.index, queue.readAt.get(place));
      else if (final !== null && place < final.min) this.unjudged++;
      else if (final !== null && completed.time < final.beganTime)
        findings.add(`${said}, and nothing is there: the queue was read to ${final.next}`, completed.index);
    }
  }

  #checkPlaceless(findings: Findings, { stream, n, count, completed }: AcknowledgedRun): void {
    const { topic } = completed.value as { topic: string };
    if (!this.#wasReadAfter(topic, completed.time)) return;
    for (let at = 0; at < count; at++) {
      if (stream.queueOf.get(n + at) < 0)
        findings.add(`${message(stream.name, n + at)} was acknowledged in ${topic}, and never came`, completed.index);
    }
  }

  #checkHalf(findings: Findings, { value, index, time }: HistoryLine): void {
    const { topic, runs } = value as Half;
    const settled = this.#settled.get(topic) ?? Number.NEGATIVE_INFINITY;
    if (settled < time || !this.#wasReadAfter(topic, settled)) return;
    for (const [stream, n] of runs) {
      if (this.#log.stream(stream).queueOf.get(n) < 0)
        findings.add(`${message(stream, n)} was committed in ${topic}, and never came`, index);
    }
  }

  /** All queues of the topic that anything is known of, and each message of them was read by somebody. */
  #wasReadAfter(topic: string, time: number): boolean {
    const queues = this.#log.queueList.filter(({ name }) => name.startsWith(`${topic}/`));
    return queues.length > 0 && queues.every(({ final }) => final !== null && time < final.beganTime) && this.#isSeen(topic, queues);
  }

  /** Messages that retention took before the last reading were read by others before. */
  #isSeen(topic: string, queues: readonly SeenQueue[]): boolean {
    let seen = this.#seen.get(topic);
    if (seen === undefined) {
      seen = queues.every(({ final, streamAt }) => {
        for (let offset = 0; offset < (final?.min ?? 0); offset++) if (streamAt.get(offset) < 0) return false;
        return true;
      });
      this.#seen.set(topic, seen);
    }
    return seen;
  }
}

/** Of `begin` and `settle`. */
interface Half {
  readonly topic: string;
  readonly runs: readonly SentRun[];
  readonly plan?: string;
}
