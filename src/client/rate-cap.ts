import type { Clock } from '../io/clock.ts';

/** What may be given out at once after a pause, in seconds of the rate. */
const BURST_S = 0.05;

/** A token bucket: at most `perSecond` messages a second over any longer time; 0 = no cap. */
export class RateCap {
  readonly #clock: Clock;
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #at: number;

  constructor(clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#burst = Math.max(1, perSecond * BURST_S);
    this.#tokens = this.#burst;
    this.#at = clock.monotonicMs();
  }

  /** ms until the next message may go; 0 = now. */
  waitMs(): number {
    if (this.#perSecond === 0) return 0;
    const now = this.#clock.monotonicMs();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) * this.#perSecond) / 1_000);
    this.#at = now;
    return this.#tokens >= 1 ? 0 : Math.max(1, ((1 - this.#tokens) * 1_000) / this.#perSecond);
  }

  /** How many of `wanted` may go now; at least 1 once waitMs() is 0. */
  atMost(wanted: number): number {
    return this.#perSecond === 0 ? wanted : Math.max(1, Math.min(wanted, Math.floor(this.#tokens)));
  }

  take(count: number): void {
    if (this.#perSecond !== 0) this.#tokens -= count;
  }
}
