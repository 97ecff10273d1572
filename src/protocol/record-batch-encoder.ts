import { assert } from '../base/assert.ts';
import { writeU16, writeU32, writeU53 } from '../base/bytes.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import type { Compress } from './body-codecs.ts';
import { type ErrorCode, LedgerError } from './errors.ts';
import {
  closeProperty,
  PROPERTY_HEADER_BYTES,
  Property,
  type PropertyList,
  propertyBound,
  writeProperty,
  writeText,
} from './properties.ts';
import {
  BATCH_FORMAT,
  BATCH_HEADER_BYTES,
  Batch,
  BatchFlag,
  type BatchLimits,
  Codec,
  INDEX_UNIT_BYTES,
  sealBatch,
  Unit,
  UnitFlag,
} from './record-batch.ts';
import { tagHash } from './tag-hash.ts';

/** A message as the batcher holds it. What is absent costs nothing. */
export interface BatchMessage {
  readonly body: Uint8Array;
  readonly bornTimeMs: number;
  /** Checked by checkTag(). */
  readonly tag?: string | undefined;
  /** Checked by checkKey(). */
  readonly keys?: readonly string[] | undefined;
  /** The ordering key. */
  readonly shardingKey?: string | undefined;
  /** Further properties: a list (Object.entries() of a record), or the bytes of encodeProperties(). Reserved names are not checked here. */
  readonly properties?: PropertyList | Uint8Array | undefined;
}

export interface BatchHeader {
  /** 0 = one-way: no sequence. */
  readonly producerId: number;
  readonly producerEpoch: number;
  readonly firstSequence: number;
  /** 8 bytes. */
  readonly idHigh: Uint8Array;
  readonly idLow: number;
  /** BatchFlag of a deferral and its delay; default: placed when it is stored. */
  readonly deferral?: { readonly flag: number; readonly delay: number } | null;
}

const NO_DEFERRAL = { flag: 0, delay: 0 } as const;

export interface EncodedBatch {
  /** The memory that the allocator gave, of which `buffer` is the beginning. */
  readonly room: Buffer;
  /** `headroomBytes` free bytes, then the batch: a frame's header goes in front without a copy. */
  readonly buffer: Buffer;
  readonly headroomBytes: number;
  /** The batch alone, a view of `buffer`. */
  readonly bytes: Buffer;
}

function propertiesBound(message: BatchMessage): number {
  let bound = 0;
  if (message.tag !== undefined) bound += propertyBound(Property.tags, message.tag);
  const keys = message.keys;
  if (keys !== undefined && keys.length > 0) {
    bound += PROPERTY_HEADER_BYTES + Property.keys.length + keys.length - 1;
    for (let i = 0; i < keys.length; i++) bound += 3 * (keys[i] as string).length;
  }
  if (message.shardingKey !== undefined) bound += propertyBound(Property.shardingKey, message.shardingKey);
  const properties = message.properties;
  if (properties === undefined) return bound;
  if (properties instanceof Uint8Array) return bound + properties.length;
  for (let i = 0; i < properties.length; i++) {
    const [name, value] = properties[i] as readonly [string, string];
    bound += propertyBound(name, value);
  }
  return bound;
}

/** Bytes that a message adds to a batch at most: the batcher closes a batch by it. */
export function batchedSizeBound(message: BatchMessage): number {
  return INDEX_UNIT_BYTES + message.body.length + propertiesBound(message);
}

/** For people: what of a message that checkMessage() refuses is too large, and the limit. */
export function tooLargeText(message: BatchMessage, limits: BatchLimits): string {
  const { body } = message;
  if (body.length > limits.maxMessageBytes) return `a body of ${body.length} bytes; the limit is ${limits.maxMessageBytes}`;
  try {
    const sizeBytes = writeProperties(Buffer.allocUnsafe(propertiesBound(message)), 0, message);
    return `properties, tag and keys of ${sizeBytes} bytes; the limit is ${limits.maxPropertiesBytes}`;
  } catch (error) {
    if (error instanceof LedgerError) return error.detail;
    throw error;
  }
}

/** F15, before the network: what checkBatch() would refuse because of this message. @returns why, or null */
export function checkMessage(message: BatchMessage, limits: BatchLimits): ErrorCode | null {
  if (message.body.length > limits.maxMessageBytes) return 'MESSAGE_TOO_LARGE';
  if (propertiesBound(message) <= limits.maxPropertiesBytes) return null;
  // Only a message that may be too large pays for the exact size.
  const target = Buffer.allocUnsafe(propertiesBound(message));
  try {
    return writeProperties(target, 0, message) > limits.maxPropertiesBytes ? 'MESSAGE_TOO_LARGE' : null;
  } catch (error) {
    if (error instanceof LedgerError) return error.code;
    throw error;
  }
}

