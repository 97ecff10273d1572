import { readU32, writeU32 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import type { MessageBody } from './checkers/violation.ts';

/** producer, key, n, length of the filling, then the filling, then a CRC-32 over all of it. */
const HEAD_BYTES = 16;
const CHECKSUM_BYTES = 4;

/** @param key 0 = none. @param fillBytes makes the message longer */
export function encodeBody(producer: number, key: number, n: number, fillBytes: number): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + fillBytes + CHECKSUM_BYTES).fill(n & 0xff);
  writeU32(bytes, 0, producer);
  writeU32(bytes, 4, key);
  writeU32(bytes, 8, n);
  writeU32(bytes, 12, fillBytes);
  const end = bytes.length - CHECKSUM_BYTES;
  writeU32(bytes, end, crc32(bytes.subarray(0, end)));
  return bytes;
}

export function decodeBody(bytes: Uint8Array): MessageBody {
  const end = bytes.length - CHECKSUM_BYTES;
  if (end < HEAD_BYTES) return { producer: 0, key: 0, n: 0, whole: false };
  const whole = readU32(bytes, 12) === end - HEAD_BYTES && readU32(bytes, end) === crc32(bytes.subarray(0, end));
  return { producer: readU32(bytes, 0), key: readU32(bytes, 4), n: readU32(bytes, 8), whole };
}
