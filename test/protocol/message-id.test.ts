import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Random } from '../../src/io/random.ts';
import { formatMessageId, joinMessageId, MessageIdGenerator, MessageIdTexts, parseMessageId } from '../../src/protocol/message-id.ts';

const random: Random = {
  u32: () => 0,
  unit: () => 0,
  fill: (bytes) =>
    bytes.forEach((_, i) => {
      bytes[i] = 0xa0 + i;
    }),
};

test('32 upper-case hex digits, high half as it is, low half as a number', () => {
  expect(formatMessageId({ high: Uint8Array.of(0, 1, 0xab, 0xcd, 0xef, 16, 17, 255), low: 0x1f_ffff_ffff_ffff })).toBe(
    '0001ABCDEF1011FF001FFFFFFFFFFFFF',
  );
});

test('texts of many ids, in any order, are those of each', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.maxSafeNat(), fc.nat(20_000)), { minLength: 1 }), (lows) => {
      const texts = new MessageIdTexts('A0A1A2A3A4A5A6A7');
      for (const low of lows) expect(texts.at(low)).toBe(joinMessageId('A0A1A2A3A4A5A6A7', low));
    }),
  );
});

test('format and parse are inverse', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), fc.maxSafeNat(), (high, low) => {
      const text = formatMessageId({ high, low });
      expect(text).toMatch(/^[0-9A-F]{32}$/);
      expect(parseMessageId(text)).toEqual({ high, low });
      expect(parseMessageId(text.toLowerCase())).toEqual({ high, low });
    }),
  );
});

test.each(['', 'A', 'G'.repeat(32), '0'.repeat(31), '0'.repeat(33), `${'0'.repeat(16)}0020000000000000`, ` ${'0'.repeat(31)}`])(
  '%j is not an id',
  (text) => {
    expect(() => parseMessageId(text)).toThrow('BAD_REQUEST');
  },
);

test('a generator gives each id once and stops before 2^53', () => {
  const generator = new MessageIdGenerator(random);
  expect(generator.high[7]).toBe(0xa7);
  expect([generator.take(3), generator.take(1), generator.take(5)]).toEqual([0, 3, 4]);
  expect(() => generator.take(Number.MAX_SAFE_INTEGER)).toThrow('used up');
});
