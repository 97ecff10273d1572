import { assert } from '../base/assert.ts';
import type { Random } from '../io/random.ts';
import { LedgerError } from './errors.ts';

/**
 * A message id: 32 upper-case hex digits. The high half is the client instance (64 random bits, as they are), the low half
 * a counter below 2^53. So a batch needs one id for all its messages, and an id costs no randomness.
 */
export const MESSAGE_ID_HIGH_BYTES = 8;

export interface MessageId {
  /** 8 bytes. */
  readonly high: Uint8Array;
  /** Below 2^53. */
  readonly low: number;
}

export function messageIdHighText(high: Uint8Array): string {
  let text = '';
  for (let i = 0; i < MESSAGE_ID_HIGH_BYTES; i++) text += (high[i] as number).toString(16).padStart(2, '0');
  return text.toUpperCase();
}

/** @param highText from messageIdHighText(): made once for a batch */
export function joinMessageId(highText: string, low: number): string {
  return highText + low.toString(16).toUpperCase().padStart(16, '0');
}

/** The last digits of an id, by their value: the ids of a batch differ in little else. */
const LAST_DIGITS = 3;
const LAST_VALUES = 16 ** LAST_DIGITS;
const LAST_TEXTS = Array.from({ length: LAST_VALUES }, (_, value) => value.toString(16).toUpperCase().padStart(LAST_DIGITS, '0'));

/** Texts of ids that follow each other, for a piece of one string each: an id costs a producer nothing that it would notice. */
export class MessageIdTexts {
  readonly #highText: string;
  #start = -1;
  #front = '';

  constructor(highText: string) {
    this.#highText = highText;
  }

  at(low: number): string {
    const last = low % LAST_VALUES;
    if (low - last !== this.#start) {
      this.#start = low - last;
      this.#front = joinMessageId(this.#highText, this.#start).slice(0, -LAST_DIGITS);
    }
    return this.#front + (LAST_TEXTS[last] as string);
  }
}

export function formatMessageId(id: MessageId): string {
  return joinMessageId(messageIdHighText(id.high), id.low);
}

/** Lower-case digits are accepted. @throws LedgerError BAD_REQUEST */
export function parseMessageId(text: string): MessageId {
  if (!/^[0-9A-Fa-f]{32}$/.test(text))
    throw new LedgerError('BAD_REQUEST', `a message id has 32 hex digits: ${JSON.stringify(text.slice(0, 64))}`);
  const low = Number.parseInt(text.slice(16), 16);
  if (!Number.isSafeInteger(low)) throw new LedgerError('BAD_REQUEST', `the low half of a message id is below 2^53: ${text}`);
  const high = new Uint8Array(MESSAGE_ID_HIGH_BYTES);
  for (let i = 0; i < MESSAGE_ID_HIGH_BYTES; i++) high[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return { high, low };
}

/** The ids of one client instance. */
export class MessageIdGenerator {
  readonly high: Uint8Array = new Uint8Array(MESSAGE_ID_HIGH_BYTES);
  #next = 0;

  constructor(random: Random) {
    random.fill(this.high);
  }

  /** Takes `count` ids in a row. @returns the low half of the first */
  take(count: number): number {
    const first = this.#next;
    this.#next += count;
    assert(count >= 1 && this.#next <= Number.MAX_SAFE_INTEGER, 'message ids of this instance are used up');
    return first;
  }
}
