import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HistoryLine } from '../history.ts';
import { type CheckContext, checkHistory } from './check.ts';
import { encodeHistory, ModelHistory, type ModelLine } from './model-history.ts';
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
  const withFault = (from: number, to: number): HistoryLine[] =>
    [...encodeHistory(lines), nemesis('begin', from), nemesis('end', to)]
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
    const all = checkHistory(encodeHistory(lines), CONTEXT);
    const endNs = (lines.at(-1) as ModelLine).time;
    expect(all.windows.faultFree()).toHaveLength(1);
    expect(checkHistory(withFault(0, endNs), CONTEXT)).toMatchObject({ verdict: 'unknown', faultFreeMsgsPerS: null });
    const [[from, to]] = checkHistory(withFault(endNs * 0.6, endNs), CONTEXT).windows.faultFree() as [[number, number]];
    expect(from).toBeLessThan(to);
    expect(to).toBeLessThanOrEqual((endNs * 0.6) / 1e9);
  });
});

describe('F43 transactions', () => {
  test('one that its check has committed lies before those that ended before its producer said so', () => {
    let index = 0;
    const line = (type: HistoryLine['type'], of: number, f: string, value: object): HistoryLine => {
      const time = index * 1e6;
      return { index: index++, time, type, process: of, f, value: { topic: 'T', ...value } };
    };
    const [first, second] = ['T.t0/-', 'T.t1/-'];
    const begin = (type: 'invoke' | 'ok', of: number, stream: string) =>
      line(type, of, 'begin', { runs: [[stream, 0, 1]], plan: 'commit' });
    const end = (type: 'invoke' | 'ok', of: number, stream: string, offset?: number) =>
      line(type, of, 'end', {
        message: [stream, 0],
        outcome: 'commit',
        ...(offset === undefined ? {} : { runs: [[stream, 0, 1, 'T/a/0', offset]] }),
      });
    const reordered = (lines: readonly HistoryLine[]) =>
      checkHistory(lines, CONTEXT).checkers.find(({ name }) => name === 'reordered')?.anomalies.length;
    // The answer to the first `begin` is late: the check comes before it.
    const late = [
      begin('invoke', 1, first),
      begin('invoke', 2, second),
      begin('ok', 2, second),
      end('invoke', 2, second),
      end('ok', 2, second, 1),
    ];
    expect(reordered([...late, begin('ok', 1, first), end('invoke', 1, first), end('ok', 1, first, 0)])).toBe(0);
    index = 0;
    // Begun after the other one had ended, it cannot lie before it.
    const ended = [begin('invoke', 2, second), begin('ok', 2, second), end('invoke', 2, second), end('ok', 2, second, 1)];
    const after = [begin('invoke', 1, first), begin('ok', 1, first), end('invoke', 1, first), end('ok', 1, first, 0)];
    expect(reordered([...ended, ...after])).toBe(1);
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
