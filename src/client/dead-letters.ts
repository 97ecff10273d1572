import { LedgerError } from '../protocol/errors.ts';
import { dlqTopicOf } from '../protocol/names.ts';
import { Op } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import type { DeadLetter, DeadLetterPlace } from './dead-letter.ts';
import { type DeadLetterChanges, type ReplayedLetter, Replayer } from './dead-letter-replay.ts';
import { ReceivedBatch, type ReceivedMessage } from './message.ts';

/** A page is looked for through an election. */
const TIMEOUT_MS = 15_000;
const PAGE_LETTERS = 100;
const PULL_BYTES = 1024 * 1024;

export interface DeadLetterQuery {
  /** `next` of the page before. Missing: from the first. */
  readonly from?: DeadLetterPlace;
  /** Letters of a page at most; default 100. */
  readonly limit?: number;
  /** Which are wanted; default all. */
  readonly filter?: (letter: DeadLetter) => boolean;
}

export interface DeadLetterPage {
  readonly letters: readonly DeadLetter[];
  /** Where the next page begins; null: this was the last. */
  readonly next: DeadLetterPlace | null;
}

export interface ReplayQuery {
  readonly filter?: (letter: DeadLetter) => boolean;
  /** Corrections for each; default: as it was. */
  readonly changes?: (letter: DeadLetter) => DeadLetterChanges;
}

/** The dead letters of a consumer group, over all broker groups: by broker group, and there by the order in which they died. */
export class DeadLetters {
  readonly group: string;
  readonly #core: ClientCore;
  readonly #replayer: Replayer;

  constructor(core: ClientCore, group: string) {
    this.#core = core;
    this.group = group;
    this.#replayer = new Replayer(core, group);
  }

  async list({ from, limit = PAGE_LETTERS, filter = () => true }: DeadLetterQuery = {}): Promise<DeadLetterPage> {
    const letters: DeadLetter[] = [];
    for (const { brokerName, offset, end } of await this.#ranges(from)) {
      for await (const letter of this.#walk(brokerName, offset, end)) {
        if (!filter(letter)) continue;
        if (letters.length === limit) return { letters, next: { brokerName, offset: letter.offset } };
        letters.push(letter);
      }
    }
    return { letters, next: null };
  }

