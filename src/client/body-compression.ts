import { type Compress, compressor, MAX_COMPRESS_LEVEL, MIN_COMPRESS_LEVEL } from '../protocol/body-codecs.ts';
import { LedgerError } from '../protocol/errors.ts';
import { Codec } from '../protocol/record-batch.ts';
import type { CompressType } from './types.ts';

/** Bodies that did not get smaller are not tried again for so many batches of their topic: pictures and ciphertext stay what they are. */
const BATCHES_LEFT_ALONE = 31;

export interface CompressionSettings {
  readonly compressType: CompressType;
  readonly compressMsgBodyOverHowmuch: number;
  readonly compressLevel: number;
}

/** @throws LedgerError BAD_REQUEST */
export function checkCompression({ compressType, compressMsgBodyOverHowmuch: over, compressLevel }: CompressionSettings): void {
  const { none, zstd } = Codec;
  if (!Object.hasOwn({ none, zstd }, compressType)) throw new LedgerError('BAD_REQUEST', `compressType ${compressType}: none or zstd`);
  if (!(over >= 0)) throw new LedgerError('BAD_REQUEST', `compressMsgBodyOverHowmuch ${over} is not 0 or more`);
  if (!(Number.isInteger(compressLevel) && compressLevel >= MIN_COMPRESS_LEVEL && compressLevel <= MAX_COMPRESS_LEVEL))
    throw new LedgerError('BAD_REQUEST', `compressLevel ${compressLevel} is not in ${MIN_COMPRESS_LEVEL}…${MAX_COMPRESS_LEVEL}`);
}

/** Which batches of a producer are compressed (F46). */
export class BodyCompression {
  readonly #overBytes: number;
  readonly #compress: Compress | null;
  /** By topic; there are as many as the producer sends to. */
  readonly #leftAlone = new Map<string, number>();

  constructor({ compressType, compressMsgBodyOverHowmuch, compressLevel }: CompressionSettings) {
    this.#overBytes = compressMsgBodyOverHowmuch;
    this.#compress = compressType === 'none' ? null : compressor(compressLevel);
  }

  /**
   * @param largestBodyBytes of the batch that is about to be laid down
   * @param maxCodec that its broker takes
   */
  of(topic: string, largestBodyBytes: number, maxCodec: number): Compress | null {
    const compress = this.#compress;
    if (compress === null || maxCodec < Codec.zstd || largestBodyBytes <= this.#overBytes) return null;
    const left = this.#leftAlone.get(topic) ?? 0;
    if (left > 0) {
      this.#leftAlone.set(topic, left - 1);
      return null;
    }
    return (bodies) => {
      const packed = compress(bodies);
      if (packed === null) this.#leftAlone.set(topic, BATCHES_LEFT_ALONE);
      return packed;
    };
  }
}
