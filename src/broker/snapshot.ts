import { assert } from '../base/assert.ts';
import { plainPackr } from './commands.ts';
import type { GroupState, Groups } from './groups.ts';
import type { Producers } from './producers.ts';
import { ProducerState } from './producers.ts';
import type { Segments } from './segments.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';

export const SNAPSHOT_VERSION = 1;

/** The scalars of the state. */
export interface StateHead {
  readonly featureLevel: number;
  readonly appliedIndex: number;
  readonly logTimeMs: number;
  readonly digest: number;
}

/** Everything replicated, as snapshot() walks it. */
export interface StateTables {
  readonly topics: Topics;
  readonly producers: Producers;
  readonly groups: Groups;
  readonly segments: Segments;
  readonly settings: Map<string, number>;
}

const byKey = <T>(map: ReadonlyMap<number, T>): [number, T][] => [...map].sort(([a], [b]) => a - b);

/**
 * Serialises the state. Tables are sorted by their keys, and what is ordered in the state (producers by last use, segments)
 * keeps its order: equal states give equal bytes, whatever way they came about.
 */
export function packState(head: StateHead, tables: StateTables): Uint8Array {
  const { topics, producers, groups, segments, settings } = tables;
  const packed = plainPackr.pack([
    SNAPSHOT_VERSION,
    [head.featureLevel, head.appliedIndex, head.logTimeMs, head.digest],
    [topics.nextTopicId, ...topics.all().map(packTopic)],
    [...producers].map((state) => [
      state.queue.topic.id,
      state.queue.queueId,
      state.producerId,
      state.epoch,
      state.nextSequence,
      state.lastTimeMs,
      state.kept(),
    ]),
    groups.all().map(packGroup),
    [segments.startPosition, ...segments.starts.map(({ position, logTimeMs, offsets }) => [position, logTimeMs, offsets])],
    [...settings].sort(([a], [b]) => (a < b ? -1 : 1)),
  ]);
  // The packer's result is a view of its own working memory.
  return new Uint8Array(packed);
}

function packTopic(topic: TopicState): unknown[] {
  const offsets = topic.queues.flatMap((queue) => [queue.nextOffset, queue.minOffset, queue.notedOffset]);
  return [topic.id, topic.name, topic.version, topic.perm, topic.messageType, topic.replication, offsets];
}

function packGroup(group: GroupState): unknown[] {
  const members = [...group.members.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return [
    group.name,
    group.epoch,
    group.strategy,
    members.map(({ name, address, topics, sessionTimeoutMs, joinIndex }) => [name, address, topics, sessionTimeoutMs, joinIndex]),
    byKey(group.owned).map(([key, queue]) => [key, queue.topicId, queue.queueId, queue.owner, queue.ownerEpoch, queue.target]),
    byKey(group.offsets),
  ];
}

type PackedTopic = [number, string, number, number, 'normal' | 'fifo', number, number[]];
type PackedProducer = [number, number, number, number, number, number, number[]];
type PackedGroup = [
  string,
  number,
  'sticky',
  [string, string, string[], number, number][],
  [number, number, number, string, number, string][],
  [number, number][],
];
type PackedState = [
  number,
  [number, number, number, number],
  [number, ...PackedTopic[]],
  PackedProducer[],
  PackedGroup[],
  [number, ...[number, number, number[]][]],
  [string, number][],
];

/**
 * Fills empty tables from a snapshot, in the order in which they refer to each other.
 * @throws AssertionError for a version of a newer release
 */
export function unpackState(bytes: Uint8Array, tables: StateTables): StateHead {
  const packed = plainPackr.unpack(bytes) as PackedState;
  assert(packed[0] === SNAPSHOT_VERSION, `snapshot version ${packed[0]} is not known to this release`);
  const [, [featureLevel, appliedIndex, logTimeMs, digest], [nextTopicId, ...topics], producers, groups, [start, ...starts], settings] =
    packed;
  for (const topic of topics) unpackTopic(topic, tables.topics);
  tables.topics.nextTopicId = nextTopicId;
  for (const producer of producers) unpackProducer(producer, tables);
  for (const group of groups) tables.groups.restore(unpackGroup(group));
  tables.segments.restore(
    start,
    starts.map(([position, time, offsets]) => ({ position, logTimeMs: time, offsets })),
  );
  for (const [name, value] of settings) tables.settings.set(name, value);
  return { featureLevel, appliedIndex, logTimeMs, digest };
}

function unpackTopic([id, name, version, perm, messageType, replication, offsets]: PackedTopic, topics: Topics): void {
  const topic = topics.add(id, name, version, perm, messageType, replication);
  topics.grow(topic, offsets.length / 3);
  for (const queue of topic.queues) {
    queue.nextOffset = offsets[3 * queue.queueId] as number;
    queue.minOffset = offsets[3 * queue.queueId + 1] as number;
    queue.notedOffset = offsets[3 * queue.queueId + 2] as number;
  }
}

function unpackProducer([topicId, queueId, producerId, epoch, next, lastTimeMs, kept]: PackedProducer, tables: StateTables): void {
  const queue = tables.topics.queue(topicId, queueId);
  assert(queue !== undefined, 'a producer of a queue that does not exist');
  const state = new ProducerState(queue as QueueState, producerId, epoch);
  for (let i = 0; i < kept.length; i += 4) {
    state.keep(kept[i] as number, kept[i + 1] as number, kept[i + 2] as number, kept[i + 3] as number);
  }
  assert(state.nextSequence === next && state.lastTimeMs === lastTimeMs, 'a producer state that contradicts itself');
  tables.producers.restore(state);
}

function unpackGroup([name, epoch, strategy, members, owned, offsets]: PackedGroup): GroupState {
  return {
    name,
    epoch,
    strategy,
    members: new Map(
      members.map(([member, address, topics, sessionTimeoutMs, joinIndex]) => [
        member,
        { name: member, address, topics, sessionTimeoutMs, joinIndex },
      ]),
    ),
    owned: new Map(
      owned.map(([key, topicId, queueId, owner, ownerEpoch, target]) => [key, { topicId, queueId, owner, ownerEpoch, target }]),
    ),
    offsets: new Map(offsets),
  };
}
