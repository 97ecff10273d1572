import { errorCodeOf, LedgerError } from '../protocol/errors.ts';
import { Op } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import { ANSWER_GRACE_MS } from './link.ts';
import { ReceivedBatch, type ReceivedMessage } from './message.ts';
import { messageFilter, pullFilter, wanted } from './message-filter.ts';
import type { MessageQueue } from './message-queue.ts';
import type { PullOptions, PullResult, QueueRange } from './types.ts';

const DEFAULT_MAX_MESSAGES = 1_024;
const DEFAULT_MAX_BYTES = 1024 * 1024;

/** Explicit pulls at offsets of one's own choosing; nothing is assigned and nothing is committed by itself. */
export class PullConsumer {
  readonly #core: ClientCore;

  constructor(core: ClientCore) {
    this.#core = core;
  }

  /** All queues of a topic in a stable order. @throws LedgerError TOPIC_NOT_FOUND, NO_ROUTE */
  async queues(topic: string): Promise<readonly MessageQueue[]> {
    return (await this.#core.router.find(topic, this.#core.requestTimeoutMs)).queues;
  }

  /** @throws LedgerError BAD_FILTER, OFFSET_OUT_OF_RANGE, TOPIC_NOT_FOUND, QUEUE_NOT_FOUND, NO_PERMISSION, NO_ROUTE */
  async pull(queue: MessageQueue, offset: number, options: PullOptions = {}): Promise<PullResult> {
    const { maxMessages = DEFAULT_MAX_MESSAGES, maxBytes = DEFAULT_MAX_BYTES, waitMs = 0 } = options;
    const filter = messageFilter(options.filter, options.sql);
    const { topic, queueId, brokerName } = queue;
    const plain = { group: '', member: '', epoch: 0, ...pullFilter(filter) };
    const request = { topic, queueId, offset, maxBytes, maxMessages, waitMs, ...plain };
    const { body, raw } = await this.#core.askLeader(brokerName, Op.pull, request, waitMs + ANSWER_GRACE_MS);
    const messages: ReceivedMessage[] = [];
    let at = 0;
    let memoryBytes = 0;
    let nextOffset = offset;
    for (const { baseOffset, logTimeMs, sizeBytes, reference } of body.batches) {
      // maxBytes bounds what travels; opened, bodies may be a thousand times as much. What is left is pulled again.
      if (at > 0 && memoryBytes > at && memoryBytes >= maxBytes) break;
      const batch = new ReceivedBatch(raw.subarray(at, at + sizeBytes), queue, baseOffset, logTimeMs, reference);
      at += sizeBytes;
      memoryBytes += batch.memoryBytes;
      nextOffset = batch.endOffset;
      for (let i = Math.max(offset, baseOffset); i < batch.endOffset; i++) {
        const message = wanted(batch, i, filter);
        if (message !== null) messages.push(message);
      }
    }
    if (at === raw.length) nextOffset = body.nextOffset;
    return { messages, nextOffset, minOffset: body.minOffset, maxOffset: body.maxOffset };
  }

  /** @param timeMs log time that `timeOffset` is looked up for */
  async range({ topic, queueId, brokerName }: MessageQueue, timeMs = 0): Promise<QueueRange> {
    return (await this.#core.askLeader(brokerName, Op.queueRange, { topic, queueId, timeMs })).body;
  }

  /** Commits for a group that has no members. @throws LedgerError NOT_OWNER while it has some */
  async commit(group: string, { topic, queueId, brokerName }: MessageQueue, offset: number): Promise<void> {
    const request = { group, member: '', epoch: 0, offsets: [{ topic, queueId, offset }] };
    const { body } = await this.#core.askLeader(brokerName, Op.offsetCommit, request);
    const error = body.errors[0] ?? 0;
    if (error !== 0) throw new LedgerError(errorCodeOf(error));
  }

  /** @returns the group's committed offset; null = never committed */
  async committed(group: string, { topic, queueId, brokerName }: MessageQueue): Promise<number | null> {
    const { body } = await this.#core.askLeader(brokerName, Op.offsetFetch, { group, queues: [{ topic, queueId }] });
    const offset = body.offsets[0] ?? -1;
    return offset < 0 ? null : offset;
  }
}
