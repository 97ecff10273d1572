import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Deadline } from '../../src/broker/deadlines.ts';
import { Deadlines } from '../../src/broker/deadlines.ts';
import { FakeClock } from '../support/fake-clock.ts';

class Alarm implements Deadline {
  dueMs = 0;
  slot = -1;
  readonly number: number;
  readonly #fired: number[];
  constructor(number: number, fired: number[]) {
    this.number = number;
    this.#fired = fired;
  }
  due(): void {
    this.#fired.push(this.number);
  }
}

describe('deadlines', () => {
  test('F17 like a timer each: set, moved and removed in any order, each fires once and in time', () => {
    const action = fc.record({
      number: fc.nat({ max: 15 }),
      delayMs: fc.nat({ max: 50 }),
      remove: fc.boolean(),
      waitMs: fc.nat({ max: 20 }),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
        const clock = new FakeClock();
        const deadlines = new Deadlines(clock);
        const fired: number[] = [];
        const alarms = Array.from({ length: 16 }, (_, number) => new Alarm(number, fired));
        const expected = new Map<number, number>();
        for (const { number, delayMs, remove, waitMs } of actions) {
          const alarm = alarms[number] as Alarm;
          if (remove) {
            deadlines.remove(alarm);
            expected.delete(number);
          } else {
            deadlines.set(alarm, delayMs);
            expected.set(number, clock.monotonicMs() + delayMs);
          }
          expect(clock.timers).toBeLessThanOrEqual(1);
          clock.advance(waitMs);
          const due = [...expected].filter(([, atMs]) => atMs <= clock.monotonicMs());
          expect(fired.splice(0).sort((a, b) => a - b)).toEqual(due.map(([which]) => which).sort((a, b) => a - b));
          for (const [which] of due) expected.delete(which);
          expect(deadlines.size).toBe(expected.size);
        }
      }),
    );
  });

  test('an alarm that sets itself again from due() fires again, not in a circle', () => {
    const clock = new FakeClock();
    const deadlines = new Deadlines(clock);
    let count = 0;
    const alarm: Deadline = {
      dueMs: 0,
      slot: -1,
      due() {
        count++;
        deadlines.set(alarm, 10);
      },
    };
    deadlines.set(alarm, 10);
    clock.advance(35);
    expect(count).toBe(3);
    deadlines.clear();
    clock.advance(100);
    expect([count, clock.timers]).toEqual([3, 0]);
  });
});
