import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { LedgerError } from '../../src/protocol/errors.ts';
import {
  checkKey,
  checkTag,
  checkUserProperties,
  decodeProperties,
  encodeProperties,
  findProperty,
  isReservedProperty,
  Property,
} from '../../src/protocol/properties.ts';

const nameArbitrary = fc.string({ unit: 'binary', minLength: 1, maxLength: 63 });
const valueArbitrary = fc.string({ unit: 'binary', maxLength: 500 });

describe('properties region', () => {
  test('round trip', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(nameArbitrary, valueArbitrary), { selector: ([name]) => name, maxLength: 20 }), (list) => {
        expect([...decodeProperties(encodeProperties(list))]).toEqual(list);
      }),
    );
  });

  test('the bytes: name size, value size, name, value', () => {
    expect(
      encodeProperties([
        ['a', 'é'],
        ['bc', ''],
      ]).toString('hex'),
    ).toBe('01020061c3a90200006263');
  });

  test('the first of two equal names counts, however it is read', () => {
    const bytes = encodeProperties([
      ['TAGS', 'one'],
      ['x', 'y'],
      ['TAGS', 'two'],
    ]);
    expect(decodeProperties(bytes).get('TAGS')).toBe('one');
    expect(findProperty(bytes, 0, bytes.length, 'TAGS')).toBe('one');
    expect(findProperty(bytes, 0, bytes.length, 'x')).toBe('y');
    expect(findProperty(bytes, 0, bytes.length, 'TAG')).toBeUndefined();
  });

  test('any bytes decode or give CORRUPT_BATCH', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          decodeProperties(Buffer.from(bytes));
        } catch (error) {
          expect((error as LedgerError).code).toBe('CORRUPT_BATCH');
        }
      }),
    );
    expect(() => decodeProperties(encodeProperties([['a', 'bcd']]).subarray(0, 6))).toThrow('CORRUPT_BATCH');
  });

  test('the longest name and value', () => {
    const list: [string, string][] = [['n'.repeat(255), 'v'.repeat(65_535)]];
    expect([...decodeProperties(encodeProperties(list))]).toEqual(list);
    expect(() => encodeProperties([['n'.repeat(256), '']])).toThrow('MESSAGE_TOO_LARGE');
    expect(() => encodeProperties([['n', 'v'.repeat(65_536)]])).toThrow('MESSAGE_TOO_LARGE');
  });
});

describe('F15 what users may set', () => {
  test('reserved names are refused, all of the typed fields among them', () => {
    for (const name of [...Object.values(Property), 'WAIT', '__RMQ.TRANSIENT.x', '__CRC32#', 'POP_CK']) {
      expect(isReservedProperty(name), name).toBe(true);
      expect(() => checkUserProperties([[name, 'x']]), name).toThrow('BAD_NAME');
    }
    expect(() =>
      checkUserProperties([
        ['origin', 'ORD'],
        ['tags', 'lower case is free'],
        ['leer', ''],
      ]),
    ).not.toThrow();
  });

  test.each([
    [[['', 'x']], 'BAD_NAME'],
    [[['a\u0001b', 'x']], 'BAD_NAME'],
    [[['a', 'x\u0002']], 'BAD_REQUEST'],
    [[['é'.repeat(128), 'x']], 'MESSAGE_TOO_LARGE'],
    [[['a', 'é'.repeat(32_768)]], 'MESSAGE_TOO_LARGE'],
  ] as [[string, string][], string][])('%j', (list, code) => {
    expect(() => checkUserProperties(list)).toThrow(code);
  });

  test('tags and keys', () => {
    for (const tag of ['', ' a', 'a ', 'a||b', 'a|b', 'a\u0001']) expect(() => checkTag(tag), tag).toThrow('BAD_NAME');
    for (const key of ['', 'a b', 'a\tb', 'a\u0002']) expect(() => checkKey(key), key).toThrow('BAD_NAME');
    checkTag('Tag A');
    checkKey('order-1');
  });
});
