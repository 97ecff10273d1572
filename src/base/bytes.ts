import { assert } from './assert.ts';

/**
 * Little-endian integers in byte arrays. 64-bit fields hold integers below 2^53 and are read as numbers:
 * BigInt costs an allocation for each value.
 */
const TWO_32 = 0x1_0000_0000;

export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)) >>> 0
  );
}

/** @returns an integer below 2^53, or NaN when the field holds a larger one (damaged or foreign bytes). */
export function readU53(bytes: Uint8Array, at: number): number {
  const high = readU32(bytes, at + 4);
  return high >= 0x20_0000 ? Number.NaN : high * TWO_32 + readU32(bytes, at);
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** Writes an integer below 2^53 as 64 bits. */
export function writeU53(bytes: Uint8Array, at: number, value: number): void {
  const high = Math.floor(value / TWO_32);
  // The message is made only when it is needed: it would cost more than the write.
  if (!(value >= 0 && high < 0x20_0000)) assert(false, `not below 2^53: ${value}`);
  writeU32(bytes, at, value >>> 0);
  writeU32(bytes, at + 4, high);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Rounds up to a multiple of `unit`, a power of two. */
export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
