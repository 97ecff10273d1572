import { describe, expect, test } from 'vitest';
import { writeU32 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import { DiskError } from '../../src/io/disk.ts';
import { writeEntry, writeGroupHeader } from '../../src/log/group-codec.ts';
import { BLOCK_BYTES, ENTRY_HEADER_BYTES, GROUP_HEADER_BYTES } from '../../src/log/layout.ts';
import { patchLog } from '../../src/log/log-patch.ts';
import type { LogCursor } from '../../src/log/types.ts';

/** Of the first group in a segment. */
const FIRST = BLOCK_BYTES;

/** Groups of one entry and one block each, from index 1 on. */
function chain(count: number): Uint8Array[] {
  let previousChecksum = 0;
  return Array.from({ length: count }, (_, at) => {
    const group = new Uint8Array(BLOCK_BYTES);
    const [index, position] = [at + 1, FIRST + at * BLOCK_BYTES];
    const body = Uint8Array.of(0, 0, 0, 0, index);
    const bodyChecksum = crc32(body.subarray(4));
    writeU32(body, 0, bodyChecksum);
    const common = { term: 1, position, logTimeMs: 7 };
    const entry = { ...common, position: position + GROUP_HEADER_BYTES, index, type: 3, topicId: 1, queueId: 0, bodyChecksum, body };
    const before = previousChecksum;
    previousChecksum = writeEntry(group, GROUP_HEADER_BYTES, entry, before);
    const dataBytes = GROUP_HEADER_BYTES + ENTRY_HEADER_BYTES + body.length;
    const meta = { ...common, firstIndex: index, lastIndex: index, sizeBytes: BLOCK_BYTES, entryCount: 1, dataBytes };
    writeGroupHeader(group, 0, { ...meta, previousChecksum: before });
    return group;
  });
}

describe('log patch', () => {
  test('FAULTS 5 what is cut away while a peer is asked is not written again', async () => {
    const from: LogCursor = { index: 5, endPosition: 5 * 4096, previousChecksum: 0, term: 1, logTimeMs: 0 };
    const cursor = (index: number): LogCursor => ({ ...from, index, endPosition: index * 4096 });
    let start = cursor(0);
    const written: number[] = [];
    const result = await patchLog({
      store: {
        startCursor: () => start,
        rewrite: (_bytes, position) => {
          written.push(position);
          return Promise.resolve();
        },
        read: () => Promise.resolve(0),
      },
      segmentBytes: 1024 * 1024,
      from,
      fetch: () => {
        // A snapshot takes the log's place meanwhile.
        start = cursor(9);
        return Promise.resolve({ bytes: new Uint8Array(4096), committedIndex: 20 });
      },
      lastIndex: 20,
      buffer: new Uint8Array(64 * 1024),
    });
    expect(result).toEqual({ ok: false, reason: 'missing', at: from });
    expect(written).toEqual([]);
  });

  test('FAULTS 5 what lies behind a sector that cannot be read proves a peer’s copy of it, though the peer knows nothing to be committed', async () => {
    const groups = chain(6);
    const log = Buffer.concat(groups);
    const unreadable = 2 * BLOCK_BYTES;
    const own = Buffer.from(log);
    own.fill(0, unreadable, unreadable + BLOCK_BYTES);
    const written: [number, number][] = [];
    const start: LogCursor = { index: 0, endPosition: FIRST, previousChecksum: 0, term: 1, logTimeMs: 0 };
    const result = await patchLog({
      store: {
        startCursor: () => start,
        rewrite: (bytes, position) => {
          written.push([position, bytes.length]);
          own.set(bytes, position - FIRST);
          return Promise.resolve();
        },
        read: (into, position) => {
          const at = position - FIRST;
          const spoiled = written.length === 0 && at < unreadable + BLOCK_BYTES && at + into.length > unreadable;
          if (spoiled) return Promise.reject(new DiskError('EIO', 'read', 'x'));
          into.set(own.subarray(at, at + into.length));
          return Promise.resolve(Math.max(0, Math.min(into.length, own.length - at)));
        },
      },
      segmentBytes: 1024 * 1024,
      from: start,
      fetch: (cursor) => Promise.resolve(cursor.index === 0 ? { bytes: log, committedIndex: 0 } : null),
      lastIndex: 7,
      buffer: new Uint8Array(1024 * 1024),
    });
    expect(result).toMatchObject({ ok: true, end: { index: 6 }, repairedBytes: BLOCK_BYTES });
    expect(written).toEqual([[FIRST + unreadable, BLOCK_BYTES]]);
    expect(Buffer.compare(own, log)).toBe(0);
  });
});
