import type { Random } from '../io/random.ts';

export interface BackoffOptions {
  readonly baseMs: number;
  readonly factor: number;
  readonly capMs: number;
  /** Full jitter: uniform in [0, backoff], so that many clients that failed together do not come back together. */
  readonly jitter: boolean;
}

/** @param attempt from 0 @returns base·factor^attempt up to the cap; with jitter uniform below that */
export function backoffMs(options: BackoffOptions, attempt: number, random: Random): number {
  const delayMs = Math.min(options.capMs, options.baseMs * options.factor ** attempt);
  return options.jitter ? delayMs * random.unit() : delayMs;
}
