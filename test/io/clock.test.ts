import { describe, expect, test } from 'vitest';
import { NodeClock } from '../../src/io/node/clock.ts';
import { NodeRandom } from '../../src/io/node/random.ts';

describe('Node clock', () => {
  test('timers fire in order of their delays, cleared ones never', async () => {
    const clock = new NodeClock();
    const fired: string[] = [];
    const before = clock.monotonicMs();
    await new Promise<void>((resolve) => {
      clock.setTimer(20, () => {
        fired.push('later');
        resolve();
      });
      clock.setTimer(10, () => fired.push('sooner'));
      clock.clearTimer(clock.setTimer(5, () => fired.push('cleared')));
      clock.defer(() => fired.push('deferred'));
    });
    // Where the deferred call comes depends on how long this turn took.
    expect(fired).toContain('deferred');
    expect(fired.filter((name) => name !== 'deferred')).toEqual(['sooner', 'later']);
    // Timers keep whole milliseconds, the monotonic clock is finer.
    expect(clock.monotonicMs() - before).toBeGreaterThanOrEqual(19);
    expect(Number.isInteger(clock.wallMs())).toBe(true);
  });

  test('a delay beyond 31 bits waits instead of firing at once', async () => {
    const clock = new NodeClock();
    let fired = false;
    const timer = clock.setTimer(2 ** 40, () => {
      fired = true;
    });
    await new Promise<void>((resolve) => {
      clock.setTimer(5, resolve);
    });
    clock.clearTimer(timer);
    expect(fired).toBe(false);
  });
});

describe('Node random', () => {
  test('32-bit numbers over several refills, units below 1, filled bytes', () => {
    const random = new NodeRandom();
    const numbers = Array.from({ length: 3_000 }, () => random.u32());
    expect(numbers.every((value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32)).toBe(true);
    expect(new Set(numbers).size).toBeGreaterThan(2_990);
    const units = Array.from({ length: 3_000 }, () => random.unit());
    expect(units.every((value) => value >= 0 && value < 1)).toBe(true);
    const bytes = new Uint8Array(64);
    random.fill(bytes);
    expect(new Set(bytes).size).toBeGreaterThan(8);
  });
});
