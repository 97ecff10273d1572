import { LedgerError } from '../protocol/errors.ts';
import { Op } from '../protocol/requests.ts';
import { formatTransactionId } from '../protocol/transaction-id.ts';
import type { TransactionCheckPush, TransactionOutcome } from '../protocol/transaction-requests.ts';
import type { ClientCore } from './client-core.ts';
import { ReceivedBatch, type ReceivedMessage } from './message.ts';
import { endTransaction } from './transaction-end.ts';

/** What a check is about. */
export interface TransactionCheck {
  readonly transactionId: string;
  /** Which check it is, from 1. */
  readonly check: number;
}

/**
 * Looks up how the local transaction of a message ended, whoever began it. `unknown`, or a throw: asked again later.
 * The message has no offset yet (−1).
 */
export type CheckLocalTransaction = (message: ReceivedMessage, check: TransactionCheck) => Promise<TransactionOutcome>;

export interface TransactionCheckerOptions {
  readonly group: string;
  readonly check: CheckLocalTransaction;
  /** Lookups at once. */
  readonly concurrency: number;
  readonly endTimeoutMs: number;
  readonly onError: (error: unknown) => void;
}

/** Beyond these a check is dropped: the broker asks again. */
const MAX_WAITING = 1_024;
const NO_OFFSET = -1;

/** Answers the checks that brokers push: fetches the half message, asks the user's function, says the outcome. */
export class TransactionChecker {
  readonly #core: ClientCore;
  readonly #options: TransactionCheckerOptions;
  readonly #running = new Map<string, Promise<void>>();
  readonly #waiting = new Map<string, { readonly brokerName: string; readonly push: TransactionCheckPush }>();
  #closed = false;

  constructor(core: ClientCore, options: TransactionCheckerOptions) {
    this.#core = core;
    this.#options = options;
  }

  pushed(brokerName: string, push: TransactionCheckPush): void {
    const id = formatTransactionId({ brokerName, ...push });
    if (this.#closed || this.#running.has(id) || this.#waiting.has(id) || this.#waiting.size >= MAX_WAITING) return;
    this.#waiting.set(id, { brokerName, push });
    this.#next();
  }

  /** Waits for the lookups under way. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting.clear();
    await Promise.all(this.#running.values());
  }

  #next(): void {
    for (const [id, { brokerName, push }] of this.#waiting) {
      if (this.#running.size >= this.#options.concurrency) return;
      this.#waiting.delete(id);
      const work = this.#check(brokerName, push, id).finally(() => {
        this.#running.delete(id);
        this.#next();
      });
      this.#running.set(id, work);
    }
  }

  async #check(brokerName: string, { transaction, messageId, check }: TransactionCheckPush, transactionId: string): Promise<void> {
    const { group, endTimeoutMs, onError } = this.#options;
    try {
      const { body, raw } = await this.#core.askLeader(brokerName, Op.transactionGet, { transaction, messageId }, endTimeoutMs);
      const queue = { topic: body.topic, brokerName, queueId: body.queueId };
      const message = new ReceivedBatch(raw, queue, NO_OFFSET, body.storedMs).at(NO_OFFSET);
      const outcome = await this.#options.check(message, { transactionId, check });
      if (outcome === 'unknown') return;
      await endTransaction(
        this.#core,
        { brokerName, transaction, messageId },
        { producerGroup: group, outcome, source: 'check' },
        endTimeoutMs,
      );
    } catch (error) {
      // It has ended meanwhile: its own producer was only slow.
      if (error instanceof LedgerError && error.code === 'TRANSACTION_NOT_FOUND') return;
      onError(error);
    }
  }
}
