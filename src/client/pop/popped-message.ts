import type { PopReceiptFields } from '../../protocol/pop-requests.ts';
import type { ReceivedMessage } from '../message.ts';
import type { PopReceipts } from './pop-receipts.ts';

/** A message that is invisible to the rest of its group until it is acknowledged, or its time is over (RocketMQ's pop). */
export class PoppedMessage {
  readonly message: ReceivedMessage;
  /** Deliveries before this one. */
  readonly attempts: number;
  readonly #receipts: PopReceipts;
  #receipt: PopReceiptFields;
  /** The last change that is on its way: until it is answered nobody knows the receipt. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(message: ReceivedMessage, attempts: number, receipt: PopReceiptFields, receipts: PopReceipts) {
    this.message = message;
    this.attempts = attempts;
    this.#receipt = receipt;
    this.#receipts = receipts;
  }

  /** It is done: it never comes again. @throws LedgerError RECEIPT_EXPIRED: it was too late, somebody else has it or will */
  async ack(): Promise<void> {
    await this.#changing;
    await this.#receipts.ack(this.#receipt);
  }

  /**
   * It becomes visible again in `invisibleMs` from now, 0 = at once (RocketMQ's changeInvisibleTime): longer for work that takes longer,
   * shorter for what is given up. @throws LedgerError RECEIPT_EXPIRED
   */
  changeInvisibleTime(invisibleMs: number): Promise<void> {
    const changed = this.#changing.then(async () => {
      this.#receipt = await this.#receipts.change(this.#receipt, invisibleMs);
    });
    this.#changing = changed.catch(() => undefined);
    return changed;
  }
}
