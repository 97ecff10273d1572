import { assert } from '../base/assert.ts';
import type { ConsumeQueue, UnitBatch } from '../log/consume-queue-types.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import type { Place } from '../protocol/requests.ts';
import type { TopicRecord } from '../routing/records.ts';
import type { TopicCreate, TopicUpdate } from './commands.ts';
import type { KeptQueue } from './kept-queue.ts';
import { StateLimits } from './limits.ts';
import type { QueueStore } from './ports.ts';
import type { ProducerState } from './producers.ts';
import { permOf, placeOf, sameRecord } from './topic-records.ts';

/** RocketMQ's perm bits. */
export const Perm = { write: 2, read: 4 } as const;

/** One queue as all replicas agree on it. Offsets are decided here; the ConsumeQueue only remembers where the bytes are. */
export class QueueState {
  readonly topic: TopicState;
  readonly queueId: number;
  /** Offset of the next message. */
  nextOffset = 0;
  /** First offset whose batch, or row, lies in the log where it was stored. Those before are kept, or gone. */
  logMinOffset = 0;
  /** Messages of a longer retention, up to logMinOffset or further; null: none. */
  kept: KeptQueue | null = null;
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

  /** First retained offset. */
  get minOffset(): number {
    return this.kept === null ? this.logMinOffset : Math.min(this.kept.begin, this.logMinOffset);
  }

  /** The log has been cut. */
  logBegins(offset: number): void {
    this.logMinOffset = offset;
    this.index.minOffset = offset;
  }

  /** ConsumeQueue.readUnits(), of what is kept, too. */
  readUnits(fromOffset: number, maxUnits: number, into: UnitBatch): number | Promise<number> {
    if (this.kept === null || fromOffset >= this.logMinOffset) return this.index.readUnits(fromOffset, maxUnits, into);
    const length = this.kept.readUnits(fromOffset, this.logMinOffset, maxUnits, into);
    return length === 0 ? this.index.readUnits(fromOffset, maxUnits, into) : length;
  }

  /** ConsumeQueue.offsetAtTime(), of what is kept, too. */
  offsetAtTime(logTimeMs: number): number | Promise<number> {
    const kept = this.kept?.offsetAtTime(logTimeMs) ?? null;
    return kept !== null && kept < this.logMinOffset ? kept : this.index.offsetAtTime(logTimeMs);
  }
}

export interface TopicState {
  /** Number in this group's log, never given twice: a topic made again under its old name is another one. */
  readonly id: number;
  readonly name: string;
  /** Which of all topics of that name in the cluster it is; for one made at feature level 1 its id. */
  readonly incarnation: number;
  /** Of the cluster-wide record; for one made at feature level 1 the index of the entry that last changed it. */
  version: number;
  /** Of all groups, sorted by brokerName; the own queues are `queues`. */
  placement: readonly Place[];
  /** read 4 | write 2, of the whole topic. */
  perm: number;
  /** What the queues here allow: less than `perm` while the group is drained. */
  ownPerm: number;
  readonly messageType: 'normal' | 'fifo';
  /** Minimum replication mode of its messages. */
  replication: number;
  readonly queues: QueueState[];
  /** Made by the broker group for itself (retries, dead letters, delays): not in the cluster's records, not told to anybody. */
  readonly internal: boolean;
}

/** Key of a queue in maps: topicId · 2^16 + queueId, below 2^53. */
export const queueKey = (topicId: number, queueId: number): number => topicId * 65_536 + queueId;
export const topicIdOf = (key: number): number => Math.floor(key / 65_536);
export const queueIdOf = (key: number): number => key % 65_536;

/** What a record of the cluster means here: nothing new, a refusal, or what is to be done. */
export type PutVerdict = 'done' | ErrorCode | 'make' | 'change' | 'drop';

export function recordOf(topic: TopicState): TopicRecord {
  const { name, incarnation, version, placement, perm, messageType, replication } = topic;
  return { name, incarnation, version, placement, perm, messageType, replication, deleted: false };
}

/** The topics of this broker group and their queues (F01). */
export class Topics {
  readonly #store: QueueStore;
  readonly #brokerName: string;
  /** Topics that were deleted, or left this group, and whose other groups may not know it yet: an older record must not bring them back. */
  readonly #gone = new Map<string, TopicRecord>();
  readonly #isPast: (record: TopicRecord) => boolean;
  readonly #byName = new Map<string, TopicState>();
  readonly #byId = new Map<number, TopicState>();
  nextTopicId = 1;
  queueCount = 0;

