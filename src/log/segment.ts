import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { LogForeign } from './errors.ts';
import { BLOCK_BYTES, FORMAT_VERSION } from './layout.ts';

export const DEFAULT_SEGMENT_BYTES = 1024 * 1024 * 1024;
const SEGMENT_MAGIC = 0x53514d4c;
const NAME_DIGITS = 20;

const Header = { magic: 0, version: 4, basePosition: 8, segmentBytes: 16, clusterHash: 24, checksum: 60 } as const;

export function segmentName(basePosition: number): string {
  return String(basePosition).padStart(NAME_DIGITS, '0');
}

/** @returns null when the file is not a segment */
export function segmentBase(name: string): number | null {
  return /^\d{20}$/.test(name) ? Number(name) : null;
}

export function baseOf(position: number, segmentBytes: number): number {
  return position - (position % segmentBytes);
}

/**
 * Where a group of `sizeBytes` goes that follows `endPosition`: there when it fits into the rest of the segment, else at the head of the next.
 * A function of both alone, so that leader, follower and recovery agree without a mark in the file.
 */
export function placeOf(endPosition: number, sizeBytes: number, segmentBytes: number): number {
  const used = endPosition % segmentBytes;
  if (used === 0) return endPosition + BLOCK_BYTES;
  return used + sizeBytes <= segmentBytes ? endPosition : endPosition - used + segmentBytes + BLOCK_BYTES;
}

/** Whether a leader may have put a group there: behind `endPosition`, or at the head of the next segment (also one that would have fitted before). */
export function mayFollow(
  endPosition: number,
  group: { readonly position: number; readonly sizeBytes: number },
  segmentBytes: number,
): boolean {
  const used = group.position % segmentBytes;
  if (used + group.sizeBytes > segmentBytes) return false;
  if (used !== 0 && group.position === endPosition) return true;
  const isFull = endPosition % segmentBytes === 0;
  return group.position === (isFull ? endPosition : baseOf(endPosition, segmentBytes) + segmentBytes) + BLOCK_BYTES;
}

/** Fills the first block of a segment; the rest of the block is left as it is (zero). */
export function encodeSegmentHeader(into: Uint8Array, basePosition: number, segmentBytes: number, clusterHash: number): void {
  writeU32(into, Header.magic, SEGMENT_MAGIC);
  writeU32(into, Header.version, FORMAT_VERSION);
  writeU53(into, Header.basePosition, basePosition);
  writeU53(into, Header.segmentBytes, segmentBytes);
  writeU32(into, Header.clusterHash, clusterHash);
  writeU32(into, Header.checksum, crc32(into.subarray(0, Header.checksum)));
}

/** Not a header at all, or one that was changed since it was written: says nothing about whose file it is. */
export function isDamagedHeader(block: Uint8Array): boolean {
  if (readU32(block, Header.magic) !== SEGMENT_MAGIC) return true;
  if (readU32(block, Header.checksum) !== crc32(block.subarray(0, Header.checksum))) return true;
  return block.subarray(Header.checksum + 4).some((byte) => byte !== 0);
}

/** @throws LogForeign when it is not the segment that its name and this log say. */
export function checkSegmentHeader(block: Uint8Array, path: string, basePosition: number, segmentBytes: number, clusterHash: number): void {
  const refuse = (what: string): never => {
    throw new LogForeign(`${path}: ${what}`);
  };
  if (readU32(block, Header.magic) !== SEGMENT_MAGIC) refuse('not a segment of a CommitLog');
  if (readU32(block, Header.checksum) !== crc32(block.subarray(0, Header.checksum))) refuse('damaged segment header');
  if (readU32(block, Header.version) !== FORMAT_VERSION)
    refuse(`format ${readU32(block, Header.version)}, this release reads ${FORMAT_VERSION}`);
  if (readU32(block, Header.clusterHash) !== clusterHash) refuse('belongs to another cluster');
  if (readU53(block, Header.segmentBytes) !== segmentBytes)
    refuse(`segment size ${readU53(block, Header.segmentBytes)}, configured ${segmentBytes}`);
  if (readU53(block, Header.basePosition) !== basePosition) refuse(`holds position ${readU53(block, Header.basePosition)}`);
  if (block.subarray(Header.checksum + 4).some((byte) => byte !== 0)) refuse('damaged segment header');
}
