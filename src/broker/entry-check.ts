import { readU32, readU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { ENTRY_HEADER_BYTES, ENTRY_MAGIC, Entry } from '../log/layout.ts';
import { EntryType } from '../replica/types.ts';

/**
 * Are these the bytes that were stored at `position`? Both checksums are run: what comes from a segment file may have
 * rotted since, and damaged bytes are never served (I4).
 * @param entry header and body, exactly
 */
export function isIntactBatchEntry(entry: Uint8Array, position: number): boolean {
  return (
    entry.length > ENTRY_HEADER_BYTES &&
    readU32(entry, Entry.magic) === ENTRY_MAGIC &&
    readU32(entry, Entry.sizeBytes) === entry.length &&
    readU53(entry, Entry.position) === position &&
    (entry[Entry.type] === EntryType.batch || entry[Entry.type] === EntryType.carried) &&
    readU32(entry, Entry.checksum) === crc32(entry.subarray(0, Entry.checksum)) &&
    readU32(entry, Entry.bodyChecksum) === readU32(entry, ENTRY_HEADER_BYTES) &&
    readU32(entry, Entry.bodyChecksum) === crc32(entry.subarray(ENTRY_HEADER_BYTES + 4))
  );
}
