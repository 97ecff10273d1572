import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { LedgerError } from './errors.ts';
import { MAX_SEND_PARTS } from './flat-bodies.ts';
import { encodeFrame } from './frame.ts';
import { Op, type SendResult } from './requests.ts';

/**
 * The answers of one turn to the sends of one connection, in one frame: header [SEND_ACKS, 0, 0, count], raw region of
 * fixed binary: requestId u32, parts u32, then for each part error u32, zero u32, baseOffset u64 (all ones: unknown),
 * logTimeMs u64. Packing these by msgpack would cost more than all the rest of an acknowledgement.
 */
const ACK_BYTES = 8;
const PART_BYTES = 24;
const HEADER_BYTES = 16;
const FIRST_CAPACITY_BYTES = 1_024;

/** Gathers acknowledgements; take() gives the frame and starts a new one. */
export class SendAckWriter {
  #bytes: Uint8Array | null = null;
  #end = 0;
  #count = 0;

  get empty(): boolean {
    return this.#count === 0;
  }

  /** One part. `baseOffset` −1 = unknown. */
  add(requestId: number, error: number, baseOffset: number, logTimeMs: number): void {
    this.#begin(requestId, 1);
    this.#part(error, baseOffset, logTimeMs);
  }

  /** @param results error, baseOffset, logTimeMs of each part, flat */
  addParts(requestId: number, results: ArrayLike<number>): void {
    this.#begin(requestId, results.length / 3);
    for (let i = 0; i < results.length; i += 3) this.#part(results[i] as number, results[i + 1] as number, results[i + 2] as number);
  }

  /** @returns the frame of everything added since the last call. It is the caller's. */
  take(): Uint8Array {
    const frame = encodeFrame([Op.sendAcks, 0, 0, this.#count], (this.#bytes as Uint8Array).subarray(0, this.#end), HEADER_BYTES);
    this.#bytes = null;
    this.#count = 0;
    return frame;
  }

  #begin(requestId: number, parts: number): void {
    const bytes = this.#room(ACK_BYTES + parts * PART_BYTES);
    writeU32(bytes, this.#end, requestId);
    writeU32(bytes, this.#end + 4, parts);
    this.#end += ACK_BYTES;
    this.#count += 1;
  }

  #part(error: number, baseOffset: number, logTimeMs: number): void {
    const bytes = this.#bytes as Uint8Array;
    const at = this.#end;
    writeU32(bytes, at, error);
    writeU32(bytes, at + 4, 0);
    if (baseOffset >= 0) {
      writeU53(bytes, at + 8, baseOffset);
    } else {
      writeU32(bytes, at + 8, 0xffff_ffff);
      writeU32(bytes, at + 12, 0xffff_ffff);
    }
    writeU53(bytes, at + 16, logTimeMs);
    this.#end += PART_BYTES;
  }

  /** Every byte is written before it is sent, so the memory need not be zeroed. */
  #room(sizeBytes: number): Uint8Array {
    if (this.#bytes === null) {
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(FIRST_CAPACITY_BYTES, HEADER_BYTES + sizeBytes));
      this.#end = HEADER_BYTES;
    } else if (this.#end + sizeBytes > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#end + sizeBytes));
      larger.set(this.#bytes.subarray(0, this.#end));
      this.#bytes = larger;
    }
    return this.#bytes;
  }
}

/** Calls back for each answered send. @throws LedgerError BAD_REQUEST when `raw` is malformed; earlier ones were called back then */
export function forEachSendAck(raw: Uint8Array, visit: (requestId: number, results: readonly SendResult[]) => void): void {
  let at = 0;
  while (at < raw.length) {
    if (at + ACK_BYTES > raw.length) throw truncated();
    const requestId = readU32(raw, at);
    const parts = readU32(raw, at + 4);
    at += ACK_BYTES;
    if (parts > MAX_SEND_PARTS || at + parts * PART_BYTES > raw.length) throw truncated();
    const results: SendResult[] = [];
    for (let i = 0; i < parts; i++, at += PART_BYTES) results.push(readResult(raw, at));
    visit(requestId, results);
  }
}

function readResult(raw: Uint8Array, at: number): SendResult {
  const unknown = readU32(raw, at + 8) === 0xffff_ffff && readU32(raw, at + 12) === 0xffff_ffff;
  const baseOffset = unknown ? -1 : readU53(raw, at + 8);
  const logTimeMs = readU53(raw, at + 16);
  if (Number.isNaN(baseOffset) || Number.isNaN(logTimeMs)) throw new LedgerError('BAD_REQUEST', 'send acks: not below 2^53');
  return { error: readU32(raw, at), baseOffset, logTimeMs };
}

function truncated(): LedgerError {
  return new LedgerError('BAD_REQUEST', 'send acks: truncated');
}
