import type { ErrorCode } from '../protocol/errors.ts';
import { checkTopicName } from '../protocol/names.ts';
import type { Place, TopicDescription, TopicPutRequest, TopicRoute } from '../protocol/requests.ts';
import { ReplicationMode } from '../protocol/requests.ts';
import type { TopicRecord } from '../routing/records.ts';
import type { TopicChange, TopicPut } from './commands.ts';
import { StateLimits } from './limits.ts';
import { nameRefusal } from './name-refusal.ts';

/** In a command: the place has the topic's perm. */
const TOPIC_PERM = -1;
const ALL_PERMS = 6;

export const placeOf = (placement: readonly Place[], brokerName: string): Place | undefined =>
  placement.find((place) => place.brokerName === brokerName);

/** What a group's queues of a topic allow: read 4 | write 2. */
export const permOf = (topicPerm: number, place: Place | undefined): number => topicPerm & (place?.perm ?? topicPerm);

export function recordOfPut(command: TopicPut | TopicChange): TopicRecord {
  const { name, incarnation, version, perm, messageType, replication, deleted } = command;
  return { name, incarnation, version, placement: placesFrom(command.places), perm, messageType, replication, deleted };
}

export function putOfRecord(record: TopicRecord): TopicPut {
  const { name, incarnation, version, perm, messageType, replication, deleted } = record;
  const places = placesOf(record.placement);
  return { type: 'topicPut', name, incarnation, version, places, perm, messageType, replication, deleted };
}

/** By who saw this incarnation here. */
export function changeOfRecord(record: TopicRecord): TopicChange {
  return { ...putOfRecord(record), type: 'topicChange' };
}

/** As commands and snapshots have a placement. */
export function placesOf(placement: readonly Place[]): TopicPut['places'] {
  return placement.map(({ brokerName, queues, perm }) => [brokerName, queues, perm ?? TOPIC_PERM] as const);
}

export function placesFrom(places: TopicPut['places']): Place[] {
  return places.map(([brokerName, queues, perm]) => (perm === TOPIC_PERM ? { brokerName, queues } : { brokerName, queues, perm }));
}

export function recordOfRequest(request: TopicPutRequest): TopicRecord {
  const { topic: name, topicId: incarnation, version, perm, messageType, replication, deleted } = request;
  return { name, incarnation, version, placement: request.placement, perm, messageType, replication, deleted };
}

/** The record of a topic that somebody described. */
export function recordOfDescription(description: TopicDescription): TopicRecord {
  return recordOfRequest({ ...description, deleted: false });
}

export function routeOfRecord(record: TopicRecord): TopicRoute {
  const { name: topic, incarnation: topicId, version, perm, messageType, placement } = record;
  return { topic, topicId, version, perm, messageType, placement };
}

export function sameRecord(a: TopicRecord, b: TopicRecord): boolean {
  return (
    a.incarnation === b.incarnation &&
    a.version === b.version &&
    a.perm === b.perm &&
    a.messageType === b.messageType &&
    a.replication === b.replication &&
    a.deleted === b.deleted &&
    samePlacement(a.placement, b.placement)
  );
}

function samePlacement(a: readonly Place[], b: readonly Place[]): boolean {
  if (a.length !== b.length) return false;
  return a.every((place, i) => {
    const other = b[i] as Place;
    return place.brokerName === other.brokerName && place.queues === other.queues && place.perm === other.perm;
  });
}

const isPerm = (perm: number): boolean => Number.isInteger(perm) && perm >= 0 && perm <= ALL_PERMS;

/** What no group can apply, whatever it holds. @returns null when it is well-formed */
export function recordFault(record: TopicRecord): ErrorCode | null {
  if (nameRefusal(() => checkTopicName(record.name)) !== null) return 'BAD_NAME';
  const { incarnation, version, placement, perm, replication } = record;
  const counted = Number.isSafeInteger(incarnation) && incarnation >= 1 && Number.isSafeInteger(version) && version >= 1;
  const known = record.messageType === 'normal' || record.messageType === 'fifo';
  const replicated = Number.isInteger(replication) && replication >= ReplicationMode.leader && replication <= ReplicationMode.all;
  if (!counted || !known || !replicated || !isPerm(perm)) return 'BAD_REQUEST';
  if (placement.length === 0 || placement.length > StateLimits.maxPlaces) return 'BAD_REQUEST';
  return placement.every(isPlaceAt) ? null : 'BAD_REQUEST';
}

/** Sorted without duplicates: equal placements are equal lists. */
function isPlaceAt({ brokerName, queues, perm }: Place, at: number, places: readonly Place[]): boolean {
  if (brokerName === '' || !Number.isInteger(queues) || queues < 1 || queues > StateLimits.maxQueuesPerTopic) return false;
  if (perm !== undefined && !isPerm(perm)) return false;
  return at === 0 || (places[at - 1] as Place).brokerName < brokerName;
}
