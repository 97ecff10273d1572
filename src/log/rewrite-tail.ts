import type { Disk } from '../io/disk.ts';
import { readWhatCan } from './group-walk.ts';
import { BLOCK_BYTES } from './layout.ts';
import { baseOf } from './segment.ts';
import type { SegmentStore } from './segment-store.ts';

const REWRITE_BYTES = 1024 * 1024;

/**
 * Writes a range again with the same bytes and syncs it: only then is it known to be on the disk and not in a cache (I3). A block that
 * cannot be read is in no cache, and is left to who reads it next and can mend it: before the checkpoint recovery looks at headers only.
 * @returns bytes written
 */
export async function rewriteTail(store: SegmentStore, disk: Disk, segmentBytes: number, from: number, end: number): Promise<number> {
  if (from >= end) return 0;
  const buffer = disk.allocateAligned(REWRITE_BYTES);
  let total = 0;
  for (let position = from - (from % BLOCK_BYTES); position < end; ) {
    const base = baseOf(position, segmentBytes);
    const sizeBytes = Math.min(buffer.length, end - position, base + store.filledBytes(base) - position);
    if (position === base || sizeBytes <= 0) {
      // The segment's header, or the unused rest of a segment.
      position = position === base ? position + BLOCK_BYTES : base + segmentBytes;
      continue;
    }
    const got = await readWhatCan(store, buffer.subarray(0, sizeBytes), position);
    if (got > 0) await store.write(buffer.subarray(0, got), position);
    total += got;
    position += got > 0 ? got : BLOCK_BYTES;
  }
  await store.syncDirty();
  return total;
}
