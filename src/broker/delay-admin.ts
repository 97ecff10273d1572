import { equalBytes, readU16, readU32, readU53 } from '../base/bytes.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES, Entry } from '../log/layout.ts';
import type { DelayCancelRequest, DelayListRequest, DelayListResponse } from '../protocol/delay-requests.ts';
import { LedgerError } from '../protocol/errors.ts';
import { parseMessageId } from '../protocol/message-id.ts';
import { BatchFlag, batchCount, batchDelay, batchFlags, batchIdHigh, batchIdLow, DEFERRED_FLAGS } from '../protocol/record-batch.ts';
import { EntryType } from '../replica/types.ts';
import type { BrokerContext } from './context.ts';
import { MAX_CANCELLABLE_MESSAGES } from './limits.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { MessageIdIndex } from './ports.ts';
import { baseOffsetOf, type StoredEntries, unitAt } from './stored-entries.ts';
import type { TimerDelivery } from './timer-delivery.ts';
import { BUCKET_MS, bucketOf } from './timer-wheel.ts';
import { DELAY_FLAGS, dueOf } from './timers.ts';
import type { QueueState, TopicState } from './topics.ts';

/** Where a message waits. */
export interface WaitingPlace {
  /** 0: for a time of its own. */
  readonly level: number;
  /** ms of log time. */
  readonly dueMs: number;
}

/** One message of a batch that waits there. */
interface Waiting extends WaitingPlace {
  /** Of the batch, as it was stored first. */
  readonly stored: number;
  readonly messageIndex: number;
}

/** What waits (F13): found, listed, cancelled. */
export class DelayAdmin {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #entries: StoredEntries;
  readonly #ids: MessageIdIndex;
  readonly #delivery: TimerDelivery;

  constructor(context: BrokerContext, commands: PendingCommands, entries: StoredEntries, ids: MessageIdIndex, delivery: TimerDelivery) {
    this.#context = context;
    this.#commands = commands;
    this.#entries = entries;
    this.#ids = ids;
    this.#delivery = delivery;
  }

