/** An armed one-shot timer; only the clock that made it knows what is inside. */
export type Timer = { readonly timer: unique symbol } | object;

/**
 * Time. Nothing in src/ but the Node version of this interface asks the system for it (invariant I9),
 * so that the whole broker runs under simulated time.
 */
export interface Clock {
  /** Wall clock, ms since 1970, integer. May jump either way; it orders nothing by itself. */
  wallMs(): number;
  /** Monotonic clock, ms, fractional. Time-outs and latencies are measured with it. */
  monotonicMs(): number;
  /** Calls back once, `delayMs` (>= 0) from now or later. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Disarms; an already fired or cleared timer is fine. */
  clearTimer(timer: Timer): void;
  /** Calls back at the end of this turn of the event loop, after the sockets that were ready in it. One write group, one ack frame per turn hang on it. */
  defer(callback: () => void): void;
}
