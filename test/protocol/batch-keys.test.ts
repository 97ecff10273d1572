import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32 } from '../../src/base/crc.ts';
import { batchKeyHashes, MAX_INDEXED_KEYS, messagesWithKey } from '../../src/protocol/batch-keys.ts';
import { unitAt } from '../../src/protocol/record-batch.ts';
import { makeBatch } from '../support/fake-broker.ts';

const hashesOf = (batch: Uint8Array): number[] => {
  const hashes = [1];
  batchKeyHashes(batch, 0, hashes);
  return hashes;
};
const crc = (key: string): number => crc32(Buffer.from(key));

describe('F30 keys of a batch', () => {
  test('F30 every key of every message is indexed, and the messages with a key are found by its text', () => {
    const key = fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' }).filter((text) => !/\s/.test(text));
    fc.assert(
      fc.property(fc.array(fc.array(key, { maxLength: MAX_INDEXED_KEYS }), { minLength: 1, maxLength: 8 }), key, (keys, other) => {
        const batch = makeBatch({ keys });
        expect(new Set(hashesOf(batch))).toEqual(new Set(keys.flat().map(crc)));
        for (const wanted of [...keys.flat(), other]) {
          const having = keys.flatMap((each, i) => (each.includes(wanted) ? [i] : [])).reverse();
          expect(messagesWithKey(batch, wanted, 0xffff)).toEqual(having);
          expect(messagesWithKey(batch, wanted, 2)).toEqual(having.filter((i) => i < 2));
        }
      }),
      { numRuns: 100 },
    );
  });

  test('F30 a batch of messages with one key costs one item, a message with very many keys eight', () => {
    expect(hashesOf(makeBatch({ keys: Array.from({ length: 100 }, () => ['order']) }))).toEqual([crc('order')]);
    const many = Array.from({ length: 50 }, (_, i) => `k${i}`);
    expect(hashesOf(makeBatch({ keys: [many] }))).toEqual(many.slice(0, MAX_INDEXED_KEYS).map(crc));
  });

  test('F30 properties that do not parse have no keys, and never throw where entries are applied', () => {
    const batch = makeBatch({ keys: [['a', 'b']] });
    const propertiesAt = unitAt(0, 1);
    for (let at = propertiesAt; at < batch.length; at++) {
      for (const value of [0, 1, 0x7f, 0xff]) {
        const broken = batch.slice();
        broken[at] = value;
        expect(hashesOf(broken)[0]).toBe(crc('a'));
        messagesWithKey(broken, 'b', 0xffff);
      }
    }
  });
});
