import { AssertionError } from '../base/assert.ts';
import { readU32, writeU32 } from '../base/bytes.ts';
import type { BrokerContext } from './context.ts';
import { type DeliveryRow, decodeRow, encodeRow, ROW_BYTES } from './delivery.ts';
import type { PendingCommands } from './pending-commands.ts';
import { ProposalLoop, type ProposalSource, proposableLogTimeMs } from './proposal-loop.ts';
import { kthKey, TimerHeap } from './timer-heap.ts';
import { scanTimers, type TimerColumns } from './timer-scan.ts';
import { BUCKET_MS, bucketOf, isAfter, type TimerKey } from './timer-wheel.ts';
import type { QueueState } from './topics.ts';
import { releasedBy, type WaitingRows, type WaitingUnit, withoutCancelled } from './waiting-rows.ts';

/** Of one entry: 128 KiB. */
const ROWS_PER_ENTRY = 2_048;
/** Read from a bucket at once; twice as many may be put on the heap in one turn, which takes some 50 ms. */
const LOAD = 65_536;
/** Below this more are read. */
const LOW = 32_768;
/** Rows made ready in one go. */
const FILL = 1_024;
/** After a bucket could not be read. */
const RELOAD_MS = 1_000;
const END_OF_TIME: TimerKey = { dueMs: Number.POSITIVE_INFINITY, position: Number.POSITIVE_INFINITY };
const ROW_TOPIC_AT = 28;
const ROW_COUNT_AT = 24;

/**
 * Delivers what is due at any time (F13): the leader's. The first timers after the state's cursor are in memory, with the rows that
 * deliver them as far as their entries' headers were read; the others lie in their buckets until it is their turn.
 */
export class WheelDelivery implements ProposalSource {
  readonly name = 'timers';
  readonly loop: ProposalLoop;
  readonly #context: BrokerContext;
  readonly #rows: WaitingRows;
  readonly #maxNear: number;
  readonly #heap = new TimerHeap();
  /** Every timer behind the cursor and up to here is in memory or on its way. */
  #loadedTo: TimerKey = END_OF_TIME;
  #active = false;
  #loading = false;
  /** Counts what makes a load under way useless: another leadership, too much in memory. */
  #loads = 0;
  /** Slots of an earlier one mean nothing. */
  #leadership = 0;
  #grown = false;
  #restarts = 0;
  /** End of what is proposed, while something is in flight. */
  #proposedTo: TimerKey = END_OF_TIME;
  /** Of entries that came to nothing. */
  #returned: number[] = [];

  constructor(context: BrokerContext, commands: PendingCommands, rows: WaitingRows) {
    this.#context = context;
    this.#rows = rows;
    this.#maxNear = context.limits.maxNearTimers;
    this.loop = new ProposalLoop(context, commands, this);
  }

