import { AssertionError } from '../base/assert.ts';
import { readU16, readU32, readU53 } from '../base/bytes.ts';
import { ENTRY_HEADER_BYTES, Entry } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import { EntryType } from '../replica/types.ts';
import { type CarriedUnit, CarryScan } from './carry-scan.ts';
import type { Command } from './commands.ts';
import { type BrokerContext, refusalCode } from './context.ts';
import type { DeliveryRow } from './delivery.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import type { HalfMessage } from './half-messages.ts';
import { Keeping, type KeepPlan } from './keeping.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { Reader } from './reader.ts';
import { WaitingRows } from './waiting-rows.ts';

/** Copies on their way at the same time, in bytes and in entries: carrying must not fill the log's pipeline before what clients send. */
const WINDOW_BYTES = 1024 * 1024;
const WINDOW_ENTRIES = 256;
/** Of one entry. */
const ITEMS_PER_COMMAND = 1_024;
/** Tries of one cut: each time something was referred to meanwhile, or delivered. */
const MAX_TRIES = 16;
/** More than so much of what is to be cut is needed: the cut would give nothing back but the same again at the log's head. */
const MAX_NEEDED_SHARE = 0.5;
/** The same on a full disk, where the copies live on the log's reserve. */
const MAX_NEEDED_SHARE_WHEN_FULL = 0.1;

const NOTHING_KEPT: KeepPlan = { bytes: 0, queues: [] };

/** A leadership ended under it. */
class Ended extends Error {}

/**
 * The leader's part of carrying on what is still referred to, so that the log can be cut (F34): copies the batches to the log's head,
 * proposes what refers to the copies from then on, and then the cut. Whatever ends it halfway leaves copies that nobody refers to, and
 * they go with their segments.
 */
export class Carrying {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #reader: Reader;
  readonly #rows: WaitingRows;
  readonly #keeping: Keeping;
  #running = false;
  /** Counts leaderships: a run of an earlier one ends. */
  #leadership = 0;
  /** Index of a copy on its way → who waits for its position. */
  readonly #copies = new Map<number, { readonly resolve: (position: number) => void; readonly reject: (error: Error) => void }>();
  /** Below it, most of the log is what waits. */
  #notBefore = 0;
  /** Since this process started. */
  carriedBytes = 0;

  constructor(context: BrokerContext, commands: PendingCommands, reader: Reader) {
    this.#context = context;
    this.#commands = commands;
    this.#reader = reader;
    this.#rows = new WaitingRows(context, reader);
    this.#keeping = new Keeping(context, this.#rows);
  }

