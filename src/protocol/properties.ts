import { readU16, writeU16 } from '../base/bytes.ts';
import { LedgerError } from './errors.ts';

/**
 * A message's properties: repeated [name size u8][value size u16][name][value], UTF-8.
 * When a name comes twice the first one counts: the typed fields are written first, and the index unit was made from them.
 */
export const PROPERTY_HEADER_BYTES = 3;
export const MAX_PROPERTY_NAME_BYTES = 255;
export const MAX_PROPERTY_VALUE_BYTES = 65_535;

export type PropertyList = readonly (readonly [name: string, value: string])[];

/** Names that the typed fields of a message are stored under; RocketMQ's own. */
export const Property = {
  tags: 'TAGS',
  /** Space-separated. */
  keys: 'KEYS',
  shardingKey: '__SHARDINGKEY',
  uniqueKey: 'UNIQ_KEY',
  delayLevel: 'DELAY',
  timerDeliverMs: 'TIMER_DELIVER_MS',
  retryTopic: 'RETRY_TOPIC',
  reconsumeTime: 'RECONSUME_TIME',
  maxReconsumeTimes: 'MAX_RECONSUME_TIMES',
  originMessageId: 'ORIGIN_MESSAGE_ID',
  dlqOriginTopic: 'DLQ_ORIGIN_TOPIC',
  dlqOriginMessageId: 'DLQ_ORIGIN_MESSAGE_ID',
  halfMessage: 'TRAN_MSG',
  producerGroup: 'PGROUP',
  checkImmunitySeconds: 'CHECK_IMMUNITY_TIME_IN_SECONDS',
  traceContext: 'TRACE_CONTEXT',
} as const;

/** Every name that RocketMQ reserves: users may not set these (its clients throw, too). */
const RESERVED = new Set(
  `KEYS TAGS UNIQ_KEY WAIT DELAY TIMER_DELAY_SEC TIMER_DELAY_MS TIMER_DELIVER_MS TIMER_OUT_MS TIMER_ENQUEUE_MS TIMER_DEQUEUE_MS
  TIMER_ROLL_TIMES TIMER_DELAY_LEVEL TIMER_DEL_UNIQKEY REAL_TOPIC REAL_QID RETRY_TOPIC RECONSUME_TIME MAX_RECONSUME_TIMES
  ORIGIN_MESSAGE_ID DLQ_ORIGIN_TOPIC DLQ_ORIGIN_MESSAGE_ID TRAN_MSG PGROUP CHECK_IMMUNITY_TIME_IN_SECONDS TRANSACTION_CHECK_TIMES
  TRAN_PREPARED_QUEUE_OFFSET __transactionId__ MIN_OFFSET MAX_OFFSET CONSUME_START_TIME POP_CK POP_CK_OFFSET 1ST_POP_TIME
  __SHARDINGKEY MSG_REGION TRACE_ON TRACE_CONTEXT CLUSTER INSTANCE_ID __BORNHOST BORN_TIMESTAMP CORRELATION_ID REPLY_TO_CLIENT TTL
  MSG_TYPE ARRIVE_TIME PUSH_REPLY_TIME BUYER_ID TRANSFER_FLAG CORRECTION_FLAG MQ2_FLAG EXTEND_UNIQ_INFO DUP_INFO REDIRECT
  PROPERTY_FORWARD_QUEUE_ID INNER_NUM INNER_BASE INNER_MULTI_DISPATCH INNER_MULTI_QUEUE_OFFSET __CRC32#`.split(/\s+/),
);
const TRANSIENT_PREFIX = '__RMQ.TRANSIENT.';

export function isReservedProperty(name: string): boolean {
  return RESERVED.has(name) || name.startsWith(TRANSIENT_PREFIX);
}

/** RocketMQ separates properties by the characters 1 and 2 and cannot escape them: such a property would be cut in two there. */
function hasSeparator(text: string): boolean {
  return text.includes('\u0001') || text.includes('\u0002');
}

/** For the client, before a message joins a batch. @throws LedgerError BAD_NAME for a reserved or malformed name, BAD_REQUEST for a value, MESSAGE_TOO_LARGE for lengths */
export function checkUserProperties(properties: PropertyList): void {
  for (const [name, value] of properties) {
    if (name === '' || hasSeparator(name)) throw new LedgerError('BAD_NAME', `property name ${JSON.stringify(name)}`);
    if (isReservedProperty(name)) throw new LedgerError('BAD_NAME', `property name ${name} is reserved`);
    if (hasSeparator(value)) throw new LedgerError('BAD_REQUEST', `property ${name}: the characters 1 and 2 are not allowed`);
    if (Buffer.byteLength(name) > MAX_PROPERTY_NAME_BYTES) {
      throw new LedgerError(
        'MESSAGE_TOO_LARGE',
        `a property name of ${Buffer.byteLength(name)} bytes; the limit is ${MAX_PROPERTY_NAME_BYTES}`,
      );
    }
    if (Buffer.byteLength(value) > MAX_PROPERTY_VALUE_BYTES) {
      const sizeBytes = Buffer.byteLength(value);
      throw new LedgerError(
        'MESSAGE_TOO_LARGE',
        `property ${name}: a value of ${sizeBytes} bytes; the limit is ${MAX_PROPERTY_VALUE_BYTES}`,
      );
    }
  }
}

/** A tag is one word of a filter expression `a || b`. @throws LedgerError BAD_NAME */
export function checkTag(tag: string): void {
  if (tag === '' || tag !== tag.trim() || tag.includes('|') || hasSeparator(tag)) {
    throw new LedgerError('BAD_NAME', `tag ${JSON.stringify(tag)}: not empty, no white space around it, no | in it`);
  }
}