  /** All that are there when it begins. */
  async *[Symbol.asyncIterator](): AsyncIterator<DeadLetter> {
    for (const { brokerName, offset, end } of await this.#ranges()) yield* this.#walk(brokerName, offset, end);
  }

  /** By its place, or the newest one of a message id. @throws LedgerError MESSAGE_NOT_FOUND */
  async get(at: string | DeadLetterPlace): Promise<DeadLetter> {
    let found: DeadLetter | null = null;
    if (typeof at === 'string') {
      for await (const letter of this) if (letter.msgId === at && letter.deadTimeMs >= (found?.deadTimeMs ?? 0)) found = letter;
    } else {
      for await (const letter of this.#walk(at.brokerName, at.offset, at.offset + 1)) found = letter;
    }
    if (found !== null) return found;
    const where = typeof at === 'string' ? at : `${at.brokerName}:${at.offset}`;
    throw new LedgerError('MESSAGE_NOT_FOUND', `no dead letter ${where} of group ${this.group}`);
  }

  /**
   * Sends it to its topic again, under its message id and with its origin among the properties, and notes that. The dead letter
   * stays as it is. When the answer is lost for good it may be there twice: consumers tell by the message id.
   * @throws LedgerError CORRUPT_BATCH when it cannot be decoded and no properties were given; what the send was refused with
   */
  async replay(letter: DeadLetter, changes: DeadLetterChanges = {}): Promise<ReplayedLetter> {
    return this.#replayer.replay(letter, changes);
  }

  /** Those that are there when it begins, one after the other, in their order. It ends at the first that is refused. @returns how many */
  async replayAll({ filter = () => true, changes = () => ({}) }: ReplayQuery = {}): Promise<number> {
    let replayed = 0;
    for await (const letter of this) {
      if (!filter(letter)) continue;
      await this.#replayer.replay(letter, changes(letter));
      replayed++;
    }
    return replayed;
  }

  /** What there is now in each broker group, from a place on. */
  async #ranges(from?: DeadLetterPlace): Promise<{ brokerName: string; offset: number; end: number }[]> {
    const names = (await this.#core.router.findBrokers(TIMEOUT_MS)).map(({ brokerName }) => brokerName).sort((a, b) => (a < b ? -1 : 1));
    const wanted = names.filter((brokerName) => from === undefined || brokerName >= from.brokerName);
    const ranges = await Promise.all(
      wanted.map(async (brokerName) => {
        const range = await this.#range(brokerName);
        const offset = brokerName === from?.brokerName ? Math.max(from.offset, range.offset) : range.offset;
        return { brokerName, offset, end: range.end };
      }),
    );
    return ranges.filter(({ offset, end }) => offset < end);
  }

  async #range(brokerName: string): Promise<{ offset: number; end: number }> {
    try {
      const request = { topic: dlqTopicOf(this.group), queueId: 0, timeMs: 0 };
      const { minOffset, maxOffset } = (await this.#core.askLeader(brokerName, Op.queueRange, request, TIMEOUT_MS)).body;
      return { offset: minOffset, end: maxOffset };
    } catch (error) {
      // Nothing of the group ever died there.
      if (error instanceof LedgerError && error.code === 'TOPIC_NOT_FOUND') return { offset: 0, end: 0 };
      throw error;
    }
  }

  async *#walk(brokerName: string, from: number, end: number): AsyncGenerator<DeadLetter> {
    for (let offset = from; offset < end; ) {
      const { messages, nextOffset } = await this.#pull(brokerName, offset);
      const marks = await this.#marks(brokerName, messages);
      for (const message of messages) {
        if (message.offset < end) yield letterOf(message, marks.get(message.offset));
      }
      // A pull that covers nothing: the log was cut, or there is no such place.
      if (nextOffset <= offset) return;
      offset = nextOffset;
    }
  }

  async #pull(brokerName: string, offset: number): Promise<{ messages: ReceivedMessage[]; nextOffset: number }> {
    const queue = { topic: dlqTopicOf(this.group), brokerName, queueId: 0 };
    const request = {
      ...queue,
      offset,
      maxBytes: PULL_BYTES,
      maxMessages: PAGE_LETTERS,
      waitMs: 0,
      group: '',
      member: '',
      epoch: 0,
      tagHashes: [],
    };
    const { body, raw } = await this.#core.askLeader(brokerName, Op.pull, request, TIMEOUT_MS);
    const messages: ReceivedMessage[] = [];
    let at = 0;
    for (const { baseOffset, logTimeMs, sizeBytes, reference } of body.batches) {
      const batch = new ReceivedBatch(raw.subarray(at, at + sizeBytes), queue, baseOffset, logTimeMs, reference);
      for (let each = Math.max(baseOffset, offset); each < batch.endOffset; each++) messages.push(batch.at(each));
      at += sizeBytes;
    }
    return { messages, nextOffset: body.nextOffset };
  }

  async #marks(brokerName: string, messages: readonly ReceivedMessage[]): Promise<Map<number, { replays: number; lastReplayMs: number }>> {
    const [first, last] = [messages[0], messages.at(-1)];
    if (first === undefined || last === undefined) return new Map();
    const request = { group: this.group, from: first.offset, to: last.offset + 1 };
    const { marks } = (await this.#core.askLeader(brokerName, Op.deadLetterMarks, request, TIMEOUT_MS)).body;
    return new Map(marks.map(({ offset, replays, lastReplayMs }) => [offset, { replays, lastReplayMs }]));
  }
}

function letterOf(message: ReceivedMessage, mark: { replays: number; lastReplayMs: number } | undefined): DeadLetter {
  const { brokerName, offset, msgId, queue } = message;
  return {
    message,
    brokerName,
    offset,
    msgId,
    origin: message.origin ?? { ...queue, offset },
    attempts: message.reconsumeTimes,
    deadTimeMs: message.storeTimeMs,
    replays: mark?.replays ?? 0,
    lastReplayMs: mark?.lastReplayMs ?? null,
  };
}
