import { readU32 } from '../../src/base/bytes.ts';
import { readGroupHeader } from '../../src/log/group-codec.ts';
import { BLOCK_BYTES, GROUP_HEADER_BYTES, GROUP_MAGIC } from '../../src/log/layout.ts';
import type { SimDisk } from './disk.ts';

/**
 * The write groups on a disk, as bytes: [startPosition, end of the last group). Segments' headers and unused ends are left as
 * they are on the disk, so that positions count.
 */
export function committedBytes(disk: SimDisk, directory: string): { readonly startPosition: number; readonly bytes: Uint8Array } {
  const segments = disk
    .paths(directory)
    .filter((path) => /\/\d{20}$/.test(path))
    .map((path) => ({ base: Number(path.slice(-20)), bytes: disk.visibleBytes(path) as Uint8Array }));
  const startPosition = segments[0]?.base ?? 0;
  const pieces: Uint8Array[] = [];
  for (const [at, { base, bytes }] of segments.entries()) {
    const next = segments[at + 1];
    // The last segment ends with its last group; what was zeroed ahead of it, and a spare segment behind it, differ between replicas.
    const isLast = next === undefined || endOfGroups(next.bytes) === BLOCK_BYTES;
    pieces.push(isLast ? bytes.subarray(0, endOfGroups(bytes)) : padded(bytes, next.base - base));
    if (isLast) break;
  }
  return { startPosition, bytes: Buffer.concat(pieces) };
}

/** A file that was cut off and mended ends with its last group: what is not there reads as zeros. */
function padded(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  if (bytes.length >= sizeBytes) return bytes.subarray(0, sizeBytes);
  const whole = new Uint8Array(sizeBytes);
  whole.set(bytes);
  return whole;
}

function endOfGroups(segment: Uint8Array): number {
  let at = BLOCK_BYTES;
  while (at + GROUP_HEADER_BYTES <= segment.length && readU32(segment, at) === GROUP_MAGIC) {
    const header = readGroupHeader(segment, at);
    if (typeof header === 'string') break;
    at += header.sizeBytes;
  }
  return at;
}
