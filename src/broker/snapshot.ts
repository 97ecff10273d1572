import { assert } from '../base/assert.ts';
import type { AllocateStrategy } from '../protocol/allocate-strategies.ts';
import type { TopicRecord } from '../routing/records.ts';
import type { AssignmentPlan, ConfiguredQueue } from './assignment/types.ts';
import type { TopicPut } from './commands.ts';
import { plainPackr } from './commands.ts';
import { assertLevelKnown, FEATURE_LEVELS } from './feature-level.ts';
import { type GroupState, type Groups, NO_FILTER_HASH } from './groups.ts';
import { StateLimits } from './limits.ts';
import type { Producers } from './producers.ts';
import { ProducerState } from './producers.ts';
import type { Segments } from './segments.ts';
import type { StateTable } from './state-table.ts';
import { placesFrom, placesOf, putOfRecord, recordOfPut } from './topic-records.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';

/** The scalars of the state. */
export interface StateHead {
  readonly featureLevel: number;
  readonly appliedIndex: number;
  readonly logTimeMs: number;
  readonly digest: number;
  /** The newest membership entry. Only at level 2: a group of level 1 never changes its members. */
  readonly membership: { readonly index: number; readonly body: Uint8Array } | null;
}

/** Everything replicated, as snapshot() walks it. */
export interface StateTables {
  readonly topics: Topics;
  readonly producers: Producers;
  readonly groups: Groups;
  readonly segments: Segments;
  readonly settings: Map<string, number>;
  /** What level `messaging` and later ones added. */
  readonly added: readonly StateTable[];
}

const byKey = <T>(map: ReadonlyMap<number, T>): [number, T][] => [...map].sort(([a], [b]) => a - b);

/**
 * Serialises the state, in the format of its feature level: the level is the version, and what a level adds is left out below
 * it, so that replicas of an older release read it. Tables are sorted by their keys, and what is ordered in the state (producers by last use, segments)
 * keeps its order: equal states give equal bytes, whatever way they came about.
 */
export function packState(head: StateHead, tables: StateTables): Uint8Array {
  const { topics, producers, groups, segments, settings, added } = tables;
  const packed = plainPackr.pack([
    head.featureLevel,
    [head.featureLevel, head.appliedIndex, head.logTimeMs, head.digest],
    [topics.nextTopicId, ...topics.all().map((topic) => packTopic(topic, head.featureLevel))],
    packProducers(producers),
    groups.all().map((group) => packGroup(group, head.featureLevel)),
    [segments.startPosition, ...segments.starts.map(({ position, logTimeMs, offsets }) => [position, logTimeMs, offsets])],
    [...settings].sort(([a], [b]) => (a < b ? -1 : 1)),
    ...(head.featureLevel < FEATURE_LEVELS.cluster ? [] : [topics.allGone().map(packGone), packMembership(head.membership)]),
    ...(head.featureLevel < FEATURE_LEVELS.messaging ? [] : [packAdded(added.filter(({ level }) => (level ?? 0) <= head.featureLevel))]),
  ]);
  // The packer's result is a view of its own working memory.
  return new Uint8Array(packed);
}

/** Columns before the kept results: topic id, queue id, producer id, epoch, next sequence, last time, kept results. */
const PRODUCER_COLUMNS = 7;
const RESULT_COLUMNS = 4;

/**
 * The one table that is large as a rule: 100,000 producers are 4 million numbers, which as a list cost the event loop most of
 * an election timeout. So they are 8 bytes each, little-endian as every processor that Node runs on here.
 */
function packProducers(producers: Producers): Uint8Array {
  const numbers = new Float64Array(producers.size * (PRODUCER_COLUMNS + StateLimits.keptBatchResults * RESULT_COLUMNS));
  let at = 0;
  for (const state of producers) {
    numbers[at] = state.queue.topic.id;
    numbers[at + 1] = state.queue.queueId;
    numbers[at + 2] = state.producerId;
    numbers[at + 3] = state.epoch;
    numbers[at + 4] = state.nextSequence;
    numbers[at + 5] = state.lastTimeMs;
    numbers[at + 6] = Math.min(state.written, StateLimits.keptBatchResults);
    at = state.copyKept(numbers, at + PRODUCER_COLUMNS);
  }
  return new Uint8Array(numbers.buffer, 0, at * 8);
}

