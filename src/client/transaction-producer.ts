import { LedgerError } from '../protocol/errors.ts';
import { checkGroupName } from '../protocol/names.ts';
import { Property } from '../protocol/properties.ts';
import { formatTransactionId, type TransactionName } from '../protocol/transaction-id.ts';
import type { TransactionCheckPush, TransactionOutcome } from '../protocol/transaction-requests.ts';
import type { ClientCore } from './client-core.ts';
import { PRODUCER_DEFAULTS, type ProducerOptions } from './options.ts';
import { Producer } from './producer.ts';
import { ProducerHeartbeats } from './producer-heartbeats.ts';
import { type CheckLocalTransaction, TransactionChecker } from './transaction-checker.ts';
import { endTransaction } from './transaction-end.ts';
import type { Message, SendResult } from './types.ts';

export type { TransactionOutcome } from '../protocol/transaction-requests.ts';

export interface TransactionProducerOptions extends ProducerOptions {
  /** Who answers for these transactions: all processes that can look up the same local transactions. */
  readonly group: string;
  readonly checkLocalTransaction: CheckLocalTransaction;
  /** Calls of checkLocalTransaction at once; default 20. */
  readonly checkConcurrency?: number;
  /** Told of failures behind nobody's call: a check that threw, an outcome of a check that could not be said. */
  readonly onError?: (error: unknown) => void;
}

const CHECK_CONCURRENCY = 20;

export interface TransactionOptions {
  /** Before the first check of this transaction, instead of the broker group's setting (6 s): whole seconds, 0…259200 (72 h). */
  readonly checkImmunityTimeInSeconds?: number;
}

/** `offset` is null unless the transaction was committed. */
export interface TransactionSendResult extends SendResult {
  readonly transactionId: string;
  readonly outcome: TransactionOutcome;
}

/** A message that is stored and that nobody sees, until this says so. Whoever says nothing is asked (checkLocalTransaction). */
export class Transaction {
  readonly transactionId: string;
  readonly msgId: string;
  readonly topic: string;
  readonly brokerName: string;
  readonly queueId: number;
  readonly #end: (outcome: 'commit' | 'rollback') => Promise<number>;

  constructor(half: SendResult, transactionId: string, end: (outcome: 'commit' | 'rollback') => Promise<number>) {
    this.transactionId = transactionId;
    this.msgId = half.msgId;
    this.topic = half.topic;
    this.brokerName = half.brokerName;
    this.queueId = half.queueId;
    this.#end = end;
  }

  /**
   * The message is visible, once, behind everything that was committed before. Calling it again is fine.
   * @returns its offset
   * @throws LedgerError TRANSACTION_CONFLICT: rolled back already, by a check or after the last one; TRANSACTION_NOT_FOUND: ended too
   * long ago to be remembered; TOPIC_NOT_FOUND: deleted meanwhile; OUTCOME_UNKNOWN: nobody answered in time, the check will ask
   */
  commit(): Promise<number> {
    return this.#end('commit');
  }

  /** The message is never seen. @throws LedgerError as commit() */
  async rollback(): Promise<void> {
    await this.#end('rollback');
  }
}

/**
 * Messages that are seen if, and only if, a local transaction was committed (RocketMQ's TransactionMQProducer; F14): the message is
 * stored first, then the local transaction runs, then its outcome decides. If the outcome never comes, because this process died or
 * was cut off, any live member of the producer group is asked for it.
 */
export class TransactionProducer {
  readonly #core: ClientCore;
  readonly #options: TransactionProducerOptions;
  readonly #producer: Producer;
  readonly #heartbeats: ProducerHeartbeats;
  readonly #checker: TransactionChecker;
  #closing: Promise<void> | null = null;

