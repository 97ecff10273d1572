import { LedgerError } from '../protocol/errors.ts';
import { isReservedProperty, Property } from '../protocol/properties.ts';
import type { PulledReference } from '../protocol/pulled-batch.ts';
import { BatchReader } from '../protocol/record-batch-reader.ts';
import type { MessageQueue } from './message-queue.ts';

/** A batch out of a pull; its messages are views of these bytes, decoded when asked for. */
export class ReceivedBatch extends BatchReader {
  readonly queue: MessageQueue;
  readonly storeTimeMs: number;
  /** Memory that one message stands for in prefetch bounds. */
  readonly bytesPerMessage: number;
  /** Monotonic time at which it came to this process; 0 = not noted. */
  receivedMs = 0;

  /** Of a place in the queue that is one message's alone (a retry, a dead letter), else null. */
  readonly reference: PulledReference | null;

  /** @throws LedgerError CORRUPT_BATCH, UNSUPPORTED_VERSION */
  constructor(bytes: Uint8Array, queue: MessageQueue, baseOffset: number, storeTimeMs: number, reference: PulledReference | null = null) {
    super(bytes, baseOffset);
    if (reference !== null && reference.messageIndex >= this.count) throw new LedgerError('CORRUPT_BATCH', `batch at offset ${baseOffset}`);
    this.queue = queue;
    this.storeTimeMs = storeTimeMs;
    this.reference = reference;
    this.bytesPerMessage = Math.ceil(this.memoryBytes / this.count);
  }

  /** One past the last offset. */
  get endOffset(): number {
    return this.baseOffset + (this.reference === null ? this.count : 1);
  }

  /** The message at an offset of the queue. */
  at(offset: number): ReceivedMessage {
    return new ReceivedMessage(this, this.indexAt(offset), offset);
  }

  /** Which message of the batch lies at an offset of the queue. */
  indexAt(offset: number): number {
    return this.reference === null ? offset - this.baseOffset : this.reference.messageIndex;
  }
}

const decoder = new TextDecoder();

/** A message as it was stored, with its place. Fields other than the offset are decoded when read. */
export class ReceivedMessage {
  readonly #batch: ReceivedBatch;
  readonly #index: number;
  readonly offset: number;
  /** Failed attempts before this one. */
  reconsumeTimes: number;
  /** Kept by the consumer: its handler is done with it. */
  handled = false;

  constructor(batch: ReceivedBatch, index: number, offset = batch.baseOffset + index) {
    this.#batch = batch;
    this.#index = index;
    this.offset = offset;
    this.reconsumeTimes = batch.reference?.attempts ?? 0;
  }
  /** False: reading its properties, tag or keys throws CORRUPT_BATCH. A consumer makes such a message a dead letter (F23). */
  get decodable(): boolean {
    return this.#batch.isSound(this.#index);
  }
  /** Its share of the batch it came in, headers included. */
  get sizeBytes(): number {
    return this.#batch.bytesPerMessage;
  }
  /** That it was sent to; `queue` says where it was read: a retry comes from its group's own topic. */
  get topic(): string {
    return this.#batch.reference?.originTopic || this.#batch.queue.topic;
  }
  /** Where a retried or dead message was first; null when it was read there. A topic that was deleted since has no name. */
  get origin(): (MessageQueue & { readonly offset: number }) | null {
    const { reference, queue } = this.#batch;
    if (reference === null) return null;
    const { originTopic: topic, originQueueId: queueId, originOffset: offset } = reference;
    return { topic, brokerName: queue.brokerName, queueId, offset };
  }
  get brokerName(): string {
    return this.#batch.queue.brokerName;
  }
  get queueId(): number {
    return this.#batch.queue.queueId;
  }
  get queue(): MessageQueue {
    return this.#batch.queue;
  }
  /** The same over resends, so that a receiver can tell a message it has handled before. */
  get msgId(): string {
    return this.#batch.messageId(this.#index);
  }
  /** A view of received bytes: do not change it; copy what is kept for long, since it keeps its whole batch alive. */
  get body(): Uint8Array {
    return this.#batch.body(this.#index);
  }
  /** The body decoded as UTF-8. */
  text(): string {
    return decoder.decode(this.body);
  }
  get tag(): string | undefined {
    return this.#batch.tag(this.#index);
  }
  get keys(): readonly string[] {
    return this.#batch.keys(this.#index);
  }
  get orderingKey(): string | undefined {
    return this.#batch.property(this.#index, Property.shardingKey);
  }
  /** One property, a reserved one too, without decoding the others; `name` is ASCII. */
  property(name: string): string | undefined {
    return this.#batch.property(this.#index, name);
  }
  /** The user's own properties; tag, keys and ordering key have fields of their own. */
  get properties(): Readonly<Record<string, string>> {
    const all = this.#batch.properties(this.#index);
    return Object.fromEntries([...all].filter(([name]) => !isReservedProperty(name)));
  }
  /** The client's monotonic clock when it came; 0 = not noted. */
  get receivedMs(): number {
    return this.#batch.receivedMs;
  }
  /** Producer's clock at send(), ms since 1970. */
  get bornTimeMs(): number {
    return this.#batch.bornTimeMs(this.#index);
  }
  /** Log time of its entry, ms since 1970: never goes back within a broker group. */
  get storeTimeMs(): number {
    return this.#batch.storeTimeMs;
  }
}
