import { crc32 as nativeCrc32 } from '@node-rs/crc32';

/**
 * CRC-32 (IEEE 802.3), the checksum of batches, entries, groups, votes and snapshots.
 * 13 GB/s over 1 MB and 5 GB/s over 1 KB: so it runs once over a whole batch, never over one message.
 * @param seed the CRC of the bytes before, to run over several pieces
 */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return nativeCrc32(bytes, seed);
}
