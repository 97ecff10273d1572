import type { Clock, Timer } from '../io/clock.ts';

/** A call of a handler under way, from the moment it is watched. */
export interface WatchedCall {
  watchedMs: number;
}

/**
 * Handlers that take too long (F22). One timer for all: calls are watched in the order in which they began, and all have the
 * same time.
 */
export class ConsumeTimeouts<Call extends WatchedCall> {
  readonly #clock: Clock;
  /** 0 = none. */
  readonly #timeoutMs: number;
  readonly #onTimeout: (call: Call) => void;
  /** Oldest first. At most `concurrency`. */
  readonly #calls = new Set<Call>();
  #timer: Timer | null = null;

  constructor(clock: Clock, timeoutMs: number, onTimeout: (call: Call) => void) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#onTimeout = onTimeout;
  }

  /** From now on, also a second time. */
  watch(call: Call): void {
    if (this.#timeoutMs === 0) return;
    call.watchedMs = this.#clock.monotonicMs();
    this.#calls.add(call);
    this.#arm();
  }

  forget(call: Call): void {
    this.#calls.delete(call);
  }

  close(): void {
    if (this.#timer !== null) this.#clock.clearTimer(this.#timer);
    this.#timer = null;
    this.#calls.clear();
  }

  #arm(): void {
    const oldest = this.#calls.values().next();
    if (this.#timer !== null || oldest.done === true) return;
    const leftMs = oldest.value.watchedMs + this.#timeoutMs - this.#clock.monotonicMs();
    this.#timer = this.#clock.setTimer(Math.max(0, leftMs), () => {
      this.#timer = null;
      this.#look();
    });
  }

  #look(): void {
    const now = this.#clock.monotonicMs();
    for (const call of this.#calls) {
      if (call.watchedMs + this.#timeoutMs > now) break;
      this.#calls.delete(call);
      this.#onTimeout(call);
    }
    this.#arm();
  }
}
