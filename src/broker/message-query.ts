import { readU32 } from '../base/bytes.ts';
import { ENTRY_HEADER_BYTES, Entry } from '../log/layout.ts';
import { messagesWithKey } from '../protocol/batch-keys.ts';
import { topicNotFound } from '../protocol/names.ts';
import { checkKey } from '../protocol/properties.ts';
import type { MessageQueryRequest, QueriedBatch, QueryCursor } from '../protocol/query-requests.ts';
import { keyHash } from '../protocol/record-batch-encoder.ts';
import { Op } from '../protocol/requests.ts';
import { refuseWith } from './admin.ts';
import type { BrokerContext } from './context.ts';
import type { MessageIdIndex } from './ports.ts';
import type { Reader } from './reader.ts';
import type { Session } from './session.ts';
import type { StoredEntries } from './stored-entries.ts';
import type { TopicState } from './topics.ts';

const NEWEST: QueryCursor = { position: Number.MAX_SAFE_INTEGER, messageIndex: 0 };

interface Page {
  readonly found: QueriedBatch[];
  readonly batches: Uint8Array[];
  messages: number;
  sizeBytes: number;
  next: QueryCursor | null;
}

/**
 * Messages by topic, key and log time, newest first (F30). The index knows hashes; what it says is checked in the stored
 * text, so that keys of one hash are told apart. A page is bounded in messages, bytes and entries read; when one of the
 * bounds ends it, it says where to go on, and never that there is nothing more.
 */
export class MessageQuery {
  readonly #context: BrokerContext;
  readonly #reader: Reader;
  readonly #entries: StoredEntries;
  readonly #ids: MessageIdIndex;
  #running = 0;

  constructor(context: BrokerContext, reader: Reader, entries: StoredEntries, ids: MessageIdIndex) {
    this.#context = context;
    this.#reader = reader;
    this.#entries = entries;
    this.#ids = ids;
  }

  /** Behind a read barrier: refuses with TOPIC_NOT_FOUND, BAD_NAME (key), TOO_MANY, REPAIRING (damage), INTERNAL (the index is damaged). */
  query(session: Session, requestId: number, request: MessageQueryRequest): void {
    if (this.#running >= this.#context.limits.maxQueries) {
      session.refuse(requestId, 'TOO_MANY', `more than ${this.#context.limits.maxQueries} searches at once`);
      return;
    }
    this.#running++;
    const page = this.#entries.steadily(
      () => this.#page(request),
      () => false,
    );
    page.then(
      ({ found, batches, sizeBytes, next }) => {
        this.#running--;
        session.respond(Op.messageQuery, requestId, { found, next }, joined(batches, sizeBytes));
      },
      (error: unknown) => {
        this.#running--;
        refuseWith(session, requestId, error);
      },
    );
  }

  async #page(request: MessageQueryRequest): Promise<Page> {
    const { fromTimeMs, toTimeMs, key, before = NEWEST } = request;
    checkKey(key);
    const topic = this.#context.state.topics.named(request.topic);
    if (topic === undefined) throw topicNotFound(request.topic);
    const { maxQueryEntries, maxQueryMessages } = this.#context.limits;
    const max = Math.max(1, Math.min(request.max, maxQueryMessages));
    const beforePosition = Math.min(Number.MAX_SAFE_INTEGER, before.messageIndex > 0 ? before.position + 1 : before.position);
    const hits = await this.#ids.findKey(topic.id, keyHash(key), { fromTimeMs, toTimeMs, beforePosition, max: maxQueryEntries });
    const page: Page = { found: [], batches: [], messages: 0, sizeBytes: 0, next: null };
    for (const position of hits.positions) {
      const below = position === before.position ? before.messageIndex : Number.MAX_SAFE_INTEGER;
      await this.#take(page, topic, key, position, below, max);
      if (page.next !== null) return page;
    }
    page.next = hits.restBefore === null ? null : { position: hits.restBefore, messageIndex: 0 };
    return page;
  }

  /** Adds what the entry at `position` holds of the key; sets `next` when the page is full before or within it. */
  async #take(page: Page, topic: TopicState, key: string, position: number, below: number, max: number): Promise<void> {
    const from = { position, messageIndex: Math.min(below, 0xffff) };
    if (page.messages >= max) {
      page.next = from;
      return;
    }
    const entry = await this.#entries.at(position);
    if (entry === null || readU32(entry, Entry.topicId) !== topic.id) return;
    const batch = entry.subarray(ENTRY_HEADER_BYTES);
    const matches = messagesWithKey(batch, key, below);
    if (matches.length === 0) return;
    if (page.found.length > 0 && page.sizeBytes + batch.length > this.#context.limits.maxPullBytes) {
      page.next = from;
      return;
    }
    const shown = matches.slice(0, max - page.messages);
    const before = page.found.length;
    for (const { queue, baseOffset, row, logTimeMs } of await this.#entries.placesOf(entry)) {
      const reference = this.#reader.reference(row);
      const messageIndexes = shown.filter((index) => reference === undefined || reference.messageIndex === index);
      if (messageIndexes.length === 0) continue;
      // Its bytes go once, with the first of its places.
      const sizeBytes = page.found.length === before ? batch.length : 0;
      const found = { queueId: queue.queueId, baseOffset, logTimeMs, position, sizeBytes, messageIndexes };
      page.found.push(reference === undefined ? found : { ...found, reference });
      page.messages += messageIndexes.length;
    }
    if (page.found.length > before) {
      page.batches.push(batch);
      page.sizeBytes += batch.length;
    }
    if (shown.length < matches.length) page.next = { position, messageIndex: shown.at(-1) as number };
  }
}

function joined(batches: readonly Uint8Array[], sizeBytes: number): Uint8Array {
  const all = new Uint8Array(sizeBytes);
  let at = 0;
  for (const batch of batches) {
    all.set(batch, at);
    at += batch.length;
  }
  return all;
}
