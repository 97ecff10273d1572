/** RocketMQ's 18 levels (semantics §8), level 1 first. */
export const DEFAULT_DELAY_LEVELS = '1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h';
/** A queue each. */
export const MAX_DELAY_LEVELS = 64;
/** F13. */
export const MAX_DELAY_MS = 40 * 24 * 3_600_000;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 24 * 3_600_000 };
/** What the configuration takes: numbers with a unit, rising or not, 1…64 of them. */
export const DELAY_LEVELS_PATTERN = /^\d{1,9}(ms|s|m|h|d)( \d{1,9}(ms|s|m|h|d)){0,63}$/;

/** @returns the delay of each level, ms; null when it is not such a table, or a level is 0 or above MAX_DELAY_MS */
export function parseDelayLevels(text: string): readonly number[] | null {
  if (!DELAY_LEVELS_PATTERN.test(text)) return null;
  const delaysMs = text.split(' ').map((level) => {
    const [, number, unit] = /^(\d+)([a-z]+)$/.exec(level) as RegExpExecArray;
    return Number(number) * (UNIT_MS[unit as string] as number);
  });
  return areDelayLevels(delaysMs) ? delaysMs : null;
}

export function areDelayLevels(delaysMs: readonly number[]): boolean {
  return (
    delaysMs.length >= 1 &&
    delaysMs.length <= MAX_DELAY_LEVELS &&
    delaysMs.every((delayMs) => Number.isSafeInteger(delayMs) && delayMs > 0 && delayMs <= MAX_DELAY_MS)
  );
}
