import { crc32 } from '../../base/crc.ts';

const encoder = new TextEncoder();

/** 32 bits of a text. Decides assignments that are in the log: never to be changed under a strategy's name. */
export const hashOf = (text: string): number => finish(crc32(encoder.encode(text)));

/** Finaliser of MurmurHash3 (32 bits): every input bit reaches every output bit, which a bare CRC does not do. */
export function finish(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
