import { assert } from '../base/assert.ts';
import { errorCodeOf, LedgerError } from '../protocol/errors.ts';
import { parseMessageId } from '../protocol/message-id.ts';
import { topicNotFound } from '../protocol/names.ts';
import { checkKey, checkTag, checkUserProperties, isReservedProperty, Property } from '../protocol/properties.ts';
import { DEFAULT_BATCH_LIMITS } from '../protocol/record-batch.ts';
import { checkMessage, encodeBatch } from '../protocol/record-batch-encoder.ts';
import { Op, ReplicationMode } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import { isTransient } from './client-core.ts';
import type { DeadLetter } from './dead-letter.ts';
import type { MessageQueue } from './message-queue.ts';

/** A replay waits through an election, as a send does. */
const TIMEOUT_MS = 30_000;
const RETRY_MS = 200;
const PERM_WRITE = 2;
const NAMED_QUEUE_REFUSALS: ReadonlySet<string> = new Set(['QUEUES_CLOSED', 'QUEUE_NOT_FOUND']);

/** What is corrected in a replayed message; what is left out stays as it was. */
export interface DeadLetterChanges {
  readonly body?: Uint8Array | string;
  /** All of the user's own properties. */
  readonly properties?: Readonly<Record<string, string>>;
  readonly tag?: string;
  readonly keys?: readonly string[];
  /** Another topic than the one that it was sent to. */
  readonly topic?: string;
}

/** Where the replayed message was stored; its message id is that of the dead letter. */
export interface ReplayedLetter extends MessageQueue {
  readonly msgId: string;
  readonly offset: number;
}

interface ReplayMessage {
  readonly body: Uint8Array;
  readonly bornTimeMs: number;
  readonly tag: string | undefined;
  readonly keys: readonly string[];
  readonly shardingKey: string | undefined;
  readonly properties: readonly (readonly [string, string])[];
}

/**
 * Sends dead letters again, one after the other: each a batch of its own under the id of its message. Sequences are those of one
 * producer, so an answer that was lost makes no second copy.
 */
