import { assert } from '../base/assert.ts';
import { alignUp, readU16, readU32, readU53, writeU16, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import {
  BLOCK_BYTES,
  ENTRY_HEADER_BYTES,
  ENTRY_MAGIC,
  Entry,
  FORMAT_VERSION,
  GROUP_HEADER_BYTES,
  GROUP_MAGIC,
  Group,
  MAX_ENTRY_BODY_BYTES,
  MAX_GROUP_BYTES,
} from './layout.ts';
import type { EntryView, GroupFault, GroupHeader } from './types.ts';

export type { GroupHeader } from './types.ts';

/** Every body begins with its own CRC-32. */
export const MIN_ENTRY_BODY_BYTES = 4;
/** A group with one entry of the largest size. Segments and chunks hold at least this. */
export const LARGEST_GROUP_BYTES = alignUp(
  Math.max(MAX_GROUP_BYTES, GROUP_HEADER_BYTES + ENTRY_HEADER_BYTES + MAX_ENTRY_BODY_BYTES),
  BLOCK_BYTES,
);

/** Size on disk of a group with so many bytes of headers and entries. */
export function paddedBytes(dataBytes: number): number {
  return alignUp(dataBytes, BLOCK_BYTES);
}

/** Lays header and body at `at`. @returns the header's checksum, the next link of the chain */
export function writeEntry(into: Uint8Array, at: number, fields: Omit<EntryView, 'headerChecksum'>, previousChecksum: number): number {
  const { body } = fields;
  writeU32(into, at + Entry.magic, ENTRY_MAGIC);
  writeU32(into, at + Entry.sizeBytes, ENTRY_HEADER_BYTES + body.length);
  writeU53(into, at + Entry.index, fields.index);
  writeU53(into, at + Entry.position, fields.position);
  writeU53(into, at + Entry.logTimeMs, fields.logTimeMs);
  writeU32(into, at + Entry.term, fields.term);
  into[at + Entry.type] = fields.type;
  into[at + Entry.version] = FORMAT_VERSION;
  writeU16(into, at + Entry.queueId, fields.queueId);
  writeU32(into, at + Entry.topicId, fields.topicId);
  writeU32(into, at + Entry.bodyChecksum, fields.bodyChecksum);
  writeU32(into, at + Entry.previousChecksum, previousChecksum);
  into.fill(0, at + Entry.previousChecksum + 4, at + Entry.checksum);
  const checksum = crc32(into.subarray(at, at + Entry.checksum));
  writeU32(into, at + Entry.checksum, checksum);
  into.set(body, at + ENTRY_HEADER_BYTES);
  return checksum;
}

/** Writes the header of a group whose entries are laid already, and zeroes its padding (a chunk's old bytes may lie there). */
export function writeGroupHeader(into: Uint8Array, at: number, header: GroupHeader): void {
  writeU32(into, at + Group.magic, GROUP_MAGIC);
  writeU32(into, at + Group.sizeBytes, header.sizeBytes);
  writeU53(into, at + Group.position, header.position);
  writeU53(into, at + Group.firstIndex, header.firstIndex);
  writeU53(into, at + Group.logTimeMs, header.logTimeMs);
  writeU32(into, at + Group.term, header.term);
  writeU32(into, at + Group.entryCount, header.entryCount);
  writeU32(into, at + Group.dataBytes, header.dataBytes);
  writeU32(into, at + Group.previousChecksum, header.previousChecksum);
  writeU32(into, at + Group.version, FORMAT_VERSION);
  into.fill(0, at + Group.version + 4, at + Group.checksum);
  writeU32(into, at + Group.checksum, crc32(into.subarray(at, at + Group.checksum)));
  into.fill(0, at + header.dataBytes, at + header.sizeBytes);
}

/** Reads and checks a group's header alone. Its entries may still be bad. */
export function readGroupHeader(bytes: Uint8Array, at = 0): GroupHeader | GroupFault {
  if (bytes.length - at < GROUP_HEADER_BYTES) return 'short';
  if (readU32(bytes, at + Group.magic) !== GROUP_MAGIC) return 'magic';
  if (readU32(bytes, at + Group.checksum) !== crc32(bytes.subarray(at, at + Group.checksum))) return 'headerChecksum';
  if (readU32(bytes, at + Group.version) !== FORMAT_VERSION) return 'version';
  const sizeBytes = readU32(bytes, at + Group.sizeBytes);
  const dataBytes = readU32(bytes, at + Group.dataBytes);
  const entryCount = readU32(bytes, at + Group.entryCount);
  const smallestBytes = GROUP_HEADER_BYTES + entryCount * (ENTRY_HEADER_BYTES + MIN_ENTRY_BODY_BYTES);
  if (entryCount === 0 || dataBytes < smallestBytes || sizeBytes !== paddedBytes(dataBytes) || sizeBytes > LARGEST_GROUP_BYTES) {
    return 'size';
  }
  const position = readU53(bytes, at + Group.position);
  const firstIndex = readU53(bytes, at + Group.firstIndex);
  const logTimeMs = readU53(bytes, at + Group.logTimeMs);
  const term = readU32(bytes, at + Group.term);
  if (!(position % BLOCK_BYTES === 0 && firstIndex >= 1 && term >= 1 && logTimeMs >= 0)) return 'size';
  return {
    firstIndex,
    lastIndex: firstIndex + entryCount - 1,
    term,
    position,
    sizeBytes,
    logTimeMs,
    entryCount,
    dataBytes,
    previousChecksum: readU32(bytes, at + Group.previousChecksum),
  };
}

/** What the bytes must continue. */
export interface ExpectedGroup {
  /** null: the caller checks it, because there are two places where the group may go. */
  readonly position: number | null;
  readonly index: number;
  readonly previousChecksum: number;
  /** Log time never decreases. */
  readonly logTimeMs?: number;
}

export type VerifiedGroup =
  | { readonly ok: true; readonly header: GroupHeader; readonly lastChecksum: number }
  /** `at`: offset of the bad header, body or padding; `badBytes`: its extent. */
  | {
      readonly ok: false;
      readonly reason: GroupFault;
      readonly at: number;
      readonly badBytes: number;
      readonly header: GroupHeader | null;
    };

/** Checks every byte of the group that starts at bytes[0]. `bytes` may be longer than the group. */
export function verifyGroup(bytes: Uint8Array, expected?: ExpectedGroup): VerifiedGroup {
  const header = readGroupHeader(bytes);
  if (typeof header === 'string') return { ok: false, reason: header, at: 0, badBytes: GROUP_HEADER_BYTES, header: null };
  const fault = bytes.length < header.sizeBytes ? 'short' : expected === undefined ? null : misplaced(header, expected);
  if (fault !== null) return { ok: false, reason: fault, at: 0, badBytes: GROUP_HEADER_BYTES, header };

  let previous = header.previousChecksum;
  let at = GROUP_HEADER_BYTES;
  for (let index = header.firstIndex; index <= header.lastIndex; index++) {
    const headerFault = entryHeaderFault(bytes, at, header, index, previous);
    if (headerFault !== null) return { ok: false, reason: headerFault, at, badBytes: ENTRY_HEADER_BYTES, header };
    const end = at + readU32(bytes, at + Entry.sizeBytes);
    const bodyChecksum = readU32(bytes, at + Entry.bodyChecksum);
    const bodyAt = at + ENTRY_HEADER_BYTES;
    if (readU32(bytes, bodyAt) !== bodyChecksum || crc32(bytes.subarray(bodyAt + 4, end)) !== bodyChecksum) {
      return { ok: false, reason: 'bodyChecksum', at: bodyAt, badBytes: end - bodyAt, header };
    }
    previous = readU32(bytes, at + Entry.checksum);
    at = end;
  }
  if (at !== header.dataBytes) return { ok: false, reason: 'size', at, badBytes: Math.max(1, header.dataBytes - at), header };
  for (let pad = at; pad < header.sizeBytes; pad++) {
    if (bytes[pad] !== 0) return { ok: false, reason: 'padding', at: pad, badBytes: 1, header };
  }
  return { ok: true, header, lastChecksum: previous };
}

/** Whether a group of this header is the one that is expected next. @returns null when it is */
function misplaced(header: GroupHeader, expected: ExpectedGroup): GroupFault | null {
  if (expected.position !== null && header.position !== expected.position) return 'position';
  if (header.firstIndex !== expected.index) return 'index';
  if (header.previousChecksum !== expected.previousChecksum) return 'chain';
  if (expected.logTimeMs !== undefined && header.logTimeMs < expected.logTimeMs) return 'logTime';
  return null;
}

/** verifyGroup() of a group whose bytes were checked before. */
export function continues<Checked extends { readonly header: GroupHeader }>(
  group: Checked,
  expected: ExpectedGroup,
): (Checked & { readonly ok: true }) | { readonly ok: false; readonly reason: GroupFault } {
  const reason = misplaced(group.header, expected);
  return reason === null ? { ok: true, ...group } : { ok: false, reason };
}

function entryHeaderFault(bytes: Uint8Array, at: number, group: GroupHeader, index: number, previousChecksum: number): GroupFault | null {
  if (at + ENTRY_HEADER_BYTES > group.dataBytes || readU32(bytes, at + Entry.magic) !== ENTRY_MAGIC) return 'entry';
  if (readU32(bytes, at + Entry.checksum) !== crc32(bytes.subarray(at, at + Entry.checksum))) return 'entryChecksum';
  if (bytes[at + Entry.version] !== FORMAT_VERSION) return 'version';
  const sizeBytes = readU32(bytes, at + Entry.sizeBytes);
  if (sizeBytes < ENTRY_HEADER_BYTES + MIN_ENTRY_BODY_BYTES || at + sizeBytes > group.dataBytes) return 'size';
  if (readU53(bytes, at + Entry.index) !== index) return 'index';
  if (readU53(bytes, at + Entry.position) !== group.position + at) return 'position';
  if (readU32(bytes, at + Entry.term) !== group.term || readU53(bytes, at + Entry.logTimeMs) !== group.logTimeMs) return 'entry';
  return readU32(bytes, at + Entry.previousChecksum) === previousChecksum ? null : 'chain';
}

export function newEntryView(): EntryView {
  return {
    index: 0,
    term: 0,
    type: 0,
    position: 0,
    logTimeMs: 0,
    topicId: 0,
    queueId: 0,
    bodyChecksum: 0,
    headerChecksum: 0,
    body: new Uint8Array(0),
  };
}

/** Reads the entry header at `at` of verified bytes into `view`. @returns offset behind the entry */
export function readEntry(bytes: Uint8Array, at: number, view: EntryView): number {
  assert(readU32(bytes, at + Entry.magic) === ENTRY_MAGIC, 'no entry header here');
  const end = at + readU32(bytes, at + Entry.sizeBytes);
  view.index = readU53(bytes, at + Entry.index);
  view.position = readU53(bytes, at + Entry.position);
  view.logTimeMs = readU53(bytes, at + Entry.logTimeMs);
  view.term = readU32(bytes, at + Entry.term);
  view.type = bytes[at + Entry.type] as number;
  view.queueId = readU16(bytes, at + Entry.queueId);
  view.topicId = readU32(bytes, at + Entry.topicId);
  view.bodyChecksum = readU32(bytes, at + Entry.bodyChecksum);
  view.headerChecksum = readU32(bytes, at + Entry.checksum);
  view.body = bytes.subarray(at + ENTRY_HEADER_BYTES, end);
  return end;
}

/** Visits the entries of one verified group at bytes[0], in order; `view` is reused for each. */
export function forEachEntry(groupBytes: Uint8Array, view: EntryView, visit: (entry: EntryView) => void): void {
  const dataBytes = readU32(groupBytes, Group.dataBytes);
  let at = GROUP_HEADER_BYTES;
  while (at < dataBytes) {
    at = readEntry(groupBytes, at, view);
    visit(view);
  }
}
