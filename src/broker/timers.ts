import { areDelayLevels, MAX_DELAY_MS } from '../base/delay-table.ts';
import { ENTRY_HEADER_BYTES } from '../log/layout.ts';
import { ERRORS, type ErrorCode } from '../protocol/errors.ts';
import { BatchFlag, batchDelay, tagBloom } from '../protocol/record-batch.ts';
import type { AppliedEntry } from '../replica/types.ts';
import { Cancellations } from './cancellations.ts';
import type { Carried } from './carried.ts';
import type { Command, DelayCancel, DelayLevelCarry, DelayLevelDue, TimersCarry, TimersDue } from './commands.ts';
import { DelayLevels, SCHEDULE_TOPIC } from './delay-levels.ts';
import { type DeliveryRow, ROW_BYTES, WHOLE_BATCH } from './delivery.ts';
import { StateLimits } from './limits.ts';
import { SegmentReferences } from './segment-references.ts';
import type { CommandHandler, CommandResult, DeferredBatches, PlacedRows, StateTable } from './state-table.ts';
import { bucketOf, isAfter, type TimerKey, TimerWheel, WHEEL_TOPIC } from './timer-wheel.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';

/** BatchFlag bits of a batch that waits for its time. */
export const DELAY_FLAGS = BatchFlag.delayLevel | BatchFlag.deliverAt | BatchFlag.delayMs;

/** What the timers need of the state machine. */
export interface TimersPorts {
  readonly topics: Topics;
  readonly carried: Carried;
  /** For who looks for what a row delivers. @param position of the row */
  indexRow(row: DeliveryRow, position: number, logTimeMs: number): void;
  /** @returns the offset, or −1: the queue is not here any more */
  placeRow(row: DeliveryRow, position: number, logTimeMs: number): number;
}

/** The services of this replica hear what came to wait, on every replica, in log order. */
export interface TimersListener {
  /** A level's queue grew. */
  onLevel(level: number): void;
  /** The delays of the levels are others now. */
  onLevelsChanged(): void;
  /** @param position of the unit, `sizeBytes` and the rest as the unit has them */
  onTimer(dueMs: number, position: number, sizeBytes: number, count: number, bloom: number): void;
  /** Messages for a queue of this topic began to wait. */
  onWaits(topicId: number, messages: number): void;
  /** Messages that waited got their place. */
  onPlaced(topicId: number, messages: number): void;
}

/** Of one carried unit: its position, that of its batch, when it is due. */
const CARRIED_FIELDS = 3;
const done: CommandResult = { error: 0, results: [] };
const refused = (code: ErrorCode): CommandResult => ({ error: ERRORS[code].number, results: [] });

/** @returns when a delayed batch is due, ms of log time; NaN: by its level @param delay as the batch has it */
export function dueOf(flag: number, delay: number, logTimeMs: number): number {
  if (flag === BatchFlag.delayLevel) return Number.NaN;
  return flag === BatchFlag.delayMs ? logTimeMs + delay : delay;
}

/** Also true of what is due already. The same at the broker and at apply. */
export function delayIsAllowed(flag: number, delay: number, logTimeMs: number): boolean {
  const dueMs = dueOf(flag, delay, logTimeMs);
  return Number.isNaN(dueMs) || dueMs - logTimeMs <= MAX_DELAY_MS;
}

/**
 * Delayed delivery (F13): the replicated part. What waits is an index unit in the queue of its level or of its time bucket, pointing
 * at the stored batch, or at the row, that waits. The leader proposes entries of rows for what is due; each says from where to where it
 * goes, and does nothing unless the state stands exactly at its beginning: so everything is delivered exactly once, whoever
 * proposed it and however often. Due is what log time has reached: the entry's own, so nothing is early.
 */
export class Timers implements StateTable, CommandHandler, DeferredBatches {
  readonly name = 'timers';
  readonly levels: DelayLevels;
  readonly wheel: TimerWheel;
  /** Into the log, of everything that waits. */
  readonly references: SegmentReferences;
  readonly cancelled = new Cancellations(StateLimits.maxCancelledMessages);
  readonly #ports: TimersPorts;
  #listener: TimersListener | null = null;
  /** Since this process started, replay included; not part of the state. */
  deliveredMessages = 0;
  droppedMessages = 0;

