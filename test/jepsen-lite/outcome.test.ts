import { describe, expect, test } from 'vitest';
import { checkHistory } from './checkers/check.ts';
import { withOutcome } from './outcome.ts';

const context = { seed: 1, minutes: 1, faults: {}, benchMsgsPerS: 1, verify: [] };
const unknown = checkHistory([], context);
const valid = { ...unknown, verdict: 'valid' as const, reasons: [] };

describe('F43 the verdict of a run', () => {
  test('is that of its histories when nothing else happened', () => {
    expect(withOutcome(valid, { problems: [], doubts: [] })).toEqual(valid);
    expect(withOutcome(unknown, { problems: [], doubts: [] })).toEqual(unknown);
  });

  test('a replica that ended by itself, or a group that did not come back, is invalid, whatever the histories say', () => {
    const result = withOutcome(unknown, { problems: ['n1 ended by itself'], doubts: ['a worker was late'] });
    expect(result.verdict).toBe('invalid');
    expect(result.reasons).toEqual(['n1 ended by itself', ...unknown.reasons, 'a worker was late']);
  });

  test('a worker that did not finish makes it unknown, but not less than invalid', () => {
    expect(withOutcome(valid, { problems: [], doubts: ['a worker was late'] }).verdict).toBe('unknown');
    expect(withOutcome({ ...valid, verdict: 'invalid' }, { problems: [], doubts: ['a worker was late'] }).verdict).toBe('invalid');
  });
});
