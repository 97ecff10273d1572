import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FAULTS, faultKind, goTogether, parseFaults } from './faults/catalogue.ts';
import { LONG_HOLD_TIMES, makeSchedule, OPENING_MS, plannedCounts } from './schedule.ts';

const names = FAULTS.map(({ name }) => name);
const seeds = fc.integer({ min: 0, max: 2 ** 31 });

describe('F43 the schedule of faults', () => {
  test('is a function of seed, minutes and faults', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 40 }), fc.subarray(names, { minLength: 1 }), (seed, minutes, faults) => {
        expect(makeSchedule(seed, minutes, faults)).toEqual(makeSchedule(seed, minutes, faults));
      }),
      { numRuns: 50 },
    );
    expect(makeSchedule(1, 3, names)).not.toEqual(makeSchedule(2, 3, names));
  });

  test('has every fault at least ten times in 30 minutes', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        expect(Math.min(...plannedCounts(makeSchedule(seed, 30, names)).values())).toBeGreaterThanOrEqual(10);
      }),
      { numRuns: 50 },
    );
  });

  test('has nearly every fault in 3 minutes', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const planned = [...plannedCounts(makeSchedule(seed, 3, names)).values()].filter((count) => count > 0);
        expect(planned.length).toBeGreaterThanOrEqual(names.length - 6);
      }),
      { numRuns: 50 },
    );
  });

  test('keeps to what may be together, to its time, and to time without faults', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 20 }), fc.subarray(names, { minLength: 1 }), (seed, minutes, faults) => {
        const { rounds } = makeSchedule(seed, minutes, faults);
        let endMs = OPENING_MS;
        for (const round of rounds) {
          expect(round.atMs).toBeGreaterThanOrEqual(endMs);
          expect(round.calmMs).toBeGreaterThanOrEqual(1_000);
          const [first, second, ...more] = round.faults.map(({ fault }) => faultKind(fault));
          expect(more).toEqual([]);
          if (first !== undefined && second !== undefined) expect(goTogether(first, second)).toBe(true);
          for (const { fault, holdMs, order } of round.faults) {
            expect(faults).toContain(fault);
            expect(holdMs).toBeLessThanOrEqual(faultKind(fault).holdMs[1] * LONG_HOLD_TIMES);
            expect([...order].sort()).toEqual([1, 2, 3]);
          }
          endMs = round.atMs + Math.max(...round.faults.map(({ afterMs, holdMs }) => afterMs + holdMs)) + round.calmMs;
        }
        if (rounds.length > 1) expect(endMs).toBeLessThanOrEqual(minutes * 60_000);
        const ids = rounds.flatMap((round) => round.faults.map(({ id }) => id));
        expect(ids).toEqual(ids.map((_, at) => at + 1));
      }),
      { numRuns: 100 },
    );
  });

  test('two at once part of the time, the leader first part of the time', () => {
    const planned = makeSchedule(1, 30, names).rounds.map(({ faults }) => faults);
    const pairs = planned.filter((faults) => faults.length === 2).length;
    expect(pairs).toBeGreaterThan(planned.length * 0.2);
    expect(pairs).toBeLessThan(planned.length * 0.8);
    const leaderFirst = planned.flat().filter((fault) => fault.leaderFirst).length;
    expect(leaderFirst).toBeGreaterThan(planned.flat().length * 0.2);
  });
});

describe('F43 names of faults', () => {
  test('all, single ones and families', () => {
    expect(parseFaults('all')).toEqual(names);
    expect(parseFaults('pause, kill')).toEqual(['kill-one', 'kill-majority', 'kill-all', 'pause']);
    expect(parseFaults('bit-flip')).toEqual(['bit-flip']);
    expect(() => parseFaults('kill,flood')).toThrow('no such fault: flood');
  });

  test('damage to files is alone: another copy may be the only good one', () => {
    for (const kind of FAULTS) expect(goTogether(faultKind('truncate'), kind)).toBe(false);
    expect(goTogether(faultKind('halves'), faultKind('kill-one'))).toBe(true);
    expect(goTogether(faultKind('fsync-error'), faultKind('isolate'))).toBe(false);
    expect(goTogether(faultKind('fsync-error'), faultKind('loss'))).toBe(true);
  });
});
