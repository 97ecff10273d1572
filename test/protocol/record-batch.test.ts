import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { writeU32 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import { MAX_ENTRY_BODY_BYTES } from '../../src/log/layout.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { parseMessageId } from '../../src/protocol/message-id.ts';
import { encodeProperties } from '../../src/protocol/properties.ts';
import {
  Batch,
  batchCount,
  batchFirstSequence,
  batchHasSequence,
  batchProducerEpoch,
  batchProducerId,
  batchSizeBytes,
  Codec,
  checkBatch,
  clearSequence,
  DEFAULT_BATCH_LIMITS,
  sealBatch,
  setSequence,
  tagBloom,
  Unit,
  unitAt,
} from '../../src/protocol/record-batch.ts';
import {
  type BatchHeader,
  type BatchMessage,
  batchedSizeBound,
  checkMessage,
  encodeBatch,
  keyHash,
} from '../../src/protocol/record-batch-encoder.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { tagBloomMatches, tagHash } from '../../src/protocol/tag-hash.ts';

const GOLDEN = join(import.meta.dirname, 'golden');

const header: BatchHeader = {
  producerId: 0x1b_1122_3344_55,
  producerEpoch: 7,
  firstSequence: 41,
  idHigh: Uint8Array.of(0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10),
  idLow: 1000,
};
const oneWay: BatchHeader = { ...header, producerId: 0, producerEpoch: 0, firstSequence: 0 };
const message = (body: string, more: Partial<BatchMessage> = {}): BatchMessage => ({
  body: Buffer.from(body),
  bornTimeMs: 1_700_000_000_000,
  ...more,
});

const GOLDEN_BATCHES: Record<string, { messages: BatchMessage[]; header: BatchHeader }> = {
  'record-batch-v1-plain': { messages: [message('one')], header },
  'record-batch-v1-one-way': { messages: [message(''), message('two', { bornTimeMs: 1_700_000_000_250 })], header: oneWay },
  'record-batch-v1-properties': {
    messages: [
      message('a', { tag: 'TagA', keys: ['order-1'], shardingKey: 'ORD', properties: [['origin', 'ORD']] }),
      message('bb', { keys: ['k1', 'ключ'], bornTimeMs: 1_700_000_000_003 }),
      message('ccc', { tag: '標籤', properties: encodeProperties([['x', '']]), bornTimeMs: 1_700_000_000_001 }),
    ],
    header,
  },
};

const textArbitrary = fc.string({ unit: 'binary', minLength: 1, maxLength: 60 });
const messageArbitrary: fc.Arbitrary<BatchMessage> = fc.record(
  {
    body: fc.uint8Array({ maxLength: 200 }),
    bornTimeMs: fc.integer({ min: 1_700_000_000_000, max: 1_700_000_100_000 }),
    tag: textArbitrary,
    keys: fc.array(fc.stringMatching(/^[a-zé😀]{1,20}$/u), { maxLength: 3 }),
    shardingKey: textArbitrary,
    properties: fc.array(fc.tuple(textArbitrary, fc.string({ unit: 'binary', maxLength: 100 })), { maxLength: 4 }),
  },
  { requiredKeys: ['body', 'bornTimeMs'] },
);

describe('record batch v1: bytes', () => {
  test.each(Object.keys(GOLDEN_BATCHES))('golden file %s', (name) => {
    const { messages, header: batchHeader } = GOLDEN_BATCHES[name] as { messages: BatchMessage[]; header: BatchHeader };
    const { bytes } = encodeBatch(messages, batchHeader);
    const path = join(GOLDEN, `${name}.hex`);
    // A new format version gets new files; these are written once, by `GOLDEN=write`, and never again.
    if (process.env['GOLDEN'] === 'write') {
      mkdirSync(GOLDEN, { recursive: true });
      writeFileSync(path, `${bytes.toString('hex').replace(/(.{64})/g, '$1\n')}\n`, { flag: 'wx' });
    }
    expect(bytes.toString('hex')).toBe(readFileSync(path, 'utf8').replaceAll('\n', ''));
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBeNull();
  });

  test('the fields lie where docs/architecture.md says', () => {
    const { bytes } = encodeBatch([message('abc', { tag: 'TagA', keys: ['k'] })], header);
    expect(bytes.readUInt32LE(0)).toBe(crc32(bytes.subarray(4)));
    expect(bytes.readUInt32LE(4)).toBe(bytes.length);
    expect([bytes[8], bytes[9], bytes.readUInt16LE(10), bytes.readUInt32LE(12)]).toEqual([1, 0, 0, 1]);
    expect(bytes.readBigUInt64LE(16)).toBe(0x1b_1122_3344_55n);
    expect([bytes.readUInt32LE(24), bytes.readUInt32LE(28), bytes.readBigUInt64LE(32)]).toEqual([7, 0, 41n]);
    expect(bytes.subarray(40, 48).toString('hex')).toBe('fedcba9876543210');
    expect([bytes.readBigUInt64LE(48), bytes.readBigUInt64LE(56)]).toEqual([1000n, 1_700_000_000_000n]);
    expect([bytes.readUInt32LE(64), bytes.readUInt32LE(68), bytes.readUInt32LE(72), bytes.readUInt32LE(76)]).toEqual([19, 3, 3, 0]);
    const unit = [0, 4, 8, 12, 16, 20, 24, 28].map((at) => bytes.readUInt32LE(80 + at));
    expect(unit).toEqual([3, 19, tagHash('TagA'), crc32(Buffer.from('k')), 0, 0, 0, 1]);
    expect(bytes.subarray(112).toString('latin1')).toBe('\x04\x04\x00TAGSTagA\x04\x01\x00KEYSkabc');
  });

  test('headroom lies in front of the batch in the same memory', () => {
    const encoded = encodeBatch([message('abc')], header, 100);
    expect(encoded.buffer.length).toBe(100 + encoded.bytes.length);
    expect(encoded.bytes.buffer).toBe(encoded.buffer.buffer);
    expect(encoded.bytes).toEqual(encodeBatch([message('abc')], header).bytes);
  });

  test('a re-sequenced batch equals one encoded with that sequence', () => {
    const messages = [message('a', { tag: 't' }), message('b')];
    const { bytes } = encodeBatch(messages, header);
    setSequence(bytes, 99, 8, 0);
    sealBatch(bytes);
    expect(bytes).toEqual(encodeBatch(messages, { ...header, producerId: 99, producerEpoch: 8, firstSequence: 0 }).bytes);
    expect([batchProducerId(bytes, 0), batchProducerEpoch(bytes, 0), batchFirstSequence(bytes, 0), batchHasSequence(bytes, 0)]).toEqual([
      99,
      8,
      0,
      true,
    ]);
    clearSequence(bytes);
    sealBatch(bytes);
    expect(bytes).toEqual(encodeBatch(messages, oneWay).bytes);
    expect(batchHasSequence(bytes, 0)).toBe(false);
  });

  test('accessors read batches that lie back to back', () => {
    const one = encodeBatch([message('a')], header).bytes;
    const two = encodeBatch([message('b'), message('c')], { ...header, firstSequence: 42 }).bytes;
    const both = Buffer.concat([one, two]);
    const at = batchSizeBytes(both, 0);
    expect([batchCount(both, at), batchFirstSequence(both, at), batchSizeBytes(both, at)]).toEqual([2, 42, two.length]);
  });
});

describe('record batch v1: round trip', () => {
  test('what was encoded is read', () => {
    fc.assert(
      fc.property(fc.array(messageArbitrary, { minLength: 1, maxLength: 12 }), fc.nat(40), (messages, headroomBytes) => {
        const { bytes } = encodeBatch(messages, header, headroomBytes);
        expect(bytes.length).toBeLessThanOrEqual(80 + messages.reduce((sum, one) => sum + batchedSizeBound(one), 0));
        const reader = new BatchReader(bytes, 500);
        expect(reader.count).toBe(messages.length);
        const bornTimeMs = (messages[0] as BatchMessage).bornTimeMs;
        messages.forEach((sent, i) => {
          expect(reader.offset(i)).toBe(500 + i);
          expect(new Uint8Array(reader.body(i))).toEqual(sent.body);
          expect(reader.bornTimeMs(i)).toBe(Math.max(sent.bornTimeMs, bornTimeMs));
          expect(parseMessageId(reader.messageId(i))).toEqual({ high: header.idHigh, low: 1000 + i });
          const expected = new Map<string, string>();
          const add = (name: string, value: string): unknown =>
            expected.has(name) || expected.set(Buffer.from(name).toString(), Buffer.from(value).toString());
          if (sent.tag !== undefined) add('TAGS', sent.tag);
          if (sent.keys !== undefined && sent.keys.length > 0) add('KEYS', sent.keys.join(' '));
          if (sent.shardingKey !== undefined) add('__SHARDINGKEY', sent.shardingKey);
          for (const [name, value] of (sent.properties as [string, string][] | undefined) ?? []) add(name, value);
          expect(reader.properties(i)).toEqual(expected);
          expect(reader.tag(i)).toBe(expected.get('TAGS'));
          expect(reader.keys(i)).toEqual(sent.keys ?? []);
          expect(reader.tagHash(i)).toBe(sent.tag === undefined ? 0 : tagHash(sent.tag));
          expect(reader.keyHash(i)).toBe(sent.keys?.[0] === undefined ? 0 : keyHash(sent.keys[0]));
          expect(reader.hasProperties(i)).toBe(expected.size > 0);
          expect(reader.property(i, 'absent')).toBeUndefined();
        });
      }),
      { numRuns: 300 },
    );
  });

  test('a range of a longer list is encoded like a list of its own', () => {
    const messages = ['a', 'b', 'c', 'd'].map((body) => message(body, { tag: body }));
    expect(encodeBatch(messages, header, 0, 1, 3).bytes).toEqual(encodeBatch(messages.slice(1, 3), header).bytes);
  });

  test('65535 messages are one batch, 65536 and none are not', () => {
    const messages = Array.from({ length: 65_535 }, () => message(''));
    const { bytes } = encodeBatch(messages, header);
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBeNull();
    expect(() => encodeBatch([...messages, message('')], header)).toThrow('65536');
    expect(() => encodeBatch([], header)).toThrow('not 0');
  });

  test('a wall clock that went back does not give a negative born delta', () => {
    const { bytes } = encodeBatch([message('a'), message('b', { bornTimeMs: 5 })], header);
    expect(new BatchReader(bytes, 0).bornTimeMs(1)).toBe(1_700_000_000_000);
  });
});

describe('record batch v1: damage', () => {
  test('every flipped byte is found', () => {
    const { bytes } = encodeBatch([message('abc', { tag: 't', keys: ['k'] }), message('defg')], header);
    for (let at = 0; at < bytes.length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) {
        bytes[at] = (bytes[at] as number) ^ mask;
        expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS), `byte ${at} ^ ${mask}`).toBe('CORRUPT_BATCH');
        bytes[at] = (bytes[at] as number) ^ mask;
      }
    }
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBeNull();
  });

  test('every truncation and extension is found', () => {
    const { bytes } = encodeBatch([message('abc')], header);
    for (let size = 0; size < bytes.length; size++) expect(checkBatch(bytes.subarray(0, size), DEFAULT_BATCH_LIMITS)).toBe('CORRUPT_BATCH');
    expect(checkBatch(Buffer.concat([bytes, Buffer.alloc(1)]), DEFAULT_BATCH_LIMITS)).toBe('CORRUPT_BATCH');
  });

  test('no header or index field under a valid checksum leads out of bounds', () => {
    fc.assert(
      fc.property(fc.array(messageArbitrary, { minLength: 1, maxLength: 4 }), fc.nat(), fc.nat(0xffff_ffff), (messages, where, value) => {
        const { bytes } = encodeBatch(messages, header);
        const words = unitAt(0, messages.length) / 4;
        writeU32(bytes, 4 * (where % words), value);
        sealBatch(bytes);
        if (checkBatch(bytes, DEFAULT_BATCH_LIMITS) !== null) return;
        const reader = new BatchReader(bytes, 0);
        let total = 0;
        for (let i = 0; i < reader.count; i++) {
          total += reader.body(i).length;
          try {
            reader.properties(i);
          } catch (error) {
            expect((error as LedgerError).code).toBe('CORRUPT_BATCH');
          }
        }
        expect(total).toBe(messages.reduce((sum, one) => sum + one.body.length, 0));
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ['size', Batch.sizeBytes, 1],
    ['count 0', Batch.count, 0],
    ['count 2', Batch.count, 2],
    ['count 2^32 − 1', Batch.count, 0xffff_ffff],
    ['properties region', Batch.propertiesBytes, 1],
    ['stored bodies', Batch.storedBodiesBytes, 4],
    ['bodies', Batch.bodiesBytes, 4],
    ['delay without its flag', Batch.delayLow, 1],
    ['delay without its flag, high half', Batch.delayHigh, 1],
    ['first sequence above 2^53', Batch.firstSequence + 4, 0x20_0000],
    ['first sequence at 2^53 − 1', Batch.firstSequence + 4, 0x1f_ffff],
    ['id above 2^53', Batch.idLow + 4, 0x20_0000],
    ['born time above 2^53', Batch.bornTimeMs + 4, 0xffff_ffff],
    ['producer id above 2^53', Batch.producerId + 4, 0xffff_ffff],
    ['body size', unitAt(0, 0) + Unit.bodyBytes, 4],
    ['body offset', unitAt(0, 0) + Unit.bodyAt, 1],
    ['properties size', unitAt(0, 0) + Unit.propertiesBytes, 1],
    ['properties offset', unitAt(0, 0) + Unit.propertiesAt, 1],
  ])('a wrong %s is refused', (_name, at, value) => {
    const { bytes } = encodeBatch([message('abc')], { ...header, firstSequence: 0xffff_ffff });
    writeU32(bytes, at, value);
    sealBatch(bytes);
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toMatch(/CORRUPT_BATCH|MESSAGE_TOO_LARGE/);
  });

  test('format, codec and flags of a later version are refused as such', () => {
    for (const [at, value] of [
      [Batch.format, 2],
      [Batch.codec, Codec.lz4],
      [Batch.codec, Codec.zlib],
      [Batch.flags, 32],
      [unitAt(0, 0) + Unit.flags, 4],
    ] as const) {
      const { bytes } = encodeBatch([message('abc')], header);
      bytes[at] = value;
      sealBatch(bytes);
      expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBe('UNSUPPORTED_VERSION');
      expect(() => new BatchReader(bytes, 0)).toThrow(LedgerError);
    }
  });

  test('a sequence without producer, and a producer without sequence, are refused', () => {
    const { bytes } = encodeBatch([message('abc')], header);
    writeU32(bytes, Batch.producerId, 0);
    writeU32(bytes, Batch.producerId + 4, 0);
    sealBatch(bytes);
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBe('CORRUPT_BATCH');
    const second = encodeBatch([message('abc')], oneWay).bytes;
    writeU32(second, Batch.producerId, 1);
    sealBatch(second);
    expect(checkBatch(second, DEFAULT_BATCH_LIMITS)).toBe('CORRUPT_BATCH');
  });

  test('malformed properties harm their message alone', () => {
    const { bytes } = encodeBatch([message('a', { properties: Uint8Array.of(200, 0, 0) }), message('b', { tag: 't' })], header);
    const reader = new BatchReader(bytes, 0);
    expect(() => reader.properties(0)).toThrow('CORRUPT_BATCH');
    expect(() => reader.property(0, 'TAGS')).toThrow('CORRUPT_BATCH');
    expect(reader.tag(1)).toBe('t');
    expect(reader.body(0).toString()).toBe('a');
  });

  test('a compressed bodies region is restored once, as a whole', () => {
    const { bytes } = encodeBatch([message('abc'), message('de')], header);
    bytes[Batch.codec] = Codec.zstd;
    sealBatch(bytes);
    let calls = 0;
    const reader = new BatchReader(bytes, 0, DEFAULT_BATCH_LIMITS, (_codec, stored, sizeBytes) => {
      calls++;
      expect(sizeBytes).toBe(5);
      return Buffer.from(stored).map((byte) => byte - 32);
    });
    expect([reader.body(0).toString(), reader.body(1).toString(), calls]).toEqual(['ABC', 'DE', 1]);
    expect(() => new BatchReader(bytes, 0, DEFAULT_BATCH_LIMITS, () => new Uint8Array(4))).toThrow('CORRUPT_BATCH');
  });
});

describe('record batch v1: limits', () => {
  const limits = { maxMessageBytes: 10, maxPropertiesBytes: 20, maxBatchBytes: 400, maxCount: 3, maxCodec: 0, knownFlags: 1 };

  test('F15 message, properties, batch and count limits, at the client and at the broker', () => {
    const cases: [BatchMessage[], boolean][] = [
      [[message('x'.repeat(10))], true],
      [[message('x'.repeat(11))], false],
      [[message('', { tag: 't'.repeat(13) })], true],
      [[message('', { tag: 't'.repeat(14) })], false],
      [[message('', { tag: 'é'.repeat(6) })], true],
      [[message('', { tag: 'é'.repeat(7) })], false],
      [Array.from({ length: 3 }, () => message('')), true],
    ];
    for (const [messages, fits] of cases) {
      const { bytes } = encodeBatch(messages, header);
      expect(checkBatch(bytes, limits)).toBe(fits ? null : 'MESSAGE_TOO_LARGE');
      expect(messages.every((one) => checkMessage(one, limits) === null)).toBe(fits);
    }
    const four = encodeBatch(
      Array.from({ length: 4 }, () => message('')),
      header,
    ).bytes;
    expect(checkBatch(four, limits)).toBe('MESSAGE_TOO_LARGE');
    const long = encodeBatch([message('x'.repeat(300))], header).bytes;
    expect(checkBatch(long, { ...limits, maxMessageBytes: 1000 })).toBe('MESSAGE_TOO_LARGE');
  });

  test('F15 the defaults: 4 MiB bodies, 32,767 bytes of properties', () => {
    const body = new Uint8Array(4 * 1024 * 1024);
    // TAGS takes 7 bytes besides its value.
    const largest: BatchMessage = { body, bornTimeMs: 1, tag: 't'.repeat(32_760) };
    expect(checkMessage(largest, DEFAULT_BATCH_LIMITS)).toBeNull();
    const { bytes } = encodeBatch([largest], header);
    expect(checkBatch(bytes, DEFAULT_BATCH_LIMITS)).toBeNull();
    expect(bytes.length).toBeLessThanOrEqual(DEFAULT_BATCH_LIMITS.maxBatchBytes);
    expect(checkMessage({ ...largest, tag: 't'.repeat(32_761) }, DEFAULT_BATCH_LIMITS)).toBe('MESSAGE_TOO_LARGE');
    expect(checkMessage({ body: new Uint8Array(body.length + 1), bornTimeMs: 1 }, DEFAULT_BATCH_LIMITS)).toBe('MESSAGE_TOO_LARGE');
  });

  test('F15 a property beyond its size field is refused, not cut', () => {
    const sent = message('', { properties: [['n'.repeat(256), 'v']] });
    expect(checkMessage(sent, { ...DEFAULT_BATCH_LIMITS, maxPropertiesBytes: 100 })).toBe('MESSAGE_TOO_LARGE');
    expect(() => encodeBatch([sent], header)).toThrow('MESSAGE_TOO_LARGE');
  });

  test('the largest batch fits into an entry', () => {
    expect(DEFAULT_BATCH_LIMITS.maxBatchBytes).toBeLessThanOrEqual(MAX_ENTRY_BODY_BYTES);
  });
});

describe('tag bloom', () => {
  test('0 without tags; never misses a tag that is there', () => {
    expect(tagBloom(encodeBatch([message('a'), message('b', { keys: ['k'] })], header).bytes)).toBe(0);
    fc.assert(
      fc.property(fc.array(fc.option(fc.string({ minLength: 1 })), { minLength: 1, maxLength: 20 }), (tags) => {
        const { bytes } = encodeBatch(
          tags.map((tag) => message('', tag === null ? {} : { tag })),
          header,
        );
        const bloom = tagBloom(bytes);
        for (const tag of tags) if (tag !== null) expect(tagBloomMatches(bloom, [tagHash(tag)])).toBe(true);
        expect(tagBloomMatches(bloom, [])).toBe(true);
      }),
    );
  });

  test('tells most other tags from a single one', () => {
    const bloom = tagBloom(encodeBatch([message('', { tag: 'TagA' })], header).bytes);
    const passed = Array.from({ length: 1000 }, (_, i) => tagBloomMatches(bloom, [tagHash(`Tag${i}`)])).filter(Boolean).length;
    expect(passed).toBeLessThan(60);
  });

  test('reads the batch that starts at `at`', () => {
    const { buffer } = encodeBatch([message('', { tag: 'TagA' })], header, 17);
    expect(tagBloom(buffer, 17)).toBe(tagBloom(buffer.subarray(17)));
  });

  test('a wanted hash of 0 cannot be told from no tag', () => {
    expect(tagBloomMatches(0, [0])).toBe(true);
    expect(tagBloomMatches(0, [tagHash('TagA')])).toBe(false);
  });
});
