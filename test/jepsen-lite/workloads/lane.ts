import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerError } from '../../../src/index.ts';
import type { HistoryWriter } from '../history.ts';

/** What came of an operation. */
export interface Outcome {
  readonly type: 'ok' | 'fail' | 'info';
  readonly value: unknown;
  readonly error?: string;
}

/** Counts for the progress line. */
export interface Counts {
  ok: number;
  fail: number;
  info: number;
}

/** Processes that one lane may use up: each operation of unknown outcome ends one. */
const PROCESSES_PER_LANE = 10_000;

/**
 * One thing at a time, as a process of the history. After an operation whose outcome nobody knows the lane goes on as another
 * process: by Jepsen's rules the old one may still be at it for ever.
 */
export class Lane {
  readonly #history: HistoryWriter;
  readonly #counts: Counts;
  #process: number;

  constructor(history: HistoryWriter, counts: Counts, number: number) {
    this.#history = history;
    this.#counts = counts;
    this.#process = number * PROCESSES_PER_LANE;
  }

  get nowNs(): number {
    return this.#history.nowNs();
  }

  async run(f: string, value: unknown, work: () => Promise<Outcome>): Promise<Outcome> {
    const complete = this.begin(f, value);
    const outcome = await work();
    complete(outcome);
    return outcome;
  }

  /** For what ends in another place than it began. @returns to be called with the outcome */
  begin(f: string, value: unknown): (outcome: Outcome) => void {
    const number = this.#process;
    this.#history.line('invoke', number, f, value);
    return ({ type, value: result, error }) => {
      this.#history.line(type, number, f, result, error);
      this.#counts[type]++;
      if (type === 'info') this.#process++;
    };
  }

  /** A question: when it fails nothing has happened. */
  ask(f: string, value: object, question: () => Promise<object>): Promise<Outcome> {
    return this.run(f, value, async () => {
      try {
        return { type: 'ok', value: { ...value, ...(await question()) } };
      } catch (error) {
        return { type: 'fail', value, error: codeOf(error) };
      }
    });
  }

  /**
   * A change that is asked for again under the hood when an answer is lost: the refusal that comes then may be that of the second
   * attempt, so that a failure says nothing about the first.
   */
  change(f: string, value: object, work: () => Promise<object>): Promise<Outcome> {
    return this.run(f, value, async () => {
      try {
        return { type: 'ok', value: { ...value, ...(await work()) } };
      } catch (error) {
        return { type: 'info', value, error: codeOf(error) };
      }
    });
  }
}

/** @throws what is no LedgerError: a bug of the client or of this harness */
export function codeOf(error: unknown): string {
  if (error instanceof LedgerError) return error.code;
  throw error;
}

/** Keeps to `perSecond` operations on average: who is late catches up, within one second. */
export class Pace {
  readonly #intervalMs: number;
  #nextMs = performance.now();

  constructor(perSecond: number) {
    this.#intervalMs = 1_000 / perSecond;
  }

  /** @param weight operations that the next one counts for */
  async next(weight = 1): Promise<void> {
    const nowMs = performance.now();
    this.#nextMs = Math.max(this.#nextMs, nowMs - 1_000) + this.#intervalMs * weight;
    if (this.#nextMs > nowMs) await sleep(this.#nextMs - nowMs);
  }
}
