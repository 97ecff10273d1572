import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LedgerError } from '../../../src/protocol/errors.ts';
import type { PropertyList } from '../../../src/protocol/properties.ts';
import { BATCH_HEADER_BYTES, INDEX_UNIT_BYTES } from '../../../src/protocol/record-batch.ts';
import { encodeBatch } from '../../../src/protocol/record-batch-encoder.ts';
import { MAX_FILTER_CHARACTERS, MAX_FILTER_DEPTH, MAX_FILTER_PROPERTIES } from '../../../src/protocol/sql-filter/parser.ts';
import { SqlFilter } from '../../../src/protocol/sql-filter/sql-filter.ts';
import { expression, properties } from './reference.ts';

const HEADER = { producerId: 0, producerEpoch: 0, firstSequence: 0, idHigh: new Uint8Array(8), idLow: 0 };

function batchOf(...messages: readonly PropertyList[]): Uint8Array {
  const body = Buffer.from('amount TAGS a b');
  return encodeBatch(
    messages.map((list) => ({ body, bornTimeMs: 0, properties: list })),
    HEADER,
  ).bytes;
}

const matches = (text: string, of: Readonly<Record<string, string>>): boolean =>
  new SqlFilter(text).matches(batchOf(Object.entries(of)), 0);

function refusal(text: string): string {
  try {
    new SqlFilter(text);
  } catch (error) {
    expect(error).toBeInstanceOf(LedgerError);
    expect((error as LedgerError).code).toBe('BAD_FILTER');
    return (error as LedgerError).detail;
  }
  return 'parsed';
}