  /** @param isPast whether what the record says is over here (past-topics.ts) */
  constructor(store: QueueStore, brokerName: string, isPast: (record: TopicRecord) => boolean) {
    this.#store = store;
    this.#isPast = isPast;
    this.#brokerName = brokerName;
  }

  /** The record of a topic that is not here any more; null when none is kept. */
  gone(name: string): TopicRecord | null {
    return this.#gone.get(name) ?? null;
  }

  /** By name. */
  allGone(): TopicRecord[] {
    return [...this.#gone.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The topic as this group has applied it, or what is kept of one that is gone. */
  record(name: string): TopicRecord | null {
    const topic = this.#byName.get(name);
    return topic === undefined || topic.internal ? this.gone(name) : recordOf(topic);
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

  /** Those that users made, by id. */
  public(): TopicState[] {
    return this.all().filter(({ internal }) => !internal);
  }

  /**
   * At apply: the internal topic of that name with at least so many queues, made when missing. Its name is reserved, so that no
   * user's topic can be in its place. Not bounded by maxTopics: whoever makes one has a bound of its own (groups, levels).
   */
  internal(name: string, queues: number): TopicState {
    let topic = this.#byName.get(name);
    if (topic === undefined) {
      topic = this.#addInternal(this.nextTopicId, name);
      this.nextTopicId++;
    }
    assert(topic.internal, `${name} is reserved for an internal topic`);
    if (topic.queues.length < queues) {
      this.grow(topic, queues);
      topic.placement = this.ownPlacement(queues);
    }
    return topic;
  }

  #addInternal(id: number, name: string): TopicState {
    const record = { name, incarnation: id, version: 1, perm: Perm.read, messageType: 'normal', replication: 0, deleted: false } as const;
    return this.add(id, { ...record, placement: this.ownPlacement(0) }, true);
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
    if (this.#gone.has(command.name)) return 'TOPIC_CONFLICT';
    if (command.queues < 1 || command.queues > StateLimits.maxQueuesPerTopic) return 'BAD_REQUEST';
    if (this.#byName.size >= StateLimits.maxTopics || this.queueCount + command.queues > StateLimits.maxQueues) return 'TOO_MANY';
    const { name, queues, perm, messageType, replication } = command;
    const placement = [{ brokerName: this.#brokerName, queues }];
    const incarnation = this.nextTopicId;
    this.#make({ name, incarnation, version: index, placement, perm, messageType, replication, deleted: false });
    return null;
  }

  #make(record: TopicRecord): void {
    const topic = this.add(this.nextTopicId, record);
    this.nextTopicId++;
    this.grow(topic, placeOf(record.placement, this.#brokerName)?.queues ?? 0);
  }

  /**
   * A deleted record of the same incarnation wins over every other, else the higher version does; another incarnation is
   * never overwritten. A name whose tombstone is kept still cannot be made again: a group that was down would not know which
   * of the two it holds.
   * @param isKnown who asks has seen this incarnation here: that it is not, or no more as it was, is for him to hear. Of a record that
   *   is passed on an older version is done already, and one that was never here is made
   */
  verdict(record: TopicRecord, isKnown: boolean): PutVerdict {
    const topic = this.#byName.get(record.name);
    const old = topic === undefined ? this.gone(record.name) : recordOf(topic);
    const mine = placeOf(record.placement, this.#brokerName);
    if (topic?.internal === true) return 'BAD_NAME';
    if (old !== null) {
      if (old.incarnation !== record.incarnation) return 'TOPIC_CONFLICT';
      if (old.deleted) return record.deleted ? 'done' : 'TOPIC_NOT_FOUND';
      if (!record.deleted && record.version <= old.version)
        return (record.version < old.version && !isKnown) || sameRecord(record, old) ? 'done' : 'TOPIC_CONFLICT';
    }
    if (topic === undefined) {
      if (old === null && this.#isPast(record)) return 'TOPIC_NOT_FOUND';
      // Deleted, and nobody has to be told any more. Made again by a change that was late, the topic would come back empty.
      if (isKnown && old === null) return record.deleted ? 'done' : 'TOPIC_NOT_FOUND';
      // A deletion is noted even where the topic never came: a late older record must not bring it, and others wait for the word.
      if (mine === undefined) return old === null ? 'done' : 'drop';
      if (record.deleted) return this.#gone.size < StateLimits.maxTombstones ? 'drop' : 'TOO_MANY';
      const bounded = this.#byName.size < StateLimits.maxTopics && this.queueCount + mine.queues <= StateLimits.maxQueues;
      return bounded ? 'make' : 'TOO_MANY';
    }
    if (record.deleted || mine === undefined) return this.#gone.size < StateLimits.maxTombstones ? 'drop' : 'TOO_MANY';
    // A queue that went away would take its messages and its keys' order with it.
    if (mine.queues < topic.queues.length || record.messageType !== topic.messageType) return 'BAD_REQUEST';
    return this.queueCount + mine.queues - topic.queues.length > StateLimits.maxQueues ? 'TOO_MANY' : 'change';
  }

  /** After verdict() said make or change. */
  put(record: TopicRecord): void {
    this.#gone.delete(record.name);
    const topic = this.#byName.get(record.name);
    if (topic === undefined) {
      this.#make(record);
      return;
    }
    this.#set(topic, record);
    this.grow(topic, placeOf(record.placement, this.#brokerName)?.queues ?? 0);
  }

  #set(topic: TopicState, { version, placement, perm, replication }: TopicRecord): void {
    topic.version = version;
    topic.placement = placement;
    topic.perm = perm;
    topic.ownPerm = permOf(perm, placeOf(placement, this.#brokerName));
    topic.replication = replication;
  }

  /** The topic is not here any more; the record says why. It is kept while other groups may not know it. */
  bury(record: TopicRecord): void {
    const others = record.placement.some(({ brokerName }) => brokerName !== this.#brokerName);
    if (others) this.#gone.set(record.name, record);
    else this.#gone.delete(record.name);
  }

  /** @returns the record, null when there was none such */
  forget(name: string, incarnation: number, version: number): TopicRecord | null {
    const record = this.#gone.get(name);
    if (record?.incarnation !== incarnation || record.version !== version) return null;
    this.#gone.delete(name);
    return record;
  }

  update(command: TopicUpdate, index: number): ErrorCode | null {
    const topic = this.#byName.get(command.name);
    if (topic === undefined) return 'TOPIC_NOT_FOUND';
    const queues = command.queues === -1 ? topic.queues.length : command.queues;
    // A queue that went away would take its messages and its keys' order with it.
    if (queues < topic.queues.length || queues > StateLimits.maxQueuesPerTopic) return 'BAD_REQUEST';
    if (this.queueCount + queues - topic.queues.length > StateLimits.maxQueues) return 'TOO_MANY';
    this.grow(topic, queues);
    const placement = topic.placement.map((place) => (place.brokerName === this.#brokerName ? { ...place, queues } : place));
    this.#set(topic, {
      ...recordOf(topic),
      placement,
      perm: command.perm === -1 ? topic.perm : command.perm,
      replication: command.replication === -1 ? topic.replication : command.replication,
      version: Math.max(index, topic.version + 1),
    });
    return null;
  }

  delete(topic: TopicState): void {
    this.#byName.delete(topic.name);
    this.#byId.delete(topic.id);
    this.queueCount -= topic.queues.length;
    this.#store.removeTopic(topic.name);
  }

  add(id: number, record: TopicRecord, internal = false): TopicState {
    const { name, incarnation, version, placement, perm, messageType, replication } = record;
    assert(!this.#byName.has(name) && !this.#byId.has(id), `topic ${name} exists`);
    const ownPerm = permOf(perm, placeOf(placement, this.#brokerName));
    const topic: TopicState = { id, name, incarnation, version, placement, perm, ownPerm, messageType, replication, queues: [], internal };
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

  /** A topic as a state of feature level 1 has it. */
  ownPlacement(queues: number): Place[] {
    return [{ brokerName: this.#brokerName, queues }];
  }

  clear(): void {
    this.#gone.clear();
    this.#byName.clear();
    this.#byId.clear();
    this.nextTopicId = 1;
    this.queueCount = 0;
  }
}
