import type { Clock, Timer } from '../io/clock.ts';

/** Waits that end early when their owner closes: a timer left behind would keep the process alive. */
export class Naps {
  readonly #clock: Clock;
  readonly #pending = new Map<Timer, () => void>();
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves after `delayMs`, or at close(). */
  take(delayMs: number): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#clock.setTimer(Math.max(0, delayMs), () => {
        this.#pending.delete(timer);
        resolve();
      });
      this.#pending.set(timer, resolve);
    });
  }

  close(): void {
    this.#closed = true;
    for (const [timer, resolve] of this.#pending) {
      this.#clock.clearTimer(timer);
      resolve();
    }
    this.#pending.clear();
  }
}
