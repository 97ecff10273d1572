import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DeliveryCheck, GapMeter } from '../../src/cli/delivery-check.ts';
import { FILE_KEYS, flights, linesOf } from '../../src/cli/demo-input.ts';

describe('delivery check', () => {
  test('everything once and in order is clean', () => {
    const check = new DeliveryCheck(4);
    check.received('b', 1);
    check.received('a', 0);
    check.received('a', 2);
    check.received('b', 3);
    expect(check).toMatchObject({ consumed: 4, duplicated: 0, outOfOrder: 0, unknown: 0 });
    expect(check.lost(4)).toBe(0);
  });

  test('a missing, a repeated, a late and an invented message are each counted', () => {
    const check = new DeliveryCheck(5);
    check.received('a', 0);
    check.received('a', 2);
    check.received('a', 1);
    check.received('a', 2);
    check.received('a', 9);
    check.received('a', Number.NaN);
    expect(check).toMatchObject({ consumed: 3, duplicated: 1, outOfOrder: 1, unknown: 2 });
    expect(check.lost(5)).toBe(2);
    expect(check.lost(3)).toBe(0);
  });
});

describe('gap meter', () => {
  test('counts the longest pause from the kill on, the one running at the kill included', () => {
    const gap = new GapMeter(0);
    gap.acknowledged(500);
    gap.startAt(510);
    gap.acknowledged(900);
    gap.acknowledged(1000);
    expect(gap.longestMs(1000, true)).toBe(400);
    expect(gap.longestMs(2000, false)).toBe(1000);
  });
});

describe('demo input', () => {
  test('flights are real rows keyed by origin', async () => {
    const rows = await flights(2000);
    expect(rows).toHaveLength(2000);
    const first = JSON.parse(rows[0]?.body ?? '') as Record<string, unknown>;
    expect(Object.keys(first)).toEqual(expect.arrayContaining(['date', 'delay', 'distance', 'origin', 'destination']));
    expect(first['origin']).toBe(rows[0]?.key);
    expect(new Set(rows.map((row) => row.key)).size).toBeGreaterThan(50);
  });

  test('a file gives a message a line; an empty one is refused', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-input-'));
    try {
      writeFileSync(join(dir, 'lines'), Array.from({ length: FILE_KEYS + 1 }, (_, at) => `line ${at}`).join('\r\n'));
      const rows = await linesOf(join(dir, 'lines'));
      expect(rows).toHaveLength(FILE_KEYS + 1);
      expect(rows[1]).toEqual({ key: 'key-1', body: 'line 1' });
      expect(rows[FILE_KEYS]?.key).toBe('key-0');
      writeFileSync(join(dir, 'empty'), '');
      await expect(linesOf(join(dir, 'empty'))).rejects.toThrow('no line');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
