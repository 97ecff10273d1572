import fc from 'fast-check';
import { expect, test } from 'vitest';
import { crc32 } from '../../src/base/crc.ts';
import { shortCrc32 } from '../../src/base/short-crc.ts';
import { tagHash } from '../../src/protocol/tag-hash.ts';

test("Java's String.hashCode, unsigned", () => {
  // Values of java.lang.String.hashCode(), widely documented.
  expect(tagHash('')).toBe(0);
  expect(tagHash('a')).toBe(97);
  expect(tagHash('hello')).toBe(99_162_322);
  expect(tagHash('Aa')).toBe(tagHash('BB'));
  expect(tagHash('polygenelubricants') | 0).toBe(-2_147_483_648);
  // Two UTF-16 units: 31 · 0xd83d + 0xde00.
  expect(tagHash('😀')).toBe(31 * 0xd83d + 0xde00);
});

test('the short CRC-32 equals the native one', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, cut) => {
      const from = Math.min(cut, bytes.length);
      expect(shortCrc32(bytes, from, bytes.length)).toBe(crc32(bytes.subarray(from)));
    }),
  );
});