  leadershipLost(): void {
    this.#leadership++;
    this.#notBefore = 0;
    for (const { reject } of this.#copies.values()) reject(new Ended());
    this.#copies.clear();
  }

  /** At apply. */
  onCarried(index: number, position: number): void {
    this.#copies.get(index)?.resolve(position);
    this.#copies.delete(index);
  }

  get isKnown(): boolean {
    return this.#context.state.featureLevel >= FEATURE_LEVELS.carrying;
  }

  /**
   * Carries on what is referred to before `position` and cuts the log there; one at a time, others are passed over.
   * @param expired before which queues retain nothing any more: both the base of a segment
   */
  cutAt(position: number, expired: number): void {
    if (this.#running || position < this.#notBefore) return;
    this.#running = true;
    const leadership = this.#leadership;
    this.#run(position, expired, leadership)
      .catch((error: unknown) => {
        if (error instanceof AssertionError) throw error;
        if (!(error instanceof Ended)) this.#context.metrics.event('log not carried on', { position, error: String(error) });
      })
      .finally(() => {
        this.#running = false;
        this.#context.state.carried.onRefer = null;
      });
  }

  async #run(position: number, expired: number, leadership: number): Promise<void> {
    const { state, metrics } = this.#context;
    const scan = new CarryScan(this.#context, this.#rows, position, expired);
    const cutBytes = position - state.startPosition();
    /** Referred to by rows: what the scan finds, and what comes meanwhile. */
    const names = new Map<number, number>();
    state.carried.onRefer = (name, place, sizeBytes) => {
      if (place < position) names.set(name, sizeBytes);
    };
    await scan.names((name, sizeBytes) => names.set(name, sizeBytes));
    const isFull = this.#context.replica.diskFull?.() === true;
    // What could be gone by now must not keep a full disk full.
    const kept = isFull ? NOTHING_KEPT : await this.#keeping.plan(position, expired);
    const neededBytes = [...names.values()].reduce((sum, sizeBytes) => sum + sizeBytes, kept.bytes + (await scan.waitingBytes()));
    this.#check(leadership);
    if (neededBytes > (isFull ? MAX_NEEDED_SHARE_WHEN_FULL : MAX_NEEDED_SHARE) * cutBytes) {
      this.#notBefore = isFull ? 0 : position + cutBytes;
      return;
    }
    await this.#keep(kept, leadership);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      if (!(await this.#carryWaiting(scan, position, leadership))) return;
      while (names.size > 0) await this.#carryNames(names, leadership);
      // In this turn nothing is referred to that was not carried.
      const asOf = state.appliedIndex;
      try {
        await this.#propose({ type: 'cutCarried', position, expired, asOf }, leadership);
        metrics.event('log cut', { position, carriedBytes: this.carriedBytes });
        return;
      } catch (error) {
        if (!(error instanceof LedgerError && error.code === 'NOT_READY')) throw error;
      }
    }
  }

  /** @returns false: some of it is due soon, and the cut has to wait for its delivery */
  async #carryWaiting(scan: CarryScan, position: number, leadership: number): Promise<boolean> {
    const { levels } = this.#context.state.timers;
    await this.#carryHalves(position, leadership);
    for (let level = 1; level <= levels.count; level++) {
      for (;;) {
        const { carried, soon } = await scan.level(level);
        this.#check(leadership);
        if (soon) return false;
        if (carried === null) break;
        await this.#carryUnits(carried.units, leadership, (units, rows, at) => {
          const from = at === 0 ? carried.from : this.#context.state.timers.levels.delivered(level);
          const end = at + rows.length === carried.units.length ? carried.to : from + rows.reduce((sum, { count }) => sum + count, 0);
          return { type: 'delayLevelCarry', level, from, to: end, units };
        });
      }
    }
    for (;;) {
      const { carried, soon } = await scan.timers();
      this.#check(leadership);
      if (carried.length === 0) return !soon;
      await this.#carryUnits(carried, leadership, (units) => ({ type: 'timersCarry', units }));
    }
  }

  async #keep(plan: KeepPlan, leadership: number): Promise<void> {
    for await (const { queue, from, rows, logTimesMs } of this.#keeping.rounds(plan)) {
      const copies = await this.#copy(new Map(rows.map(({ position, sizeBytes }) => [position, sizeBytes])), leadership);
      const { queueId, topic } = queue;
      const copied = rows.map((row) => ({ ...row, topicId: topic.id, queueId, position: (copies.get(row.position) as Copy).position }));
      await this.#propose({ type: 'keep', topicId: topic.id, queueId, from, logTimesMs }, leadership, copied);
    }
  }

  async #carryHalves(position: number, leadership: number): Promise<void> {
    const halves: HalfMessage[] = [...this.#context.state.transactions.halves.all()].filter((half) => half.position < position);
    for (let at = 0; at < halves.length; at += ITEMS_PER_COMMAND) {
      const some = halves
        .slice(at, at + ITEMS_PER_COMMAND)
        .map(({ transaction, position: before, sizeBytes }) => ({ transaction, before, sizeBytes }));
      const copies = await this.#copy(new Map(some.map(({ before, sizeBytes }) => [before, sizeBytes])), leadership);
      const moved = some.flatMap(({ transaction, before }) => [transaction, before, (copies.get(before) as Copy).position]);
      await this.#propose({ type: 'halvesCarry', halves: moved }, leadership);
    }
  }

  async #carryUnits(
    carried: readonly CarriedUnit[],
    leadership: number,
    command: (units: number[], rows: readonly DeliveryRow[], at: number) => Command,
  ): Promise<void> {
    for (let at = 0; at < carried.length; at += ITEMS_PER_COMMAND) {
      const some = carried.slice(at, at + ITEMS_PER_COMMAND);
      // The batch of a row that waited is carried as one that rows refer to: many may refer to the same.
      const batches = some.filter(({ position, row }) => row.position === position);
      const copies = await this.#copy(new Map(batches.map(({ row }) => [row.position, row.sizeBytes])), leadership);
      const rows = some.map(({ row }) => ({ ...row, position: copies.get(row.position)?.position ?? row.position }));
      const units = some.flatMap(({ position, dueMs, row }) => [position, row.position, dueMs]);
      await this.#propose(command(units, rows, at), leadership, rows);
    }
  }

  async #carryNames(names: Map<number, number>, leadership: number): Promise<void> {
    const some = [...names].slice(0, ITEMS_PER_COMMAND);
    for (const [name] of some) names.delete(name);
    const copies = await this.#copy(new Map(some), leadership);
    const batches = [...copies].flatMap(([name, { position, storedMs }]) => [name, position, storedMs]);
    await this.#propose({ type: 'carry', batches }, leadership);
  }

  /** @param batches position where each was stored first → size of its entry @returns where its bytes stand at the log's head now */
  async #copy(batches: ReadonlyMap<number, number>, leadership: number): Promise<Map<number, Copy>> {
    const copies = new Map<number, Copy>();
    let bytes = 0;
    const window: Promise<void>[] = [];
    for (const [name, sizeBytes] of [...batches].sort(([a], [b]) => a - b)) {
      if (bytes + sizeBytes > WINDOW_BYTES || window.length >= WINDOW_ENTRIES) {
        await Promise.all(window.splice(0));
        bytes = 0;
      }
      const entry = await this.#reader.stored(name, sizeBytes);
      this.#check(leadership);
      bytes += sizeBytes;
      window.push(this.#lay(name, entry, copies));
    }
    await Promise.all(window);
    this.#check(leadership);
    return copies;
  }

  async #lay(name: number, entry: Uint8Array, copies: Map<number, Copy>): Promise<void> {
    const { replica } = this.#context;
    const body = entry.subarray(ENTRY_HEADER_BYTES);
    const checksum = readU32(entry, Entry.bodyChecksum);
    const index = replica.propose(EntryType.carried, readU32(entry, Entry.topicId), readU16(entry, Entry.queueId), checksum, body);
    if (typeof index === 'string') throw new LedgerError(refusalCode(index));
    const position = await new Promise<number>((resolve, reject) => {
      this.#copies.set(index, { resolve, reject });
    });
    this.carriedBytes += entry.length;
    copies.set(name, { position, storedMs: readU53(entry, Entry.logTimeMs) });
  }

  #propose(command: Command, leadership: number, rows: readonly DeliveryRow[] = []): Promise<void> {
    this.#check(leadership);
    return new Promise((resolve, reject) => {
      this.#commands.propose(
        command,
        (error) => {
          if (error === null) resolve();
          else reject(leadership === this.#leadership ? new LedgerError(error) : new Ended());
        },
        rows,
      );
    });
  }

  #check(leadership: number): void {
    if (leadership !== this.#leadership) throw new Ended();
  }
}

interface Copy {
  readonly position: number;
  /** Log time at which the batch was stored first, ms. */
  readonly storedMs: number;
}
