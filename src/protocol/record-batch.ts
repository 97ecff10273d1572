import { readU16, readU32, readU53, writeU16, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import type { ErrorCode } from './errors.ts';
import { tagBloomBits } from './tag-hash.ts';

/**
 * Record batch v1: bytes and what the broker does with them (docs/architecture.md, "Bytes on disk").
 *
 * The client lays a batch down once; the same bytes are on the wire, in the log and in the answer to a pull (I1).
 * The broker never decodes one: it reads header fields in place and runs checkBatch() (I10). All accessors take the byte
 * at which the batch starts, so that batches in a row need no views.
 */
export const BATCH_FORMAT = 1;
export const BATCH_HEADER_BYTES = 80;
export const INDEX_UNIT_BYTES = 32;

export const Batch = {
  checksum: 0,
  sizeBytes: 4,
  format: 8,
  codec: 9,
  flags: 10,
  count: 12,
  producerId: 16,
  producerEpoch: 24,
  /** Low half of the delay; 0 without one. */
  delayLow: 28,
  firstSequence: 32,
  idHigh: 40,
  idLow: 48,
  bornTimeMs: 56,
  propertiesBytes: 64,
  storedBodiesBytes: 68,
  bodiesBytes: 72,
  delayHigh: 76,
} as const;

export const Unit = {
  bodyBytes: 0,
  propertiesBytes: 4,
  tagHash: 8,
  keyHash: 12,
  bodyAt: 16,
  propertiesAt: 20,
  bornDeltaMs: 24,
  flags: 28,
} as const;

/**
 * How the bodies region is stored, all bodies as one. Numbers are on disk; 2 and 3 are kept for what RocketMQ's clients use besides zstd, and
 * nobody reads or writes them.
 */
export const Codec = { none: 0, zstd: 1, lz4: 2, zlib: 3 } as const;
export const BatchFlag = {
  noSequence: 1,
  /** The delay field is a level, 1…; all messages of the batch have it (F13). */
  delayLevel: 2,
  /** The delay field is a time, ms since 1970: not delivered before the log's time has reached it (F13). */
  deliverAt: 4,
  /** Half messages: invisible until their transaction's outcome is known (F14). Never delayed, as RocketMQ has it. */
  half: 8,
  /** The delay field is a time from the entry's log time on, ms: no clock but the log's decides (F13). */
  delayMs: 16,
} as const;
/** Of a batch whose messages are not placed in their queue when they are stored. */
export const DEFERRED_FLAGS = BatchFlag.delayLevel | BatchFlag.deliverAt | BatchFlag.delayMs | BatchFlag.half;
const KNOWN_FLAGS = BatchFlag.noSequence | DEFERRED_FLAGS;
export const UnitFlag = { hasKeys: 1, manyKeys: 2 } as const;

export interface BatchLimits {
  /** One body, uncompressed. */
  readonly maxMessageBytes: number;
  /** One message's properties. */
  readonly maxPropertiesBytes: number;
  /** The whole batch. */
  readonly maxBatchBytes: number;
  /** 1…65535. */
  readonly maxCount: number;
  /** Highest codec number that is understood; at a broker 0 until the feature level says otherwise. */
  readonly maxCodec: number;
  /** BatchFlag bits that are understood. */
  readonly knownFlags: number;
}

/** RocketMQ's limits (semantics §10); the batch leaves room for one largest message with its headers. */
export const DEFAULT_BATCH_LIMITS: BatchLimits = {
  maxMessageBytes: 4 * 1024 * 1024,
  maxPropertiesBytes: 32_767,
  maxBatchBytes: 4 * 1024 * 1024 + 64 * 1024,
  maxCount: 65_535,
  maxCodec: Codec.zstd,
  knownFlags: KNOWN_FLAGS,
};

export const batchChecksum = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.checksum);
export const batchSizeBytes = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.sizeBytes);
export const batchCodec = (bytes: Uint8Array, at: number): number => bytes[at + Batch.codec] as number;
export const batchFlags = (bytes: Uint8Array, at: number): number => readU16(bytes, at + Batch.flags);
/** A level with BatchFlag.delayLevel, ms since 1970 with BatchFlag.deliverAt, ms with BatchFlag.delayMs, else 0. */
export const batchDelay = (bytes: Uint8Array, at: number): number =>
  readU32(bytes, at + Batch.delayLow) + readU32(bytes, at + Batch.delayHigh) * 2 ** 32;
