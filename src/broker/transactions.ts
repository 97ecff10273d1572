import { ENTRY_HEADER_BYTES } from '../log/layout.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { ERRORS } from '../protocol/errors.ts';
import { DISCARDED_HALVES_TOPIC } from '../protocol/names.ts';
import { tagBloom } from '../protocol/record-batch.ts';
import type { AppliedEntry } from '../replica/types.ts';
import type { Command, HalvesCarry, TransactionChecks, TransactionEnd, TransactionsExpire } from './commands.ts';
import { type DeliveryRow, WHOLE_BATCH } from './delivery.ts';
import { Ended, EndedTransactions, proofOf } from './ended-transactions.ts';
import { readHalf } from './half-batch.ts';
import { type HalfMessage, HalfMessages } from './half-messages.ts';
import { StateLimits } from './limits.ts';
import type { SettingName } from './settings.ts';
import type { CommandHandler, CommandResult, DeferredBatches, PlacedRows, StateTable } from './state-table.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';

export const TRANSACTION_COMMANDS = ['transactionEnd', 'transactionChecks', 'transactionsExpire', 'halvesCarry'] as const;
const NO_OFFSET = -1;

/** What the transactions need of the state machine. */
export interface TransactionsPorts {
  readonly topics: Topics;
  setting(name: SettingName): number;
  /** @returns the offset, or −1: the queue is not here any more */
  placeRow(row: DeliveryRow, position: number, logTimeMs: number): number;
}

/** The services of this replica hear what happens to half messages, on every replica, in log order. */
export interface TransactionsListener {
  onHalf(half: HalfMessage): void;
  onHalfEnded(half: HalfMessage, how: Ended, logTimeMs: number): void;
}

const refused = (code: ErrorCode): CommandResult => ({ error: ERRORS[code].number, results: [] });
const done = (...results: readonly number[]): CommandResult => ({ error: 0, results });

/** What gives a half message its place. @param topicId where it goes */
export function rowOfHalf({ position, sizeBytes, tagBloom: bloom }: HalfMessage, topicId: number, queueId: number): DeliveryRow {
  const origin = { originTopicId: 0, originQueueId: 0, originOffset: 0 };
  return { position, sizeBytes, messageIndex: WHOLE_BATCH, count: 1, topicId, queueId, attempts: 0, ...origin, tagBloom: bloom };
}

/**
 * Transactions (F14): the replicated part. A half message is in the log and in this table, in no queue. Its first outcome in the log
 * ends it: a commit carries the row that gives it its place, so committed messages have the order of their commits. When it is to be
 * asked for, and how often it was, is replicated, too: a new leader goes on where the old one was.
 */
export class Transactions implements StateTable, CommandHandler, DeferredBatches {
  readonly name = 'transactions';
  readonly halves = new HalfMessages();
  readonly ended = new EndedTransactions();
  readonly #ports: TransactionsPorts;
  #listener: TransactionsListener | null = null;

  constructor(ports: TransactionsPorts) {
    this.#ports = ports;
  }

  listen(listener: TransactionsListener): void {
    this.#listener = listener;
  }

  clear(): void {
    this.halves.clear();
    this.ended.clear();
  }

  pack(): unknown {
    return [this.halves.pack(), this.ended.pack()];
  }

  unpack(packed: unknown): void {
    const [halves, ended] = packed as [ReturnType<HalfMessages['pack']>, Uint8Array];
    this.halves.unpack(halves);
    this.ended.unpack(ended);
  }

  /** Its half messages have no place to go to any more: a later commit is told so. */
  topicDropped(topic: TopicState): void {
    for (const half of [...this.halves.all()]) {
      // The log's time is not known here; that of the newest outcome keeps them in order.
      if (half.topicId === topic.id) this.#finish(half, Ended.gone, NO_OFFSET, Math.max(this.ended.newestMs, half.storedMs));
    }
  }

