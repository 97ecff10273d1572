import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { crc32 } from '../../src/base/crc.ts';
import { UnitBatch } from '../../src/log/consume-queue-types.ts';
import { ConsumeQueues } from '../../src/log/consume-queues.ts';
import { IndexFiles } from '../../src/log/index-files.ts';
import { createMeta, loadMeta, type MetaIdentity, updateMeta } from '../../src/log/meta.ts';
import { checkSegmentHeader, encodeSegmentHeader } from '../../src/log/segment.ts';
import { decodeSnapshotHeader, encodeSnapshotHeader, SNAPSHOT_HEADER_BYTES } from '../../src/log/snapshot-format.ts';
import { tempDisk } from '../support/temp-disk.ts';
import { golden } from './golden.ts';

const SEGMENT_BYTES = 16 * 1024 * 1024;
const TIME_MS = 1_800_000_000_000;
/** The zero rest of a block is not pinned. */
const HEADER_BYTES = 64;

const only = (bytes: Uint8Array): ReadonlyMap<string, Uint8Array> => new Map([['bytes', bytes]]);

describe('golden files', () => {
  test('F38 the header of a segment is written and read as ever', () => {
    const block = new Uint8Array(4096);
    encodeSegmentHeader(block, 3 * SEGMENT_BYTES, SEGMENT_BYTES, crc32(new TextEncoder().encode('ledgermq')));
    const read = new Uint8Array(4096);
    read.set(golden('segment-header-1', only(block.slice(0, HEADER_BYTES))).get('bytes') as Uint8Array);
    checkSegmentHeader(read, 'x', 3 * SEGMENT_BYTES, SEGMENT_BYTES, crc32(new TextEncoder().encode('ledgermq')));
  });

  test('F38 the header of a saved state is written and read as ever', () => {
    const place = { index: 77, term: 3, position: 2 ** 40, logTimeMs: TIME_MS, previousChecksum: 0xdead_beef, stateDigest: 2 ** 50 + 1 };
    const meta = { ...place, sizeBytes: 12_345, stateChecksum: 0x0102_0304 };
    const pinned = golden('snapshot-header-1', only(encodeSnapshotHeader(meta))).get('bytes') as Uint8Array;
    expect(pinned).toHaveLength(SNAPSHOT_HEADER_BYTES);
    expect(decodeSnapshotHeader(pinned, 'x')).toEqual(meta);
  });

  test('F38 meta.json is written and read as ever', async () => {
    const { disk, directory } = tempDisk();
    const identity: MetaIdentity = { clusterId: 'x', brokerName: 'a', replicaId: 2 };
    const file = (): Uint8Array => new Uint8Array(readFileSync(join(directory, 'meta.json')));
    const meta = await createMeta(disk, directory, identity, 'two');
    const fresh = file();
    await updateMeta(disk, directory, meta, { 1: 'one', 2: 'two', 3: 'three' });
    golden(
      'meta-1',
      new Map([
        ['fresh', fresh],
        ['formed', file()],
      ]),
    );
    expect(await loadMeta(disk, directory, identity)).toEqual({ ...meta, formedWith: { 1: 'one', 2: 'two', 3: 'three' } });
  });

  test('F38 a ConsumeQueue file is written and read as ever', async () => {
    const { disk, directory } = tempDisk();
    const open = (): Promise<ConsumeQueues> =>
      ConsumeQueues.open({ disk, directory, unitsPerFile: 64, hotUnits: 4, maxOpenFiles: 3, onDamage: () => expect.fail('damaged') });
    const queues = await open();
    for (let i = 0; i < 6; i++) queues.queue('orders', 7, 3).append(i * 5, 4096 + i * 1000, TIME_MS + i, 900, 5, 0x8000_0001 + i);
    await queues.flush(2 ** 40);
    golden('consume-queue-1', only(new Uint8Array(readFileSync(join(directory, 'orders', '3', '00000000000000000000')))));
    const units = new UnitBatch(10);
    expect(await (await open()).queue('orders', 7, 3).readUnits(0, 10, units)).toBe(6);
    expect([units.baseOffset[5], units.position[5], units.logTimeMs[5], units.sizeBytes[5], units.count[5], units.tagBloom[5]]).toEqual([
      25,
      9096,
      TIME_MS + 5,
      900,
      5,
      0x8000_0006,
    ]);
  });

  test('F38 an IndexFile is written and read as ever', async () => {
    const { disk, directory } = tempDisk();
    const open = (): Promise<IndexFiles> =>
      IndexFiles.open({ disk, directory, sizes: { slots: 4, capacity: 6 }, maxOpenFiles: 2, onDamage: () => expect.fail('damaged') });
    const index = await open();
    for (let i = 0; i < 6; i++) index.put(0x9000_0000 + (i % 3), 4096 + i * 1000, TIME_MS + i);
    await index.flush(2 ** 40);
    golden('index-file-1', only(new Uint8Array(readFileSync(join(directory, readdirSync(directory)[0] as string)))));
    expect(await (await open()).find(0x9000_0001, 0, Number.MAX_SAFE_INTEGER, 10)).toEqual([8096, 5096]);
  });
});
