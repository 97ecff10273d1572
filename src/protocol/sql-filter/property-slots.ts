import { readU16 } from '../../base/bytes.ts';
import { PROPERTY_HEADER_BYTES } from '../properties.ts';

/** Longest text that is read as a number: longer than any number that a program prints. */
const MAX_NUMBER_CHARACTERS = 64;
const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
/** So many digits are exact in a loop of doubles. */
const EXACT_DIGITS = 15;
/** Below, a loop is faster than a view and a call. */
const LOOP_BYTES = 64;
const MINUS = 0x2d;
const ZERO = 0x30;

/**
 * The properties of one message that an expression asks for, as places in its bytes: found in one pass over the names, and
 * decoded only where a comparison needs it. One object for each expression, filled again for each message.
 */
export class PropertySlots {
  readonly #names: readonly Buffer[];
  readonly #from: Int32Array;
  readonly #to: Int32Array;
  #bytes: Buffer = Buffer.alloc(0);

  /** @param names ASCII, each once */
  constructor(names: readonly string[]) {
    this.#names = names.map((name) => Buffer.from(name));
    this.#from = new Int32Array(names.length);
    this.#to = new Int32Array(names.length);
  }

  /** Bytes that the places of load() are in: a batch, or more. */
  bind(bytes: Uint8Array): void {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Lets go of the memory that bind() took: an expression lives longer than a batch. */
  release(): void {
    this.#bytes = NOTHING;
  }

  /** Of two equal names the first counts. Malformed bytes end the list: what stands before them is there. */
  load(from: number, to: number): void {
    const bytes = this.#bytes;
    this.#from.fill(-1);
    let missing = this.#names.length;
    for (let at = from; missing > 0 && at + PROPERTY_HEADER_BYTES <= to; ) {
      const nameAt = at + PROPERTY_HEADER_BYTES;
      const nameBytes = bytes[at] as number;
      const next = nameAt + nameBytes + readU16(bytes, at + 1);
      if (next > to) return;
      for (let slot = 0; slot < this.#names.length; slot++) {
        const name = this.#names[slot] as Buffer;
        if (name.length !== nameBytes || this.#from[slot] !== -1 || !isSame(bytes, nameAt, name)) continue;
        this.#from[slot] = nameAt + nameBytes;
        this.#to[slot] = next;
        missing--;
        break;
      }
      at = next;
    }
  }

  has(slot: number): boolean {
    return this.#from[slot] !== -1;
  }

  /** The text in UTF-8 is `text`. Only where has(). */
  equals(slot: number, text: Buffer): boolean {
    const from = this.#from[slot] as number;
    return (this.#to[slot] as number) - from === text.length && isSame(this.#bytes, from, text);
  }

  equalsAny(slot: number, texts: readonly Buffer[]): boolean {
    for (let i = 0; i < texts.length; i++) if (this.equals(slot, texts[i] as Buffer)) return true;
    return false;
  }

  startsWith(slot: number, text: Buffer): boolean {
    const from = this.#from[slot] as number;
    return (this.#to[slot] as number) - from >= text.length && isSame(this.#bytes, from, text);
  }

  endsWith(slot: number, text: Buffer): boolean {
    const at = (this.#to[slot] as number) - text.length;
    return at >= (this.#from[slot] as number) && isSame(this.#bytes, at, text);
  }

  contains(slot: number, text: Buffer): boolean {
    const from = this.#from[slot] as number;
    const to = this.#to[slot] as number;
    if (to - from > LOOP_BYTES) return this.#bytes.subarray(from, to).includes(text);
    for (let at = from; at + text.length <= to; at++) if (isSame(this.#bytes, at, text)) return true;
    return false;
  }

  equalSlots(a: number, b: number): boolean {
    const from = this.#from[a] as number;
    const other = this.#from[b] as number;
    const length = (this.#to[a] as number) - from;
    if ((this.#to[b] as number) - other !== length) return false;
    for (let i = 0; i < length; i++) if (this.#bytes[from + i] !== this.#bytes[other + i]) return false;
    return true;
  }

  /** Is it `true`, in any case? */
  isTrue(slot: number): boolean {
    const from = this.#from[slot] as number;
    if ((this.#to[slot] as number) - from !== TRUE.length) return false;
    // 0x20 is the difference between a letter's cases.
    for (let i = 0; i < TRUE.length; i++) if (((this.#bytes[from + i] as number) | 0x20) !== TRUE[i]) return false;
    return true;
  }

  /** NaN when it is missing or no decimal number. */
  number(slot: number): number {
    const from = this.#from[slot] as number;
    if (from === -1) return Number.NaN;
    const bytes = this.#bytes;
    const to = this.#to[slot] as number;
    let at = bytes[from] === MINUS ? from + 1 : from;
    const digits = to - at;
    if (digits < 1 || digits > EXACT_DIGITS) return slowNumber(bytes, from, to);
    let value = 0;
    for (; at < to; at++) {
      const digit = (bytes[at] as number) - ZERO;
      if (digit < 0 || digit > 9) return slowNumber(bytes, from, to);
      value = value * 10 + digit;
    }
    return bytes[from] === MINUS ? -value : value;
  }
}

const TRUE = Buffer.from('true');
const NOTHING = Buffer.alloc(0);

function isSame(bytes: Uint8Array, at: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}

function slowNumber(bytes: Buffer, from: number, to: number): number {
  return to - from > MAX_NUMBER_CHARACTERS ? Number.NaN : numberOf(bytes.toString('latin1', from, to));
}

/** The number that a text stands for: decimal, with a sign, a point and an exponent where wanted, nothing around it. NaN = none. */
export function numberOf(text: string): number {
  return DECIMAL.test(text) ? Number(text) : Number.NaN;
}