  constructor(ports: TimersPorts) {
    this.#ports = ports;
    this.levels = new DelayLevels(ports.topics);
    this.wheel = new TimerWheel(ports.topics);
    this.references = new SegmentReferences(ports.carried);
  }

  /** Whether a topic's queues are those of what waits. */
  waitIn({ name }: TopicState): boolean {
    return name === SCHEDULE_TOPIC || name === WHEEL_TOPIC;
  }

  listen(listener: TimersListener): void {
    this.#listener = listener;
  }

  clear(): void {
    this.levels.clear();
    this.wheel.clear();
    this.references.clear();
    this.cancelled.clear();
  }

  pack(): unknown {
    return [this.levels.pack(), this.wheel.pack(), this.references.pack(), this.cancelled.pack()];
  }

  unpack(packed: unknown): void {
    const [levels, wheel, references, cancelled] = packed as [unknown, unknown, number[], unknown];
    this.levels.unpack(levels);
    this.wheel.unpack(wheel);
    this.references.unpack(references);
    this.cancelled.unpack(cancelled);
  }

  // ---- what comes to wait, at apply ----------------------------------------------------------------------------------------

  /** A batch whose time has come already when it is stored: it is not delayed at all. */
  isDue(flag: number, entry: AppliedEntry): boolean {
    return dueOf(flag, batchDelay(entry.body, 0), entry.logTimeMs) <= entry.logTimeMs;
  }

  defer(flag: number, entry: AppliedEntry, _queue: QueueState, count: number): number {
    const { body, position, logTimeMs, index } = entry;
    const delay = batchDelay(body, 0);
    if (!delayIsAllowed(flag, delay, logTimeMs)) return ERRORS.BAD_DELAY.number;
    const sizeBytes = ENTRY_HEADER_BYTES + body.length;
    const bloom = tagBloom(body, 0);
    if (flag === BatchFlag.delayLevel) this.#addToLevel(this.levels.clamp(delay), position, logTimeMs, sizeBytes, count, bloom);
    else this.#addToWheel(dueOf(flag, delay, logTimeMs), position, sizeBytes, count, bloom, index);
    this.references.add(position);
    this.#listener?.onWaits(entry.topicId, count);
    return 0;
  }

  /**
   * The row's message is delivered to the row's queue when log time has reached `dueMs`; at once when it has already. Log time +
   * MAX_DELAY_MS at most: a later one is due then.
   * @param position of the row, in the entry that is being applied
   */
  deferRow(row: DeliveryRow, position: number, dueMs: number, { index, logTimeMs }: Pick<AppliedEntry, 'index' | 'logTimeMs'>): void {
    if (dueMs <= logTimeMs) {
      this.#place(row, position, logTimeMs);
      return;
    }
    this.#addToWheel(Math.min(dueMs, logTimeMs + MAX_DELAY_MS), position, ROW_BYTES, row.count, row.tagBloom, index);
    this.#refer(row, position);
  }

  /** @param level 1…; above the last it is the last @param position of the row, in the entry that is being applied */
  deferRowAtLevel(row: DeliveryRow, position: number, level: number, { logTimeMs }: Pick<AppliedEntry, 'logTimeMs'>): void {
    this.#addToLevel(this.levels.clamp(level), position, logTimeMs, ROW_BYTES, row.count, row.tagBloom);
    this.#refer(row, position);
  }

