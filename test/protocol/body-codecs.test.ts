import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeU32 } from '../../src/base/bytes.ts';
import { compressor, decompressBodies } from '../../src/protocol/body-codecs.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import {
  BATCH_HEADER_BYTES,
  Batch,
  batchCodec,
  Codec,
  checkBatch,
  DEFAULT_BATCH_LIMITS,
  INDEX_UNIT_BYTES,
  sealBatch,
} from '../../src/protocol/record-batch.ts';
import { type BatchMessage, encodeBatch, keyHash } from '../../src/protocol/record-batch-encoder.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { SqlFilter } from '../../src/protocol/sql-filter/sql-filter.ts';
import { tagHash } from '../../src/protocol/tag-hash.ts';

const HEADER = { producerId: 7, producerEpoch: 1, firstSequence: 2, idHigh: new Uint8Array(8).fill(9), idLow: 3 };
const compress = compressor(1);

function packed(messages: readonly BatchMessage[], headroomBytes = 0): Uint8Array {
  return encodeBatch(messages, HEADER, headroomBytes, 0, messages.length, undefined, compress).bytes;
}

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(LedgerError);
    return (error as LedgerError).code;
  }
  return 'accepted';
}

/** A batch of one message whose stored bodies are these bytes. */
function forged(stored: Uint8Array, sizeBytes: number): Uint8Array {
  const { bytes } = encodeBatch([{ body: stored, bornTimeMs: 1 }], HEADER);
  bytes[Batch.codec] = Codec.zstd;
  writeU32(bytes, Batch.bodiesBytes, sizeBytes);
  writeU32(bytes, BATCH_HEADER_BYTES, sizeBytes);
  sealBatch(bytes);
  return bytes;
}

