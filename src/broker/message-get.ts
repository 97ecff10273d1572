import { equalBytes, readU16, readU32, readU53 } from '../base/bytes.ts';
import { UnitBatch } from '../log/consume-queue-types.ts';
import { ENTRY_HEADER_BYTES, Entry, MAX_ENTRY_BODY_BYTES } from '../log/layout.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { MessageId } from '../protocol/message-id.ts';
import { parseMessageId } from '../protocol/message-id.ts';
import { topicNotFound } from '../protocol/names.ts';
import { batchCount, batchIdHigh, batchIdLow } from '../protocol/record-batch.ts';
import type { MessageGetRequest, MessageGetResponse } from '../protocol/requests.ts';
import type { BrokerContext } from './context.ts';
import type { MessageIdIndex } from './ports.ts';
import type { Reader } from './reader.ts';
import type { QueueState } from './topics.ts';

export interface FoundMessage {
  readonly response: MessageGetResponse;
  readonly batch: Uint8Array;
}

/** Units looked at to find the batch of one entry: those of one log millisecond come first. */
const MAX_UNITS_SCANNED = 65_536;

/** One message, by its id or by its place (F30). What the indexes say is checked in the batch itself. */
export class MessageGet {
  readonly #context: BrokerContext;
  readonly #reader: Reader;
  readonly #ids: MessageIdIndex;

  constructor(context: BrokerContext, reader: Reader, ids: MessageIdIndex) {
    this.#context = context;
    this.#reader = reader;
    this.#ids = ids;
  }

  /** @throws LedgerError MESSAGE_NOT_FOUND, TOPIC_NOT_FOUND, QUEUE_NOT_FOUND, BAD_REQUEST, INTERNAL */
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
    const found = await queue.index.readUnits(offset, 1, units);
    const baseOffset = units.baseOffset[0] as number;
    if (found === 0 || baseOffset > offset) throw new LedgerError('MESSAGE_NOT_FOUND');
    const { entry, row } = await this.#reader.unit(units.position[0] as number, units.sizeBytes[0] as number);
    const reference = this.#reader.reference(row);
    const message = describe(queue, entry, baseOffset, reference?.messageIndex ?? offset - baseOffset);
    return reference === undefined ? message : { ...message, response: { ...message.response, reference } };
  }

  async #byId(id: MessageId): Promise<FoundMessage> {
    for (const position of await this.#ids.findId(id.high, id.low)) {
      if (position < this.#context.state.startPosition()) continue;
      const entry = await this.#entryAt(position);
      const message = entry === null ? -1 : messageIndex(entry, id);
      if (entry === null || message < 0) continue;
      const queue = this.#context.state.topics.queue(readU32(entry, Entry.topicId), readU16(entry, Entry.queueId));
      if (queue === undefined) continue;
      const baseOffset = await baseOffsetOf(queue, position, readU53(entry, Entry.logTimeMs));
      if (baseOffset !== null) return describe(queue, entry, baseOffset, message);
    }
    throw new LedgerError('MESSAGE_NOT_FOUND');
  }

  /** The entry's own header says how long it is; a position that holds none was a false hit of the index. */
  async #entryAt(position: number): Promise<Uint8Array | null> {
    const { replica } = this.#context;
    const header = replica.readHot(position, ENTRY_HEADER_BYTES) ?? (await this.#reader.readBytes(position, ENTRY_HEADER_BYTES));
    if (header.length < ENTRY_HEADER_BYTES || readU53(header, Entry.position) !== position) return null;
    const sizeBytes = readU32(header, Entry.sizeBytes);
    if (sizeBytes <= ENTRY_HEADER_BYTES || sizeBytes > ENTRY_HEADER_BYTES + MAX_ENTRY_BODY_BYTES) return null;
    return this.#reader.entry(position, sizeBytes);
  }
}

function messageIndex(entry: Uint8Array, id: MessageId): number {
  if (!equalBytes(batchIdHigh(entry, ENTRY_HEADER_BYTES), id.high)) return -1;
  const index = id.low - batchIdLow(entry, ENTRY_HEADER_BYTES);
  return index >= 0 && index < batchCount(entry, ENTRY_HEADER_BYTES) ? index : -1;
}

/** @returns null when the queue has no such batch: a duplicate that apply refused lies in the log but in no queue */
async function baseOffsetOf(queue: QueueState, position: number, logTimeMs: number): Promise<number | null> {
  const units = new UnitBatch(256);
  let offset = await queue.index.offsetAtTime(logTimeMs);
  for (let scanned = 0; scanned < MAX_UNITS_SCANNED && offset < queue.nextOffset; ) {
    const found = await queue.index.readUnits(offset, units.capacity, units);
    if (found === 0) return null;
    for (let i = 0; i < found; i++) {
      if (units.position[i] === position) return units.baseOffset[i] as number;
      if ((units.position[i] as number) > position) return null;
    }
    scanned += found;
    offset = (units.baseOffset[found - 1] as number) + (units.count[found - 1] as number);
  }
  return null;
}

function describe(queue: QueueState, entry: Uint8Array, baseOffset: number, index: number): FoundMessage {
  return {
    response: {
      topic: queue.topic.name,
      queueId: queue.queueId,
      baseOffset,
      logTimeMs: readU53(entry, Entry.logTimeMs),
      position: readU53(entry, Entry.position) + ENTRY_HEADER_BYTES,
      messageIndex: index,
    },
    batch: entry.subarray(ENTRY_HEADER_BYTES),
  };
}
