import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LatencyHistogram } from '../../src/cli/latency-histogram.ts';

describe('latency histogram', () => {
  test('nothing recorded is 0', () => {
    expect(new LatencyHistogram().quantileUs(0.99)).toBe(0);
  });

  test('small values are exact', () => {
    const histogram = new LatencyHistogram();
    for (let us = 1; us <= 1000; us++) histogram.record(us);
    expect(histogram.quantileUs(0.5)).toBe(500);
    expect(histogram.quantileUs(0.99)).toBe(990);
    expect(histogram.maxUs).toBe(1000);
  });

  test('any quantile is within two thousandths of the exact one', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 4_000_000_000 }), { minLength: 1, maxLength: 300 }),
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        (values, quantile) => {
          const histogram = new LatencyHistogram();
          for (const value of values) histogram.record(value);
          const exact = values.toSorted((left, right) => left - right)[Math.max(1, Math.ceil(quantile * values.length)) - 1] as number;
          const found = histogram.quantileUs(quantile);
          expect(found).toBeGreaterThanOrEqual(exact);
          expect(found).toBeLessThanOrEqual(exact * 1.002 + 1);
        },
      ),
    );
  });

  test('what is longer than two hours counts as the longest', () => {
    const histogram = new LatencyHistogram();
    histogram.record(1e12);
    expect(histogram.quantileUs(0.5)).toBeGreaterThan(7.2e9);
    expect(histogram.maxUs).toBe(1e12);
  });
});
