import { isUnreadable } from '../io/disk.ts';
import { verifyGroup } from './group-codec.ts';
import { BLOCK_BYTES } from './layout.ts';
import type { ByteSource, GroupFault, LogCursor, VerifiedRun } from './types.ts';

/** Where the group behind `endPosition` may lie: there, and at the head of the next segment. */
export function placesBehind(endPosition: number, segmentBytes: number): readonly number[] {
  const used = endPosition % segmentBytes;
  const head = (used === 0 ? endPosition : endPosition - used + segmentBytes) + BLOCK_BYTES;
  return used === 0 ? [head] : [endPosition, head];
}

/** Verifies groups at bytes[0] that continue `cursor`: as many as are whole, up to `lastIndex`. @returns the fault of the first one when none is */
export function verifyRun(bytes: Uint8Array, position: number, cursor: LogCursor, lastIndex: number): VerifiedRun | GroupFault {
  let end = cursor;
  let at = 0;
  while (end.index < lastIndex) {
    const { index, previousChecksum, logTimeMs, term } = end;
    const result = verifyGroup(bytes.subarray(at), { position: position + at, index: index + 1, previousChecksum, logTimeMs });
    const fault = !result.ok ? result.reason : result.header.term < term ? 'term' : null;
    if (fault !== null && at === 0) return fault;
    if (!result.ok || fault !== null) break;
    const { header, lastChecksum } = result;
    at += header.sizeBytes;
    end = {
      index: header.lastIndex,
      endPosition: position + at,
      previousChecksum: lastChecksum,
      term: header.term,
      logTimeMs: header.logTimeMs,
    };
  }
  return { position, bytes: bytes.subarray(0, at), end };
}

/**
 * Reads the groups behind `cursor` into `buffer` (the largest group fits) and verifies them. A sector that cannot be read is damage
 * like any other. @returns why the group that must follow is not there
 */
export async function readRun(
  source: ByteSource,
  segmentBytes: number,
  cursor: LogCursor,
  lastIndex: number,
  buffer: Uint8Array,
): Promise<VerifiedRun | GroupFault> {
  let fault: GroupFault = 'short';
  for (const [i, place] of placesBehind(cursor.endPosition, segmentBytes).entries()) {
    const got = await readWhatCan(source, buffer, place);
    const run = verifyRun(buffer.subarray(0, got), place, cursor, lastIndex);
    if (typeof run !== 'string') return run;
    // Nothing at the first place is nothing new when the group is at the second; what is wrong there says more.
    if (i === 0 || (fault === 'magic' && run !== 'magic' && run !== 'short')) fault = run;
  }
  return fault;
}

/** As much from `position` on as the disk gives: before a sector that it cannot read, then in whole blocks. */
export async function readWhatCan(source: ByteSource, into: Uint8Array, position: number): Promise<number> {
  for (let sizeBytes = into.length; sizeBytes >= BLOCK_BYTES; sizeBytes = BLOCK_BYTES * Math.floor(sizeBytes / 2 / BLOCK_BYTES)) {
    try {
      return await source.read(into.subarray(0, sizeBytes), position);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
    }
  }
  return 0;
}

/**
 * As much as can be read, wherever it lies: what cannot, or is behind the end, is zero. Bytes behind an unreadable sector are as good as
 * before it, and may be what proves a peer's copy of it (simulation seed 2972).
 */
export async function readAround(source: ByteSource, into: Uint8Array, position: number): Promise<void> {
  into.fill(0);
  try {
    await source.read(into, position);
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    if (into.length <= BLOCK_BYTES) {
      into.fill(0);
      return;
    }
    const half = Math.ceil(into.length / 2 / BLOCK_BYTES) * BLOCK_BYTES;
    await readAround(source, into.subarray(0, half), position);
    await readAround(source, into.subarray(half), position + half);
  }
}
