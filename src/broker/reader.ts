import { writeU53 } from '../base/bytes.ts';
import type { UnitBatch } from '../log/consume-queue-types.ts';
import { UnitBatch as Units } from '../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES, Entry } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import { pullHeadroomBytes } from '../protocol/frame.ts';
import type { PulledBatch, PulledReference } from '../protocol/pulled-batch.ts';
import { tagBloomMatches } from '../protocol/tag-hash.ts';
import { type BatchFilter, batchMatches } from './batch-filter.ts';
import type { BrokerContext } from './context.ts';
import { type DeliveryRow, decodeRow, ROW_BYTES, WHOLE_BATCH } from './delivery.ts';
import { isIntactBatchEntry } from './entry-check.ts';
import type { Session } from './session.ts';
import type { QueueState } from './topics.ts';

/** Units looked at for one pull: a filter without a match moves on by so many batches an answer. */
const UNITS_PER_PULL = 512;
/** Batches less than this apart in the log are read from the files in one go. */
const SPAN_GAP_BYTES = 64 * 1024;
const SPAN_BYTES = 4 * 1024 * 1024;
/** Rows resolved from the files for one pull: two reads each. */
const COLD_ROWS = 32;

/** Batches of one queue, ready to be sent. */
export interface ReadResult {
  readonly nextOffset: number;
  readonly batches: readonly PulledBatch[];
  readonly messages: number;
  /** Of batches that were left out because no message in them is wanted; without those that rows stand for where the row said so. */
  readonly filteredBytes: number;
  /** `headroomBytes` free bytes, then the batches back to back; null when there are none. */
  readonly raw: Uint8Array | null;
  readonly headroomBytes: number;
  /** Where in the log it was read from the files; −1: it was in memory. */
  readonly coldFrom: number;
}

/** What to read: bounds are already those of the broker. */
export interface ReadRange extends BatchFilter {
  readonly offset: number;
  readonly maxBytes: number;
  readonly maxMessages: number;
  /** Whom it is for. Gone, or not taking what it has already, nothing is read for it from the files. */
  readonly session: Pick<Session, 'closed' | 'congested'>;
}

/** A batch. When a row placed it, position and size are those of the entry that the row refers to, where its bytes are now. */
interface Chosen {
  readonly row: DeliveryRow | null;
  readonly position: number;
  /** Entry header and body. */
  readonly sizeBytes: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly logTimeMs: number;
}

/** A ConsumeQueue unit of a row. */
interface ColdRow {
  readonly position: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly logTimeMs: number;
  readonly tagBloom: number;
}

/** What a pull passes over, beside what it sends. */
type Passed = Pick<ReadResult, 'nextOffset' | 'filteredBytes'>;

/** The message that a row places; −1: all of the batch. */
const messageOf = (row: DeliveryRow | null): number => (row === null || row.messageIndex === WHOLE_BATCH ? -1 : row.messageIndex);
const isWithin = ({ position, sizeBytes }: Chosen, end: number): boolean => position + sizeBytes <= end;

/**
 * Committed batches of a queue, as they lie in the log (F33, I1, I10): from the hot tail straight into the answer's buffer,
 * which is the only copy; else from the segment files, verified.
 */
export class Reader {
  readonly #context: BrokerContext;
  readonly #units: UnitBatch[] = [];
  #coldReads = 0;
  /** Answers from the hot tail and from segment files so far. */
  hotAnswers = 0;
  coldAnswers = 0;
  readonly #coldQueue: (() => void)[] = [];

  constructor(context: BrokerContext) {
    this.#context = context;
  }

