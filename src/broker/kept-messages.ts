import { assert } from '../base/assert.ts';
import { ERRORS, type ErrorCode } from '../protocol/errors.ts';
import type { AppliedEntry } from '../replica/types.ts';
import type { Command, Keep } from './commands.ts';
import type { DeliveryRow } from './delivery.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { KeptQueue, type KeptUnit } from './kept-queue.ts';
import { StateLimits } from './limits.ts';
import type { LongerRetentions } from './longer-retentions.ts';
import type { Segments } from './segments.ts';
import type { CommandHandler, CommandResult, PlacedRows, StateTable } from './state-table.ts';
import { type QueueState, queueIdOf, queueKey, type TopicState, type Topics, topicIdOf } from './topics.ts';

/** What the table needs of the state machine. */
export interface KeptPorts {
  readonly topics: Topics;
  readonly retentions: LongerRetentions;
  readonly segments: Pick<Segments, 'startPosition'>;
  /** For who looks for what a row delivers. @param position of the row */
  indexRow(row: DeliveryRow, position: number, logTimeMs: number): void;
}

/** While more is copied than is left after the cut. */
const COPYING_FACTOR = 2;
const refused = (code: ErrorCode): CommandResult => ({ error: ERRORS[code].number, results: [] });

/**
 * Messages of topics with a longer retention (F34) that the log does not hold any more where they were stored: copied to its head before
 * each cut, and known by units that are part of the state. Units of ConsumeQueues follow offsets and positions at once, which a copy does
 * not; and a replica that has only the log that is left would not find them.
 */
export class KeptMessages implements StateTable, CommandHandler {
  readonly name = 'kept';
  readonly level = FEATURE_LEVELS.keeping;
  readonly #ports: KeptPorts;
  /** Those that keep something, by queueKey. */
  readonly #queues = new Map<number, QueueState>();
  /** Units over all queues. */
  #size = 0;