  /** @throws LedgerError BAD_NAME */
  constructor(core: ClientCore, options: TransactionProducerOptions) {
    checkGroupName(options.group);
    this.#core = core;
    this.#options = options;
    this.#producer = new Producer(core.io, core.router, options, core.tracing);
    this.#heartbeats = new ProducerHeartbeats(core, options.group);
    this.#checker = new TransactionChecker(core, {
      group: options.group,
      check: options.checkLocalTransaction,
      concurrency: options.checkConcurrency ?? CHECK_CONCURRENCY,
      endTimeoutMs: this.#endTimeoutMs,
      onError: options.onError ?? (() => undefined),
    });
  }

  get group(): string {
    return this.#options.group;
  }

  get closed(): boolean {
    return this.#closing !== null;
  }

  get #endTimeoutMs(): number {
    return this.#options.deliveryTimeoutMs ?? PRODUCER_DEFAULTS.deliveryTimeoutMs;
  }

  /** Whether the leader of a broker group would ask this producer now. */
  registeredAt(brokerName: string): boolean {
    return this.#heartbeats.heardBy(brokerName);
  }

  /**
   * Stores the half message. Then run the local transaction, and commit() or rollback().
   * @throws LedgerError as Producer.send(): after OUTCOME_UNKNOWN it may be stored, and the check will ask; FEATURE_LEVEL below level 3;
   * TOO_MANY while too many half messages of the group wait
   */
  async begin(message: Message, options: TransactionOptions = {}): Promise<Transaction> {
    const half = await this.#producer.sendHalf(message, this.#properties(options));
    // Stored once, but so long ago that its number is forgotten: cannot be with 8 in flight.
    if (half.offset === null) throw new LedgerError('OUTCOME_UNKNOWN', `the number of the transaction of ${half.msgId} is lost`);
    const name: TransactionName = { brokerName: half.brokerName, transaction: half.offset, messageId: half.msgId };
    const end = { producerGroup: this.group, source: 'producer' } as const;
    return new Transaction(half, formatTransactionId(name), (outcome) =>
      endTransaction(this.#core, name, { ...end, outcome }, this.#endTimeoutMs),
    );
  }

  /**
   * Stores the half message, runs the local transaction, and ends the transaction as it says. `unknown` leaves it to the check.
   * @param executeLocalTransaction when it throws, nobody knows what it did: the check decides, and this rejects with what it threw
   * @throws LedgerError of begin() and of Transaction.commit()
   */
  async sendInTransaction(
    message: Message,
    executeLocalTransaction: (transaction: Transaction) => Promise<TransactionOutcome>,
    options: TransactionOptions = {},
  ): Promise<TransactionSendResult> {
    const transaction = await this.begin(message, options);
    const { transactionId, msgId, topic, brokerName, queueId } = transaction;
    const outcome = await executeLocalTransaction(transaction);
    let offset: number | null = null;
    if (outcome === 'commit') offset = await transaction.commit();
    else if (outcome === 'rollback') await transaction.rollback();
    return { transactionId, msgId, topic, brokerName, queueId, offset, outcome };
  }

  /** Other members are asked from now on; waits for checks and half messages under way. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#heartbeats.close();
    await Promise.all([this.#checker.close(), this.#producer.close()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** From the client: a broker asks. */
  pushed(brokerName: string, push: TransactionCheckPush): void {
    this.#checker.pushed(brokerName, push);
  }

  #properties({ checkImmunityTimeInSeconds: seconds }: TransactionOptions): [string, string][] {
    const group: [string, string] = [Property.producerGroup, this.group];
    if (seconds === undefined) return [group];
    if (!(Number.isInteger(seconds) && seconds >= 0 && seconds <= MAX_IMMUNITY_SECONDS))
      throw new LedgerError('BAD_REQUEST', `checkImmunityTimeInSeconds: 0…${MAX_IMMUNITY_SECONDS}, not ${seconds}`);
    return [group, [Property.checkImmunitySeconds, String(seconds)]];
  }
}

const MAX_IMMUNITY_SECONDS = 72 * 3_600;
