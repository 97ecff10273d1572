import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HistoryLine } from '../history.ts';
import { type CheckContext, checkHistory } from './check.ts';
import { encodeHistory, ModelHistory, type ModelLine } from './model-history.ts';
import { SETTLE_S } from './windows.ts';
import { WRONGS } from './wrong-histories.ts';

const CONTEXT: CheckContext = { seed: 1, minutes: 1, faults: {}, benchMsgsPerS: 1, verify: [{ brokerName: 'a', identical: true }] };
const STEPS = 400;

const check = (lines: readonly ModelLine[], context = CONTEXT) => checkHistory(encodeHistory(lines), context);
/** Names of the checkers that found something. */
const found = (lines: readonly ModelLine[]): string[] =>
  check(lines)
    .checkers.filter(({ anomalies }) => anomalies.length > 0)
    .map(({ name }) => name);

describe('F43 checkers', () => {
  test('right histories are valid', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 20, max: 600 }), (seed, steps) => {
        const { lines } = new ModelHistory(seed, steps);
        const result = check(lines);
        expect(result.checkers.flatMap(({ anomalies }) => anomalies)).toEqual([]);
      }),
      { numRuns: 150, seed: 1 },
    );
    expect(check(new ModelHistory(3, STEPS).lines)).toMatchObject({ verdict: 'valid', reasons: [] });
  });

  test.each(WRONGS)('$checker: $name, found by that checker and no other', ({ checker, spoil }) => {
    let spoilt = 0;
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const model = new ModelHistory(seed, STEPS);
        const lines = spoil(model);
        if (lines === null) return;
        spoilt++;
        expect(found(lines)).toEqual([checker]);
      }),
      { numRuns: 60, seed: 1 },
    );
    // Not every history has what it takes; most must.
    expect(spoilt).toBeGreaterThan(20);
  });
});

describe('F43 the verdict', () => {
  const { lines } = new ModelHistory(3, STEPS);
  const nemesis = (phase: string, time: number): HistoryLine => ({
    index: 0,
    time,
    type: 'info',
    process: 'nemesis',
    f: 'cut',
    value: { phase, id: 1 },
  });
  const withFault = (of: readonly ModelLine[], from: number, to: number): HistoryLine[] =>
    [...encodeHistory(of), nemesis('begin', from), nemesis('end', to)]
      .sort((a, b) => a.time - b.time)
      .map((line, index) => ({ ...line, index }));

  test('invalid, whatever else is unknown', () => {
    const wrong = WRONGS[0]?.spoil(new ModelHistory(3, STEPS)) as ModelLine[];
    expect(check(wrong, { ...CONTEXT, benchMsgsPerS: null }).verdict).toBe('invalid');
    expect(check(lines, { ...CONTEXT, verify: [{ brokerName: 'a', identical: false }] }).verdict).toBe('invalid');
  });

  test.each([
    ['a planned fault did not fire', { ...CONTEXT, faults: { cut: { planned: 2, fired: 1, evidence: [] } } }, /cut fired 1 of 2/],
    ['throughput under a quarter of the bench', { ...CONTEXT, benchMsgsPerS: 1e6 }, /under a quarter/],
    ['no bench', { ...CONTEXT, benchMsgsPerS: null }, /no bench/],
    ['the replicas were not compared', { ...CONTEXT, verify: null }, /not compared/],
  ])('unknown: %s', (_name, context, reason) => {
    const result = check(lines, context);
    expect(result.verdict).toBe('unknown');
    expect(result.reasons.join()).toMatch(reason);
  });

  test('unknown: under half of the operations succeeded', () => {
    const more: ModelLine[] = Array.from({ length: 2 * lines.length }, (_, at) => ({
      time: 0,
      type: at % 2 === 0 ? 'invoke' : 'fail',
      process: 1_000_000,
      f: 'fetch',
      value: { group: 'g', queue: 'T/a/0', offset: null },
    }));
    const result = check([...more, ...lines]);
    expect(result.verdict).toBe('unknown');
    expect(result.reasons.join()).toMatch(/operations succeeded/);
  });

  test('unknown: a queue was not read to its end, a group did not drain, nothing was done at all', () => {
    const unread = lines.filter(({ f }) => f !== 'read');
    expect(check(unread).reasons.join()).toMatch(/not read to their end/);
    const undrained = lines.map((line) => (line.f === 'drain' && line.type === 'ok' ? { ...line, type: 'info' as const } : line));
    expect(check(undrained)).toMatchObject({ verdict: 'unknown' });
    expect(check([])).toMatchObject({ verdict: 'unknown' });
  });

  test('what retention took is judged by who read it before; unknown when nobody had', () => {
    const cut = (message: 'seen' | 'unseen') => {
      const model = new ModelHistory(3, STEPS);
      for (const line of model.lines) {
        if (line.f !== 'read' || line.read === undefined) continue;
        const min = Math.floor((line.value['max'] as number) / 2);
        line.read = line.read.filter(({ offset }) => (offset as number) >= min);
        Object.assign(line.value, { from: Math.max(min, line.value['from'] as number), min });
      }
      if (message === 'unseen')
        for (const { polls = [] } of model.lines) for (const poll of polls) poll.read = poll.read.filter(({ offset }) => offset !== 1);
      return check(model.lines);
    };
    expect(cut('seen')).toMatchObject({ verdict: 'valid', reasons: [] });
    expect(cut('unseen')).toMatchObject({ verdict: 'unknown' });
    expect(cut('unseen').reasons.join()).toMatch(/cut by retention before anybody had read/);
  });

  test('throughput is that of the time without faults, and settling after a fault belongs to it', () => {
    const long = new ModelHistory(3, 4_000).lines;
    const endNs = (long.at(-1) as ModelLine).time;
    const windows = (from: number, to: number) => checkHistory(withFault(long, from, to), CONTEXT).windows.faultFree();
    const [[start, end]] = checkHistory(encodeHistory(long), CONTEXT).windows.faultFree() as [[number, number]];
    expect(windows(0, endNs)).toEqual([]);
    expect(checkHistory(withFault(long, 0, endNs), CONTEXT)).toMatchObject({ verdict: 'unknown', faultFreeMsgsPerS: null });
    const [midS, laterS] = [Math.floor(end / 3), Math.floor(end / 2)];
    expect(windows(midS * 1e9, laterS * 1e9)).toEqual([
      [start, midS],
      [laterS + SETTLE_S, end],
    ]);
    const { faultFreeMsgsPerS } = checkHistory(encodeHistory(long), CONTEXT);
    expect(faultFreeMsgsPerS).toBeGreaterThan(0);
  });
});

describe('F43 a history', () => {
  const line = (type: HistoryLine['type'], process: number): HistoryLine => ({
    index: 0,
    time: 0,
    type,
    process,
    f: 'fetch',
    value: { group: 'g', queue: 'q', offset: null },
  });

  test('a process that begins before it ended, or ends what it did not begin, is none', () => {
    expect(() => checkHistory([line('invoke', 1), line('invoke', 1)], CONTEXT)).toThrow(/under way/);
    expect(() => checkHistory([line('ok', 1)], CONTEXT)).toThrow(/did not begin/);
  });

  test('what never ended may have happened', () => {
    expect(checkHistory([line('invoke', 1)], CONTEXT).operations.byName.get('fetch')).toEqual({ ok: 0, fail: 0, info: 1 });
  });
});
