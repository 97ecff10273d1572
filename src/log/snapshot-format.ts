import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';

/** A state snapshot's place in the log. */
export interface SnapshotMeta {
  /** Last entry that the state includes. */
  readonly index: number;
  readonly term: number;
  /** Where the log goes on: position of the group that starts at index + 1. */
  readonly position: number;
  /** Log time of that entry, ms. */
  readonly logTimeMs: number;
  /** headerChecksum of that entry: the chain value that the next group must carry. */
  readonly previousChecksum: number;
  readonly stateDigest: number;
  /** Of the state, without the file's header. */
  readonly sizeBytes: number;
  readonly stateChecksum: number;
}

/** A snapshot file that is not what was saved. */
export class SnapshotDamagedError extends Error {
  override name = 'SnapshotDamagedError';
}

/** "LMQS". */
const MAGIC = 0x53514d4c;
const VERSION = 1;
export const SNAPSHOT_HEADER_BYTES = 72;
const At = {
  magic: 0,
  version: 4,
  index: 8,
  position: 16,
  logTimeMs: 24,
  term: 32,
  previousChecksum: 36,
  stateDigest: 40,
  sizeBytes: 48,
  stateChecksum: 56,
  zero: 60,
  checksum: 68,
} as const;

/** Before the saving store knows them. */
export type SnapshotPlace = Omit<SnapshotMeta, 'sizeBytes' | 'stateChecksum'>;

export function encodeSnapshotHeader(meta: SnapshotMeta): Uint8Array {
  const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES);
  writeU32(bytes, At.magic, MAGIC);
  writeU32(bytes, At.version, VERSION);
  writeU53(bytes, At.index, meta.index);
  writeU53(bytes, At.position, meta.position);
  writeU53(bytes, At.logTimeMs, meta.logTimeMs);
  writeU32(bytes, At.term, meta.term);
  writeU32(bytes, At.previousChecksum, meta.previousChecksum);
  writeU53(bytes, At.stateDigest, meta.stateDigest);
  writeU53(bytes, At.sizeBytes, meta.sizeBytes);
  writeU32(bytes, At.stateChecksum, meta.stateChecksum);
  writeU32(bytes, At.checksum, crc32(bytes.subarray(0, At.checksum)));
  return bytes;
}

/** @throws SnapshotDamagedError */
export function decodeSnapshotHeader(bytes: Uint8Array, name: string): SnapshotMeta {
  if (bytes.length < SNAPSHOT_HEADER_BYTES) throw new SnapshotDamagedError(`${name}: no whole header`);
  if (readU32(bytes, At.checksum) !== crc32(bytes.subarray(0, At.checksum))) throw new SnapshotDamagedError(`${name}: header checksum`);
  if (readU32(bytes, At.magic) !== MAGIC) throw new SnapshotDamagedError(`${name}: not a snapshot`);
  if (readU32(bytes, At.version) !== VERSION) throw new SnapshotDamagedError(`${name}: format ${readU32(bytes, At.version)} is not known`);
  return {
    index: readU53(bytes, At.index),
    term: readU32(bytes, At.term),
    position: readU53(bytes, At.position),
    logTimeMs: readU53(bytes, At.logTimeMs),
    previousChecksum: readU32(bytes, At.previousChecksum),
    stateDigest: readU53(bytes, At.stateDigest),
    sizeBytes: readU53(bytes, At.sizeBytes),
    stateChecksum: readU32(bytes, At.stateChecksum),
  };
}

/** Of a name that snapshotName() made. */
export const snapshotPosition = (name: string): number => Number.parseInt(name, 10);

export const snapshotName = (place: Pick<SnapshotMeta, 'position' | 'index'>): string =>
  `${String(place.position).padStart(20, '0')}-${place.index}`;
