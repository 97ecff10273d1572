import type { AppliedTopic, BrokerKey, BrokerRecord, GroupRecord, Member, TopicRecord } from './records.ts';
import type { Routing } from './routing.ts';

/** What of the own broker record changes while it runs. */
export type OwnBrokerChange = Partial<
  Pick<BrokerRecord, 'perm' | 'role' | 'term' | 'featureLevel' | 'belowReserve' | 'lagging' | 'priority' | 'incarnation'>
>;

/** Evidence that a broker may be gone. `reset`: its kernel refused or reset a connection; `silent`: a heartbeat was missed. */
export type Evidence = 'reset' | 'silent';

/** What the server and its services ask of gossip (`GossipRouting` is one). */
export interface ClusterGossip extends Routing {
  /** Own record; told at once when it changed. */
  publishBroker(change: OwnBrokerChange): void;
  /** By the group's leader only, when it became it and when the group's members changed. */
  publishGroup(record: GroupRecord): void;
  /**
   * The record as this replica has applied it, at apply or later. Every replica calls it, so that its own routes know; the
   * leader's is told to others. @param logIndex of the entry that did it, or any later one at which the record still holds
   */
  publishTopic(record: TopicRecord, logIndex: number): void;
  /** Each record of any group, the own one too, once for each news, after it was taken. @returns ends it */
  onTopic(listener: (applied: AppliedTopic) => void): () => void;
  /** What each group has applied of this topic, tombstones too. */
  appliedTopics(topic: string): readonly AppliedTopic[];
  /** Of all topics, in no order. */
  allAppliedTopics(): Iterable<AppliedTopic>;
  /** All known groups. */
  groups(): readonly GroupRecord[];
  /** All known brokers, this one too: alive, suspect, and dead for 15 minutes at most. Sorted by brokerName, replicaId. */
  members(): readonly Member[];
  /** A member came, went, or said something new of itself. @returns ends it */
  onMember(listener: (member: Member) => void): () => void;
  /** Looks at once whether that broker is there. */
  suspect(broker: BrokerKey, evidence: Evidence): void;
}
