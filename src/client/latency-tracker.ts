import type { Clock } from '../io/clock.ts';

/** RocketMQ 5's table: a send that took at least this long keeps its broker out of the rotation for that long. */
const LATENCY_MS = [50, 100, 550, 1_800, 3_000, 5_000, 15_000] as const;
const AVOID_MS = [0, 0, 2_000, 5_000, 6_000, 10_000, 30_000] as const;
/** A send that failed counts as one that took this long. */
const FAILURE_LATENCY_MS = 10_000;

/** A trial that was not answered by then, or never sent, is followed by the next. */
const TRIAL_MS = 2_000;

/** Latency fault tolerance: unkeyed sends avoid slow and failing brokers for a while (F05). */
export class LatencyTracker {
  readonly #clock: Clock;
  readonly #avoidUntil = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  answered(brokerName: string, latencyMs: number): void {
    let avoidMs = 0;
    for (let i = LATENCY_MS.length - 1; i >= 0 && avoidMs === 0; i--) {
      if (latencyMs >= (LATENCY_MS[i] as number)) avoidMs = AVOID_MS[i] as number;
    }
    // A fast answer lifts an avoidance at once: with keyed sends or one group the broker is still in use and heals visibly.
    if (avoidMs === 0) this.#avoidUntil.delete(brokerName);
    else this.#avoidUntil.set(brokerName, this.#clock.monotonicMs() + avoidMs);
  }

  failed(brokerName: string): void {
    this.answered(brokerName, FAILURE_LATENCY_MS);
  }

  /**
   * May the next unkeyed batch go there? After an avoidance one may, as a trial: until it is answered the others go on elsewhere,
   * so that a broker that is still slow is not given its whole share for as long as its answers take.
   */
  admits(brokerName: string): boolean {
    const until = this.#avoidUntil.get(brokerName);
    if (until === undefined) return true;
    const now = this.#clock.monotonicMs();
    if (now < until) return false;
    this.#avoidUntil.set(brokerName, now + TRIAL_MS);
    return true;
  }
}