describe('compressed bodies', () => {
  test('F46 what goes in comes out, with tags, keys and properties in the clear', () => {
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.integer({ min: 0, max: 5_000 }).map((length) => new Uint8Array(length).fill(length)),
    );
    fc.assert(
      fc.property(fc.array(body, { minLength: 1, maxLength: 20 }), fc.nat({ max: 100 }), (bodies, headroomBytes) => {
        const messages = bodies.map((each, i) => ({
          body: each,
          bornTimeMs: i,
          tag: `tag-${i}`,
          keys: [`key-${i}`],
          properties: [['n', String(i)]] as const,
        }));
        const bytes = packed(messages, headroomBytes);
        expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBeNull();
        const reader = new BatchReader(bytes, 0);
        const plain = encodeBatch(messages, HEADER).bytes;
        expect(bytes.length).toBeLessThanOrEqual(plain.length);
        for (const [i, each] of bodies.entries()) {
          expect(Buffer.compare(reader.body(i), each)).toBe(0);
          expect([reader.tagHash(i), reader.keyHash(i), reader.tag(i)]).toEqual([tagHash(`tag-${i}`), keyHash(`key-${i}`), `tag-${i}`]);
          expect(reader.passes(i, new SqlFilter(`n = ${i}`))).toBe(true);
        }
      }),
    );
  });

  test('F46 bodies that do not get smaller by an eighth stay as they are', () => {
    const noise = new Uint8Array(10_000).map((_, i) => Math.imul(i * i + 7, 0x9e3779b1) >>> 13);
    expect(batchCodec(packed([{ body: noise, bornTimeMs: 1 }]), 0)).toBe(Codec.none);
    expect(batchCodec(packed([{ body: new Uint8Array(0), bornTimeMs: 1 }]), 0)).toBe(Codec.none);
    const text = packed([{ body: Buffer.from('abc'.repeat(1_000)), bornTimeMs: 1 }]);
    expect(batchCodec(text, 0)).toBe(Codec.zstd);
    expect(text.length).toBeLessThan(200);
    expect(new BatchReader(text, 0).memoryBytes).toBe(text.length + 3_000);
  });

  test('F46 F15 sizes count uncompressed: a small batch of a message above the limit is refused', () => {
    const body = new Uint8Array(5 * 1024 * 1024);
    const bytes = packed([{ body, bornTimeMs: 1 }]);
    expect(bytes.length).toBeLessThan(10_000);
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBe('MESSAGE_TOO_LARGE');
    const many = packed(Array.from({ length: 5 }, () => ({ body: new Uint8Array(1024 * 1024), bornTimeMs: 1 })));
    expect(checkBatch(many, DEFAULT_BATCH_LIMITS)).toBe('MESSAGE_TOO_LARGE');
    const largest = packed([{ body: new Uint8Array(DEFAULT_BATCH_LIMITS.maxMessageBytes), bornTimeMs: 1 }]);
    expect(new BatchReader(largest, 0).body(0)).toHaveLength(DEFAULT_BATCH_LIMITS.maxMessageBytes);
  });

  test('F46 bytes that open to more, or less, than they say are refused, and no more than that is opened', () => {
    const bomb = zstdCompressSync(new Uint8Array(64 * 1024 * 1024));
    const before = process.memoryUsage().arrayBuffers;
    expect(refusal(() => new BatchReader(forged(bomb, 1_000), 0))).toBe('CORRUPT_BATCH');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
    const honest = zstdCompressSync(new Uint8Array(1_000));
    expect(refusal(() => new BatchReader(forged(honest, 1_000), 0))).toBe('accepted');
    for (const sizeBytes of [0, 999, 1_001]) expect(refusal(() => new BatchReader(forged(honest, sizeBytes), 0))).toBe('CORRUPT_BATCH');
    for (const stored of [Buffer.from('no zstd at all'), honest.subarray(0, honest.length - 3), new Uint8Array(0)]) {
      expect(refusal(() => new BatchReader(forged(stored, 1_000), 0))).toBe('CORRUPT_BATCH');
    }
  });

  test('F46 a window larger than any batch is not allocated', () => {
    // Magic; no content size; window 2^(10 + exponent); one raw block of 1,000 bytes, the last.
    const framed = (exponent: number): Uint8Array =>
      Buffer.concat([Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 0x41, 0x1f, 0), new Uint8Array(1_000)]);
    expect(decompressBodies(Codec.zstd, framed(13), 1_000)).toHaveLength(1_000);
    expect(refusal(() => decompressBodies(Codec.zstd, framed(14), 1_000))).toBe('CORRUPT_BATCH');
  });

  test('F46 a codec of another release is named, at a reader and at one that knows none', () => {
    const bytes = packed([{ body: new Uint8Array(1_000), bornTimeMs: 1 }]);
    expect(refusal(() => new BatchReader(bytes, 0, { ...DEFAULT_BATCH_LIMITS, maxCodec: Codec.none }))).toBe('UNSUPPORTED_VERSION');
    expect(refusal(() => decompressBodies(Codec.zlib, bytes, 1_000))).toBe('UNSUPPORTED_VERSION');
  });

  test('F46 golden file record-batch-v1-zstd', () => {
    // What this zstd makes of the bodies is its own affair; that it opens what an earlier one made is ours.
    const hex = readFileSync(join(import.meta.dirname, 'golden', 'record-batch-v1-zstd.hex'), 'utf8').replaceAll('\n', '');
    const bytes = Buffer.from(hex, 'hex');
    const reader = new BatchReader(bytes, 500);
    expect([bytes[Batch.codec], reader.count, bytes.readUInt32LE(Batch.bodiesBytes)]).toEqual([1, 3, 12_000]);
    expect([0, 1, 2].map((i) => [reader.tag(i), reader.keys(i), reader.properties(i).get('n')])).toEqual(
      [0, 1, 2].map((i) => [`tag-${i}`, [`key-${i}`], String(i)]),
    );
    expect([0, 1, 2].map((i) => reader.body(i).toString())).toEqual([0, 1, 2].map((i) => `ledger ${i} `.padEnd(40, '.').repeat(100)));
    expect(bytes.length).toBeLessThan(BATCH_HEADER_BYTES + 3 * INDEX_UNIT_BYTES + 300);
  });
});