  /** Timers in memory, their bytes, and when the first of them is due; −1: none is. */
  get near(): { readonly timers: number; readonly bytes: number; readonly nextDueMs: number } {
    const top = this.#heap.top();
    return { timers: this.#heap.size, bytes: this.#heap.bytes, nextDueMs: top < 0 ? -1 : this.#heap.dueMs(top) };
  }

  becameReady(): void {
    this.#active = true;
    this.#loadedTo = this.#context.state.timers.wheel.cursor;
    this.#loadMore();
  }

  leadershipLost(): void {
    this.loop.stop();
    this.#active = false;
    this.#loading = false;
    this.#loads++;
    this.#leadership++;
    this.#returned = [];
    this.#heap.clear();
  }

  onTimer(dueMs: number, position: number, sizeBytes: number, count: number, tagBloom: number): void {
    if (!this.#active || isAfter(dueMs, position, this.#loadedTo)) return;
    if (this.#heap.size >= this.#maxNear) this.#forgetHalf();
    if (isAfter(dueMs, position, this.#loadedTo)) return;
    this.#add(dueMs, { position, sizeBytes, count, tagBloom });
    this.#grown = true;
  }

  /** End of a run of entries. */
  applied(): void {
    if (!this.#active) return;
    this.#loadMore();
    if (!this.#grown && !this.loop.awaitsApply) return;
    this.#grown = false;
    this.loop.run();
  }

  #add(dueMs: number, unit: WaitingUnit): void {
    const slot = this.#heap.allocate(dueMs, unit.position);
    const row = this.#rows.hot(unit);
    if (row === null) this.#setUnread(slot, unit.sizeBytes, unit.count, unit.tagBloom);
    else this.#setRow(slot, row);
    this.#heap.push(slot);
  }

  /** Its entry's header is read later: what the unit says is kept where its row will be, no topic has number 0. */
  #setUnread(slot: number, sizeBytes: number, count: number, tagBloom: number): void {
    const bytes = this.#heap.rowBytes(slot);
    const at = this.#heap.rowAt(slot);
    writeU32(bytes, at + ROW_TOPIC_AT, 0);
    writeU32(bytes, at, sizeBytes);
    writeU32(bytes, at + 4, count);
    writeU32(bytes, at + 8, tagBloom);
  }

  #unreadUnit(slot: number): WaitingUnit {
    const bytes = this.#heap.rowBytes(slot);
    const at = this.#heap.rowAt(slot);
    const position = this.#heap.position(slot);
    return { position, sizeBytes: readU32(bytes, at), count: readU32(bytes, at + 4), tagBloom: readU32(bytes, at + 8) };
  }

  #setRow(slot: number, row: DeliveryRow): void {
    encodeRow(row, this.#heap.rowBytes(slot), this.#heap.rowAt(slot));
  }

  #isReady(slot: number): boolean {
    return readU32(this.#heap.rowBytes(slot), this.#heap.rowAt(slot) + ROW_TOPIC_AT) !== 0;
  }

  #row(slot: number): DeliveryRow {
    return decodeRow(this.#heap.rowBytes(slot), this.#heap.rowAt(slot)) as DeliveryRow;
  }

  #unit(slot: number, { position: refersTo, sizeBytes, count, tagBloom }: DeliveryRow): WaitingUnit {
    const position = this.#heap.position(slot);
    return { position, sizeBytes: refersTo === position ? sizeBytes : ROW_BYTES, count, tagBloom };
  }

  /** There are too many in memory: the later half is read again when its time comes. */
  #forgetHalf(): void {
    const { dueMs, position } = this.#heap.columns();
    this.#loadedTo = kthKey(dueMs, position, Math.ceil(dueMs.length / 2));
    this.#heap.truncate(this.#loadedTo);
    // A load under way begins behind what is in memory no more.
    this.#loads++;
    this.#loading = false;
  }

  // ---- from the buckets ------------------------------------------------------------------------------------------------

  #loadMore(): void {
    while (!this.#loading && this.#heap.size < Math.min(LOW, this.#maxNear / 4) && this.#loadedTo.dueMs < Number.POSITIVE_INFINITY) {
      const bucket = this.#nextBucket();
      const queue = bucket === undefined ? undefined : this.#context.state.timers.wheel.known(bucket);
      if (bucket === undefined) this.#loadedTo = END_OF_TIME;
      else if (queue === undefined) this.#loadedTo = bucketEnd(bucket);
      else this.#load(bucket, queue);
    }
  }

  /** The first one that is not all in memory. */
  #nextBucket(): number | undefined {
    const buckets = this.#context.state.timers.wheel.buckets();
    return buckets.find((each) => isAfter(bucketEnd(each).dueMs, bucketEnd(each).position, this.#loadedTo));
  }

  #load(bucket: number, queue: QueueState): void {
    const { clock } = this.#context;
    const loads = this.#loads;
    const ended = (): boolean => loads !== this.#loads;
    this.#loading = true;
    const keep = Math.min(LOAD, this.#maxNear / 2);
    scanTimers({ queue, after: this.#loadedTo, last: bucketEnd(bucket), keep, clock, ended }, (columns, upTo) => {
      this.#loading = false;
      // One that came meanwhile may lie in an earlier bucket: then that is first.
      if (this.#nextBucket() === bucket) this.#take(columns, upTo);
      else this.#loadMore();
    }).catch((error: unknown) => {
      if (!ended()) this.#loading = false;
      this.#notLoaded(bucket, error);
    });
  }

  #take(columns: TimerColumns, upTo: TimerKey): void {
    this.#loadedTo = upTo;
    const slots = new Uint32Array(columns.length);
    for (let i = 0; i < columns.length; i++) {
      const slot = this.#heap.allocate(columns.dueMs[i] as number, columns.position[i] as number);
      this.#setUnread(slot, columns.sizeBytes[i] as number, columns.count[i] as number, columns.tagBloom[i] as number);
      this.#heap.push(slot);
      slots[i] = slot;
    }
    this.loop.run();
    this.#fill(columns, slots).catch((error: unknown) => this.#notLoaded(bucketOf(upTo.dueMs), error));
  }

  /** A header that is missing is read when its timer is due; a bucket is read again. */
  #notLoaded(bucket: number, error: unknown): void {
    if (error instanceof AssertionError) throw error;
    this.#context.metrics.event('timers not loaded', { bucket, error: String(error) });
    if (this.#active) this.loop.sleepUntil(this.#context.replica.logTimeMs() + RELOAD_MS);
  }

  /** Reads the headers in the order of the log: with many timers that is one pass over it, where one by one each would be a read. */
  async #fill(columns: TimerColumns, slots: Uint32Array): Promise<void> {
    const leadership = this.#leadership;
    const wanted: number[] = [];
    for (let i = 0; i < slots.length; i++) {
      if (i % FILL === 0) await new Promise<void>((resolve) => this.#context.clock.defer(resolve));
      if (leadership !== this.#leadership) return;
      // A slot may have been delivered and given to another timer meanwhile.
      const slot = slots[i] as number;
      if (this.#heap.position(slot) === columns.position[i] && !this.#isReady(slot)) wanted.push(i);
      if (wanted.length < FILL && i < slots.length - 1) continue;
      const rows = await this.#rows.of(wanted.map((at) => columns.unit(at)));
      if (leadership !== this.#leadership) return;
      wanted.forEach((at, j) => {
        const filled = slots[at] as number;
        if (this.#heap.position(filled) === columns.position[at]) this.#setRow(filled, rows[j] as DeliveryRow);
      });
      wanted.length = 0;
    }
  }

  // ---- what is due -----------------------------------------------------------------------------------------------------

  async propose(): Promise<boolean> {
    const { state } = this.#context;
    this.#loadMore();
    const leadership = this.#leadership;
    const restarts = this.#restarts;
    const asOf = state.appliedIndex;
    const asOfLogTimeMs = state.logTimeMs;
    const slots = this.#takeDue(proposableLogTimeMs(this.#context));
    if (slots.length === 0) return false;
    try {
      await this.#makeReady(slots);
    } catch (error) {
      if (leadership === this.#leadership) this.#putBack(slots);
      throw error;
    }
    if (leadership !== this.#leadership) return true;
    const last = this.#heap.key(slots.at(-1) as number);
    // What came while headers were read may be due before the last of these.
    const overtaken = state.timers.wheel.addedIndex > asOf && last.dueMs > asOfLogTimeMs;
    if (overtaken || restarts !== this.#restarts) this.#putBack(slots);
    else this.#propose(slots, asOf, asOfLogTimeMs);
    return true;
  }

  #takeDue(limitMs: number): number[] {
    const slots: number[] = [];
    for (let top = this.#heap.top(); top >= 0 && slots.length < ROWS_PER_ENTRY; top = this.#heap.top()) {
      if (this.#context.state.carried.isMoved(this.#heap.position(top))) {
        this.#heap.free(this.#heap.pop());
        continue;
      }
      const dueMs = this.#heap.dueMs(top);
      if (dueMs > limitMs) {
        if (slots.length === 0) this.loop.sleepUntil(dueMs);
        break;
      }
      slots.push(this.#heap.pop());
    }
    return slots;
  }

  #putBack(slots: readonly number[]): void {
    for (const slot of slots) this.#heap.push(slot);
  }

  async #makeReady(slots: readonly number[]): Promise<void> {
    const leadership = this.#leadership;
    const missing = slots.filter((slot) => !this.#isReady(slot));
    if (missing.length === 0) return;
    const rows = await this.#rows.of(missing.map((slot) => this.#unreadUnit(slot)));
    if (leadership !== this.#leadership) return;
    missing.forEach((slot, i) => {
      this.#setRow(slot, rows[i] as DeliveryRow);
    });
  }

  #propose(due: readonly number[], asOf: number, asOfLogTimeMs: number): void {
    const { state } = this.#context;
    const from = this.loop.inFlight > 0 ? this.#proposedTo : state.timers.wheel.cursor;
    const all = due.map((slot) => this.#row(slot));
    const found = due.map((slot, i) => this.#unit(slot, all[i] as DeliveryRow));
    const { units: taken, rows, cancelled } = withoutCancelled(found, all, state.timers.cancelled);
    const slots = due.slice(0, taken);
    const units = found.slice(0, taken);
    this.#putBack(due.slice(taken));
    const to = this.#heap.key(slots.at(-1) as number);
    const passed = new Map<number, number>();
    for (const slot of slots) {
      const bucket = bucketOf(this.#heap.dueMs(slot));
      passed.set(bucket, (passed.get(bucket) ?? 0) + 1);
    }
    this.#proposedTo = to;
    this.loop.propose(
      {
        type: 'timersDue',
        fromDueMs: from.dueMs,
        fromPosition: from.position,
        toDueMs: to.dueMs,
        toPosition: to.position,
        asOf,
        asOfLogTimeMs,
        passed: [...passed].flat(),
        cancelled,
        released: releasedBy(units, all, (at) => state.carried.baseOf(at)),
      },
      rows,
      (error) => {
        if (error === null) this.#delivered(slots);
        else this.#returned.push(...slots);
      },
    );
  }

  #delivered(slots: readonly number[]): void {
    const { metrics, replica } = this.#context;
    const now = replica.logTimeMs();
    for (const slot of slots) {
      const messages = readU32(this.#heap.rowBytes(slot), this.#heap.rowAt(slot) + ROW_COUNT_AT);
      metrics.delayedDelivered(messages, now - this.#heap.dueMs(slot));
      this.#heap.free(slot);
    }
  }

  /** Entries came to nothing: some of their timers may have been delivered by those of an earlier leader. */
  restart(): void {
    const { cursor } = this.#context.state.timers.wheel;
    this.#restarts++;
    for (const slot of this.#returned) {
      if (isAfter(this.#heap.dueMs(slot), this.#heap.position(slot), cursor)) this.#heap.push(slot);
      else this.#heap.free(slot);
    }
    this.#returned = [];
  }
}

function bucketEnd(bucket: number): TimerKey {
  return { dueMs: (bucket + 1) * BUCKET_MS - 1, position: Number.POSITIVE_INFINITY };
}