describe('filter expressions', () => {
  test('F24 what the compiled filter says of a message is what a walk over the expression says', () => {
    fc.assert(
      fc.property(expression, fc.array(properties, { minLength: 1, maxLength: 4 }), (node, all) => {
        fc.pre(node.text.length <= MAX_FILTER_CHARACTERS);
        const filter = new SqlFilter(node.text);
        const batch = batchOf(...all.map((of) => [...of]));
        const expected = all.map((of) => node.verdict(of) === true);
        expect(all.map((_, at) => filter.matches(batch, at))).toEqual(expected);
        // The same of the batch as a whole, wherever it lies in the log.
        const moved = Buffer.concat([Buffer.alloc(64, 0xff), batch]);
        expect(filter.matchesSome(moved, 64, 0, all.length)).toBe(expected.includes(true));
      }),
      { numRuns: 2_000 },
    );
  });

  test.each<[string, Readonly<Record<string, string>>, boolean]>([
    ["a = 'x'", { a: 'x' }, true],
    ["a = 'x'", {}, false],
    ["a <> 'x'", {}, false],
    ["NOT (a = 'x')", {}, false],
    ["a IS NULL OR a <> 'x'", {}, true],
    ['a = b', {}, false],
    ['a > 5', { a: '5.5' }, true],
    ['a > 5', { a: 'many' }, false],
    ['NOT (a > 5)', { a: 'many' }, false],
    ['a BETWEEN 5 AND 7 AND b', { a: '7', b: 'True' }, true],
    ['a NOT BETWEEN 5 AND 7', { a: '8' }, true],
    ['a = 1 OR a = 2 AND b = 3', { a: '1', b: '0' }, true],
    ['(a = 1 OR a = 2) AND b = 3', { a: '1', b: '0' }, false],
    ['NOT a AND b', { a: 'false', b: 'true' }, true],
    ["TAGS IN ('A', 'B')", { TAGS: 'B' }, true],
    ["tags IN ('A', 'B')", { TAGS: 'B' }, false],
    ["a = 'it''s'", { a: "it's" }, true],
    ["a CONTAINS 'ell' AND a startsWith 'h' AND a EndsWith 'lo' AND a NOT CONTAINS 'x'", { a: 'hello' }, true],
    ["a CONTAINS 'lo' AND a NOT CONTAINS 'ol'", { a: `${'.'.repeat(100)}hello${'.'.repeat(100)}` }, true],
    ['a = TRUE', { a: 'true' }, true],
    ['(a = 1) = (b = 1)', { a: '2', b: '2' }, true],
    ['-a < -4 -- and nothing more', { a: '5' }, true],
    ['a = 1e3 /* a thousand */', { a: '1000.0' }, true],
    ['a = 10L', { a: '10' }, true],
  ])('F24 %s of %o: %s', (text, of, expected) => {
    expect(matches(text, of)).toBe(expected);
  });

  test.each([
    ['', 1, 'the expression ends where a value or a condition was expected'],
    ['a =', 4, 'the expression ends'],
    ['a = 1 b', 7, 'b was not expected here'],
    ['a && b', 3, '"&" has no meaning here'],
    ["a = 'x", 5, 'the text that begins here has no end'],
    ["a = 'it''s", 5, 'the text that begins here has no end'],
    ['a /* b', 3, 'the comment that begins here has no end'],
    ['NOT a = 1', 9, 'a condition was expected, not a number'],
    ["a > 'x'", 5, 'only numbers and properties have an order'],
    ['(a = 1) > 2', 1, 'only numbers and properties have an order'],
    ['a BETWEEN 5 AND 4', 11, 'holds for nothing'],
    ['a BETWEEN 5', 12, 'AND was expected'],
    ['a IN (5)', 7, "a text in '' was expected"],
    ['a IN ()', 7, "a text in '' was expected"],
    ["5 IN ('a')", 1, 'a property was expected before IN'],
    ['a CONTAINS b', 12, "a text in '' was expected"],
    ['a NOT 5', 7, 'BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH was expected'],
    ['a = NULL', 5, 'NULL equals nothing: use IS NULL'],
    ['a IS 5', 6, 'NULL was expected'],
    ["a AND 'x'", 7, 'a condition was expected, not a text'],
    ['5', 1, 'a condition was expected, not a number'],
    ['-TRUE', 2, 'a number or a property was expected behind -'],
    ['5a = 1', 1, '5a is no number'],
    ['a = 1e999', 5, '1e999 is too large a number'],
    ['(a', 3, ') was expected'],
    ['a LIKE b', 3, 'LIKE was not expected here'],
    ['a + 1 > 2', 3, '+ was not expected here'],
  ])('F24 %s is refused at character %i: %s', (text, at, why) => {
    expect(refusal(text)).toContain(`character ${at} of ${JSON.stringify(text)}: `);
    expect(refusal(text)).toContain(why);
  });

  test('I8 F24 length, depth and properties of an expression are bounded, and at the bound it works', () => {
    expect(refusal(`${'('.repeat(MAX_FILTER_DEPTH)}a${')'.repeat(MAX_FILTER_DEPTH)}`)).toBe('parsed');
    expect(refusal(`${'('.repeat(MAX_FILTER_DEPTH + 1)}a${')'.repeat(MAX_FILTER_DEPTH + 1)}`)).toContain('more than 64 levels');
    expect(refusal(`${'NOT '.repeat(MAX_FILTER_DEPTH + 1)}a`)).toContain('more than 64 levels');
    const names = Array.from({ length: MAX_FILTER_PROPERTIES }, (_, i) => `p${i}`);
    expect(refusal(names.join(' OR '))).toBe('parsed');
    expect(refusal([...names, 'q'].join(' OR '))).toContain('more than 32 properties');
    expect(refusal(`a${' '.repeat(MAX_FILTER_CHARACTERS)}`)).toContain('4096 characters at most');
    const long = Array.from({ length: 500 }, () => 'a=0')
      .join(' OR ')
      .slice(0, MAX_FILTER_CHARACTERS - 8);
    expect(matches(`${long.slice(0, long.lastIndexOf(' OR '))} OR a=7`, { a: '7' })).toBe(true);
  });

  test('F24 of two properties of one name the first counts, and malformed ones end the list', () => {
    const batch = batchOf([
      ['a', '1'],
      ['a', '2'],
      ['b', '3'],
    ]);
    expect(new SqlFilter('a = 1 AND b = 3').matches(batch, 0)).toBe(true);
    expect(new SqlFilter('a = 2').matches(batch, 0)).toBe(false);
    // The second property says that it is longer than all of them.
    batch[BATCH_HEADER_BYTES + INDEX_UNIT_BYTES + 5 + 1] = 0xff;
    expect(new SqlFilter('a = 1 AND b IS NULL').matches(batch, 0)).toBe(true);
  });

  test('F24 a name is not found in a value, nor in a body', () => {
    expect(matches('b IS NULL', { a: '\u0001\u0001\u0000b1' })).toBe(true);
    expect(matches('amount IS NULL', { a: '1' })).toBe(true);
  });
});
