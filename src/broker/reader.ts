import type { UnitBatch } from '../log/consume-queue-types.ts';
import { UnitBatch as Units } from '../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import { pullHeadroomBytes } from '../protocol/frame.ts';
import type { PulledBatch } from '../protocol/requests.ts';
import { tagBloomMatches } from '../protocol/tag-hash.ts';
import type { BrokerContext } from './context.ts';
import { batchHasTag, isIntactBatchEntry } from './entry-check.ts';
import type { Session } from './session.ts';
import type { QueueState } from './topics.ts';

/** Units looked at for one pull: a filter without a match moves on by so many batches an answer. */
const UNITS_PER_PULL = 512;
/** Batches less than this apart in the log are read from the files in one go. */
const SPAN_GAP_BYTES = 64 * 1024;
const SPAN_BYTES = 4 * 1024 * 1024;

/** Batches of one queue, ready to be sent. */
export interface ReadResult {
  readonly nextOffset: number;
  readonly batches: readonly PulledBatch[];
  readonly messages: number;
  /** `headroomBytes` free bytes, then the batches back to back; null when there are none. */
  readonly raw: Uint8Array | null;
  readonly headroomBytes: number;
  /** Where in the log it was read from the files; −1: it was in memory. */
  readonly coldFrom: number;
}

/** What to read: bounds are already those of the broker. */
export interface ReadRange {
  readonly offset: number;
  readonly maxBytes: number;
  readonly maxMessages: number;
  readonly tagHashes: readonly number[];
  /** Whom it is for. Gone, or not taking what it has already, nothing is read for it from the files. */
  readonly session: Pick<Session, 'closed' | 'congested'>;
}

interface Chosen {
  readonly position: number;
  /** Entry header and body. */
  readonly sizeBytes: number;
  readonly baseOffset: number;
  readonly count: number;
  readonly logTimeMs: number;
}

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

  /** A promise only when files have to be read; null in it: not read, the session does not take it now. Rejects with LedgerError REPAIRING (damage), NOT_READY (a hole before a cut that is not applied yet), TOO_MANY (cold reads), OFFSET_OUT_OF_RANGE (cut meanwhile). */
  read(queue: QueueState, range: ReadRange): ReadResult | Promise<ReadResult | null> {
    const units = this.#units.pop() ?? new Units(UNITS_PER_PULL);
    const found = queue.index.readUnits(range.offset, UNITS_PER_PULL, units);
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
    const { replica } = this.#context;
    const chosen: Chosen[] = [];
    let bytes = 0;
    let messages = 0;
    let nextOffset = range.offset;
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
        const full = bytes + sizeBytes > range.maxBytes || messages + count > range.maxMessages;
        if (chosen.length > 0 && full) break;
        const position = units.position[i] as number;
        const view = replica.readHot(position, sizeBytes);
        // Hot and cold are not mixed: what is hot may not be in the files yet (the quorum may be ahead of the own disk).
        if (chosen.length > 0 && (view === null) !== cold) break;
        cold = view === null;
        if (view === null || range.tagHashes.length === 0 || batchHasTag(view, ENTRY_HEADER_BYTES, range.tagHashes)) {
          chosen.push({ position, sizeBytes, baseOffset, count, logTimeMs: units.logTimeMs[i] as number });
          bytes += sizeBytes;
          messages += count;
        }
      }
      nextOffset = end;
    }
    if (chosen.length === 0) return { nextOffset, batches: [], messages: 0, raw: null, headroomBytes: 0, coldFrom: -1 };
    return cold ? this.#readCold(queue, range, chosen, nextOffset) : this.#copyHot(chosen, nextOffset, messages, bytes);
  }

  #copyHot(chosen: readonly Chosen[], nextOffset: number, messages: number, bytes: number): ReadResult {
    this.hotAnswers++;
    const headroomBytes = pullHeadroomBytes(chosen.length);
    const raw = new Uint8Array(headroomBytes + bytes - chosen.length * ENTRY_HEADER_BYTES);
    let at = headroomBytes;
    for (const { position, sizeBytes } of chosen) {
      const view = this.#context.replica.readHot(position, sizeBytes) as Uint8Array;
      raw.set(view.subarray(ENTRY_HEADER_BYTES), at);
      at += sizeBytes - ENTRY_HEADER_BYTES;
    }
    return { nextOffset, batches: chosen.map(describe), messages, raw, headroomBytes, coldFrom: -1 };
  }

  async #readCold(queue: QueueState, range: ReadRange, chosen: readonly Chosen[], nextOffset: number): Promise<ReadResult | null> {
    await this.#coldSlot();
    try {
      if (range.session.closed || range.session.congested) return null;
      this.coldAnswers++;
      const entries = await this.#readEntries(chosen);
      if ((chosen[0] as Chosen).baseOffset + (chosen[0] as Chosen).count <= queue.minOffset) {
        throw new LedgerError('OFFSET_OUT_OF_RANGE', 'the log was cut while it was read');
      }
      const kept = chosen.filter((_, i) => {
        const entry = entries[i] as Uint8Array;
        return range.tagHashes.length === 0 || batchHasTag(entry, ENTRY_HEADER_BYTES, range.tagHashes);
      });
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
      const coldFrom = (chosen[0] as Chosen).position;
      return { nextOffset, batches: kept.map(describe), messages, raw: kept.length === 0 ? null : raw, headroomBytes, coldFrom };
    } finally {
      // The slot goes from hand to hand: one that came in between would make one read too many.
      const next = this.#coldQueue.shift();
      if (next === undefined) this.#coldReads--;
      else next();
    }
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
    this.#context.metrics.damagedRead(position);
    this.#context.replica.damagedRead?.(position);
    throw new LedgerError('REPAIRING', `the entry at ${position} is damaged here`);
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

function describe({ baseOffset, logTimeMs, position, sizeBytes }: Chosen): PulledBatch {
  return { baseOffset, logTimeMs, position: position + ENTRY_HEADER_BYTES, sizeBytes: sizeBytes - ENTRY_HEADER_BYTES };
}
