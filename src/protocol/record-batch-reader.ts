import { assert } from '../base/assert.ts';
import { readU32 } from '../base/bytes.ts';
import { decompressBodies } from './body-codecs.ts';
import { LedgerError } from './errors.ts';
import { joinMessageId, messageIdHighText } from './message-id.ts';
import { arePropertiesSound, decodeProperties, findProperty, Property } from './properties.ts';
import {
  type BatchLimits,
  batchBodiesBytes,
  batchBornTimeMs,
  batchCodec,
  batchCount,
  batchIdHigh,
  batchIdLow,
  batchPropertiesBytes,
  Codec,
  checkBatch,
  DEFAULT_BATCH_LIMITS,
  Unit,
  UnitFlag,
  unitAt,
} from './record-batch.ts';
import type { SqlFilter } from './sql-filter/sql-filter.ts';

/** Restores the bodies region of a compressed batch. @throws when the bytes are damaged */
export type Decompress = (codec: number, stored: Uint8Array, sizeBytes: number) => Uint8Array;

/**
 * A batch at the consumer. Nothing is decoded before it is asked for; bodies are views of the batch.
 * Message i of the batch has the offset baseOffset + i.
 */
export class BatchReader {
  readonly baseOffset: number;
  readonly count: number;
  readonly #bytes: Buffer;
  readonly #propertiesAt: number;
  readonly #bodies: Buffer;
  readonly #bodiesAt: number;
  #idHighText = '';

  /**
   * @param bytes exactly one batch; kept as long as the reader or a body is
   * @throws LedgerError CORRUPT_BATCH, UNSUPPORTED_VERSION (of the format, the codec or a flag), MESSAGE_TOO_LARGE
   */
  constructor(
    bytes: Uint8Array,
    baseOffset: number,
    limits: BatchLimits = DEFAULT_BATCH_LIMITS,
    decompress: Decompress = decompressBodies,
  ) {
    const refusal = checkBatch(bytes, limits);
    if (refusal !== null) throw new LedgerError(refusal, `batch at offset ${baseOffset}`);
    this.#bytes = asBuffer(bytes);
    this.baseOffset = baseOffset;
    this.count = batchCount(bytes, 0);
    this.#propertiesAt = unitAt(0, this.count);
    const storedAt = this.#propertiesAt + batchPropertiesBytes(bytes, 0);
    const codec = batchCodec(bytes, 0);
    if (codec === Codec.none) {
      this.#bodies = this.#bytes;
      this.#bodiesAt = storedAt;
      return;
    }
    const bodies = decompress(codec, bytes.subarray(storedAt), batchBodiesBytes(bytes, 0));
    if (bodies.length !== batchBodiesBytes(bytes, 0))
      throw new LedgerError('CORRUPT_BATCH', `bodies at offset ${baseOffset} have another size`);
    this.#bodies = asBuffer(bodies);
    this.#bodiesAt = 0;
  }

  /** Memory that it stands for: the batch, and its bodies once more when they were compressed. */
  get memoryBytes(): number {
    return this.#bodies === this.#bytes ? this.#bytes.length : this.#bytes.length + this.#bodies.length;
  }

  offset(i: number): number {
    return this.baseOffset + i;
  }

  /** A view. */
  body(i: number): Buffer {
    const unit = this.#unit(i);
    const at = this.#bodiesAt + readU32(this.#bytes, unit + Unit.bodyAt);
    return this.#bodies.subarray(at, at + readU32(this.#bytes, unit + Unit.bodyBytes));
  }

  /** 0 = no tag. Filter by it first, then compare the text: hashes may collide. */
  tagHash(i: number): number {
    return readU32(this.#bytes, this.#unit(i) + Unit.tagHash);
  }

  /** CRC-32 of the first key; 0 = none. */
  keyHash(i: number): number {
    return readU32(this.#bytes, this.#unit(i) + Unit.keyHash);
  }

  bornTimeMs(i: number): number {
    return batchBornTimeMs(this.#bytes, 0) + readU32(this.#bytes, this.#unit(i) + Unit.bornDeltaMs);
  }

  messageId(i: number): string {
    assert(i >= 0 && i < this.count, `message ${i} of ${this.count}`);
    if (this.#idHighText === '') this.#idHighText = messageIdHighText(batchIdHigh(this.#bytes, 0));
    return joinMessageId(this.#idHighText, batchIdLow(this.#bytes, 0) + i);
  }

  hasProperties(i: number): boolean {
    return readU32(this.#bytes, this.#unit(i) + Unit.propertiesBytes) !== 0;
  }

  /** Whether the message can be decoded: a broker looks at no properties, so a client may have stored any bytes there. */
  isSound(i: number): boolean {
    const unit = this.#unit(i);
    const sizeBytes = readU32(this.#bytes, unit + Unit.propertiesBytes);
    if (sizeBytes === 0) return true;
    const at = this.#propertiesAt + readU32(this.#bytes, unit + Unit.propertiesAt);
    return arePropertiesSound(this.#bytes, at, at + sizeBytes);
  }

  /** All of them, reserved ones included. @throws LedgerError CORRUPT_BATCH when this message's properties are malformed */
  properties(i: number): Map<string, string> {
    const unit = this.#unit(i);
    const at = this.#propertiesAt + readU32(this.#bytes, unit + Unit.propertiesAt);
    return decodeProperties(this.#bytes, at, at + readU32(this.#bytes, unit + Unit.propertiesBytes));
  }

  /** One of them; `name` is ASCII. @throws LedgerError CORRUPT_BATCH */
  property(i: number, name: string): string | undefined {
    const unit = this.#unit(i);
    const sizeBytes = readU32(this.#bytes, unit + Unit.propertiesBytes);
    if (sizeBytes === 0) return undefined;
    const at = this.#propertiesAt + readU32(this.#bytes, unit + Unit.propertiesAt);
    return findProperty(this.#bytes, at, at + sizeBytes, name);
  }

  /** Is the expression true of the message's properties? */
  passes(i: number, filter: SqlFilter): boolean {
    assert(i >= 0 && i < this.count, `message ${i} of ${this.count}`);
    return filter.matches(this.#bytes, i);
  }

  tag(i: number): string | undefined {
    return this.property(i, Property.tags);
  }

  keys(i: number): string[] {
    if ((readU32(this.#bytes, this.#unit(i) + Unit.flags) & UnitFlag.hasKeys) === 0) return [];
    return (this.property(i, Property.keys) ?? '').split(' ').filter((key) => key !== '');
  }

  #unit(i: number): number {
    assert(i >= 0 && i < this.count, `message ${i} of ${this.count}`);
    return unitAt(0, i);
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
