/** Reads that wait for a ReadIndex round at most; more are refused at once. */
export const MAX_PENDING_READS = 16_384;

export interface ReadAnswer {
  readonly context: number;
  readonly index: number | null;
}

/**
 * Reads without the log (thesis 6.4): remember the commit index, hear from a majority that this is still the leader, answer.
 *
 * One round is out at a time. It serves the reads that were queued when it began; the next round takes all that came since.
 */
export class ReadQueue {
  #queued: number[] = [];
  #asked: number[] = [];
  #askedIndex = 0;
  #round = 0;

  /** Round that is out, 0 = none. */
  get openRound(): number {
    return this.#asked.length > 0 ? this.#round : 0;
  }

  get canBegin(): boolean {
    return this.#asked.length === 0 && this.#queued.length > 0;
  }

  /** @returns false when full: the read is refused. */
  add(context: number): boolean {
    if (this.#queued.length + this.#asked.length >= MAX_PENDING_READS) return false;
    this.#queued.push(context);
    return true;
  }

  begin(commitIndex: number): void {
    this.#asked = this.#queued;
    this.#queued = [];
    this.#askedIndex = commitIndex;
    this.#round += 1;
  }

  finish(answers: ReadAnswer[]): void {
    for (const context of this.#asked) answers.push({ context, index: this.#askedIndex });
    this.#asked = [];
  }

  refuseAll(answers: ReadAnswer[]): void {
    for (const context of this.#asked) answers.push({ context, index: null });
    for (const context of this.#queued) answers.push({ context, index: null });
    this.#asked = [];
    this.#queued = [];
  }
}