/**
 * Lays down messages[from…to) as one batch, 1…65535 of them: one allocation, each body copied once. The batch is sealed.
 * @param allocate gives at least so many bytes, of any content
 * @param compress of the bodies as one; null: as they are
 * @throws LedgerError MESSAGE_TOO_LARGE when a property does not fit its size field (checkMessage() finds it before)
 */
export function encodeBatch(
  messages: readonly BatchMessage[],
  header: BatchHeader,
  headroomBytes = 0,
  from = 0,
  to = messages.length,
  allocate: (sizeBytes: number) => Buffer = Buffer.allocUnsafeSlow,
  compress: Compress | null = null,
): EncodedBatch {
  const count = to - from;
  assert(count >= 1 && count <= 65_535, `a batch has 1…65535 messages, not ${count}`);
  assert(header.producerId !== 0 || header.firstSequence === 0, 'a one-way batch has no sequence');
  let propertiesRoom = 0;
  let bodiesBytes = 0;
  for (let i = from; i < to; i++) {
    const message = messages[i] as BatchMessage;
    bodiesBytes += message.body.length;
    propertiesRoom += propertiesBound(message);
  }
  const start = headroomBytes;
  const propertiesAt = start + BATCH_HEADER_BYTES + count * INDEX_UNIT_BYTES;
  // Texts are encoded straight into place, so their size is known afterwards only; room for the longest UTF-8 is taken.
  const room = allocate(propertiesAt + propertiesRoom + bodiesBytes);
  const propertiesEnd = propertiesRoom === 0 ? propertiesAt : writeAllProperties(room, start, propertiesAt, messages, from, to);
  const bodiesEnd = writeBodies(room, start, propertiesEnd, messages, from, to, propertiesRoom === 0);
  const packed = compress === null ? null : compress(room.subarray(propertiesEnd, bodiesEnd));
  if (packed !== null) room.set(packed, propertiesEnd);
  const end = packed === null ? bodiesEnd : propertiesEnd + packed.length;
  const buffer = room.subarray(0, end);
  const bytes = headroomBytes === 0 ? buffer : room.subarray(start, end);
  bytes[Batch.codec] = packed === null ? Codec.none : Codec.zstd;
  writeHeader(bytes, header, count, (messages[from] as BatchMessage).bornTimeMs, propertiesEnd - propertiesAt, bodiesBytes);
  return { room, buffer, headroomBytes, bytes };
}

/** The codec is there already. */
function writeHeader(
  bytes: Buffer,
  header: BatchHeader,
  count: number,
  bornTimeMs: number,
  propertiesBytes: number,
  bodiesBytes: number,
): void {
  writeU32(bytes, Batch.sizeBytes, bytes.length);
  bytes[Batch.format] = BATCH_FORMAT;
  const { flag, delay } = header.deferral ?? NO_DEFERRAL;
  writeU16(bytes, Batch.flags, (header.producerId === 0 ? BatchFlag.noSequence : 0) | flag);
  writeU32(bytes, Batch.count, count);
  writeU53(bytes, Batch.producerId, header.producerId);
  writeU32(bytes, Batch.producerEpoch, header.producerEpoch);
  writeU32(bytes, Batch.delayLow, delay % 2 ** 32);
  writeU53(bytes, Batch.firstSequence, header.firstSequence);
  bytes.set(header.idHigh, Batch.idHigh);
  writeU53(bytes, Batch.idLow, header.idLow);
  writeU53(bytes, Batch.bornTimeMs, bornTimeMs);
  writeU32(bytes, Batch.propertiesBytes, propertiesBytes);
  writeU32(bytes, Batch.storedBodiesBytes, bytes.length - BATCH_HEADER_BYTES - count * INDEX_UNIT_BYTES - propertiesBytes);
  writeU32(bytes, Batch.bodiesBytes, bodiesBytes);
  writeU32(bytes, Batch.delayHigh, Math.floor(delay / 2 ** 32));
  sealBatch(bytes);
}

