import { LedgerError } from '../protocol/errors.ts';
import { checkTopicName, checkUserGroupName } from '../protocol/names.ts';
import type { GroupJoinRequest } from '../protocol/requests.ts';
import type { ConfiguredQueue } from './assignment/types.ts';
import type { GroupJoin, GroupJoinBy } from './commands.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { NO_FILTER_HASH } from './groups.ts';
import { MAX_MEMBER_NAME_CHARACTERS, StateLimits } from './limits.ts';
import { nameRefusal } from './name-refusal.ts';
import type { Session } from './session.ts';

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
const sortedSet = (texts: readonly string[]): string[] => [...new Set(texts)].sort();

/** What a join is refused for before it is in the log, whatever the group is. */
export function joinRefusal(request: GroupJoinRequest): LedgerError | null {
  const { group, member, topics, queues = [], brokerZones = [], machineRooms = [] } = request;
  const name = nameRefusal(() => {
    checkUserGroupName(group);
    for (const topic of topics) checkTopicName(topic);
  });
  if (name !== null) return name;
  if (member.length === 0 || member.length > MAX_MEMBER_NAME_CHARACTERS)
    return new LedgerError('BAD_NAME', 'a member name has 1…255 characters');
  if (topics.length === 0 || topics.length > StateLimits.maxTopicsPerMember)
    return new LedgerError('BAD_REQUEST', 'a member has 1…100 topics');
  if (queues.length > StateLimits.maxConfiguredQueuesPerMember)
    return new LedgerError('BAD_REQUEST', `a member names ${StateLimits.maxConfiguredQueuesPerMember} queues at most`);
  if (brokerZones.length > StateLimits.maxPlaces || machineRooms.length > StateLimits.maxPlaces)
    return new LedgerError('BAD_REQUEST', `${StateLimits.maxPlaces} zones at most`);
  if (new Set(brokerZones.map(({ brokerName }) => brokerName)).size < brokerZones.length)
    return new LedgerError('BAD_REQUEST', 'a broker group is in one zone');
  return null;
}

/**
 * The join as it goes into the log. A sticky one is written as ever below the level that knows of more; lists are sorted, so that members that say the same are seen to.
 */
export function joinCommand(
  request: GroupJoinRequest,
  session: Session,
  sessionTimeoutMs: number,
  featureLevel: number,
): GroupJoin | GroupJoinBy {
  const { group, member, strategy, queues = [], brokerZones = [], machineRooms = [], retries = false } = request;
  const { filterHash = NO_FILTER_HASH } = request;
  const common = { group, member, address: session.address, topics: sortedSet(request.topics), sessionTimeoutMs };
  if (strategy === 'sticky' && !(retries && featureLevel >= FEATURE_LEVELS.messaging)) return { type: 'groupJoin', ...common, strategy };
  return {
    type: 'groupJoinBy',
    ...common,
    strategy,
    zone: session.zone,
    queues: queues
      .map(({ topic, brokerName, queueId }): ConfiguredQueue => [topic, brokerName, queueId])
      .sort((a, b) => byText(a[0], b[0]) || byText(a[1], b[1]) || a[2] - b[2]),
    brokerZones: brokerZones.map(({ brokerName, zone }) => [brokerName, zone] as const).sort((a, b) => byText(a[0], b[0])),
    machineRooms: sortedSet(machineRooms),
    retries,
    filterHash,
  };
}
