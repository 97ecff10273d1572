import { assert } from '../base/assert.ts';
import type { ConsumeQueue } from '../log/consume-queue-types.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import type { TopicCreate, TopicUpdate } from './commands.ts';
import { StateLimits } from './limits.ts';
import type { QueueStore } from './ports.ts';
import type { ProducerState } from './producers.ts';

/** RocketMQ's perm bits. */
export const Perm = { write: 2, read: 4 } as const;

/** One queue as all replicas agree on it. Offsets are decided here; the ConsumeQueue only remembers where the bytes are. */
export class QueueState {
  readonly topic: TopicState;
  readonly queueId: number;
  /** Offset of the next message. */
  nextOffset = 0;
  /** First retained offset. */
  minOffset = 0;
  /** nextOffset as the newest segment start noted it. */
  notedOffset = 0;
  /** By producer id. Only ever looked up, never walked: its order is not part of the state. */
  readonly producers = new Map<number, ProducerState>();
  readonly index: ConsumeQueue;

  constructor(topic: TopicState, queueId: number, index: ConsumeQueue) {
    this.topic = topic;
    this.queueId = queueId;
    this.index = index;
  }
}

export interface TopicState {
  /** Never given twice: a topic made again under its old name is another one. */
  readonly id: number;
  readonly name: string;
  /** Index of the entry that last changed it: grows also when a topic is made again under an old name. */
  version: number;
  perm: number;
  readonly messageType: 'normal' | 'fifo';
  /** Minimum replication mode of its messages. */
  replication: number;
  readonly queues: QueueState[];
}

/** Key of a queue in maps: topicId · 2^16 + queueId, below 2^53. */
export const queueKey = (topicId: number, queueId: number): number => topicId * 65_536 + queueId;
export const topicIdOf = (key: number): number => Math.floor(key / 65_536);
export const queueIdOf = (key: number): number => key % 65_536;

/** The topics of this broker group and their queues (F01). */
export class Topics {
  readonly #store: QueueStore;
  readonly #byName = new Map<string, TopicState>();
  readonly #byId = new Map<number, TopicState>();
  nextTopicId = 1;
  queueCount = 0;

  constructor(store: QueueStore) {
    this.#store = store;
  }

  named(name: string): TopicState | undefined {
    return this.#byName.get(name);
  }

  withId(topicId: number): TopicState | undefined {
    return this.#byId.get(topicId);
  }

  queue(topicId: number, queueId: number): QueueState | undefined {
    return this.#byId.get(topicId)?.queues[queueId];
  }

  /** By id, ascending: ids only grow, so this is also the order of creation. */
  all(): TopicState[] {
    return [...this.#byId.values()].sort((a, b) => a.id - b.id);
  }

  /** Making the same topic again is done already: a client that never heard the answer may ask twice. */
  create(command: TopicCreate, index: number): ErrorCode | null {
    const old = this.#byName.get(command.name);
    if (old !== undefined) {
      const same =
        old.queues.length === command.queues &&
        old.perm === command.perm &&
        old.messageType === command.messageType &&
        old.replication === command.replication;
      return same ? null : 'TOPIC_EXISTS';
    }
    if (command.queues < 1 || command.queues > StateLimits.maxQueuesPerTopic) return 'BAD_REQUEST';
    if (this.#byName.size >= StateLimits.maxTopics || this.queueCount + command.queues > StateLimits.maxQueues) return 'TOO_MANY';
    const topic = this.add(this.nextTopicId, command.name, index, command.perm, command.messageType, command.replication);
    this.nextTopicId++;
    this.grow(topic, command.queues);
    return null;
  }

  update(command: TopicUpdate, index: number): ErrorCode | null {
    const topic = this.#byName.get(command.name);
    if (topic === undefined) return 'TOPIC_NOT_FOUND';
    const queues = command.queues === -1 ? topic.queues.length : command.queues;
    // A queue that went away would take its messages and its keys' order with it.
    if (queues < topic.queues.length || queues > StateLimits.maxQueuesPerTopic) return 'BAD_REQUEST';
    if (this.queueCount + queues - topic.queues.length > StateLimits.maxQueues) return 'TOO_MANY';
    this.grow(topic, queues);
    if (command.perm !== -1) topic.perm = command.perm;
    if (command.replication !== -1) topic.replication = command.replication;
    topic.version = index;
    return null;
  }

  delete(topic: TopicState): void {
    this.#byName.delete(topic.name);
    this.#byId.delete(topic.id);
    this.queueCount -= topic.queues.length;
    this.#store.removeTopic(topic.name);
  }

  add(id: number, name: string, version: number, perm: number, messageType: 'normal' | 'fifo', replication: number): TopicState {
    assert(!this.#byName.has(name) && !this.#byId.has(id), `topic ${name} exists`);
    const topic: TopicState = { id, name, version, perm, messageType, replication, queues: [] };
    this.#byName.set(name, topic);
    this.#byId.set(id, topic);
    return topic;
  }

  grow(topic: TopicState, queues: number): void {
    while (topic.queues.length < queues) {
      const queueId = topic.queues.length;
      topic.queues.push(new QueueState(topic, queueId, this.#store.queue(topic.name, topic.id, queueId)));
      this.queueCount++;
    }
  }

  clear(): void {
    this.#byName.clear();
    this.#byId.clear();
    this.nextTopicId = 1;
    this.queueCount = 0;
  }
}