  /** A row that waits needs its own bytes and those that it points at. */
  #refer(row: DeliveryRow, position: number): void {
    this.references.add(position);
    this.references.add(row.position);
    this.#ports.carried.refer(row.position, row.sizeBytes);
    this.#listener?.onWaits(row.topicId, row.count);
  }

  #addToLevel(level: number, position: number, logTimeMs: number, sizeBytes: number, count: number, bloom: number): void {
    const queue = this.levels.queue(level);
    queue.index.append(queue.nextOffset, position, logTimeMs, sizeBytes, count, bloom);
    queue.nextOffset += count;
    this.#listener?.onLevel(level);
  }

  #addToWheel(dueMs: number, position: number, sizeBytes: number, count: number, bloom: number, index: number): void {
    this.wheel.add(dueMs, position, sizeBytes, count, bloom, index);
    this.#listener?.onTimer(dueMs, position, sizeBytes, count, bloom);
  }

  // ---- what is due, at apply -----------------------------------------------------------------------------------------------

  handle(command: Command, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    switch (command.type) {
      case 'delayLevelsSet':
        if (!areDelayLevels(command.delaysMs)) return refused('BAD_REQUEST');
        this.levels.delaysMs = [...command.delaysMs];
        this.#listener?.onLevelsChanged();
        return done;
      case 'delayLevelDue':
        return this.#levelDue(command, entry, rows);
      case 'timersDue':
        return this.#timersDue(command, entry, rows);
      case 'delayLevelCarry':
        return this.#levelCarry(command, entry, rows);
      case 'timersCarry':
        return this.#timersCarry(command, entry, rows);
      case 'delayCancel':
        return this.#cancel(command);
      default:
        return refused('UNKNOWN_OPERATION');
    }
  }

  #levelDue(command: DelayLevelDue, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    const { level, from, to, position, dueMs, cancelled, released } = command;
    const queue = this.levels.known(level);
    if (queue === undefined || this.levels.delivered(level) !== from) return refused('FENCED');
    if (dueMs > entry.logTimeMs) return refused('NOT_READY');
    if (to > queue.nextOffset || !this.references.canRelease(released)) return refused('BAD_REQUEST');
    if (this.#meetsCancelled(rows.rows)) return refused('NOT_READY');
    this.levels.deliver(level, to, position);
    for (const each of cancelled) this.cancelled.forget(each);
    this.references.release(released);
    return this.#placeAll(rows, entry.logTimeMs);
  }

  #timersDue(command: TimersDue, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    const { cursor, addedIndex } = this.wheel;
    const { asOf, asOfLogTimeMs, passed, cancelled, released } = command;
    const to: TimerKey = { dueMs: command.toDueMs, position: command.toPosition };
    if (cursor.dueMs !== command.fromDueMs || cursor.position !== command.fromPosition) return refused('FENCED');
    if (to.dueMs > entry.logTimeMs) return refused('NOT_READY');
    // Something came that may be due in between, and whoever gathered the rows did not know it.
    if (addedIndex > asOf && to.dueMs > asOfLogTimeMs) return refused('NOT_READY');
    if (!isAfter(to.dueMs, to.position, cursor)) return refused('BAD_REQUEST');
    if (!this.wheel.canPass(passed) || !this.references.canRelease(released)) return refused('BAD_REQUEST');
    if (this.#meetsCancelled(rows.rows)) return refused('NOT_READY');
    for (const each of cancelled) this.cancelled.forget(each);
    this.wheel.pass(to, passed, entry.logTimeMs);
    this.references.release(released);
    return this.#placeAll(rows, entry.logTimeMs);
  }

  /** They wait at the log's head from here on; what is due is left to those who deliver it. */
  #levelCarry({ level, from, to, units }: DelayLevelCarry, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    const queue = this.levels.known(level);
    if (queue === undefined || this.levels.delivered(level) !== from) return refused('FENCED');
    const released = this.#releasedBy(units);
    if (to > queue.nextOffset || units.length !== CARRIED_FIELDS * rows.rows.length || !this.references.canRelease(released))
      return refused('BAD_REQUEST');
    // The first came first and is due first.
    if (units.length > 0 && (units[CARRIED_FIELDS - 1] as number) <= entry.logTimeMs) return refused('NOT_READY');
    this.levels.deliver(level, to, units.at(-CARRIED_FIELDS) as number);
    this.references.release(released);
    this.#waitAgain(rows, units, entry);
    return done;
  }

  /** The same: a place in the order of delivery that the cursor has passed must not be taken. */
  #timersCarry({ units }: TimersCarry, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    const { carried } = this.#ports;
    const dropped = new Map<number, number>();
    for (let i = 0; i < units.length; i += CARRIED_FIELDS) {
      const [position, , dueMs] = units.slice(i, i + CARRIED_FIELDS) as [number, number, number];
      if (dueMs <= entry.logTimeMs || !this.wheel.isPending(dueMs, position) || carried.isMoved(position)) return refused('NOT_READY');
      dropped.set(bucketOf(dueMs), (dropped.get(bucketOf(dueMs)) ?? 0) + 1);
    }
    const released = this.#releasedBy(units);
    const pairs = [...dropped].flat();
    const isSound = units.length === CARRIED_FIELDS * rows.rows.length && this.references.canRelease(released) && this.wheel.canPass(pairs);
    if (!isSound) return refused('BAD_REQUEST');
    if (rows.rows.length > carried.room) return refused('TOO_MANY');
    for (let i = 0; i < units.length; i += CARRIED_FIELDS) carried.moved(units[i] as number);
    this.references.release(released);
    this.#waitAgain(rows, units, entry);
    this.wheel.drop(pairs);
    return done;
  }

  /** A unit that is a row refers to itself and to its batch. */
  #releasedBy(units: readonly number[]): number[] {
    const counts = new Map<number, number>();
    for (let i = 0; i < units.length; i += CARRIED_FIELDS) {
      const [position, batch] = units.slice(i, i + 2) as [number, number];
      for (const each of position === batch ? [position] : [position, batch]) {
        const base = this.#ports.carried.baseOf(each);
        counts.set(base, (counts.get(base) ?? 0) + 1);
      }
    }
    return [...counts].flat();
  }

  #waitAgain(rows: PlacedRows, units: readonly number[], entry: AppliedEntry): void {
    this.#ports.carried.waitsAgain();
    rows.rows.forEach((row, i) => {
      const [, batch, dueMs] = units.slice(CARRIED_FIELDS * i, CARRIED_FIELDS * (i + 1)) as [number, number, number];
      const position = rows.rowPosition(i);
      if (row.attempts === 0) this.cancelled.move(batch, row.position);
      this.#addToWheel(dueMs, position, ROW_BYTES, row.count, row.tagBloom, entry.index);
      this.references.add(position);
      this.references.add(row.position);
      this.#ports.carried.refer(row.position, row.sizeBytes);
      this.#ports.indexRow(row, position, entry.logTimeMs);
    });
  }

  /** Cancelled between the gathering of the rows and here: they are gathered again. */
  #meetsCancelled(rows: readonly DeliveryRow[]): boolean {
    if (this.cancelled.messages === 0) return false;
    return rows.some(({ position, messageIndex, attempts }) => {
      const indexes = attempts === 0 ? this.cancelled.of(position) : undefined;
      return indexes !== undefined && (messageIndex === WHOLE_BATCH || indexes.includes(messageIndex));
    });
  }

  /** Doing it again is done already. */
  #cancel({ position, messageIndex, level, dueMs }: DelayCancel): CommandResult {
    const pending = level > 0 ? this.levels.isPending(level, position) : this.wheel.isPending(dueMs, position);
    if (!pending) return refused('ALREADY_DELIVERED');
    if (this.cancelled.has(position, messageIndex)) return done;
    if (this.cancelled.full) return refused('TOO_MANY');
    this.cancelled.add(position, messageIndex);
    return done;
  }

  #placeAll(placed: PlacedRows, logTimeMs: number): CommandResult {
    placed.rows.forEach((row, i) => {
      if (this.#place(row, placed.rowPosition(i), logTimeMs)) this.#listener?.onPlaced(row.topicId, row.count);
    });
    return done;
  }

  /** A queue that was deleted meanwhile takes what was meant for it along. @returns false: so it was */
  #place(row: DeliveryRow, position: number, logTimeMs: number): boolean {
    const placed = this.#ports.placeRow(row, position, logTimeMs) >= 0;
    if (placed) this.deliveredMessages += row.count;
    else this.droppedMessages += row.count;
    return placed;
  }
}
