import type { Clock, Timer } from '../clock.ts';

/** Longest delay that Node's timers keep; longer ones would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export class NodeClock implements Clock {
  wallMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    return setTimeout(callback, Math.min(delayMs, MAX_DELAY_MS));
  }

  clearTimer(timer: Timer): void {
    clearTimeout(timer as NodeJS.Timeout);
  }

  defer(callback: () => void): void {
    setImmediate(callback);
  }
}
