/**
 * Sizes and field offsets of what lies in the CommitLog; docs/architecture.md ("Bytes on disk") has the tables.
 * A change here is a new format version and a new golden file.
 */
export const BLOCK_BYTES = 4096;
export const FORMAT_VERSION = 1;

export const GROUP_HEADER_BYTES = 64;
export const GROUP_MAGIC = 0x47514d4c;
export const Group = {
  magic: 0,
  sizeBytes: 4,
  position: 8,
  firstIndex: 16,
  logTimeMs: 24,
  term: 32,
  entryCount: 36,
  dataBytes: 40,
  previousChecksum: 44,
  version: 48,
  checksum: 60,
} as const;

export const ENTRY_HEADER_BYTES = 64;
export const ENTRY_MAGIC = 0x45514d4c;
export const Entry = {
  magic: 0,
  sizeBytes: 4,
  index: 8,
  position: 16,
  logTimeMs: 24,
  term: 32,
  type: 36,
  version: 37,
  queueId: 38,
  topicId: 40,
  bodyChecksum: 44,
  previousChecksum: 48,
  checksum: 60,
} as const;

/** An entry's body at most: a 4 MiB message with its properties and headers fits. */
export const MAX_ENTRY_BODY_BYTES = 4 * 1024 * 1024 + 128 * 1024;
/** A write group is closed at this size; only a single larger entry makes a larger group. */
export const MAX_GROUP_BYTES = 1024 * 1024;
