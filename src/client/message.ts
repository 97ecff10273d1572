import { readU16, readU32 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { LedgerError } from '../protocol/errors.ts';
import {
  BATCH_FORMAT,
  BATCH_HEADER_BYTES,
  Batch,
  batchBornTimeMs,
  batchCodec,
  batchCount,
  batchIdLow,
  batchPropertiesBytes,
  Codec,
  INDEX_UNIT_BYTES,
  Unit,
} from '../protocol/record-batch.ts';
import type { MessageQueue } from './types.ts';

/** RocketMQ's reserved property names; the rest is the user's. */
export const Property = { tag: 'TAGS', keys: 'KEYS', orderingKey: '__SHARDINGKEY' } as const;
const RESERVED: ReadonlySet<string> = new Set(Object.values(Property));

const decoder = new TextDecoder();
const HEX_LOW_DIGITS = 16;

/** @param high the client instance's 8 random bytes @returns 32 upper-case hex digits */
export function messageId(high: string, low: number): string {
  return high + low.toString(16).toUpperCase().padStart(HEX_LOW_DIGITS, '0');
}

export function idHighText(bytes: Uint8Array, at = 0): string {
  let text = '';
  for (let i = at; i < at + 8; i++) text += (bytes[i] as number).toString(16).padStart(2, '0');
  return text.toUpperCase();
}

/** A batch out of a pull; its messages are views of these bytes, decoded when asked for. */
export class ReceivedBatch {
  readonly bytes: Uint8Array;
  readonly queue: MessageQueue;
  readonly baseOffset: number;
  readonly storeTimeMs: number;
  readonly position: number;
  readonly count: number;
  readonly #bodiesAt: number;
  readonly #propertiesAt: number;
  #idHigh: string | null = null;

  /**
   * Checks the whole batch once, so that no message of it can read outside.
   * @throws LedgerError CORRUPT_BATCH, UNSUPPORTED_VERSION for a codec or format that this version does not know
   */
  constructor(bytes: Uint8Array, queue: MessageQueue, baseOffset: number, storeTimeMs: number, position: number) {
    this.bytes = bytes;
    this.queue = queue;
    this.baseOffset = baseOffset;
    this.storeTimeMs = storeTimeMs;
    this.position = position;
    if (bytes.length < BATCH_HEADER_BYTES || crc32(bytes.subarray(4)) !== readU32(bytes, Batch.checksum)) {
      throw new LedgerError('CORRUPT_BATCH', `${queue.topic}/${queue.brokerName}/${queue.queueId} at offset ${baseOffset}`);
    }
    if (bytes[Batch.format] !== BATCH_FORMAT || batchCodec(bytes, 0) !== Codec.none) throw new LedgerError('UNSUPPORTED_VERSION');
    this.count = batchCount(bytes, 0);
    this.#propertiesAt = BATCH_HEADER_BYTES + this.count * INDEX_UNIT_BYTES;
    this.#bodiesAt = this.#propertiesAt + batchPropertiesBytes(bytes, 0);
    if (this.#bodiesAt > bytes.length) throw new LedgerError('CORRUPT_BATCH');
  }

  tagHash(index: number): number {
    return readU32(this.bytes, this.#unit(index) + Unit.tagHash);
  }

  body(index: number): Uint8Array {
    const unit = this.#unit(index);
    const at = this.#bodiesAt + readU32(this.bytes, unit + Unit.bodyAt);
    return this.bytes.subarray(at, at + readU32(this.bytes, unit + Unit.bodyBytes));
  }

  bodyBytes(index: number): number {
    return readU32(this.bytes, this.#unit(index) + Unit.bodyBytes);
  }

  bornTimeMs(index: number): number {
    return batchBornTimeMs(this.bytes, 0) + readU32(this.bytes, this.#unit(index) + Unit.bornDeltaMs);
  }

  msgId(index: number): string {
    this.#idHigh ??= idHighText(this.bytes, Batch.idHigh);
    return messageId(this.#idHigh, batchIdLow(this.bytes, 0) + index);
  }

  properties(index: number): Record<string, string> {
    const unit = this.#unit(index);
    let at = this.#propertiesAt + readU32(this.bytes, unit + Unit.propertiesAt);
    const end = at + readU32(this.bytes, unit + Unit.propertiesBytes);
    const properties: Record<string, string> = {};
    while (at < end) {
      const nameBytes = this.bytes[at] as number;
      const valueAt = at + 3 + nameBytes;
      const next = valueAt + readU16(this.bytes, at + 1);
      if (at + 3 > end || next > end) throw new LedgerError('CORRUPT_BATCH', 'a property reaches past its message');
      const name = decoder.decode(this.bytes.subarray(at + 3, valueAt));
      properties[name] = decoder.decode(this.bytes.subarray(valueAt, next));
      at = next;
    }
    return properties;
  }

  #unit(index: number): number {
    return BATCH_HEADER_BYTES + index * INDEX_UNIT_BYTES;
  }
}

/** A message as it was stored, with its place. Fields other than the offset are decoded when first read. */
export class ReceivedMessage {
  readonly #batch: ReceivedBatch;
  readonly #index: number;
  #properties: Record<string, string> | null = null;
  /** Attempts that failed before this one. */
  reconsumeTimes = 0;

  constructor(batch: ReceivedBatch, index: number) {
    this.#batch = batch;
    this.#index = index;
  }
  get offset(): number {
    return this.#batch.baseOffset + this.#index;
  }
  get topic(): string {
    return this.#batch.queue.topic;
  }
  get brokerName(): string {
    return this.#batch.queue.brokerName;
  }
  get queueId(): number {
    return this.#batch.queue.queueId;
  }
  get queue(): MessageQueue {
    return this.#batch.queue;
  }
  /** The same over resends, so that a receiver can tell a message it has handled before. */
  get msgId(): string {
    return this.#batch.msgId(this.#index);
  }
  /** A view of received bytes: do not change it; copy what is kept for long, since it keeps its whole batch alive. */
  get body(): Uint8Array {
    return this.#batch.body(this.#index);
  }
  get bodyBytes(): number {
    return this.#batch.bodyBytes(this.#index);
  }
  /** The body decoded as UTF-8. */
  text(): string {
    return decoder.decode(this.body);
  }
  get tag(): string | undefined {
    return this.#all()[Property.tag];
  }
  get keys(): readonly string[] {
    const keys = this.#all()[Property.keys];
    return keys === undefined ? [] : keys.split(' ');
  }
  get orderingKey(): string | undefined {
    return this.#all()[Property.orderingKey];
  }
  /** The user's own properties; tag, keys and ordering key have fields of their own. */
  get properties(): Readonly<Record<string, string>> {
    const own: Record<string, string> = {};
    for (const [name, value] of Object.entries(this.#all())) if (!RESERVED.has(name)) own[name] = value;
    return own;
  }
  /** Producer's clock at send(), ms since 1970. */
  get bornTimeMs(): number {
    return this.#batch.bornTimeMs(this.#index);
  }
  /** Log time of its entry, ms since 1970: never goes back within a broker group. */
  get storeTimeMs(): number {
    return this.#batch.storeTimeMs;
  }
  #all(): Record<string, string> {
    this.#properties ??= this.#batch.properties(this.#index);
    return this.#properties;
  }
}
