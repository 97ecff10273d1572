import { errorCodeOf, LedgerError } from '../../protocol/errors.ts';
import { MAX_POP_RECEIPTS, type PopReceiptFields } from '../../protocol/pop-requests.ts';
import { Op } from '../../protocol/requests.ts';
import type { ClientCore } from '../client-core.ts';

interface Waiting extends PopReceiptFields {
  readonly resolve: () => void;
  readonly reject: (error: LedgerError) => void;
}

/** Acknowledgements to one broker group: what is acknowledged while a request is on its way goes with the next one. */
export class PopReceipts {
  readonly #core: ClientCore;
  readonly #group: string;
  readonly #topic: string;
  readonly #brokerName: string;
  #waiting: Waiting[] = [];
  #busy: Promise<void> | null = null;

  constructor(core: ClientCore, group: string, topic: string, brokerName: string) {
    this.#core = core;
    this.#group = group;
    this.#topic = topic;
    this.#brokerName = brokerName;
  }

  /** @throws LedgerError RECEIPT_EXPIRED; CONNECTION_LOST and the like when nobody answered: the message may come again */
  ack(receipt: PopReceiptFields): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...receipt, resolve, reject });
      // Handlers that end in the same turn share a request.
      this.#busy ??= Promise.resolve().then(() => this.#send());
    });
  }

  /** All that was acknowledged is answered. */
  async settled(): Promise<void> {
    while (this.#busy !== null) await this.#busy;
  }

  async #send(): Promise<void> {
    while (this.#waiting.length > 0) {
      const sent = this.#waiting.splice(0, MAX_POP_RECEIPTS);
      const receipts = sent.map(({ queueId, checkpoint, offset }) => ({ queueId, checkpoint, offset }));
      try {
        const { body } = await this.#core.askLeader(this.#brokerName, Op.popAck, { group: this.#group, topic: this.#topic, receipts });
        sent.forEach(({ resolve, reject }, i) => {
          const error = body.errors[i] ?? 0;
          if (error === 0) resolve();
          else reject(new LedgerError(errorCodeOf(error)));
        });
      } catch (error) {
        for (const { reject } of sent) reject(error as LedgerError);
      }
    }
    this.#busy = null;
  }

  /** @returns the message's new receipt @throws LedgerError RECEIPT_EXPIRED */
  async change(receipt: PopReceiptFields, invisibleMs: number): Promise<PopReceiptFields> {
    const { queueId, offset, checkpoint } = receipt;
    const request = { group: this.#group, topic: this.#topic, queueId, checkpoint, offset, invisibleMs };
    const { body } = await this.#core.askLeader(this.#brokerName, Op.popChange, request);
    return { queueId, offset, checkpoint: body.checkpoint };
  }
}
