import { describe, expect, test } from 'vitest';
import { median, mediansTable } from '../../bench/medians.ts';

describe('medians of measurements', () => {
  test('odd and even counts', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([1, 3])).toBe(2);
  });

  test('per peer, mode and size, with the ratio where the mode is the same; other lines are passed over', () => {
    const line = (peer: string, rate: number): string =>
      JSON.stringify({ peer, mode: 'sync-16', msg_bytes: 1024, msgs_per_s: rate, p50_ms: 1, p99_ms: 2 });
    const table = mediansTable(
      [line('ledgermq', 100), line('ledgermq', 300), line('ledgermq', 200), line('other', 50), '{"peer":"other","rss":1}', 'noise'].join(
        '\n',
      ),
    );
    expect(table).toContain('| sync-16 | ledgermq | 1024 | 200 | 1.00 | 2.00 | 3 |  |');
    expect(table).toContain('| sync-16 | other | 1024 | 50 | 1.00 | 2.00 | 1 | 4.00 |');
  });
});
