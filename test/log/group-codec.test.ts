import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { forEachEntry, newEntryView, readGroupHeader, verifyGroup } from '../../src/log/group-codec.ts';
import { BLOCK_BYTES } from '../../src/log/layout.ts';
import { append, bodyOf, newDisk, openLog } from './support.ts';

async function goldenGroup(): Promise<Uint8Array> {
  const { log } = await openLog(newDisk());
  append(log, 1, 100, 3, 1_700_000_000_000);
  append(log, 2, 33, 3, 1_700_000_000_000);
  const closed = log.closeGroup();
  if (closed === null) throw new Error('nothing was open');
  return closed.bytes;
}

describe('group codec', () => {
  test('version 1 of group and entry is pinned by its golden file', async () => {
    const golden = readFileSync(new URL('golden/group-v1.bin', import.meta.url));
    expect(Buffer.compare(await goldenGroup(), golden)).toBe(0);
    const result = verifyGroup(new Uint8Array(golden), { position: BLOCK_BYTES, index: 1, previousChecksum: 0 });
    expect(result.ok && [result.header.firstIndex, result.header.lastIndex, result.header.term, result.header.logTimeMs]).toEqual([
      1, 2, 3, 1_700_000_000_000,
    ]);
    const seen: unknown[] = [];
    forEachEntry(new Uint8Array(golden), newEntryView(), (entry) => {
      seen.push([entry.index, entry.term, entry.type, entry.topicId, entry.queueId, entry.position, entry.body.slice()]);
    });
    expect(seen).toEqual([
      [1, 3, 3, 5, 6, BLOCK_BYTES + 64, bodyOf(1, 100).body],
      [2, 3, 3, 5, 6, BLOCK_BYTES + 64 + 164, bodyOf(2, 33).body],
    ]);
  });

  test('every flipped bit of a group is seen', async () => {
    const bytes = (await goldenGroup()).slice();
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      if (verifyGroup(bytes).ok) throw new Error(`bit ${bit} was not seen`);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
    }
    expect(verifyGroup(bytes).ok).toBe(true);
  });

  test('a group elsewhere, of another index or chain is named as such', async () => {
    const bytes = await goldenGroup();
    const right = { position: BLOCK_BYTES, index: 1, previousChecksum: 0 };
    const reason = (expected: typeof right & { logTimeMs?: number }): unknown => {
      const result = verifyGroup(bytes, expected);
      return result.ok ? null : result.reason;
    };
    expect(reason({ ...right, position: 0 })).toBe('position');
    expect(reason({ ...right, index: 2 })).toBe('index');
    expect(reason({ ...right, previousChecksum: 1 })).toBe('chain');
    expect(reason({ ...right, logTimeMs: 1_700_000_000_001 })).toBe('logTime');
    expect(reason(right)).toBe(null);
    expect(verifyGroup(bytes.subarray(0, 100))).toMatchObject({ ok: false, reason: 'short' });
    expect(readGroupHeader(new Uint8Array(10))).toBe('short');
  });
});
