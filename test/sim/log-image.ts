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
    .map((path) => ({ base: Number(path.slice(-20)), path }));
  const startPosition = segments[0]?.base ?? 0;
  const pieces: Uint8Array[] = [];
  for (const [at, { base, path }] of segments.entries()) {
    const next = segments[at + 1];
    // The last segment ends with its last group; what was zeroed ahead of it, and a spare segment behind it, differ between replicas.
    const isLast = next === undefined || endOfGroups(disk, next.path) === BLOCK_BYTES;
    pieces.push(isLast ? disk.peek(path, 0, endOfGroups(disk, path)) : padded(disk.peek(path, 0, next.base - base), next.base - base));
    if (isLast) break;
  }
  return { startPosition, bytes: Buffer.concat(pieces) };
}

/** A file that was cut off and mended ends with its last group: what is not there reads as zeros. */
function padded(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  if (bytes.length === sizeBytes) return bytes;
  const whole = new Uint8Array(sizeBytes);
  whole.set(bytes);
  return whole;
}

function endOfGroups(disk: SimDisk, path: string): number {
  const sizeBytes = disk.visibleSize(path);
  let at = BLOCK_BYTES;
  while (at + GROUP_HEADER_BYTES <= sizeBytes) {
    const bytes = disk.peek(path, at, GROUP_HEADER_BYTES);
    const header = readU32(bytes, 0) === GROUP_MAGIC ? readGroupHeader(bytes) : 'none';
    if (typeof header === 'string') break;
    at += header.sizeBytes;
  }
  return at;
}