  /** Null: not, or no longer. @param entry of a batch, header and body */
  async placeOf(entry: Uint8Array): Promise<WaitingPlace | null> {
    const flag = batchFlags(entry, ENTRY_HEADER_BYTES) & DEFERRED_FLAGS;
    if ((flag & DELAY_FLAGS) === 0) return null;
    const position = readU53(entry, Entry.position);
    if (entry[Entry.type] === EntryType.carried) return this.#carriedPlaceOf(position);
    if (this.#context.state.carried.isMoved(position)) return null;
    const delay = batchDelay(entry, ENTRY_HEADER_BYTES);
    const logTimeMs = readU53(entry, Entry.logTimeMs);
    const { levels, wheel } = this.#context.state.timers;
    if (flag !== BatchFlag.delayLevel) {
      const dueMs = dueOf(flag, delay, logTimeMs);
      if (!wheel.isPending(dueMs, position)) return null;
      return (await holds(wheel.known(bucketOf(dueMs)), position)) ? { level: 0, dueMs } : null;
    }
    // The table may have been another one when it was stored.
    const likely = levels.clamp(delay);
    const others = Array.from({ length: levels.count }, (_, i) => i + 1).filter((level) => level !== likely);
    for (const level of [likely, ...others]) {
      if (!levels.isPending(level, position) || !(await holds(levels.known(level), position))) continue;
      return { level, dueMs: logTimeMs + levels.delayMs(level) };
    }
    return null;
  }

  /** It waits as a row, whose time its unit alone knows. */
  async #carriedPlaceOf(position: number): Promise<WaitingPlace | null> {
    const { wheel } = this.#context.state.timers;
    for (const { rowPosition, row } of await this.#entries.rowsOf(position)) {
      if (row.attempts > 0 || this.#context.state.carried.isMoved(rowPosition)) continue;
      for (const bucket of wheel.buckets()) {
        const dueMs = await timeOf(wheel.known(bucket) as QueueState, rowPosition);
        if (dueMs !== null && wheel.isPending(dueMs, rowPosition)) return { level: 0, dueMs };
      }
    }
    return null;
  }

  /** @throws LedgerError MESSAGE_NOT_FOUND, ALREADY_DELIVERED, TOO_MANY, TOPIC_NOT_FOUND, BAD_REQUEST, and what a command is refused with */
  async cancel({ id, topic: name }: DelayCancelRequest): Promise<void> {
    const { high, low } = parseMessageId(id);
    const topic = this.#context.state.topics.named(name);
    if (topic === undefined) throw new LedgerError('TOPIC_NOT_FOUND', name);
    const found = await this.#entries.steadily(
      () => this.#waitingAt(high, low, topic),
      (one) => typeof one === 'object',
    );
    if (typeof found === 'string') throw new LedgerError(found);
    const { stored, messageIndex, level, dueMs } = found;
    await new Promise<void>((resolve, reject) => {
      this.#commands.propose({ type: 'delayCancel', position: stored, messageIndex, level, dueMs: level > 0 ? 0 : dueMs }, (error) => {
        if (error === null) resolve();
        else reject(new LedgerError(error));
      });
    });
  }

  /** Where the message waits, or why nothing can be done about it. */
  async #waitingAt(high: Uint8Array, low: number, topic: TopicState): Promise<Waiting | 'ALREADY_DELIVERED' | 'MESSAGE_NOT_FOUND'> {
    let found = false;
    for (const position of await this.#ids.findId(high, low)) {
      const entry = await this.#entries.at(position);
      if (entry === null || !equalBytes(batchIdHigh(entry, ENTRY_HEADER_BYTES), high)) continue;
      const count = batchCount(entry, ENTRY_HEADER_BYTES);
      const messageIndex = low - batchIdLow(entry, ENTRY_HEADER_BYTES);
      if (!(messageIndex >= 0 && messageIndex < count) || readU32(entry, Entry.topicId) !== topic.id) continue;
      const place = await this.placeOf(entry);
      found = true;
      // A copy may be one that nothing came to refer to.
      if (place === null) continue;
      // Those that are left need a row each.
      if (count > MAX_CANCELLABLE_MESSAGES)
        throw new LedgerError('BAD_REQUEST', `one of ${count} messages of a batch; ${MAX_CANCELLABLE_MESSAGES} at most can be taken apart`);
      return { ...place, stored: readU53(entry, Entry.position), messageIndex };
    }
    return found ? 'ALREADY_DELIVERED' : 'MESSAGE_NOT_FOUND';
  }

  /** Whether this message of a waiting batch was cancelled. */
  isCancelled(entry: Uint8Array, messageIndex: number): boolean {
    return this.#context.state.timers.cancelled.has(readU53(entry, Entry.position), messageIndex);
  }

  queueOf(entry: Uint8Array): QueueState | undefined {
    return this.#context.state.topics.queue(readU32(entry, Entry.topicId), readU16(entry, Entry.queueId));
  }

  async list({ maxBuckets }: DelayListRequest): Promise<DelayListResponse> {
    const { state, replica } = this.#context;
    const { levels, wheel, cancelled } = state.timers;
    const rows: DelayListResponse['levels'][number][] = [];
    const unit = new UnitBatch(1);
    for (let level = 1; level <= levels.count; level++) {
      const queue = levels.known(level);
      const delayMs = levels.delayMs(level);
      const found = queue === undefined ? 0 : await queue.index.readUnits(levels.delivered(level), 1, unit);
      const nextDueMs = found === 0 ? -1 : (unit.logTimeMs[0] as number) + delayMs;
      rows.push({ level, delayMs, pending: levels.pending(level), nextDueMs });
    }
    const buckets = wheel.buckets().filter((bucket) => wheel.pendingIn(bucket) > 0);
    const { timers: nearTimers, nextDueMs } = this.#delivery.near;
    return {
      logTimeMs: replica.logTimeMs(),
      levels: rows,
      timers: wheel.pending,
      nextDueMs,
      nearTimers,
      cancelledMessages: cancelled.messages,
      buckets: buckets.slice(0, maxBuckets).map((bucket) => ({
        fromMs: bucket * BUCKET_MS,
        toMs: (bucket + 1) * BUCKET_MS,
        timers: wheel.pendingIn(bucket),
      })),
      bucketCount: buckets.length,
    };
  }
}

async function holds(queue: QueueState | undefined, position: number): Promise<boolean> {
  return queue !== undefined && (await baseOffsetOf(queue, position)) !== null;
}

/** @returns the time of the unit of that position; null: it is not in the queue */
async function timeOf(queue: QueueState, position: number): Promise<number | null> {
  const unit = await unitAt(queue, position);
  return unit === null ? null : (unit.logTimeMs[0] as number);
}
