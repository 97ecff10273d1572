import type { BrokerRoute } from '../protocol/requests.ts';
import type { GroupRecord, Member } from './records.ts';

/** What this broker knows of its own group besides gossip. */
export interface OwnGroupView {
  readonly brokerName: string;
  /** By its own Raft. */
  readonly term: number;
  readonly leader: number;
  /** By configuration, with the endpoints that clients dial. */
  readonly configured: BrokerRoute['replicas'];
  /** A replica that gossip never heard of is there all the same: it runs a release without gossip, or the start is young. */
  present(replicaId: number): boolean;
}

type Broker = Pick<Member, 'broker' | 'state'>;

/**
 * The route of a group: who of its replicas is there, and who leads. The dead are not in it; they stay voters.
 * @param brokers those of the group that are known, dead ones too
 * @param own null: another group
 */
export function resolveGroup(brokers: readonly Broker[], group: GroupRecord | null, own: OwnGroupView | null): BrokerRoute {
  const brokerName = group?.brokerName ?? own?.brokerName ?? brokers[0]?.broker.brokerName ?? '';
  const replicas = replicasOf(brokers, group, own);
  const { term, leader } = own === null ? leaderOf(brokers, group) : ownLeader(own, group);
  return { brokerName, term, leader, replicas };
}

function replicasOf(brokers: readonly Broker[], group: GroupRecord | null, own: OwnGroupView | null): BrokerRoute['replicas'] {
  const members = group === null ? null : new Set([...group.voters, ...group.learners].map(({ replicaId }) => replicaId));
  const found = new Map<number, string>();
  const heard = new Set(brokers.map(({ broker }) => broker.replicaId));
  for (const { replicaId, endpoint } of own?.configured ?? []) {
    const listed = members === null || members.has(replicaId);
    if (listed && !heard.has(replicaId) && own?.present(replicaId)) found.set(replicaId, endpoint);
  }
  for (const { broker, state } of brokers) {
    const { replicaId, endpoint } = broker;
    const leads = own !== null && own.leader === replicaId;
    // The own Raft hears its leader: datagrams may be lost where connections are not.
    if ((state !== 'dead' || leads) && (members === null || members.has(replicaId))) found.set(replicaId, endpoint);
  }
  return [...found].sort(([x], [y]) => x - y).map(([replicaId, endpoint]) => ({ replicaId, endpoint }));
}

function ownLeader({ term, leader }: OwnGroupView, group: GroupRecord | null): { term: number; leader: number } {
  // A replica that is cut off from its group's Raft may hear of the new leader by gossip.
  return group !== null && group.term > term ? { term: group.term, leader: group.leader } : { term, leader };
}

function leaderOf(brokers: readonly Broker[], group: GroupRecord | null): { term: number; leader: number } {
  const newest = Math.max(0, ...brokers.map(({ broker }) => broker.term));
  if (group === null) return { term: newest, leader: 0 };
  const { term, leader } = group;
  const said = brokers.find(({ broker }) => broker.replicaId === leader);
  if (said === undefined || said.state === 'dead') return { term, leader: 0 };
  // It has stepped down since.
  const leads = said.broker.role === 'leader' || said.broker.term < term;
  return { term, leader: leads ? leader : 0 };
}

export function sameBrokerRoute(x: BrokerRoute, y: BrokerRoute): boolean {
  if (x.term !== y.term || x.leader !== y.leader || x.replicas.length !== y.replicas.length) return false;
  return x.replicas.every(({ replicaId, endpoint }, at) => replicaId === y.replicas[at]?.replicaId && endpoint === y.replicas[at].endpoint);
}
