import type { HistoryLine, ReadRun, SentRun } from '../history.ts';
import { type Checker, Findings, type Operation, shownBy } from './operation.ts';
import { message } from './seen-log.ts';

/** RocketMQ's levels, which the brokers have by default; 1 is the first. */
const LEVEL_MS = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200].map(
  (seconds) => seconds * 1_000,
);

interface Deferral {
  readonly delayMs?: number;
  readonly delayTimeLevel?: number;
  readonly deliverAt?: number;
}

interface Due {
  readonly delayMs: number;
  /** ms since 1970, or −∞. */
  readonly deliverAt: number;
  /** The newest log time that anybody had read when it was sent, by broker group. */
  readonly sentLogMs: ReadonlyMap<string, number>;
  readonly index: number;
}

/**
 * No delayed message comes before its time, by the group's log time. Log time never goes back in the log, so a message that was sent
 * after an entry was read is stored no earlier than that entry: it is due no earlier than its delay after that.
 */
export class EarlyChecker implements Checker {
  readonly name = 'early delivery';
  readonly #findings = new Findings(this.name);
  readonly #due = new Map<string, Due>();
  #logMs: ReadonlyMap<string, number> = new Map();

  invoked({ f, value, index }: HistoryLine): void {
    if (f !== 'send') return;
    const {
      runs,
      delayMs = 0,
      delayTimeLevel = 0,
      deliverAt = Number.NEGATIVE_INFINITY,
    } = value as Deferral & { runs: readonly SentRun[] };
    const waitMs = delayMs + (delayTimeLevel > 0 ? (LEVEL_MS[Math.min(delayTimeLevel, LEVEL_MS.length) - 1] as number) : 0);
    if (waitMs === 0 && deliverAt === Number.NEGATIVE_INFINITY) return;
    const due: Due = { delayMs: waitMs, deliverAt, sentLogMs: this.#logMs, index };
    for (const [stream, n, count] of runs) for (let at = 0; at < count; at++) this.#due.set(message(stream, n + at), due);
  }

  operation(operation: Operation): void {
    for (const { queue, runs } of shownBy(operation)) this.#read(queue, runs, (operation.completed as HistoryLine).index);
  }

  end() {
    return this.#findings.all;
  }

  looked(): string {
    return `${this.#due.size} delayed messages`;
  }

  #read(queue: string, runs: readonly ReadRun[], index: number): void {
    const brokerName = queue.split('/')[1] as string;
    for (const [offset, count, stream, first, logMs] of runs) {
      if (logMs === undefined || typeof first !== 'number') continue;
      for (let at = 0; at < count; at++) {
        const due = this.#due.get(message(stream, first + at));
        if (due === undefined) continue;
        const sentLogMs = due.sentLogMs.get(brokerName) ?? Number.NEGATIVE_INFINITY;
        const earliestMs = Math.max(due.deliverAt, due.delayMs > 0 ? sentLogMs + due.delayMs : Number.NEGATIVE_INFINITY);
        if (logMs >= earliestMs) continue;
        const text = `${message(stream, first + at)} came at ${queue}@${offset + at} at log time ${logMs}, ${earliestMs - logMs} ms too early`;
        this.#findings.add(text, due.index, index);
      }
      if (logMs > (this.#logMs.get(brokerName) ?? Number.NEGATIVE_INFINITY)) this.#logMs = new Map([...this.#logMs, [brokerName, logMs]]);
    }
  }
}
