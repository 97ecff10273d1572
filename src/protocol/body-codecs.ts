import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { LedgerError } from './errors.ts';
import { Codec } from './record-batch.ts';

/** Highest codec number that this release reads and writes. */
export const NEWEST_CODEC: number = Codec.zstd;

/** zstd's levels that are worth a producer's time; higher ones ask for more memory than a batch has. */
export const MIN_COMPRESS_LEVEL = 1;
export const MAX_COMPRESS_LEVEL = 19;
/** 8 MiB: the largest batch lies within it. A frame that asks for a larger window, up to 2 GiB, would have that allocated. */
const MAX_WINDOW_LOG = 23;
/** Compressed bodies are kept when they are smaller by an eighth: less is not worth opening them at every reader. */
const MIN_SAVED_SHIFT = 3;

/** A smaller form of a bodies region, or null when it is not worth it. */
export type Compress = (bodies: Uint8Array) => Uint8Array | null;

/** Blocks the event loop: 0.3–1 ms for 256 KiB, see docs/decisions/0014-compression.md. */
export function compressor(level: number): Compress {
  const params = { [constants.ZSTD_c_compressionLevel]: level };
  return (bodies) => {
    // Its size in front makes the frame's window no larger than what it holds.
    const packed = zstdCompressSync(bodies, { params, pledgedSrcSize: bodies.length });
    return packed.length <= bodies.length - (bodies.length >>> MIN_SAVED_SHIFT) ? packed : null;
  };
}

const DECOMPRESS_PARAMS = { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG };

/**
 * The bodies region of a batch whose header says codec and size. Never gives more than `sizeBytes`, which checkBatch() has bounded:
 * a few bytes that claim to be gigabytes end here.
 * @throws LedgerError UNSUPPORTED_VERSION for a codec of another release, CORRUPT_BATCH
 */
export function decompressBodies(codec: number, stored: Uint8Array, sizeBytes: number): Uint8Array {
  if (codec !== Codec.zstd)
    throw new LedgerError('UNSUPPORTED_VERSION', `bodies are compressed with codec ${codec}, which this release does not know`);
  // Node's limit is at least 1; an empty region has no other way than the size check behind.
  const options = { maxOutputLength: Math.max(sizeBytes, 1), params: DECOMPRESS_PARAMS };
  let bodies: Uint8Array;
  try {
    bodies = zstdDecompressSync(stored, options);
  } catch (error) {
    throw new LedgerError('CORRUPT_BATCH', `bodies cannot be decompressed: ${(error as Error).message}`);
  }
  if (bodies.length !== sizeBytes) throw new LedgerError('CORRUPT_BATCH', `bodies of ${bodies.length} bytes, not ${sizeBytes}`);
  return bodies;
}
