import type { LedgerError } from '../../protocol/errors.ts';
import type { PopRequest, PopResponse } from '../../protocol/pop-requests.ts';
import { Op } from '../../protocol/requests.ts';
import type { ClientCore } from '../client-core.ts';
import { ANSWER_GRACE_MS } from '../link.ts';
import { ReceivedBatch, type ReceivedMessage } from '../message.ts';
import type { MessageQueue } from '../message-queue.ts';
import type { TagFilter } from '../selector.ts';
import { PopReceipts } from './pop-receipts.ts';
import { PoppedMessage } from './popped-message.ts';

/** One broker group's share of a topic, popped. */
export class PopSource {
  readonly brokerName: string;
  readonly receipts: PopReceipts;
  readonly #core: ClientCore;
  readonly #request: Omit<PopRequest, 'maxMessages'>;
  readonly #filter: TagFilter;
  readonly #onError: (error: LedgerError) => void;

  constructor(
    core: ClientCore,
    brokerName: string,
    request: Omit<PopRequest, 'maxMessages'>,
    filter: TagFilter,
    onError: (error: LedgerError) => void,
  ) {
    this.#core = core;
    this.brokerName = brokerName;
    this.#request = request;
    this.#filter = filter;
    this.#onError = onError;
    this.receipts = new PopReceipts(core, request.group, request.topic, brokerName);
  }

  /** @throws LedgerError GROUP_MODE_CONFLICT, TOPIC_NOT_FOUND, NO_PERMISSION, FEATURE_LEVEL, NO_ROUTE */
  async pop(maxMessages: number, waitMs = this.#request.waitMs): Promise<PoppedMessage[]> {
    const request = { ...this.#request, maxMessages, waitMs };
    const { body, raw } = await this.#core.askLeader(this.brokerName, Op.pop, request, waitMs + ANSWER_GRACE_MS);
    if (body.checkpoint === 0) return [];
    const popped: PoppedMessage[] = [];
    const wanted = new Map(this.#messages(body, raw).map((message) => [message.offset, message]));
    for (let offset = body.baseOffset; offset < body.baseOffset + body.count; offset++) {
      if (isAcked(body, offset)) continue;
      const receipt = { queueId: body.queueId, checkpoint: body.checkpoint, offset };
      const message = wanted.get(offset);
      if (message !== undefined) popped.push(new PoppedMessage(message, body.attempts, receipt, this.receipts));
      // Not asked for: it is no work for this group, and would come again for ever.
      else this.receipts.ack(receipt).catch((error: unknown) => this.#onError(error as LedgerError));
    }
    return popped;
  }

  /** Those of the delivery that the filter wants. */
  #messages(body: PopResponse, raw: Uint8Array): ReceivedMessage[] {
    const queue: MessageQueue = { topic: this.#request.topic, brokerName: this.brokerName, queueId: body.queueId };
    const messages: ReceivedMessage[] = [];
    let at = 0;
    for (const { baseOffset, logTimeMs, sizeBytes, reference } of body.batches) {
      const batch = new ReceivedBatch(raw.subarray(at, at + sizeBytes), queue, baseOffset, logTimeMs, reference);
      at += sizeBytes;
      for (let offset = baseOffset; offset < batch.endOffset; offset++) {
        const message = batch.at(offset);
        if (this.#filter === null || this.#filter.tags.has(message.tag ?? '')) messages.push(message);
      }
    }
    return messages;
  }
}

function isAcked({ acked, baseOffset }: PopResponse, offset: number): boolean {
  const bit = offset - baseOffset;
  return (((acked[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
}
