import { Packr } from 'msgpackr';
import { LedgerError } from './errors.ts';

/** Nesting of a header at most; the deepest one of ours has 5. */
const MAX_DEPTH = 16;

// No records, no extensions: the header is plain msgpack that any language has. 64-bit integers of other libraries become numbers.
const packr = new Packr({ useRecords: false, moreTypes: false, int64AsType: 'number', largeBigIntToFloat: true });

/** The result lies in a buffer of the packer's: copy it before the turn ends. */
export function pack(value: unknown): Uint8Array {
  return packr.pack(value);
}

/**
 * @param bytes exactly one msgpack value
 * @throws LedgerError BAD_REQUEST for anything else
 */
export function unpack(bytes: Uint8Array): unknown {
  const end = skip(bytes, 0, 0);
  if (end !== bytes.length) throw malformed('bytes behind the value');
  try {
    return packr.unpack(bytes);
  } catch (error) {
    throw malformed(error instanceof Error ? error.message : 'not msgpack');
  }
}

function malformed(detail: string): LedgerError {
  return new LedgerError('BAD_REQUEST', `header: ${detail}`);
}

/**
 * Walks one value before it is decoded: five bytes may claim 2^32 elements, for which a decoder reserves memory, and nested
 * ones exhaust its stack. Extensions and binary are not part of the protocol.
 * @returns where the value ends
 */
function skip(bytes: Uint8Array, at: number, depth: number): number {
  if (at >= bytes.length) throw malformed('truncated');
  const type = bytes[at] as number;
  if (type < 0x80 || type >= 0xe0) return at + 1;
  if (type < 0x90) return skipItems(bytes, at + 1, (type & 0x0f) * 2, depth);
  if (type < 0xa0) return skipItems(bytes, at + 1, type & 0x0f, depth);
  if (type < 0xc0) return within(bytes, at + 1 + (type & 0x1f));
  switch (type) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return at + 1;
    case 0xcc:
    case 0xd0:
      return within(bytes, at + 2);
    case 0xcd:
    case 0xd1:
      return within(bytes, at + 3);
    case 0xca:
    case 0xce:
    case 0xd2:
      return within(bytes, at + 5);
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return within(bytes, at + 9);
    case 0xd9:
      return within(bytes, at + 2 + size(bytes, at + 1, 1));
    case 0xda:
      return within(bytes, at + 3 + size(bytes, at + 1, 2));
    case 0xdb:
      return within(bytes, at + 5 + size(bytes, at + 1, 4));
    case 0xdc:
      return skipItems(bytes, at + 3, size(bytes, at + 1, 2), depth);
    case 0xdd:
      return skipItems(bytes, at + 5, size(bytes, at + 1, 4), depth);
    case 0xde:
      return skipItems(bytes, at + 3, size(bytes, at + 1, 2) * 2, depth);
    case 0xdf:
      return skipItems(bytes, at + 5, size(bytes, at + 1, 4) * 2, depth);
    default:
      throw malformed(`type 0x${type.toString(16)}`);
  }
}

function skipItems(bytes: Uint8Array, at: number, count: number, depth: number): number {
  if (depth >= MAX_DEPTH) throw malformed('nested too deep');
  // Each item takes a byte at least.
  if (count > bytes.length - at) throw malformed('truncated');
  let end = at;
  for (let i = 0; i < count; i++) end = skip(bytes, end, depth + 1);
  return end;
}

/** Big-endian, as msgpack has it. */
function size(bytes: Uint8Array, at: number, width: number): number {
  within(bytes, at + width);
  let value = 0;
  for (let i = 0; i < width; i++) value = value * 256 + (bytes[at + i] as number);
  return value;
}

function within(bytes: Uint8Array, end: number): number {
  if (end > bytes.length) throw malformed('truncated');
  return end;
}
