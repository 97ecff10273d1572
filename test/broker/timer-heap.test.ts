import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { kthKey, TimerHeap } from '../../src/broker/timer-heap.ts';

const anyTimers = fc.array(fc.nat({ max: 20 }), { minLength: 1, maxLength: 300 });
const byKey = (a: readonly [number, number], b: readonly [number, number]): number => a[0] - b[0] || a[1] - b[1];

describe('timers in memory', () => {
  test('come off in the order of delivery; slots are used again', () => {
    fc.assert(
      fc.property(anyTimers, anyTimers, (first, second) => {
        const heap = new TimerHeap();
        const add = (dues: readonly number[], from: number): void => {
          dues.forEach((dueMs, i) => {
            heap.push(heap.allocate(dueMs, from + i));
          });
        };
        const taken = (): [number, number] => {
          const slot = heap.pop();
          const { dueMs, position } = heap.key(slot);
          heap.free(slot);
          return [dueMs, position];
        };
        add(first, 0);
        const expected = first.map((dueMs, i): [number, number] => [dueMs, i]).sort(byKey);
        const half = expected.splice(0, first.length >> 1);
        expect(half.map(() => taken())).toEqual(half);
        add(second, 1_000);
        expected.push(...second.map((dueMs, i): [number, number] => [dueMs, 1_000 + i]));
        expected.sort(byKey);
        expect(expected.map(() => taken())).toEqual(expected);
        expect(heap.size).toBe(0);
        expect(heap.top()).toBe(-1);
      }),
    );
  });

  test('what is behind the k-th is forgotten, and nothing else', () => {
    fc.assert(
      fc.property(anyTimers, fc.nat(), (dues, n) => {
        const k = 1 + (n % dues.length);
        const sorted = dues.map((dueMs, i): [number, number] => [dueMs, i]).sort(byKey);
        const heap = new TimerHeap();
        dues.forEach((dueMs, i) => {
          heap.push(heap.allocate(dueMs, i));
        });
        const { dueMs, position } = heap.columns();
        const last = kthKey(dueMs, position, k);
        expect([last.dueMs, last.position]).toEqual(sorted[k - 1]);
        heap.truncate(last);
        expect(heap.size).toBe(k);
        const left = Array.from({ length: k }, () => heap.key(heap.pop()));
        expect(left.map((key) => [key.dueMs, key.position])).toEqual(sorted.slice(0, k));
      }),
    );
  });

  test('F13 a million of them take less than 200 bytes each', () => {
    const heap = new TimerHeap();
    for (let i = 0; i < 100_000; i++) heap.push(heap.allocate((i * 7_919) % 100_000, i));
    expect(heap.bytes / heap.size).toBeLessThan(110);
  });
});
