import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/io/clock.ts';
import { LogClock } from '../../src/replica/log-clock.ts';

function handClock(wallMs: number): Clock & { advance(ms: number): void; jump(ms: number): void } {
  let wall = wallMs;
  let monotonic = 500;
  return {
    wallMs: () => wall,
    monotonicMs: () => monotonic,
    setTimer: () => ({}),
    clearTimer: () => {},
    defer: () => {},
    advance(ms) {
      wall += ms;
      monotonic += ms;
    },
    jump(ms) {
      wall += ms;
    },
  };
}

describe('log time', () => {
  test("at election it is the median of the replicas' clocks: one that is an hour off moves nothing", () => {
    const clock = handClock(10_000_000 + 3_600_000);
    const log = new LogClock(clock);
    log.heard(2, 10_000_000);
    log.heard(3, 10_000_100);
    log.lead(0);
    expect(log.nowMs()).toBe(10_000_100);
    expect(log.skewMs()).toBe(3_599_900);
  });

  test('it never goes back behind the last entry, nor while leading', () => {
    const clock = handClock(10_000_000);
    const log = new LogClock(clock);
    log.lead(20_000_000);
    const first = log.nowMs();
    expect(first).toBe(20_000_000);
    clock.advance(1_000);
    clock.jump(-5_000_000);
    expect(log.nowMs()).toBeGreaterThanOrEqual(first);
  });

  test('a jump of the own clock is slewed, at most 5 % of the elapsed time', () => {
    const clock = handClock(10_000_000);
    const log = new LogClock(clock);
    log.lead(0);
    clock.advance(1_000);
    clock.jump(3_600_000);
    expect(log.nowMs()).toBe(10_001_050);
  });

  test('clocks not heard for ten seconds do not count', () => {
    const clock = handClock(10_000_000);
    const log = new LogClock(clock);
    log.heard(2, 50_000_000);
    log.heard(3, 50_000_000);
    clock.advance(10_001);
    expect(log.medianMs()).toBe(10_010_001);
  });
});
