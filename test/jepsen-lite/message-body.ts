import { crc32 } from 'node:zlib';
import { UNREADABLE } from './history.ts';

const HEAD_BYTES = 10;
const MAX_SHOWN_BYTES = 32;

/** A message of a workload: its stream, its number in it, and filling that both decide, under a checksum of its own. */
export function encodeMessage(stream: string, n: number, sizeBytes: number): Buffer {
  const name = Buffer.byteLength(stream);
  const bytes = Buffer.alloc(Math.max(sizeBytes, HEAD_BYTES + name), n & 0xff);
  bytes.writeUInt32LE(n, 4);
  bytes.writeUInt16LE(name, 8);
  bytes.write(stream, HEAD_BYTES);
  bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0);
  return bytes;
}

/** @returns stream `?` with the first bytes in hex for what no workload wrote */
export function decodeMessage(body: Uint8Array): { readonly stream: string; readonly n: number | string } {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const whole = bytes.length >= HEAD_BYTES && crc32(bytes.subarray(4)) === bytes.readUInt32LE(0);
  if (!whole) return { stream: UNREADABLE, n: bytes.toString('hex', 0, MAX_SHOWN_BYTES) };
  const end = HEAD_BYTES + bytes.readUInt16LE(8);
  return { stream: bytes.toString('utf8', HEAD_BYTES, end), n: bytes.readUInt32LE(4) };
}