/** Bodies, and what an index unit says of body and born time. Units of messages without any properties are completed here, too. */
function writeBodies(
  target: Buffer,
  start: number,
  at: number,
  messages: readonly BatchMessage[],
  from: number,
  to: number,
  bare: boolean,
): number {
  const bodiesAt = at;
  const bornTimeMs = (messages[from] as BatchMessage).bornTimeMs;
  let unit = start + BATCH_HEADER_BYTES;
  for (let i = from; i < to; i++) {
    const message = messages[i] as BatchMessage;
    const body = message.body;
    target.set(body, at);
    writeU32(target, unit + Unit.bodyBytes, body.length);
    writeU32(target, unit + Unit.bodyAt, at - bodiesAt);
    // The wall clock may have gone back between two messages: a born time before the first one's is stored as the first one's.
    writeU32(target, unit + Unit.bornDeltaMs, Math.min(Math.max(message.bornTimeMs - bornTimeMs, 0), 0xffff_ffff));
    if (bare) writeUnitProperties(target, unit, 0, 0, 0, 0, 0);
    at += body.length;
    unit += INDEX_UNIT_BYTES;
  }
  return at;
}

function writeUnitProperties(target: Buffer, unit: number, at: number, sizeBytes: number, tag: number, key: number, flags: number): void {
  writeU32(target, unit + Unit.propertiesBytes, sizeBytes);
  writeU32(target, unit + Unit.tagHash, tag);
  writeU32(target, unit + Unit.keyHash, key);
  writeU32(target, unit + Unit.propertiesAt, at);
  writeU32(target, unit + Unit.flags, flags);
}

function writeAllProperties(
  target: Buffer,
  start: number,
  regionAt: number,
  messages: readonly BatchMessage[],
  from: number,
  to: number,
): number {
  let at = regionAt;
  let unit = start + BATCH_HEADER_BYTES;
  let lastTag = '';
  let lastHash = 0;
  for (let i = from; i < to; i++) {
    const message = messages[i] as BatchMessage;
    const sizeBytes = writeProperties(target, at, message);
    const tag = message.tag;
    if (tag !== undefined && tag !== lastTag) {
      lastTag = tag;
      lastHash = tagHash(tag);
    }
    const keys = message.keys;
    const hasKeys = keys !== undefined && keys.length > 0;
    const flags = hasKeys ? UnitFlag.hasKeys | (keys.length > 1 ? UnitFlag.manyKeys : 0) : 0;
    writeUnitProperties(
      target,
      unit,
      at - regionAt,
      sizeBytes,
      tag === undefined ? 0 : lastHash,
      hasKeys ? keyHash(keys[0] as string) : 0,
      flags,
    );
    at += sizeBytes;
    unit += INDEX_UNIT_BYTES;
  }
  return at;
}

/** Typed fields first: the first of two equal names counts. */
function writeProperties(target: Buffer, start: number, message: BatchMessage): number {
  let at = start;
  if (message.tag !== undefined) at += writeProperty(target, at, Property.tags, message.tag);
  const keys = message.keys;
  if (keys !== undefined && keys.length > 0) at += writeKeys(target, at, keys);
  if (message.shardingKey !== undefined) at += writeProperty(target, at, Property.shardingKey, message.shardingKey);
  const properties = message.properties;
  if (properties === undefined) return at - start;
  if (properties instanceof Uint8Array) {
    target.set(properties, at);
    return at + properties.length - start;
  }
  for (let i = 0; i < properties.length; i++) {
    const [name, value] = properties[i] as readonly [string, string];
    at += writeProperty(target, at, name, value);
  }
  return at - start;
}

const SPACE = 0x20;

function writeKeys(target: Buffer, at: number, keys: readonly string[]): number {
  const nameBytes = writeText(target, at + PROPERTY_HEADER_BYTES, Property.keys);
  const valueAt = at + PROPERTY_HEADER_BYTES + nameBytes;
  let end = valueAt;
  for (let i = 0; i < keys.length; i++) {
    if (i > 0) target[end++] = SPACE;
    end += writeText(target, end, keys[i] as string);
  }
  return closeProperty(target, at, nameBytes, end - valueAt);
}

const KEY_SCRATCH = Buffer.allocUnsafeSlow(1024);

/** CRC-32 of a key's UTF-8 bytes: what index units carry and the IndexFile is asked by. */
export function keyHash(key: string): number {
  if (key.length * 3 > KEY_SCRATCH.length) {
    const bytes = Buffer.from(key);
    return shortCrc32(bytes, 0, bytes.length);
  }
  return shortCrc32(KEY_SCRATCH, 0, writeText(KEY_SCRATCH, 0, key));
}
