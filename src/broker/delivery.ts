import { assert } from '../base/assert.ts';
import { readU16, readU32, readU53, writeU16, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import { ENTRY_HEADER_BYTES } from '../log/layout.ts';

/**
 * Delivery by reference: a message is stored once, and an entry of rows gives it its place in a queue later (F13, F14, F20–F25).
 *
 * The body of a `delivery` entry is [CRC-32 u32][size of the command u32][command, as commands.ts has it][rows, 64 bytes each].
 * The ConsumeQueue unit of what a row places has the row's own position: units stay in the order of the log, so that whatever
 * cuts, flushes and rebuilds a ConsumeQueue by position works alike for both. A row is told from an entry by its size: no entry is that short.
 */
export const ROW_BYTES = 64;
/** "LMQR". */
const ROW_MAGIC = 0x52514d4c;
const VERSION = 1;
const FIXED_BYTES = 8;

/** Rows of one entry at most: 256 KiB. */
export const MAX_ROWS = 4_096;

/** The row stands for all messages of the batch that it refers to. */
export const WHOLE_BATCH = 0xffff_ffff;

const Row = {
  magic: 0,
  version: 4,
  /** Failed attempts before this delivery. */
  attempts: 6,
  position: 8,
  sizeBytes: 16,
  messageIndex: 20,
  count: 24,
  topicId: 28,
  queueId: 32,
  originQueueId: 34,
  originTopicId: 36,
  originOffset: 40,
  tagBloom: 48,
  zero52: 52,
  checksum: 60,
} as const;

export interface DeliveryRow {
  /** Of the `batch` (or relocated) entry's header that holds the bytes. */
  readonly position: number;
  /** Of that entry, header included. */
  readonly sizeBytes: number;
  /** Which message of the batch, or WHOLE_BATCH. */
  readonly messageIndex: number;
  /** Messages that the row stands for: 1, or all of the batch. */
  readonly count: number;
  /** Queue that it is placed in. */
  readonly topicId: number;
  readonly queueId: number;
  /** Failed attempts before this delivery; 0…65535. */
  readonly attempts: number;
  /** Where the message was first: the queue whose offset it had, 0 / 0 / 0 for a batch that had none. */
  readonly originTopicId: number;
  readonly originQueueId: number;
  readonly originOffset: number;
  readonly tagBloom: number;
}

export function encodeRow(row: DeliveryRow, into: Uint8Array, at: number): void {
  writeU32(into, at + Row.magic, ROW_MAGIC);
  writeU16(into, at + Row.version, VERSION);
  writeU16(into, at + Row.attempts, row.attempts);
  writeU53(into, at + Row.position, row.position);
  writeU32(into, at + Row.sizeBytes, row.sizeBytes);
  writeU32(into, at + Row.messageIndex, row.messageIndex);
  writeU32(into, at + Row.count, row.count);
  writeU32(into, at + Row.topicId, row.topicId);
  writeU16(into, at + Row.queueId, row.queueId);
  writeU16(into, at + Row.originQueueId, row.originQueueId);
  writeU32(into, at + Row.originTopicId, row.originTopicId);
  writeU53(into, at + Row.originOffset, row.originOffset);
  writeU32(into, at + Row.tagBloom, row.tagBloom);
  writeU32(into, at + Row.checksum, shortCrc32(into, at, at + Row.checksum));
}

/** @returns null when these are not the bytes of a row */
export function decodeRow(bytes: Uint8Array, at: number): DeliveryRow | null {
  if (bytes.length - at < ROW_BYTES || readU32(bytes, at + Row.magic) !== ROW_MAGIC || readU16(bytes, at + Row.version) !== VERSION)
    return null;
  if (readU32(bytes, at + Row.checksum) !== shortCrc32(bytes, at, at + Row.checksum)) return null;
  return {
    position: readU53(bytes, at + Row.position),
    sizeBytes: readU32(bytes, at + Row.sizeBytes),
    messageIndex: readU32(bytes, at + Row.messageIndex),
    count: readU32(bytes, at + Row.count),
    topicId: readU32(bytes, at + Row.topicId),
    queueId: readU16(bytes, at + Row.queueId),
    attempts: readU16(bytes, at + Row.attempts),
    originTopicId: readU32(bytes, at + Row.originTopicId),
    originQueueId: readU16(bytes, at + Row.originQueueId),
    originOffset: readU53(bytes, at + Row.originOffset),
    tagBloom: readU32(bytes, at + Row.tagBloom),
  };
}

/** @param command as encodeCommand() made it @returns a fresh body, its checksum in the first four bytes */
export function encodeDelivery(command: Uint8Array, rows: readonly DeliveryRow[]): Uint8Array {
  assert(rows.length <= MAX_ROWS, `${rows.length} rows in one entry`);
  const body = new Uint8Array(FIXED_BYTES + command.length + rows.length * ROW_BYTES);
  writeU32(body, 4, command.length);
  body.set(command, FIXED_BYTES);
  rows.forEach((row, i) => {
    encodeRow(row, body, FIXED_BYTES + command.length + i * ROW_BYTES);
  });
  writeU32(body, 0, crc32(body.subarray(4)));
  return body;
}

/** A delivery entry's body, taken apart. */
export class Delivery {
  readonly command: Uint8Array;
  readonly rows: readonly DeliveryRow[];
  /** Position of the first row in the log. */
  readonly #firstRow: number;

  /** @param position of the entry's header */
  constructor(body: Uint8Array, position: number) {
    const commandBytes = readU32(body, 4);
    const rowsAt = FIXED_BYTES + commandBytes;
    assert(rowsAt <= body.length && (body.length - rowsAt) % ROW_BYTES === 0, 'a delivery entry holds whole rows');
    this.command = body.subarray(FIXED_BYTES, rowsAt);
    this.#firstRow = position + ENTRY_HEADER_BYTES + rowsAt;
    const rows: DeliveryRow[] = [];
    for (let at = rowsAt; at < body.length; at += ROW_BYTES) {
      const row = decodeRow(body, at);
      assert(row !== null, 'a row of a committed entry');
      rows.push(row);
    }
    this.rows = rows;
  }

  rowPosition(i: number): number {
    return this.#firstRow + i * ROW_BYTES;
  }
}
