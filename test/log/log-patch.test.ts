import { describe, expect, test } from 'vitest';
import { patchLog } from '../../src/log/log-patch.ts';
import type { LogCursor } from '../../src/log/types.ts';

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
});