/** Keys are stored separated by spaces. @throws LedgerError BAD_NAME */
export function checkKey(key: string): void {
  if (key === '' || /\s/.test(key) || hasSeparator(key))
    throw new LedgerError('BAD_NAME', `key ${JSON.stringify(key)}: not empty, no white space`);
}

/** Longer texts go to the native encoder; below, a loop is faster than the call. */
const LOOP_CHARACTERS = 40;

/** Writes UTF-8 at `at`, where 3 bytes a UTF-16 unit must be free. @returns bytes written */
export function writeText(target: Buffer, at: number, text: string): number {
  const length = text.length;
  if (length > LOOP_CHARACTERS) return target.write(text, at);
  for (let i = 0; i < length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 127) return target.write(text, at);
    target[at + i] = unit;
  }
  return length;
}

/** Writes one property. @returns bytes written @throws LedgerError MESSAGE_TOO_LARGE when a length does not fit its field */
export function writeProperty(target: Buffer, at: number, name: string, value: string): number {
  const nameBytes = writeText(target, at + PROPERTY_HEADER_BYTES, name);
  const valueBytes = writeText(target, at + PROPERTY_HEADER_BYTES + nameBytes, value);
  return closeProperty(target, at, nameBytes, valueBytes);
}

/** Fills in the sizes in front of a name and a value that lie there already. */
export function closeProperty(target: Buffer, at: number, nameBytes: number, valueBytes: number): number {
  if (nameBytes > MAX_PROPERTY_NAME_BYTES || valueBytes > MAX_PROPERTY_VALUE_BYTES) {
    throw new LedgerError(
      'MESSAGE_TOO_LARGE',
      `a property of ${nameBytes} + ${valueBytes} bytes; the limits are ${MAX_PROPERTY_NAME_BYTES} for its name, ${MAX_PROPERTY_VALUE_BYTES} for its value`,
    );
  }
  target[at] = nameBytes;
  writeU16(target, at + 1, valueBytes);
  return PROPERTY_HEADER_BYTES + nameBytes + valueBytes;
}

/** What writeProperty() needs at most. */
export function propertyBound(name: string, value: string): number {
  return PROPERTY_HEADER_BYTES + 3 * (name.length + value.length);
}

/** For those who keep a message's properties encoded. */
export function encodeProperties(properties: PropertyList): Buffer {
  let bound = 0;
  for (const [name, value] of properties) bound += propertyBound(name, value);
  const target = Buffer.allocUnsafe(bound);
  let at = 0;
  for (const [name, value] of properties) at += writeProperty(target, at, name, value);
  return target.subarray(0, at);
}

/** @returns the end of the property at `at` @throws LedgerError CORRUPT_BATCH when it reaches beyond `end` */
function propertyEnd(bytes: Uint8Array, at: number, end: number): number {
  const next = at + PROPERTY_HEADER_BYTES <= end ? at + PROPERTY_HEADER_BYTES + (bytes[at] as number) + readU16(bytes, at + 1) : end + 1;
  if (next > end) throw new LedgerError('CORRUPT_BATCH', 'a property reaches beyond its region');
  return next;
}

/** Whether decodeProperties() would not throw. */
export function arePropertiesSound(bytes: Uint8Array, from: number, to: number): boolean {
  let at = from;
  while (at + PROPERTY_HEADER_BYTES <= to) at += PROPERTY_HEADER_BYTES + (bytes[at] as number) + readU16(bytes, at + 1);
  return at === to;
}

/** @throws LedgerError CORRUPT_BATCH */
export function decodeProperties(bytes: Buffer, from = 0, to = bytes.length): Map<string, string> {
  const properties = new Map<string, string>();
  for (let at = from; at < to; ) {
    const next = propertyEnd(bytes, at, to);
    const valueAt = at + PROPERTY_HEADER_BYTES + (bytes[at] as number);
    const name = bytes.toString('utf8', at + PROPERTY_HEADER_BYTES, valueAt);
    if (!properties.has(name)) properties.set(name, bytes.toString('utf8', valueAt, next));
    at = next;
  }
  return properties;
}

/** One property without decoding the others. `name` is ASCII. @throws LedgerError CORRUPT_BATCH */
export function findProperty(bytes: Buffer, from: number, to: number, name: string): string | undefined {
  for (let at = from; at < to; ) {
    const next = propertyEnd(bytes, at, to);
    if (bytes[at] === name.length && isText(bytes, at + PROPERTY_HEADER_BYTES, name)) {
      return bytes.toString('utf8', at + PROPERTY_HEADER_BYTES + name.length, next);
    }
    at = next;
  }
  return undefined;
}

/** Where a property's value lies; null when there is none, or what is before it is malformed. For who must not fail by a client's bytes. */
export function findPropertyRange(
  bytes: Uint8Array,
  from: number,
  to: number,
  name: string,
): { readonly from: number; readonly to: number } | null {
  for (let at = from; at + PROPERTY_HEADER_BYTES <= to; ) {
    const next = at + PROPERTY_HEADER_BYTES + (bytes[at] as number) + readU16(bytes, at + 1);
    if (next > to) return null;
    if (bytes[at] === name.length && isText(bytes, at + PROPERTY_HEADER_BYTES, name)) {
      return { from: at + PROPERTY_HEADER_BYTES + name.length, to: next };
    }
    at = next;
  }
  return null;
}

function isText(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}