  readonly #describe = ({ row, baseOffset, logTimeMs, position, sizeBytes }: Chosen): PulledBatch => {
    const stored = (row?.position ?? position) + ENTRY_HEADER_BYTES;
    const batch = { baseOffset, logTimeMs, position: stored, sizeBytes: sizeBytes - ENTRY_HEADER_BYTES };
    const reference = this.reference(row);
    return reference === undefined ? batch : { ...batch, reference };
  };

  /** A promise only when files have to be read; null in it: not read, the session does not take it now. Rejects with LedgerError REPAIRING (damage), NOT_READY (a hole before a cut that is not applied yet), TOO_MANY (cold reads), OFFSET_OUT_OF_RANGE (cut meanwhile). */
  read(queue: QueueState, range: ReadRange): ReadResult | Promise<ReadResult | null> {
    const units = this.#units.pop() ?? new Units(UNITS_PER_PULL);
    const found = queue.readUnits(range.offset, UNITS_PER_PULL, units);
    if (typeof found === 'number') {
      const result = this.#collect(queue, range, units, found);
      this.#units.push(units);
      return result;
    }
    return found.then((length) => {
      const result = this.#collect(queue, range, units, length);
      this.#units.push(units);
      return result;
    });
  }

  /** Chooses batches within the bounds: all hot, or all cold. */
  #collect(queue: QueueState, range: ReadRange, units: UnitBatch, length: number): ReadResult | Promise<ReadResult | null> {
    const { replica, limits } = this.#context;
    const chosen: Chosen[] = [];
    let bytes = 0;
    let messages = 0;
    let nextOffset = range.offset;
    let filteredBytes = 0;
    let work = 0;
    let cold = false;
    for (let i = 0; i < length; i++) {
      const baseOffset = units.baseOffset[i] as number;
      const count = units.count[i] as number;
      if (baseOffset >= queue.nextOffset) break;
      if (baseOffset > nextOffset) {
        if (i > 0) break;
        // A state from the leader stands at the log's start and still counts messages before it; the cut that took them is an entry
        // that is not applied yet. Until it is, nobody may take the hole for the queue's end or skip it.
        return Promise.reject(new LedgerError('NOT_READY', `offset ${nextOffset} is not in the log here`));
      }
      const sizeBytes = units.sizeBytes[i] as number;
      const end = baseOffset + count;
      if (tagBloomMatches(units.tagBloom[i] as number, range.tagHashes)) {
        const unitPosition = units.position[i] as number;
        const row = sizeBytes === ROW_BYTES ? this.#hotRow(unitPosition) : null;
        if (sizeBytes === ROW_BYTES && row === null) {
          if (chosen.length > 0) break;
          return this.#readColdRows(queue, range, coldRows(units, i, length, queue.nextOffset));
        }
        const position = row === null ? unitPosition : this.#placeOf(row.position);
        const entryBytes = row?.sizeBytes ?? sizeBytes;
        const full = bytes + entryBytes > range.maxBytes || messages + count > range.maxMessages;
        if (chosen.length > 0 && full) break;
        const view = replica.readHot(position, entryBytes);
        // Hot and cold are not mixed: what is hot may not be in the files yet (the quorum may be ahead of the own disk).
        if (chosen.length > 0 && (view === null) !== cold) break;
        // An expression is no hash in the unit that costs nothing to look at: one pull must not keep the event loop.
        if (work > limits.maxFilterWorkBytes) break;
        if (range.sql !== null) work += view === null ? entryBytes : range.sql.work(view, ENTRY_HEADER_BYTES);
        cold = view === null;
        if (view === null || batchMatches(view, ENTRY_HEADER_BYTES, range, messageOf(row))) {
          chosen.push({ row, position, sizeBytes: entryBytes, baseOffset, count, logTimeMs: units.logTimeMs[i] as number });
          bytes += entryBytes;
          messages += count;
        } else filteredBytes += entryBytes - ENTRY_HEADER_BYTES;
      } else if (sizeBytes !== ROW_BYTES) filteredBytes += sizeBytes - ENTRY_HEADER_BYTES;
      nextOffset = end;
    }
    if (chosen.length === 0) return { nextOffset, batches: [], messages: 0, filteredBytes, raw: null, headroomBytes: 0, coldFrom: -1 };
    const passed = { nextOffset, filteredBytes };
    return cold ? this.#readCold(queue, range, chosen, passed) : this.#copyHot(chosen, passed, messages, bytes);
  }

  #copyHot(chosen: readonly Chosen[], passed: Passed, messages: number, bytes: number): ReadResult {
    this.hotAnswers++;
    const headroomBytes = pullHeadroomBytes(chosen.length);
    const raw = new Uint8Array(headroomBytes + bytes - chosen.length * ENTRY_HEADER_BYTES);
    let at = headroomBytes;
    for (const { position, sizeBytes } of chosen) {
      const view = this.#context.replica.readHot(position, sizeBytes) as Uint8Array;
      raw.set(view.subarray(ENTRY_HEADER_BYTES), at);
      at += sizeBytes - ENTRY_HEADER_BYTES;
    }
    return { ...passed, batches: chosen.map(this.#describe), messages, raw, headroomBytes, coldFrom: -1 };
  }

  #readCold(queue: QueueState, range: ReadRange, chosen: readonly Chosen[], passed: Passed): Promise<ReadResult | null> {
    return this.#inColdSlot(range, async () => {
      const entries = await this.#readEntries(chosen);
      return this.#coldResult(queue, range, chosen, entries, passed);
    });
  }

  /** What rows refer to lies anywhere in the log: each is read by itself, as many as the bounds allow. */
  #readColdRows(queue: QueueState, range: ReadRange, units: readonly ColdRow[]): Promise<ReadResult | null> {
    return this.#inColdSlot(range, async () => {
      const chosen: Chosen[] = [];
      const entries: Uint8Array[] = [];
      let bytes = 0;
      let messages = 0;
      let nextOffset = range.offset;
      for (const { position, baseOffset, count, logTimeMs, tagBloom } of units) {
        if (tagBloomMatches(tagBloom, range.tagHashes)) {
          const row = await this.row(position);
          const place = this.#placeOf(row.position);
          // The log was cut behind what is still referred to: the message is gone by retention, as one below minOffset is.
          if (place < this.#context.state.startPosition()) {
            nextOffset = baseOffset + count;
            continue;
          }
          if (chosen.length > 0 && (bytes + row.sizeBytes > range.maxBytes || messages + count > range.maxMessages)) break;
          const entry = await this.entry(place, row.sizeBytes).catch((error: unknown) => {
            // Carried on while it was read, and the log cut behind it: the next pull finds it.
            if (this.#placeOf(row.position) !== place) throw new LedgerError('NOT_READY', `the entry at ${place} was carried on`);
            throw error;
          });
          entries.push(entry);
          chosen.push({ row, position: place, sizeBytes: row.sizeBytes, baseOffset, count, logTimeMs });
          bytes += row.sizeBytes;
          messages += count;
        }
        nextOffset = baseOffset + count;
      }
      return this.#coldResult(queue, range, chosen, entries, { nextOffset, filteredBytes: 0 });
    });
  }

  #coldResult(
    queue: QueueState,
    range: ReadRange,
    chosen: readonly Chosen[],
    entries: readonly Uint8Array[],
    { nextOffset, filteredBytes }: Passed,
  ): ReadResult {
    const first = chosen[0];
    if (first !== undefined && first.baseOffset + first.count <= queue.minOffset)
      throw new LedgerError('OFFSET_OUT_OF_RANGE', 'the log was cut while it was read');
    const kept = chosen.filter(({ row }, i) => batchMatches(entries[i] as Uint8Array, ENTRY_HEADER_BYTES, range, messageOf(row)));
    const bodies = new Map(chosen.map((choice, i) => [choice, (entries[i] as Uint8Array).subarray(ENTRY_HEADER_BYTES)]));
    const headroomBytes = pullHeadroomBytes(kept.length);
    const bytes = kept.reduce((sum, { sizeBytes }) => sum + sizeBytes - ENTRY_HEADER_BYTES, 0);
    const raw = new Uint8Array(headroomBytes + bytes);
    let at = headroomBytes;
    for (const choice of kept) {
      raw.set(bodies.get(choice) as Uint8Array, at);
      at += choice.sizeBytes - ENTRY_HEADER_BYTES;
    }
    const messages = kept.reduce((sum, { count }) => sum + count, 0);
    const chosenBytes = chosen.reduce((sum, { sizeBytes }) => sum + sizeBytes - ENTRY_HEADER_BYTES, 0);
    return {
      nextOffset,
      batches: kept.map(this.#describe),
      messages,
      filteredBytes: filteredBytes + chosenBytes - bytes,
      raw: kept.length === 0 ? null : raw,
      headroomBytes,
      coldFrom: first?.position ?? -1,
    };
  }

  async #inColdSlot(range: ReadRange, work: () => Promise<ReadResult>): Promise<ReadResult | null> {
    await this.#coldSlot();
    try {
      if (range.session.closed || range.session.congested) return null;
      this.coldAnswers++;
      return await work();
    } finally {
      // The slot goes from hand to hand: one that came in between would make one read too many.
      const next = this.#coldQueue.shift();
      if (next === undefined) this.#coldReads--;
      else next();
    }
  }

  /** @throws LedgerError REPAIRING when the bytes are not those of a row: a peer's are fetched */
  async row(position: number): Promise<DeliveryRow> {
    const bytes = this.#context.replica.readHot(position, ROW_BYTES) ?? (await this.readBytes(position, ROW_BYTES));
    const row = decodeRow(bytes, 0);
    if (row === null) throw this.#damaged(position);
    return row;
  }

  /** What a ConsumeQueue unit stands for. @throws LedgerError REPAIRING, OFFSET_OUT_OF_RANGE */
  async unit(position: number, sizeBytes: number): Promise<{ readonly entry: Uint8Array; readonly row: DeliveryRow | null }> {
    if (sizeBytes !== ROW_BYTES) return { entry: await this.entry(position, sizeBytes), row: null };
    const row = await this.row(position);
    return { entry: await this.stored(row.position, row.sizeBytes), row };
  }

  /** What the client is told of a row; undefined: its batch is whole. */
  reference(row: DeliveryRow | null): PulledReference | undefined {
    if (row === null || row.messageIndex === WHOLE_BATCH) return undefined;
    const { messageIndex, attempts, originQueueId, originOffset } = row;
    const originTopic = this.#context.state.topics.withId(row.originTopicId)?.name ?? '';
    return { messageIndex, attempts, originTopic, originQueueId, originOffset };
  }

  /** One entry of a batch, header included: a copy, verified. @throws LedgerError REPAIRING, OFFSET_OUT_OF_RANGE */
  async entry(position: number, sizeBytes: number): Promise<Uint8Array> {
    const hot = this.#context.replica.readHot(position, sizeBytes);
    return this.verified(hot === null ? await this.readBytes(position, sizeBytes) : hot.slice(), position);
  }

  /**
   * The entry that was stored at a position, as it was stored: of one that was carried, the copy, under the position and the time that
   * it had first. A copy, verified. @throws LedgerError REPAIRING, OFFSET_OUT_OF_RANGE
   */
  async stored(name: number, sizeBytes: number): Promise<Uint8Array> {
    const place = this.#placeOf(name);
    const entry = await this.entry(place, sizeBytes);
    return place === name ? entry : this.asStored(entry, place);
  }

  /** @param entry that lies at `place`, ours to change @returns it, as it was stored first when it is a copy that counts */
  asStored(entry: Uint8Array, place: number): Uint8Array {
    const original = this.#context.state.carried.nameAt(place);
    if (original === undefined) return entry;
    writeU53(entry, Entry.position, original.name);
    writeU53(entry, Entry.logTimeMs, original.storedMs);
    return entry;
  }

  #placeOf(name: number): number {
    return this.#context.state.carried.placeOf(name);
  }

  /** The row at a position, when it and what it refers to are in memory. */
  #hotRow(position: number): DeliveryRow | null {
    const { replica } = this.#context;
    const bytes = replica.readHot(position, ROW_BYTES);
    const row = bytes === null ? null : decodeRow(bytes, 0);
    return row !== null && replica.readHot(this.#placeOf(row.position), row.sizeBytes) !== null ? row : null;
  }

  /** Whole entries, verified, from hot memory or the files; neighbours in the log are read together. */
  async #readEntries(chosen: readonly Chosen[]): Promise<Uint8Array[]> {
    const entries: Uint8Array[] = [];
    for (let from = 0; from < chosen.length; ) {
      const first = chosen[from] as Chosen;
      let end = first.position + first.sizeBytes;
      let to = from + 1;
      for (; to < chosen.length; to++) {
        const { position, sizeBytes } = chosen[to] as Chosen;
        if (position - end > SPAN_GAP_BYTES || position + sizeBytes - first.position > SPAN_BYTES) break;
        end = position + sizeBytes;
      }
      const span = await this.readBytes(first.position, end - first.position);
      do {
        const { position, sizeBytes } = chosen[from] as Chosen;
        entries.push(this.verified(span.subarray(position - first.position, position - first.position + sizeBytes), position));
        from++;
      } while (from < to && isWithin(chosen[from] as Chosen, first.position + span.length));
      // What is left lies behind a segment's end, where the read ended: it is read by itself.
    }
    return entries;
  }

  /** Bytes of the log, from the files. Not verified. */
  async readBytes(position: number, sizeBytes: number): Promise<Uint8Array> {
    const { replica, metrics, state } = this.#context;
    const into = new Uint8Array(sizeBytes);
    const length = await replica.readCold(into, position);
    metrics.coldReadBytes(length);
    if (position < state.startPosition()) throw new LedgerError('OFFSET_OUT_OF_RANGE', 'the log was cut while it was read');
    return length === sizeBytes ? into : into.subarray(0, length);
  }

  /** @throws LedgerError REPAIRING when the bytes are not what was stored: a peer's are fetched */
  verified(entry: Uint8Array, position: number): Uint8Array {
    if (isIntactBatchEntry(entry, position)) return entry;
    throw this.#damaged(position);
  }

  #damaged(position: number): LedgerError {
    this.#context.metrics.damagedRead(position);
    this.#context.replica.damagedRead?.(position);
    return new LedgerError('REPAIRING', `the entry at ${position} is damaged here`);
  }

  /** Waits its turn: a catching-up consumer must not take the disk from everybody. */
  async #coldSlot(): Promise<void> {
    const { maxColdReads, maxQueuedColdReads } = this.#context.limits;
    if (this.#coldReads >= maxColdReads) {
      if (this.#coldQueue.length >= maxQueuedColdReads) throw new LedgerError('TOO_MANY', 'too many pulls wait for the disk');
      await new Promise<void>((resolve) => this.#coldQueue.push(resolve));
      return;
    }
    this.#coldReads++;
  }
}

/** The columns are used again while files are read: what is still needed is copied. */
function coldRows(units: UnitBatch, from: number, length: number, nextOffset: number): ColdRow[] {
  const rows: ColdRow[] = [];
  for (let i = from; i < length && rows.length < COLD_ROWS && units.sizeBytes[i] === ROW_BYTES; i++) {
    const baseOffset = units.baseOffset[i] as number;
    if (baseOffset >= nextOffset) break;
    rows.push({
      position: units.position[i] as number,
      baseOffset,
      count: units.count[i] as number,
      logTimeMs: units.logTimeMs[i] as number,
      tagBloom: units.tagBloom[i] as number,
    });
  }
  return rows;
}
