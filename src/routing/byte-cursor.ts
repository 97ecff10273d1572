import { readU16, readU32, readU53, writeU16, writeU32, writeU53 } from '../base/bytes.ts';

const TWO_32 = 0x1_0000_0000;

/** The bytes are not what they claim to be. Their sender is damaged, of another version, or a stranger. */
export class MalformedBytes extends Error {
  override name = 'MalformedBytes';
}

/** Lays fields one behind the other, little-endian. Writing beyond the end throws RangeError: callers ask for `room` first. */
export class ByteWriter {
  readonly buffer: Buffer;
  at = 0;

  constructor(sizeBytes: number) {
    this.buffer = Buffer.allocUnsafe(sizeBytes);
  }

  /** What was written: a view. */
  get written(): Uint8Array {
    return this.buffer.subarray(0, this.at);
  }

  u8(value: number): void {
    this.buffer[this.#take(1)] = value;
  }
  u16(value: number): void {
    writeU16(this.buffer, this.#take(2), value);
  }
  u32(value: number): void {
    writeU32(this.buffer, this.#take(4), value);
  }
  u48(value: number): void {
    this.u32(value >>> 0);
    this.u16(Math.floor(value / TWO_32));
  }
  u53(value: number): void {
    writeU53(this.buffer, this.#take(8), value);
  }
  /** UTF-8 behind its length. */
  text(value: string): void {
    const sizeBytes = Buffer.byteLength(value);
    this.u16(sizeBytes);
    this.buffer.write(value, this.#take(sizeBytes), 'utf8');
  }
  bytes(value: Uint8Array): void {
    this.buffer.set(value, this.#take(value.length));
  }

  #take(sizeBytes: number): number {
    const at = this.at;
    if (at + sizeBytes > this.buffer.length) throw new RangeError(`${sizeBytes} bytes at ${at} of ${this.buffer.length}`);
    this.at = at + sizeBytes;
    return at;
  }
}

/** Reads what a ByteWriter laid. Every read is checked. @throws MalformedBytes */
export class ByteReader {
  readonly #bytes: Buffer;
  readonly end: number;
  at: number;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
    this.end = end;
  }

  get left(): number {
    return this.end - this.at;
  }

  u8(): number {
    return this.#bytes[this.#take(1)] as number;
  }
  u16(): number {
    return readU16(this.#bytes, this.#take(2));
  }
  u32(): number {
    return readU32(this.#bytes, this.#take(4));
  }
  u48(): number {
    return this.u32() + this.u16() * TWO_32;
  }
  u53(): number {
    const value = readU53(this.#bytes, this.#take(8));
    if (Number.isNaN(value)) throw new MalformedBytes('an integer of 2^53 or more');
    return value;
  }
  text(maxBytes: number): string {
    const sizeBytes = this.u16();
    if (sizeBytes > maxBytes) throw new MalformedBytes(`a text of ${sizeBytes} bytes`);
    const at = this.#take(sizeBytes);
    return this.#bytes.toString('utf8', at, at + sizeBytes);
  }
  /** A view. */
  bytes(sizeBytes: number): Uint8Array {
    const at = this.#take(sizeBytes);
    return this.#bytes.subarray(at, at + sizeBytes);
  }

  #take(sizeBytes: number): number {
    const at = this.at;
    if (at + sizeBytes > this.end) throw new MalformedBytes(`${sizeBytes} bytes at ${at} of ${this.end}`);
    this.at = at + sizeBytes;
    return at;
  }
}