export class Replayer {
  readonly #core: ClientCore;
  readonly #group: string;
  readonly #producerId: number;
  /** Next sequence and epoch, by queue. */
  readonly #sequences = new Map<string, { epoch: number; next: number }>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(core: ClientCore, group: string) {
    this.#core = core;
    this.#group = group;
    const { random } = core.io;
    this.#producerId = 1 + random.u32() + (random.u32() % 2 ** 20) * 2 ** 32;
  }

  /** One at a time: sequences are dense. */
  replay(letter: DeadLetter, changes: DeadLetterChanges): Promise<ReplayedLetter> {
    const replayed = this.#last.then(() => this.#replay(letter, changes));
    this.#last = replayed.catch(() => undefined);
    return replayed;
  }

  async #replay(letter: DeadLetter, changes: DeadLetterChanges): Promise<ReplayedLetter> {
    const topic = changes.topic ?? letter.origin.topic;
    if (topic === '') throw topicNotFound('(deleted since)');
    const message = replayMessage(letter, changes);
    const stored = await this.#send(letter, topic, message);
    const { brokerName, offset } = letter;
    await this.#core.askLeader(brokerName, Op.deadLetterMark, { group: this.#group, offsets: [offset] }, TIMEOUT_MS);
    return stored;
  }

  /** Where it was first, when that may be written, so that it is with the messages of its ordering key; else elsewhere. */
  async #send(letter: DeadLetter, topic: string, message: ReplayMessage): Promise<ReplayedLetter> {
    const { placement, perm } = (await this.#core.router.find(topic, TIMEOUT_MS)).route;
    const queues = placement
      .filter((place) => ((place.perm ?? perm) & PERM_WRITE) !== 0)
      .flatMap(({ brokerName, queues: count }) => Array.from({ length: count }, (_, queueId) => ({ topic, brokerName, queueId })));
    const first = queues.findIndex(
      ({ brokerName, queueId }) => brokerName === letter.origin.brokerName && queueId === letter.origin.queueId,
    );
    let failure = new LedgerError('NO_PERMISSION', `no queue of ${topic} is writable`);
    for (let i = 0; i < queues.length; i++) {
      const queue = queues[(Math.max(first, 0) + i) % queues.length] as MessageQueue;
      try {
        return await this.#sendTo(queue, letter.msgId, message);
      } catch (error) {
        if (!(error instanceof LedgerError) || !NAMED_QUEUE_REFUSALS.has(error.code)) throw error;
        failure = error;
      }
    }
    throw failure;
  }

  async #sendTo(queue: MessageQueue, msgId: string, message: ReplayMessage): Promise<ReplayedLetter> {
    const { topic, brokerName, queueId } = queue;
    const key = `${topic}/${brokerName}/${queueId}`;
    const sequence = this.#sequences.get(key) ?? { epoch: 0, next: 0 };
    this.#sequences.set(key, sequence);
    const { high: idHigh, low: idLow } = parseMessageId(msgId);
    const header = { producerId: this.#producerId, producerEpoch: sequence.epoch, firstSequence: sequence.next, idHigh, idLow };
    const { bytes } = encodeBatch([message], header);
    const request = { oneWay: false, replication: ReplicationMode.quorum, parts: [{ topic, queueId, sizeBytes: bytes.length }] };
    const { clock } = this.#core.io;
    const deadlineAt = clock.monotonicMs() + TIMEOUT_MS;
    for (;;) {
      const { body } = await this.#core
        .askLeader(brokerName, Op.send, request, Math.max(1, deadlineAt - clock.monotonicMs()), bytes)
        .catch((error: unknown) => {
          this.#abandon(sequence);
          throw error;
        });
      const [result] = body.results;
      assert(result !== undefined, 'a send of one part has one result');
      if (result.error === 0) {
        sequence.next++;
        return { msgId, topic, brokerName, queueId, offset: result.baseOffset };
      }
      const failure = new LedgerError(errorCodeOf(result.error), `${topic}: replay of ${msgId}`);
      if (!isTransient(failure) || clock.monotonicMs() >= deadlineAt) {
        this.#abandon(sequence);
        throw failure;
      }
      await this.#core.sleep(RETRY_MS);
    }
  }

  /** Nobody knows whether it was stored: the next one begins anew. */
  #abandon(sequence: { epoch: number; next: number }): void {
    sequence.epoch++;
    sequence.next = 0;
  }
}

/** @throws LedgerError CORRUPT_BATCH, BAD_NAME, MESSAGE_TOO_LARGE */
function replayMessage({ message, msgId }: DeadLetter, changes: DeadLetterChanges): ReplayMessage {
  const unreadable = !message.decodable;
  if (unreadable && changes.properties === undefined)
    throw new LedgerError('CORRUPT_BATCH', `the properties of ${msgId} cannot be decoded: give others`);
  const properties = changes.properties ?? message.properties;
  const tag = changes.tag ?? (unreadable ? undefined : message.tag);
  const keys = changes.keys ?? (unreadable ? [] : message.keys);
  checkUserProperties(Object.entries(changes.properties ?? {}));
  if (changes.tag !== undefined) checkTag(changes.tag);
  for (const key of changes.keys ?? []) checkKey(key);
  const replayed: ReplayMessage = {
    body: typeof changes.body === 'string' ? Buffer.from(changes.body) : (changes.body ?? message.body),
    bornTimeMs: message.bornTimeMs,
    tag,
    keys,
    shardingKey: unreadable ? undefined : message.orderingKey,
    properties: [
      ...Object.entries(properties).filter(([name]) => !isReservedProperty(name)),
      [Property.originMessageId, msgId],
      [Property.dlqOriginTopic, message.topic],
      [Property.dlqOriginMessageId, msgId],
    ],
  };
  const fault = checkMessage(replayed, DEFAULT_BATCH_LIMITS);
  if (fault !== null) throw new LedgerError(fault, `replay of ${msgId}`);
  return replayed;
}
