/** What may be used at once after a pause, in seconds of the rate: short, so that a burst is no trouble for the neighbours. */
const BURST_SECONDS = 0.25;

/**
 * Tokens of a rate. Whatever finds the bucket not empty is let through whole and may leave it in debt, so that a batch larger
 * than the burst passes, and over any longer time the rate holds all the same.
 */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number;

  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#burst = Math.max(1, perSecond * BURST_SECONDS);
    this.#tokens = this.#burst;
    this.#atMs = nowMs;
  }

  /** Until something is let through, ms; 0 = now. */
  waitMs(nowMs: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#atMs) * this.#perSecond) / 1_000);
    this.#atMs = nowMs;
    return this.#tokens > 0 ? 0 : Math.ceil((-this.#tokens * 1_000) / this.#perSecond) + 1;
  }

  /** After waitMs() was 0. */
  take(count: number): void {
    this.#tokens -= count;
  }
}