  constructor(ports: KeptPorts) {
    this.#ports = ports;
  }

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.#sum(() => true, 'bytes');
  }

  /** Of one retention. */
  use(name: string): { readonly keptBytes: number; readonly keptMessages: number } {
    const isOf = (queue: QueueState): boolean => this.#ports.retentions.of(queue.topic)?.name === name;
    return { keptBytes: this.#sum(isOf, 'bytes'), keptMessages: this.#sum(isOf, 'messages') };
  }

  #sum(isOf: (queue: QueueState) => boolean, what: 'bytes' | 'messages'): number {
    let sum = 0;
    for (const queue of this.#queues.values()) if (isOf(queue)) sum += (queue.kept as KeptQueue)[what];
    return sum;
  }

  /** Queues of topics that are kept for longer, and what they keep. */
  *queues(): Generator<{ readonly queue: QueueState; readonly retention: string }> {
    if (this.#ports.retentions.size === 0) return;
    for (const topic of this.#ports.topics.all()) {
      const retention = this.#ports.retentions.of(topic)?.name;
      if (retention !== undefined) for (const queue of topic.queues) yield { queue, retention };
    }
  }

  /** Whether a cut may take something that has to be kept: then it is whoever keeps it that proposes the cut. */
  get isAtWork(): boolean {
    if (this.#size > 0) return true;
    for (const { queue } of this.queues()) if (queue.nextOffset > queue.logMinOffset) return true;
    return false;
  }

  handle(command: Command, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    return command.type === 'keep' ? this.#keep(command, entry, rows) : refused('UNKNOWN_OPERATION');
  }

  #keep({ topicId, queueId, from, logTimesMs }: Keep, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    const queue = this.#ports.topics.queue(topicId, queueId);
    const count = rows.rows.reduce((sum, row) => sum + row.count, 0);
    if (queue === undefined) return refused('QUEUE_NOT_FOUND');
    if (rows.rows.length === 0 || logTimesMs.length !== rows.rows.length || from + count > queue.nextOffset) return refused('BAD_REQUEST');
    if (this.#size + rows.rows.length > COPYING_FACTOR * StateLimits.maxKeptUnits) return refused('TOO_MANY');
    const { retentions, segments } = this.#ports;
    const begin = queue.kept?.begin ?? queue.logMinOffset;
    // Of a leader that was late: what it copied was dropped, or the log was cut behind the copies.
    const late = from < begin || rows.rows.some(({ position }) => position < segments.startPosition);
    if (late || retentions.of(queue.topic) === undefined) return refused('FENCED');
    let baseOffset = from;
    const units = rows.rows.map((row, i): KeptUnit => {
      const rowPosition = rows.rowPosition(i);
      const { position, sizeBytes, tagBloom } = row;
      const unit = { baseOffset, count: row.count, rowPosition, position, sizeBytes, tagBloom, logTimeMs: logTimesMs[i] as number };
      baseOffset += row.count;
      this.#ports.indexRow(row, rowPosition, entry.logTimeMs);
      return unit;
    });
    // There is no room any more for what was kept before: it would go with the cut.
    const kept = queue.kept === null || from > queue.kept.end ? new KeptQueue() : queue.kept;
    this.#size -= queue.kept?.units.length ?? 0;
    kept.put(units);
    this.#size += kept.units.length;
    queue.kept = kept;
    this.#queues.set(queueKey(topicId, queueId), queue);
    return { error: 0, results: [units.length] };
  }

  /** The log begins at `position` now: what was not copied behind it is gone, and so is what is too old or beyond its quota. */
  cut(position: number, logTimeMs: number): void {
    if (this.#size === 0) return;
    for (const queue of [...this.#queues.values()]) {
      const { units } = queue.kept as KeptQueue;
      const oldest = logTimeMs - (this.#ports.retentions.of(queue.topic)?.retentionMs ?? 0);
      const isGone = (unit: KeptUnit): boolean => unit.position < position;
      // A gap would hide what is before it: that goes, too.
      const lost = (queue.kept as KeptQueue).end < queue.logMinOffset ? units.length : units.findLastIndex(isGone) + 1;
      const young = units.findIndex((unit) => unit.logTimeMs >= oldest);
      this.#drop(queue, Math.max(lost, young < 0 ? units.length : young));
    }
    for (const { name, maxBytes } of this.#ports.retentions.all()) {
      const ofThis = [...this.#queues.values()].filter((queue) => this.#ports.retentions.of(queue.topic)?.name === name);
      if (this.use(name).keptBytes > maxBytes) this.#dropOldest(ofThis, maxBytes, ownBytes);
    }
    if (this.#size > StateLimits.maxKeptUnits) this.#dropOldest([...this.#queues.values()], StateLimits.maxKeptUnits, () => 1);
  }

  /** Until what is left costs no more than `budget`. */
  #dropOldest(queues: readonly QueueState[], budget: number, cost: (unit: KeptUnit, before: KeptUnit | undefined) => number): void {
    const all = queues.flatMap((queue) => {
      const { units } = queue.kept as KeptQueue;
      return units.map((unit, i) => ({ queue, unit, costs: cost(unit, units[i - 1]) }));
    });
    all.sort((x, y) => y.unit.logTimeMs - x.unit.logTimeMs || keyOf(x.queue) - keyOf(y.queue) || y.unit.baseOffset - x.unit.baseOffset);
    const left = new Map<QueueState, number>();
    let spent = 0;
    for (const { queue, costs } of all) {
      spent += costs;
      if (spent > budget) break;
      left.set(queue, (left.get(queue) ?? 0) + 1);
    }
    for (const queue of queues) this.#drop(queue, (queue.kept as KeptQueue).units.length - (left.get(queue) ?? 0));
  }

  #drop(queue: QueueState, units: number): void {
    const kept = queue.kept as KeptQueue;
    this.#size -= units;
    kept.drop(units);
    if (kept.units.length > 0) return;
    queue.kept = null;
    this.#queues.delete(keyOf(queue));
  }

  topicDropped(topic: TopicState): void {
    for (const queue of topic.queues) if (queue.kept !== null) this.#drop(queue, queue.kept.units.length);
  }

  clear(): void {
    for (const queue of this.#queues.values()) queue.kept = null;
    this.#queues.clear();
    this.#size = 0;
  }

  pack(): unknown {
    return [...this.#queues].sort(([a], [b]) => a - b).map(([key, { kept }]) => [key, (kept as KeptQueue).pack()]);
  }

  unpack(packed: unknown): void {
    for (const [key, bytes] of packed as [number, Uint8Array][]) {
      const queue = this.#ports.topics.queue(topicIdOf(key), queueIdOf(key));
      assert(queue !== undefined, 'what is kept is of a topic that is there');
      queue.kept = KeptQueue.unpack(bytes);
      this.#size += queue.kept.units.length;
      this.#queues.set(key, queue);
    }
  }
}

/** A copy that several rows refer to counts once. */
const ownBytes = ({ position, sizeBytes }: KeptUnit, before: KeptUnit | undefined): number =>
  position === before?.position ? 0 : sizeBytes;
const keyOf = (queue: QueueState): number => queueKey(queue.topic.id, queue.queueId);
