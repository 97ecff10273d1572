import { readU16, readU32, readU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { ENTRY_HEADER_BYTES, ENTRY_MAGIC, Entry } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { Cancellations } from './cancellations.ts';
import type { BrokerContext } from './context.ts';
import { type DeliveryRow, decodeRow, MAX_ROWS, ROW_BYTES, WHOLE_BATCH } from './delivery.ts';
import type { Reader } from './reader.ts';

/** An index unit of what waits: a stored batch, or a row. */
export interface WaitingUnit {
  readonly position: number;
  readonly sizeBytes: number;
  readonly count: number;
  readonly tagBloom: number;
}

/** Headers less than this apart are read from the files in one go: a read costs about as much as so many bytes. */
const SPAN_GAP_BYTES = 16 * 1024;
const SPAN_BYTES = 1024 * 1024;

/** Bytes that say what a unit delivers: a row, or an entry's header. */
const headBytes = (unit: WaitingUnit): number => (unit.sizeBytes === ROW_BYTES ? ROW_BYTES : ENTRY_HEADER_BYTES);

/** The leader's: what the units of a waiting queue deliver, and where to. Bodies are not read. */
export class WaitingRows {
  readonly #context: BrokerContext;
  readonly #reader: Reader;

  constructor(context: BrokerContext, reader: Reader) {
    this.#context = context;
    this.#reader = reader;
  }

  /**
   * @returns a row for each unit, in their order; a promise only when files have to be read. Rejects with LedgerError REPAIRING
   *   (damage: a peer's bytes are fetched), OFFSET_OUT_OF_RANGE (cut meanwhile)
   */
  of(units: readonly WaitingUnit[]): DeliveryRow[] | Promise<DeliveryRow[]> {
    const rows: DeliveryRow[] = new Array(units.length);
    const cold: number[] = [];
    for (let i = 0; i < units.length; i++) {
      const unit = units[i] as WaitingUnit;
      const head = this.#context.replica.readHot(unit.position, headBytes(unit));
      if (head === null) cold.push(i);
      else rows[i] = this.#row(unit, head);
    }
    return cold.length === 0 ? rows : this.#readCold(units, cold, rows);
  }

  /** Null: it is not in memory, or damaged there: of() says so when the row is needed. */
  hot(unit: WaitingUnit): DeliveryRow | null {
    const head = this.#context.replica.readHot(unit.position, headBytes(unit));
    return head === null ? null : decode(unit, head);
  }

  /** In the order of the log, neighbours together. */
  async #readCold(units: readonly WaitingUnit[], cold: number[], rows: DeliveryRow[]): Promise<DeliveryRow[]> {
    const at = (i: number): WaitingUnit => units[cold[i] as number] as WaitingUnit;
    const end = (i: number): number => at(i).position + headBytes(at(i));
    cold.sort((a, b) => (units[a] as WaitingUnit).position - (units[b] as WaitingUnit).position);
    for (let from = 0; from < cold.length; ) {
      const start = at(from).position;
      let to = from + 1;
      while (to < cold.length && at(to).position - end(to - 1) <= SPAN_GAP_BYTES && end(to) - start <= SPAN_BYTES) to++;
      const span = await this.#reader.readBytes(start, end(to - 1) - start);
      do {
        const unit = at(from);
        const head = span.subarray(unit.position - start, unit.position - start + headBytes(unit));
        rows[cold[from] as number] = this.#row(unit, head);
        from++;
        // What is left lies behind a segment's end, where the read ended: it is read by itself.
      } while (from < to && end(from) <= start + span.length);
    }
    return rows;
  }

  #row(unit: WaitingUnit, head: Uint8Array): DeliveryRow {
    const row = decode(unit, head);
    if (row !== null) return row;
    this.#context.metrics.damagedRead(unit.position);
    this.#context.replica.damagedRead?.(unit.position);
    throw new LedgerError('REPAIRING', `what waits at ${unit.position} is damaged here`);
  }
}

const decode = (unit: WaitingUnit, head: Uint8Array): DeliveryRow | null =>
  unit.sizeBytes === ROW_BYTES ? decodeRow(head, 0) : rowOfBatch(unit, head);

/** @returns null when these are not the bytes of the entry's header */
function rowOfBatch({ position, sizeBytes, count, tagBloom }: WaitingUnit, head: Uint8Array): DeliveryRow | null {
  const whole =
    head.length === ENTRY_HEADER_BYTES &&
    readU32(head, Entry.magic) === ENTRY_MAGIC &&
    readU32(head, Entry.sizeBytes) === sizeBytes &&
    readU53(head, Entry.position) === position &&
    readU32(head, Entry.checksum) === crc32(head.subarray(0, Entry.checksum));
  if (!whole) return null;
  return {
    position,
    sizeBytes,
    messageIndex: WHOLE_BATCH,
    count,
    topicId: readU32(head, Entry.topicId),
    queueId: readU16(head, Entry.queueId),
    attempts: 0,
    originTopicId: 0,
    originQueueId: 0,
    originOffset: 0,
    tagBloom,
  };
}

/** What the rows of waiting units become when messages were cancelled. */
export interface LeftRows {
  /** Units of the first ones that these rows are of: the others do not fit into one entry. */
  readonly units: number;
  readonly rows: readonly DeliveryRow[];
  /** Positions of the batches of which something was cancelled. */
  readonly cancelled: readonly number[];
}

/** Of a batch that some messages were taken out of, each of the others gets a row of its own. */
export function withoutCancelled(units: readonly WaitingUnit[], rows: readonly DeliveryRow[], cancellations: Cancellations): LeftRows {
  if (cancellations.messages === 0) return { units: units.length, rows, cancelled: [] };
  const left: DeliveryRow[] = [];
  const cancelled: number[] = [];
  for (let i = 0; i < units.length; i++) {
    const row = rows[i] as DeliveryRow;
    const gone = row.attempts === 0 ? cancellations.of(row.position) : undefined;
    if (left.length + (gone === undefined ? 1 : row.count) > MAX_ROWS) return { units: i, rows: left, cancelled };
    if (gone === undefined) left.push(row);
    else {
      cancelled.push(row.position);
      for (let messageIndex = 0; messageIndex < row.count; messageIndex++) {
        if (!gone.includes(messageIndex)) left.push({ ...row, messageIndex, count: 1 });
      }
    }
  }
  return { units: units.length, rows: left, cancelled };
}

/** What ends when the units are delivered: pairs [segment base, references] of what they point at. */
export function releasedBy(units: readonly WaitingUnit[], rows: readonly DeliveryRow[], baseOf: (position: number) => number): number[] {
  const counts = new Map<number, number>();
  const release = (position: number): void => {
    const base = baseOf(position);
    counts.set(base, (counts.get(base) ?? 0) + 1);
  };
  units.forEach((unit, i) => {
    release(unit.position);
    if (unit.sizeBytes === ROW_BYTES) release((rows[i] as DeliveryRow).position);
  });
  return [...counts].flat();
}