  defer(_flag: number, { body, position, logTimeMs }: AppliedEntry, { topic, queueId }: QueueState): number {
    const header = readHalf(body);
    if (typeof header === 'string') return ERRORS[header].number;
    const { producerGroup, messageId, checkImmunityMs } = header;
    if (!this.halves.hasRoomFor(producerGroup)) return ERRORS.TOO_MANY.number;
    // So that whoever proposes what is discarded knows the topic's number.
    this.#ports.topics.internal(DISCARDED_HALVES_TOPIC, 1);
    const waitMs = Math.min(checkImmunityMs ?? this.#ports.setting('transactionTimeoutMs'), StateLimits.maxCheckImmunityMs);
    const half: HalfMessage = {
      transaction: position,
      position,
      sizeBytes: ENTRY_HEADER_BYTES + body.length,
      topicId: topic.id,
      queueId,
      tagBloom: tagBloom(body, 0),
      producerGroup,
      messageId,
      storedMs: logTimeMs,
      checks: 0,
      nextCheckMs: logTimeMs + waitMs,
    };
    this.halves.add(half);
    this.#listener?.onHalf(half);
    return 0;
  }

  handle(command: Command, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    this.ended.expire(entry.logTimeMs);
    switch (command.type) {
      case 'transactionEnd':
        return this.#end(command, entry, rows);
      case 'transactionChecks':
        return this.#check(command, entry);
      case 'transactionsExpire':
        return this.#expire(command, entry, rows);
      case 'halvesCarry':
        return this.#carry(command);
      default:
        return refused('UNKNOWN_OPERATION');
    }
  }

  /** @returns the offset that a commit gave, or −1 */
  #end({ transaction, messageId, producerGroup, commit }: TransactionEnd, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    const half = this.halves.get(transaction);
    if (half === undefined) return this.#endedBefore(transaction, proofOf(messageId, producerGroup), commit);
    if (half.messageId !== messageId || half.producerGroup !== producerGroup) return refused('TRANSACTION_NOT_FOUND');
    if (!commit) {
      this.#finish(half, Ended.rolledBack, NO_OFFSET, entry.logTimeMs);
      return done(NO_OFFSET);
    }
    const [row] = rows.rows;
    // The bytes were carried on between proposal and apply: whoever asked asks again.
    if (row === undefined || row.position !== half.position) return refused('NOT_READY');
    const offset = this.#ports.placeRow(row, rows.rowPosition(0), entry.logTimeMs);
    this.#finish(half, Ended.committed, offset, entry.logTimeMs);
    return done(offset);
  }

  #endedBefore(transaction: number, proof: number, commit: boolean): CommandResult {
    const ended = this.ended.get(transaction);
    if (ended === undefined || ended.proof !== proof) return refused('TRANSACTION_NOT_FOUND');
    if (ended.how === Ended.gone) return commit ? refused('TOPIC_NOT_FOUND') : done(NO_OFFSET);
    return commit === (ended.how === Ended.committed) ? done(ended.offset) : refused('TRANSACTION_CONFLICT');
  }

  /** @returns for each whether it is to be asked for */
  #check({ checks }: TransactionChecks, { logTimeMs }: AppliedEntry): CommandResult {
    const intervalMs = this.#ports.setting('transactionCheckIntervalMs');
    const max = this.#ports.setting('transactionCheckMax');
    return done(
      ...checks.map(([transaction, before]) => {
        const half = this.halves.get(transaction);
        if (half === undefined || half.checks !== before || before >= max || half.nextCheckMs > logTimeMs) return 0;
        half.checks++;
        half.nextCheckMs = logTimeMs + intervalMs;
        return 1;
      }),
    );
  }

  /** Nobody answered: rolled back, and kept where an operator finds them. @returns for each whether it was */
  #expire({ transactions }: TransactionsExpire, { logTimeMs }: AppliedEntry, rows: PlacedRows): CommandResult {
    const max = this.#ports.setting('transactionCheckMax');
    return done(
      ...transactions.map((transaction, i) => {
        const half = this.halves.get(transaction);
        const row = rows.rows[i];
        if (half === undefined || half.checks < max || half.nextCheckMs > logTimeMs || row?.position !== half.position) return 0;
        this.#ports.placeRow(row, rows.rowPosition(i), logTimeMs);
        this.#finish(half, Ended.rolledBack, NO_OFFSET, logTimeMs);
        return 1;
      }),
    );
  }

  /** One that ended or was carried by another entry meanwhile stays as it is. */
  #carry({ halves }: HalvesCarry): CommandResult {
    for (let at = 0; at + 2 < halves.length; at += 3) {
      const [transaction, before, position] = halves.slice(at, at + 3) as [number, number, number];
      const half = this.halves.get(transaction);
      if (half?.position === before && position > before) half.position = position;
    }
    return done();
  }

  #finish(half: HalfMessage, how: Ended, offset: number, logTimeMs: number): void {
    this.halves.delete(half);
    this.ended.add(half.transaction, { how, endedMs: logTimeMs, offset, proof: proofOf(half.messageId, half.producerGroup) });
    this.#listener?.onHalfEnded(half, how, logTimeMs);
  }
}
