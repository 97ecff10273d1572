import { equalBytes, readU53 } from '../base/bytes.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES, Entry } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { MessageId } from '../protocol/message-id.ts';
import { parseMessageId } from '../protocol/message-id.ts';
import { topicNotFound } from '../protocol/names.ts';
import type { PulledReference } from '../protocol/pulled-batch.ts';
import { batchCount, batchIdHigh, batchIdLow } from '../protocol/record-batch.ts';
import type { MessageGetRequest, MessageGetResponse } from '../protocol/requests.ts';
import type { BrokerContext } from './context.ts';
import type { DelayAdmin } from './delay-admin.ts';
import type { MessageIdIndex } from './ports.ts';
import type { Reader } from './reader.ts';
import type { StoredEntries, StoredPlace } from './stored-entries.ts';
import type { QueueState } from './topics.ts';

export interface FoundMessage {
  readonly response: MessageGetResponse;
  readonly batch: Uint8Array;
}

/** One message, by its id or by its place (F30). What the indexes say is checked in the batch itself. */
export class MessageGet {
  readonly #context: BrokerContext;
  readonly #reader: Reader;
  readonly #entries: StoredEntries;
  readonly #ids: MessageIdIndex;
  readonly #delays: DelayAdmin;

  constructor(context: BrokerContext, reader: Reader, entries: StoredEntries, ids: MessageIdIndex, delays: DelayAdmin) {
    this.#context = context;
    this.#reader = reader;
    this.#entries = entries;
    this.#ids = ids;
    this.#delays = delays;
  }

  /** @throws LedgerError MESSAGE_NOT_FOUND, TOPIC_NOT_FOUND, QUEUE_NOT_FOUND, BAD_REQUEST, REPAIRING, INTERNAL */
  async get(request: MessageGetRequest): Promise<FoundMessage> {
    return request.id === '' ? await this.#byOffset(request) : await this.#byId(parseMessageId(request.id));
  }

  async #byOffset({ topic: name, queueId, offset }: MessageGetRequest): Promise<FoundMessage> {
    const topic = this.#context.state.topics.named(name);
    if (topic === undefined) throw topicNotFound(name);
    const queue = topic.queues[queueId];
    if (queue === undefined) throw new LedgerError('QUEUE_NOT_FOUND');
    if (!(offset >= queue.minOffset && offset < queue.nextOffset)) throw new LedgerError('MESSAGE_NOT_FOUND');
    const units = new UnitBatch(1);
    const found = await queue.readUnits(offset, 1, units);
    const baseOffset = units.baseOffset[0] as number;
    if (found === 0 || baseOffset > offset) throw new LedgerError('MESSAGE_NOT_FOUND');
    const { entry, row } = await this.#reader.unit(units.position[0] as number, units.sizeBytes[0] as number);
    const reference = this.#reader.reference(row);
    // A copy's header has the time of the copy.
    const logTimeMs = offset < queue.logMinOffset ? (units.logTimeMs[0] as number) : readU53(entry, Entry.logTimeMs);
    return describe(queue, entry, { baseOffset, logTimeMs }, reference?.messageIndex ?? offset - baseOffset, reference);
  }

  async #byId(id: MessageId): Promise<FoundMessage> {
    const found = await this.#entries.steadily(
      () => this.#find(id),
      (one) => one !== null,
    );
    if (found === null) throw new LedgerError('MESSAGE_NOT_FOUND');
    return found;
  }

  async #find(id: MessageId): Promise<FoundMessage | null> {
    for (const position of await this.#ids.findId(id.high, id.low)) {
      const entry = await this.#entries.at(position);
      const message = entry === null ? -1 : messageIndex(entry, id);
      if (entry === null || message < 0) continue;
      for (const place of await this.#entries.placesOf(entry)) {
        const reference = this.#reader.reference(place.row);
        if (reference === undefined || reference.messageIndex === message) return describe(place.queue, entry, place, message, reference);
      }
      const waiting = await this.#waiting(entry, message);
      if (waiting !== null) return waiting;
    }
    return null;
  }

  /** A delayed message that is in no queue yet. One that was cancelled is not found. */
  async #waiting(entry: Uint8Array, message: number): Promise<FoundMessage | null> {
    const place = await this.#delays.placeOf(entry);
    const queue = this.#delays.queueOf(entry);
    if (place === null || queue === undefined || this.#delays.isCancelled(entry, message)) return null;
    const found = describe(queue, entry, { baseOffset: 0, logTimeMs: readU53(entry, Entry.logTimeMs) }, message, undefined);
    return { ...found, response: { ...found.response, pendingUntilMs: place.dueMs } };
  }
}

function messageIndex(entry: Uint8Array, id: MessageId): number {
  if (!equalBytes(batchIdHigh(entry, ENTRY_HEADER_BYTES), id.high)) return -1;
  const index = id.low - batchIdLow(entry, ENTRY_HEADER_BYTES);
  return index >= 0 && index < batchCount(entry, ENTRY_HEADER_BYTES) ? index : -1;
}

function describe(
  queue: QueueState,
  entry: Uint8Array,
  { baseOffset, logTimeMs }: Pick<StoredPlace, 'baseOffset' | 'logTimeMs'>,
  index: number,
  reference: PulledReference | undefined,
): FoundMessage {
  return {
    response: {
      topic: queue.topic.name,
      queueId: queue.queueId,
      baseOffset,
      logTimeMs,
      position: readU53(entry, Entry.position) + ENTRY_HEADER_BYTES,
      messageIndex: index,
      ...(reference === undefined ? {} : { reference }),
    },
    batch: entry.subarray(ENTRY_HEADER_BYTES),
  };
}
