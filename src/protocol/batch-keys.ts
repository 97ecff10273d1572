import { equalBytes, readU32 } from '../base/bytes.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import { findPropertyRange, Property } from './properties.ts';
import { batchCount, INDEX_UNIT_BYTES, Unit, UnitFlag, unitAt } from './record-batch.ts';

/** Keys of one message that it can be found by; further ones are stored, and shown, but not indexed. */
export const MAX_INDEXED_KEYS = 8;
/**
 * And of one batch, besides the first key of each message: what a batch puts into the index fits into one file of it, and a
 * search that was cut short can get past it (MAX_STEPS of log/index-files.ts).
 */
export const MAX_FURTHER_KEYS = 16_384;
const SPACE = 0x20;

/**
 * Hashes of the keys of a checked batch's messages, for the index (F30). The first key's is in the index unit, so only a
 * message with several keys has its properties looked at. Malformed properties have no further keys.
 * @param into is emptied first; a hash that a message shares with the one before it comes once
 */
export function batchKeyHashes(bytes: Uint8Array, at: number, into: number[]): void {
  into.length = 0;
  let further = MAX_FURTHER_KEYS;
  const end = unitAt(at, batchCount(bytes, at));
  for (let unit = unitAt(at, 0); unit < end; unit += INDEX_UNIT_BYTES) {
    const flags = readU32(bytes, unit + Unit.flags);
    if ((flags & UnitFlag.hasKeys) === 0) continue;
    const hash = readU32(bytes, unit + Unit.keyHash);
    if (hash !== into.at(-1)) into.push(hash);
    if ((flags & UnitFlag.manyKeys) !== 0) further -= furtherKeys(bytes, unit, end, further, into);
  }
}

/**
 * Messages of a checked batch that carry this key, highest index first.
 * @param below only messages with an index below this
 */
export function messagesWithKey(bytes: Uint8Array, key: string, below: number): number[] {
  const wanted = Buffer.from(key);
  const hash = shortCrc32(wanted, 0, wanted.length);
  const count = batchCount(bytes, 0);
  const regionAt = unitAt(0, count);
  const found: number[] = [];
  for (let i = Math.min(count, below) - 1; i >= 0; i--) {
    const unit = unitAt(0, i);
    const flags = readU32(bytes, unit + Unit.flags);
    if ((flags & UnitFlag.hasKeys) === 0) continue;
    if ((flags & UnitFlag.manyKeys) === 0 && readU32(bytes, unit + Unit.keyHash) !== hash) continue;
    const keys = keysRange(bytes, unit, regionAt);
    if (keys !== null && hasWord(bytes, keys.from, keys.to, wanted)) found.push(i);
  }
  return found;
}

function hasWord(bytes: Uint8Array, from: number, to: number, wanted: Uint8Array): boolean {
  let wordAt = from;
  for (let i = from; i <= to; i++) {
    if (i < to && bytes[i] !== SPACE) continue;
    if (i - wordAt === wanted.length && equalBytes(bytes.subarray(wordAt, i), wanted)) return true;
    wordAt = i + 1;
  }
  return false;
}

/** @param regionAt where the properties region begins; a checked batch has all properties within it */
function keysRange(bytes: Uint8Array, unit: number, regionAt: number): { from: number; to: number } | null {
  const from = regionAt + readU32(bytes, unit + Unit.propertiesAt);
  return findPropertyRange(bytes, from, from + readU32(bytes, unit + Unit.propertiesBytes), Property.keys);
}

/** @returns how many were added */
function furtherKeys(bytes: Uint8Array, unit: number, end: number, max: number, into: number[]): number {
  const keys = keysRange(bytes, unit, end);
  if (keys === null) return 0;
  const mostWords = Math.min(MAX_INDEXED_KEYS, max + 1);
  let wordAt = keys.from;
  let words = 0;
  for (let i = keys.from; i <= keys.to && words < mostWords; i++) {
    if (i < keys.to && bytes[i] !== SPACE) continue;
    if (i > wordAt && words++ > 0) into.push(shortCrc32(bytes, wordAt, i));
    wordAt = i + 1;
  }
  return Math.max(0, words - 1);
}