/** False for a one-way batch: no duplicate check, no order across retries. */
export const batchHasSequence = (bytes: Uint8Array, at: number): boolean => (readU16(bytes, at + Batch.flags) & BatchFlag.noSequence) === 0;
export const batchCount = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.count);
/** 0 = none. */
export const batchProducerId = (bytes: Uint8Array, at: number): number => readU53(bytes, at + Batch.producerId);
export const batchProducerEpoch = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.producerEpoch);
/** Sequence of the first message; message i has +i. */
export const batchFirstSequence = (bytes: Uint8Array, at: number): number => readU53(bytes, at + Batch.firstSequence);
/** A view of the 8 raw bytes. */
export const batchIdHigh = (bytes: Uint8Array, at: number): Uint8Array => bytes.subarray(at + Batch.idHigh, at + Batch.idHigh + 8);
/** Low half of the first message's id; message i has +i. */
export const batchIdLow = (bytes: Uint8Array, at: number): number => readU53(bytes, at + Batch.idLow);
export const batchBornTimeMs = (bytes: Uint8Array, at: number): number => readU53(bytes, at + Batch.bornTimeMs);
export const batchPropertiesBytes = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.propertiesBytes);
export const batchStoredBodiesBytes = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.storedBodiesBytes);
export const batchBodiesBytes = (bytes: Uint8Array, at: number): number => readU32(bytes, at + Batch.bodiesBytes);
/** Where index unit `i` starts. */
export const unitAt = (at: number, i: number): number => at + BATCH_HEADER_BYTES + i * INDEX_UNIT_BYTES;

/** Writes producer id, epoch and first sequence; sealBatch() must follow. A retried or re-sequenced batch needs no more than this. */
export function setSequence(batch: Uint8Array, producerId: number, epoch: number, firstSequence: number): void {
  writeU53(batch, Batch.producerId, producerId);
  writeU32(batch, Batch.producerEpoch, epoch);
  writeU53(batch, Batch.firstSequence, firstSequence);
  const flags = readU16(batch, Batch.flags) & ~BatchFlag.noSequence;
  writeU16(batch, Batch.flags, flags);
}

/** @param flag the kind of deferral @param delay a level or a time; 0 for a half batch. sealBatch() must follow */
export function setDeferral(batch: Uint8Array, flag: number, delay: number): void {
  const flags = (readU16(batch, Batch.flags) & ~DEFERRED_FLAGS) | flag;
  writeU16(batch, Batch.flags, flags);
  writeU32(batch, Batch.delayLow, delay % 2 ** 32);
  writeU32(batch, Batch.delayHigh, Math.floor(delay / 2 ** 32));
}

/** Marks a batch as one-way: no producer, no sequence. sealBatch() must follow. */
export function clearSequence(batch: Uint8Array): void {
  setSequence(batch, 0, 0, 0);
  writeU16(batch, Batch.flags, readU16(batch, Batch.flags) | BatchFlag.noSequence);
}

/** Writes the checksum; the last thing done to a batch before it is sent. `batch` is exactly the batch. */
export function sealBatch(batch: Uint8Array): void {
  writeU32(batch, Batch.checksum, crc32(batch.subarray(4)));
}

/**
 * All that a broker checks of a batch: sizes, one checksum over everything, bounds of each index unit, limits (F15).
 * Bodies must lie back to back in order, so that no batch can make a reader hand out more bytes than it carries.
 * Properties are not parsed: a malformed one is the reader's CORRUPT_BATCH for that message alone.
 *
 * Sequences are decided at apply, per (producer id, epoch, queue): not here.
 * @param bytes exactly one batch
 * @returns why it is refused, or null
 */
export function checkBatch(bytes: Uint8Array, limits: BatchLimits): ErrorCode | null {
  if (bytes.length < BATCH_HEADER_BYTES + INDEX_UNIT_BYTES) return 'CORRUPT_BATCH';
  if (readU32(bytes, Batch.sizeBytes) !== bytes.length) return 'CORRUPT_BATCH';
  // The limit comes before the checksum: an oversized batch must not cost a pass.
  if (bytes.length > limits.maxBatchBytes) return 'MESSAGE_TOO_LARGE';
  if (crc32(bytes.subarray(4)) !== readU32(bytes, Batch.checksum)) return 'CORRUPT_BATCH';
  return checkHeader(bytes, limits) ?? checkUnits(bytes, limits);
}

