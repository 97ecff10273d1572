import { readU16, readU32, readU53 } from '../base/bytes.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES, Entry, MAX_ENTRY_BODY_BYTES } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import { batchFlags, DEFERRED_FLAGS } from '../protocol/record-batch.ts';
import { EntryType } from '../replica/types.ts';
import type { BrokerContext } from './context.ts';
import type { DeliveryRow } from './delivery.ts';
import type { MessageIdIndex } from './ports.ts';
import type { Reader } from './reader.ts';
import type { QueueState } from './topics.ts';

/** Where messages of a stored batch lie in a queue. */
export interface StoredPlace {
  readonly queue: QueueState;
  readonly baseOffset: number;
  /** Of a delivery by reference, else null. */
  readonly row: DeliveryRow | null;
  /** Log time at which it was stored, ms. */
  readonly logTimeMs: number;
}

/** Rows looked at for one batch: a batch of single deliveries has one for each message, and one for each attempt. The first ones are what is looked for. */
const MAX_ROWS_OF_BATCH = 4_096;

/** Whole entries by their position, verified, and the places of their messages: for who found a position in an index. */
export class StoredEntries {
  readonly #context: BrokerContext;
  readonly #reader: Reader;
  readonly #ids: MessageIdIndex;

  constructor(context: BrokerContext, reader: Reader, ids: MessageIdIndex) {
    this.#context = context;
    this.#reader = reader;
    this.#ids = ids;
  }

  /**
   * Looks again when something was carried or cut meanwhile and the result is not `final`: it may lie behind the place up to which an index
   * was read.
   */
  async steadily<T>(look: () => Promise<T>, final: (result: T) => boolean): Promise<T> {
    for (;;) {
      const { carried } = this.#context.state;
      const [start, changes] = [this.#context.state.startPosition(), carried.changes];
      const result = await look();
      if (final(result) || (this.#context.state.startPosition() === start && carried.changes === changes)) return result;
    }
  }

  /**
   * The entry whose header lies at `position`, as it was stored first. The header itself says how long it is.
   * @returns null when the log was cut behind it @throws LedgerError REPAIRING when it is damaged here
   */
  async at(position: number): Promise<Uint8Array | null> {
    const { replica, state } = this.#context;
    if (position < state.startPosition()) return null;
    try {
      const header = replica.readHot(position, ENTRY_HEADER_BYTES) ?? (await this.#reader.readBytes(position, ENTRY_HEADER_BYTES));
      const whole = header.length === ENTRY_HEADER_BYTES && readU53(header, Entry.position) === position;
      const sizeBytes = whole ? readU32(header, Entry.sizeBytes) : 0;
      // Only what was applied is indexed: what is no entry here is damage, and must not pass for "there is none".
      if (sizeBytes <= ENTRY_HEADER_BYTES || sizeBytes > ENTRY_HEADER_BYTES + MAX_ENTRY_BODY_BYTES)
        return this.#reader.verified(header, position);
      const entry = await this.#reader.entry(position, sizeBytes);
      return entry[Entry.type] === EntryType.carried ? this.#reader.asStored(entry, position) : entry;
    } catch (error) {
      if (error instanceof LedgerError && error.code === 'OFFSET_OUT_OF_RANGE') return null;
      throw error;
    }
  }

  /**
   * Where a batch's messages lie in its own topic: its own place, or the first ones that rows gave it. Empty for what is in no
   * queue: a duplicate, and what waits for its time or its transaction and nobody is to see.
   */
  async placesOf(entry: Uint8Array): Promise<readonly StoredPlace[]> {
    const position = readU53(entry, Entry.position);
    const topicId = readU32(entry, Entry.topicId);
    if ((batchFlags(entry, ENTRY_HEADER_BYTES) & DEFERRED_FLAGS) !== 0) {
      const places = await this.#delivered(position, topicId, readU53(entry, Entry.logTimeMs));
      // One whose time was past when it was stored has its own place, like those without a delay.
      if (places.length > 0) return places;
    }
    const queue = this.#context.state.topics.queue(topicId, readU16(entry, Entry.queueId));
    const baseOffset = queue === undefined ? null : await baseOffsetOf(queue, position);
    if (queue !== undefined && baseOffset !== null) return [{ queue, baseOffset, row: null, logTimeMs: readU53(entry, Entry.logTimeMs) }];
    return entry[Entry.type] === EntryType.carried ? this.#kept(position, topicId) : [];
  }

  /** Of the copy of a batch whose topic is kept for longer than the log that it was stored in. */
  async #kept(position: number, topicId: number): Promise<StoredPlace[]> {
    const places: StoredPlace[] = [];
    for (const { rowPosition, row } of await this.rowsOf(position)) {
      if (row.topicId !== topicId) continue;
      const queue = this.#context.state.topics.queue(topicId, row.queueId);
      const unit = queue?.kept?.unitOfRow(rowPosition) ?? null;
      // Until the cut it is found where it was stored.
      if (queue === undefined || unit === null || unit.baseOffset >= queue.logMinOffset) continue;
      places.push({ queue, baseOffset: unit.baseOffset, row, logTimeMs: unit.logTimeMs });
    }
    return places;
  }

  /** The first rows that refer to a batch. */
  async rowsOf(position: number): Promise<{ readonly rowPosition: number; readonly row: DeliveryRow }[]> {
    const rows: { rowPosition: number; row: DeliveryRow }[] = [];
    for (const rowPosition of await this.#ids.findRows(position, MAX_ROWS_OF_BATCH)) {
      if (rowPosition < this.#context.state.startPosition()) continue;
      const row = await this.#reader.row(rowPosition);
      if (row.position === position) rows.push({ rowPosition, row });
    }
    return rows;
  }

  /** Of several deliveries of a message (a retry, a dead letter) only that in its own topic counts. */
  async #delivered(position: number, topicId: number, logTimeMs: number): Promise<StoredPlace[]> {
    const places: StoredPlace[] = [];
    for (const { rowPosition, row } of await this.rowsOf(position)) {
      if (row.topicId !== topicId) continue;
      const queue = this.#context.state.topics.queue(row.topicId, row.queueId);
      const baseOffset = queue === undefined ? null : await baseOffsetOf(queue, rowPosition);
      if (queue !== undefined && baseOffset !== null) places.push({ queue, baseOffset, row, logTimeMs });
    }
    return places;
  }
}

/** @returns null when the queue has none: a duplicate that apply refused lies in the log but in no queue */
export async function baseOffsetOf(queue: QueueState, position: number): Promise<number | null> {
  const unit = await unitAt(queue, position);
  return unit === null ? null : (unit.baseOffset[0] as number);
}

/** @returns the unit of that position, as its columns' first row; null: the queue has none */
export async function unitAt(queue: QueueState, position: number): Promise<UnitBatch | null> {
  const unit = new UnitBatch(1);
  const found = await queue.index.readUnits(await firstOffsetFrom(queue, position), 1, unit);
  return found > 0 && unit.position[0] === position ? unit : null;
}

/** Units lie in the order of the log, so the first one at a position or behind it is found by halves. @returns its first offset */
export async function firstOffsetFrom(queue: QueueState, position: number): Promise<number> {
  const unit = new UnitBatch(1);
  let low = queue.logMinOffset;
  let high = queue.nextOffset;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const found = await queue.index.readUnits(middle, 1, unit);
    const baseOffset = unit.baseOffset[0] as number;
    if (found === 0) high = middle;
    else if ((unit.position[0] as number) >= position) high = Math.min(middle, baseOffset);
    else low = baseOffset + (unit.count[0] as number);
  }
  return low;
}
