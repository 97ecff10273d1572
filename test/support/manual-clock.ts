import type { Clock, Timer } from '../../src/io/clock.ts';

interface Armed {
  readonly atMs: number;
  readonly number: number;
  readonly callback: () => void;
}

/** How many rounds of promise jobs may follow one event; promises settle in a few. */
const MICROTASK_ROUNDS = 30;

/** Time that moves when the test says so, with promises: all jobs of an event run before the next event. */
export class ManualClock implements Clock {
  #nowMs = 1_000;
  #number = 0;
  readonly #armed = new Set<Armed>();
  #deferred: (() => void)[] = [];

  wallMs(): number {
    return 1_700_000_000_000 + Math.floor(this.#nowMs);
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  /** Timers that would still fire. */
  get armedCount(): number {
    return this.#armed.size;
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, number: this.#number++, callback };
    this.#armed.add(timer);
    return timer;
  }
  clearTimer(timer: Timer): void {
    this.#armed.delete(timer as Armed);
  }
  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  /** Runs everything that is due within `ms`, in order. */
  async run(ms: number): Promise<void> {
    const end = this.#nowMs + ms;
    for (;;) {
      await this.#settle();
      let next: Armed | null = null;
      for (const timer of this.#armed) {
        if (timer.atMs > end) continue;
        if (next === null || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.number < next.number)) next = timer;
      }
      if (next === null) break;
      this.#armed.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
    }
    this.#nowMs = end;
    await this.#settle();
  }

  async #settle(): Promise<void> {
    for (;;) {
      for (let i = 0; i < MICROTASK_ROUNDS; i++) await Promise.resolve();
      const deferred = this.#deferred.splice(0);
      if (deferred.length === 0) return;
      for (const callback of deferred) callback();
    }
  }
}