function checkHeader(bytes: Uint8Array, limits: BatchLimits): ErrorCode | null {
  if (bytes[Batch.format] !== BATCH_FORMAT) return 'UNSUPPORTED_VERSION';
  const codec = batchCodec(bytes, 0);
  if (codec > limits.maxCodec) return 'UNSUPPORTED_VERSION';
  const flags = readU16(bytes, Batch.flags);
  if ((flags & ~limits.knownFlags) !== 0) return 'UNSUPPORTED_VERSION';
  if (!delayIsSound(flags & DEFERRED_FLAGS, batchDelay(bytes, 0))) return 'CORRUPT_BATCH';
  const count = readU32(bytes, Batch.count);
  if (count === 0) return 'CORRUPT_BATCH';
  if (count > limits.maxCount) return 'MESSAGE_TOO_LARGE';
  const producerId = readU53(bytes, Batch.producerId);
  const sequence = readU53(bytes, Batch.firstSequence);
  // 2^53 − 1 is the largest value anywhere: message i's sequence and id must stay below it too. NaN fails the comparison.
  if (!(producerId >= 0 && sequence + count <= Number.MAX_SAFE_INTEGER)) return 'CORRUPT_BATCH';
  if (!(readU53(bytes, Batch.idLow) + count <= Number.MAX_SAFE_INTEGER)) return 'CORRUPT_BATCH';
  if (!(readU53(bytes, Batch.bornTimeMs) + 0xffff_ffff <= Number.MAX_SAFE_INTEGER)) return 'CORRUPT_BATCH';
  if ((flags & BatchFlag.noSequence) !== 0 ? producerId !== 0 || sequence !== 0 : producerId === 0) return 'CORRUPT_BATCH';
  const propertiesBytes = readU32(bytes, Batch.propertiesBytes);
  const storedBodiesBytes = readU32(bytes, Batch.storedBodiesBytes);
  if (BATCH_HEADER_BYTES + count * INDEX_UNIT_BYTES + propertiesBytes + storedBodiesBytes !== bytes.length) return 'CORRUPT_BATCH';
  const bodiesBytes = readU32(bytes, Batch.bodiesBytes);
  // A compressed region may not grow beyond what an uncompressed batch may hold: no small batch makes a reader run out of memory.
  if (codec !== Codec.none) return bodiesBytes <= limits.maxBatchBytes ? null : 'MESSAGE_TOO_LARGE';
  return bodiesBytes === storedBodiesBytes ? null : 'CORRUPT_BATCH';
}

/** One kind of deferral at most, and a delay only with its flag. NaN fails the comparison. */
function delayIsSound(deferred: number, delay: number): boolean {
  if (deferred === 0 || deferred === BatchFlag.half) return delay === 0;
  const known = deferred === BatchFlag.delayLevel || deferred === BatchFlag.deliverAt || deferred === BatchFlag.delayMs;
  return known && delay > 0 && delay <= Number.MAX_SAFE_INTEGER;
}

function checkUnits(bytes: Uint8Array, limits: BatchLimits): ErrorCode | null {
  const propertiesRegion = readU32(bytes, Batch.propertiesBytes);
  const end = BATCH_HEADER_BYTES + readU32(bytes, Batch.count) * INDEX_UNIT_BYTES;
  let bodyAt = 0;
  let tooLarge = false;
  for (let unit = BATCH_HEADER_BYTES; unit < end; unit += INDEX_UNIT_BYTES) {
    const bodyBytes = readU32(bytes, unit + Unit.bodyBytes);
    const propertiesBytes = readU32(bytes, unit + Unit.propertiesBytes);
    if (readU32(bytes, unit + Unit.bodyAt) !== bodyAt) return 'CORRUPT_BATCH';
    bodyAt += bodyBytes;
    if (readU32(bytes, unit + Unit.propertiesAt) + propertiesBytes > propertiesRegion) return 'CORRUPT_BATCH';
    if (readU32(bytes, unit + Unit.flags) > (UnitFlag.hasKeys | UnitFlag.manyKeys)) return 'UNSUPPORTED_VERSION';
    if (bodyBytes > limits.maxMessageBytes || propertiesBytes > limits.maxPropertiesBytes) tooLarge = true;
  }
  if (bodyAt !== readU32(bytes, Batch.bodiesBytes)) return 'CORRUPT_BATCH';
  return tooLarge ? 'MESSAGE_TOO_LARGE' : null;
}

/** 32-bit bloom over the tag hashes of a checked batch, for its ConsumeQueue unit; 0 = no message has a tag. */
export function tagBloom(bytes: Uint8Array, at = 0): number {
  const end = unitAt(at, batchCount(bytes, at));
  let bloom = 0;
  let last = 0;
  for (let unit = unitAt(at, 0); unit < end; unit += INDEX_UNIT_BYTES) {
    const hash = readU32(bytes, unit + Unit.tagHash);
    if (hash !== 0 && hash !== last) {
      bloom |= tagBloomBits(hash);
      last = hash;
    }
  }
  return bloom >>> 0;
}
