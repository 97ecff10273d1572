import type { Clock, Timer } from '../../src/io/clock.ts';

interface Armed {
  readonly atMs: number;
  readonly number: number;
  readonly callback: () => void;
}

/** Time that moves when the test says so. Deferred calls run at the end of advance(). */
export class FakeClock implements Clock {
  #nowMs = 1_000;
  #number = 0;
  /** How often a timer was armed: what idling costs. */
  armedCount = 0;
  readonly #armed = new Set<Armed>();
  #deferred: (() => void)[] = [];

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  get timers(): number {
    return this.#armed.size;
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, number: this.#number++, callback };
    this.armedCount++;
    this.#armed.add(timer);
    return timer;
  }
  clearTimer(timer: Timer): void {
    this.#armed.delete(timer as Armed);
  }
  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  runDeferred(): void {
    while (this.#deferred.length > 0) this.#deferred.shift()?.();
  }

  /** Fires what is due on the way, in order. */
  advance(ms: number): void {
    const end = this.#nowMs + ms;
    for (;;) {
      this.runDeferred();
      const next = [...this.#armed].filter(({ atMs }) => atMs <= end).sort((a, b) => a.atMs - b.atMs || a.number - b.number)[0];
      if (next === undefined) break;
      this.#armed.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
    }
    this.#nowMs = end;
    this.runDeferred();
  }
}
