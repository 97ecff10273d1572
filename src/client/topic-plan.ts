import { LedgerError } from '../protocol/errors.ts';
import type { Place, TopicDescription, TopicPutRequest } from '../protocol/requests.ts';

/** What `topic create` and `topic update` say of a topic. */
export interface TopicChange {
  /** Queues on each broker group. */
  readonly queues?: number | undefined;
  /** read 4 | write 2. */
  readonly perm?: number | undefined;
  /** ReplicationMode; 0 = the brokers' default. */
  readonly replication?: number | undefined;
}
export interface NewTopic {
  readonly queues: number;
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  readonly replication: number;
}

/** A drained group's queues: read 4. */
const READ_ONLY = 4;

/**
 * The newest record among those that the groups of a topic gave.
 * @throws LedgerError TOPIC_NOT_FOUND, TOPIC_CONFLICT when they speak of different topics
 */
export function newestRecord(topic: string, described: readonly TopicDescription[]): TopicPutRequest {
  const [first] = described;
  if (first === undefined) throw new LedgerError('TOPIC_NOT_FOUND', topic);
  let newest = first;
  for (const each of described) {
    if (each.topicId !== first.topicId)
      throw new LedgerError('TOPIC_CONFLICT', `${topic} was made twice, as ${first.topicId} and as ${each.topicId}: delete one of them`);
    if (each.version > newest.version) newest = each;
  }
  const { topicId, version, perm, messageType, placement, replication } = newest;
  return { topic, topicId, version, perm, messageType, placement, replication, deleted: false };
}

/** @param incarnation of a topic that does not exist yet @throws LedgerError TOPIC_EXISTS when it does, with another definition */
export function planCreate(
  topic: string,
  described: readonly TopicDescription[],
  wanted: NewTopic,
  brokerNames: readonly string[],
  incarnation: number,
): TopicPutRequest {
  const { queues, perm, messageType, replication } = wanted;
  const placement = sorted(brokerNames.map((brokerName) => ({ brokerName, queues })));
  if (described.length === 0) return { topic, topicId: incarnation, version: 1, placement, perm, messageType, replication, deleted: false };
  const known = newestRecord(topic, described);
  const same =
    known.perm === perm &&
    known.messageType === messageType &&
    (replication === 0 || known.replication === replication) &&
    placement.every(({ brokerName }) => placeIn(known, brokerName)?.queues === queues);
  if (!same) throw new LedgerError('TOPIC_EXISTS', `${topic} exists with another definition; topic update changes it`);
  // Again, for a group that missed it.
  return known;
}

/** @param brokerNames groups whose queues change, those that join too; undefined: all that have the topic */
export function planUpdate(
  topic: string,
  described: readonly TopicDescription[],
  change: TopicChange,
  brokerNames: readonly string[] | undefined,
): TopicPutRequest {
  const known = newestRecord(topic, described);
  const { queues } = change;
  let { placement } = known;
  if (brokerNames !== undefined && queues === undefined)
    throw new LedgerError('BAD_REQUEST', 'a broker group was named, but not how many queues it is to have');
  if (queues !== undefined) {
    const named = brokerNames ?? placement.map(({ brokerName }) => brokerName);
    for (const brokerName of named) {
      const old = placeIn(known, brokerName);
      if (old !== undefined && old.queues > queues)
        throw new LedgerError('BAD_REQUEST', `${topic} has ${old.queues} queues on ${brokerName}: queues are never taken away`);
    }
    // A group that was drained takes messages again when it is named.
    const kept = placement.filter(({ brokerName }) => !named.includes(brokerName));
    const changed = named.map((brokerName) => {
      const old = brokerNames === undefined ? placeIn(known, brokerName) : undefined;
      return { ...old, brokerName, queues };
    });
    placement = sorted([...kept, ...changed]);
  }
  const perm = change.perm ?? known.perm;
  const replication = change.replication ?? known.replication;
  return changedTo(known, { placement, perm, replication });
}

/** One tombstone for each incarnation that was found. @throws LedgerError TOPIC_NOT_FOUND */
export function planDelete(topic: string, described: readonly TopicDescription[]): TopicPutRequest[] {
  if (described.length === 0) throw new LedgerError('TOPIC_NOT_FOUND', topic);
  const incarnations = [...new Set(described.map(({ topicId }) => topicId))];
  return incarnations.map((topicId) => {
    const known = newestRecord(
      topic,
      described.filter((each) => each.topicId === topicId),
    );
    return { ...known, version: known.version + 1, deleted: true };
  });
}

/** F48: the group's queues are read, not written. @returns null when there is nothing to change */
export function planDrain(topic: string, described: readonly TopicDescription[], brokerName: string): TopicPutRequest | null {
  const known = newestRecord(topic, described);
  if (placeIn(known, brokerName) === undefined || placeIn(known, brokerName)?.perm === READ_ONLY) return null;
  const placement = known.placement.map((place) => (place.brokerName === brokerName ? { ...place, perm: READ_ONLY } : place));
  if (placement.every(({ perm }) => perm === READ_ONLY))
    throw new LedgerError(
      'BAD_REQUEST',
      `${topic} is on ${brokerName} alone: give it queues on another group first (topic update), or delete it`,
    );
  return changedTo(known, { placement });
}

/** The group's queues are written again. @returns null when they are */
export function planOpen(topic: string, described: readonly TopicDescription[], brokerName: string): TopicPutRequest | null {
  const known = newestRecord(topic, described);
  if (placeIn(known, brokerName)?.perm !== READ_ONLY) return null;
  const open = ({ brokerName: name, queues }: Place): Place => ({ brokerName: name, queues });
  return changedTo(known, { placement: known.placement.map((place) => (place.brokerName === brokerName ? open(place) : place)) });
}

/** F48: the group leaves the placement, with what its queues hold. @returns null when it is not in it */
export function planRemove(topic: string, described: readonly TopicDescription[], brokerName: string): TopicPutRequest | null {
  const known = newestRecord(topic, described);
  const placement = known.placement.filter((place) => place.brokerName !== brokerName);
  if (placement.length === known.placement.length) return null;
  if (placement.length === 0)
    throw new LedgerError(
      'BAD_REQUEST',
      `${topic} is on ${brokerName} alone: give it queues on another group first (topic update), or delete it`,
    );
  return changedTo(known, { placement });
}

/** Is the topic drained on that group? */
export function isDrained(description: TopicDescription, brokerName: string): boolean {
  const place = description.placement.find((each) => each.brokerName === brokerName);
  return place?.perm === READ_ONLY;
}

function changedTo(known: TopicPutRequest, change: Partial<TopicPutRequest>): TopicPutRequest {
  return { ...known, ...change, version: known.version + 1 };
}

function placeIn({ placement }: TopicPutRequest, brokerName: string): Place | undefined {
  return placement.find((place) => place.brokerName === brokerName);
}

function sorted(placement: readonly Place[]): Place[] {
  return [...placement].sort((a, b) => (a.brokerName < b.brokerName ? -1 : 1));
}