function unpackProducers(bytes: Uint8Array, tables: StateTables): void {
  // A copy: the packed bytes lie at any address, numbers at multiples of 8.
  const numbers = new Float64Array(Uint8Array.from(bytes).buffer);
  for (let at = 0; at < numbers.length; ) {
    const [topicId, queueId, producerId, epoch, next, lastTimeMs, kept] = numbers.subarray(
      at,
      at + PRODUCER_COLUMNS,
    ) as unknown as number[];
    const queue = tables.topics.queue(topicId as number, queueId as number);
    assert(queue !== undefined, 'a producer of a queue that does not exist');
    const state = new ProducerState(queue as QueueState, producerId as number, epoch as number);
    at += PRODUCER_COLUMNS;
    for (const end = at + (kept as number) * RESULT_COLUMNS; at < end; at += RESULT_COLUMNS) {
      const [first, count, baseOffset, timeMs] = numbers.subarray(at, at + RESULT_COLUMNS) as unknown as number[];
      state.keep(first as number, count as number, baseOffset as number, timeMs as number);
    }
    assert(state.nextSequence === next && state.lastTimeMs === lastTimeMs, 'a producer state that contradicts itself');
    tables.producers.restore(state);
  }
}

/** Pairs [name, packed], by name. */
function packAdded(tables: readonly StateTable[]): [string, unknown][] {
  return tables.map((table): [string, unknown] => [table.name, table.pack()]).sort(([a], [b]) => (a < b ? -1 : 1));
}

function unpackAdded(packed: readonly [string, unknown][], tables: readonly StateTable[]): void {
  const byName = new Map(packed);
  for (const table of tables) {
    const own = byName.get(table.name);
    if (own !== undefined) table.unpack(own);
    byName.delete(table.name);
  }
  // A table that nobody here reads would be lost with the next state that this replica saves.
  assert(byName.size === 0, `the saved state has tables that are not known to this release: ${[...byName.keys()].join(', ')}`);
}

/** At level 1 a topic is on its own group alone, and its incarnation is its id: both are left out. */
function packTopic(topic: TopicState, level: number): unknown[] {
  const offsets = topic.queues.flatMap((queue) => [queue.nextOffset, queue.logMinOffset, queue.notedOffset]);
  const first = [topic.id, topic.name, topic.version, topic.perm, topic.messageType, topic.replication, offsets];
  if (level < FEATURE_LEVELS.cluster) return first;
  const second = [...first, topic.incarnation, placesOf(topic.placement)];
  return level < FEATURE_LEVELS.messaging ? second : [...second, topic.internal];
}

function packGone(record: TopicRecord): PackedGone {
  const { name, incarnation, version, places, perm, messageType, replication, deleted } = putOfRecord(record);
  return [name, incarnation, version, places, perm, messageType, replication, deleted];
}

function unpackGone([name, incarnation, version, places, perm, messageType, replication, deleted]: PackedGone): TopicRecord {
  return recordOfPut({ type: 'topicPut', name, incarnation, version, places, perm, messageType, replication, deleted });
}

/** Below level 3 every group is sticky, and its members say nothing of themselves: both are left out. */
function packGroup(group: GroupState, level: number): unknown[] {
  const more = level >= FEATURE_LEVELS.messaging;
  const { strategy, brokerZones, machineRooms } = group.plan;
  const members = [...group.members.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  return [
    group.name,
    group.epoch,
    strategy,
    members.map(({ name, address, topics, sessionTimeoutMs, joinIndex, zone, queues, retries, filterHash }) => {
      const first = [name, address, topics, sessionTimeoutMs, joinIndex];
      return more ? [...first, zone, queues, retries, filterHash] : first;
    }),
    byKey(group.owned).map(([key, queue]) => [key, queue.topicId, queue.queueId, queue.owner, queue.ownerEpoch, queue.target]),
    byKey(group.offsets),
    ...(more ? [brokerZones, machineRooms] : []),
  ];
}

type PackedTopic = [
  id: number,
  name: string,
  version: number,
  perm: number,
  messageType: 'normal' | 'fifo',
  replication: number,
  offsets: number[],
  incarnation?: number,
  places?: TopicPut['places'],
  internal?: boolean,
];
type PackedGone = [string, number, number, TopicPut['places'], number, 'normal' | 'fifo', number, boolean];
type PackedGroup = [
  string,
  number,
  AllocateStrategy,
  [string, string, string[], number, number, zone?: string, queues?: ConfiguredQueue[], retries?: boolean, filterHash?: number][],
  [number, number, number, string, number, string][],
  [number, number][],
  brokerZones?: AssignmentPlan['brokerZones'],
  machineRooms?: AssignmentPlan['machineRooms'],
];
type PackedState = [
  number,
  [number, number, number, number],
  [number, ...PackedTopic[]],
  Uint8Array,
  PackedGroup[],
  [number, ...[number, number, number[]][]],
  [string, number][],
  gone?: PackedGone[],
  membership?: PackedMembership,
  added?: [string, unknown][],
];

/**
 * Fills empty tables from a snapshot, in the order in which they refer to each other.
 * @param newestLevel what this replica can read
 * @throws AssertionError for a state of a newer release
 */
export function unpackState(bytes: Uint8Array, tables: StateTables, newestLevel: number): StateHead {
  const packed = plainPackr.unpack(bytes) as PackedState;
  assertLevelKnown(packed[0], newestLevel, 'the saved state');
  const [
    ,
    [featureLevel, appliedIndex, logTimeMs, digest],
    [nextTopicId, ...topics],
    producers,
    groups,
    [start, ...starts],
    settings,
    gone = [],
    membership = null,
    added = [],
  ] = packed;
  for (const topic of topics) unpackTopic(topic, tables.topics);
  tables.topics.nextTopicId = nextTopicId;
  for (const record of gone) tables.topics.bury(unpackGone(record));
  unpackProducers(producers, tables);
  for (const group of groups) tables.groups.restore(unpackGroup(group));
  tables.segments.restore(
    start,
    starts.map(([position, time, offsets]) => ({ position, logTimeMs: time, offsets })),
  );
  for (const [name, value] of settings) tables.settings.set(name, value);
  unpackAdded(added, tables.added);
  return { featureLevel, appliedIndex, logTimeMs, digest, membership: unpackMembership(membership) };
}

type PackedMembership = readonly [index: number, body: Uint8Array] | null;

function packMembership(membership: StateHead['membership']): PackedMembership {
  return membership === null ? null : [membership.index, membership.body];
}

function unpackMembership(packed: PackedMembership): StateHead['membership'] {
  return packed === null ? null : { index: packed[0], body: Uint8Array.from(packed[1]) };
}

function unpackTopic([id, name, version, perm, messageType, replication, offsets, ...more]: PackedTopic, topics: Topics): void {
  const queues = offsets.length / 3;
  const [incarnation = id, places, internal = false] = more;
  const placement = places === undefined ? topics.ownPlacement(queues) : placesFrom(places);
  const topic = topics.add(id, { name, incarnation, version, placement, perm, messageType, replication, deleted: false }, internal);
  topics.grow(topic, queues);
  for (const queue of topic.queues) {
    queue.nextOffset = offsets[3 * queue.queueId] as number;
    queue.logMinOffset = offsets[3 * queue.queueId + 1] as number;
    queue.notedOffset = offsets[3 * queue.queueId + 2] as number;
  }
}

function unpackGroup([name, epoch, strategy, members, owned, offsets, brokerZones = [], machineRooms = []]: PackedGroup): GroupState {
  return {
    name,
    epoch,
    plan: { strategy, brokerZones, machineRooms },
    members: new Map(
      members.map(
        ([member, address, topics, sessionTimeoutMs, joinIndex, zone = '', queues = [], retries = false, filterHash = NO_FILTER_HASH]) => [
          member,
          { name: member, address, topics, sessionTimeoutMs, joinIndex, zone, queues, retries, filterHash },
        ],
      ),
    ),
    owned: new Map(
      owned.map(([key, topicId, queueId, owner, ownerEpoch, target]) => [key, { topicId, queueId, owner, ownerEpoch, target }]),
    ),
    offsets: new Map(offsets),
  };
}
