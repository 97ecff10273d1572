import type { TopicRoute } from '../protocol/requests.ts';

/** A broker: one replica of one group. */
export interface BrokerKey {
  readonly brokerName: string;
  readonly replicaId: number;
}

export interface HostPort {
  /** A name or an address; names are resolved again when they are used. */
  readonly host: string;
  readonly port: number;
}

/** Role in Raft, as the broker itself sees it. `learner`: no vote; `none`: its group is not formed yet. */
export type BrokerRole = 'leader' | 'follower' | 'candidate' | 'learner' | 'none';

/** What a broker says of itself (F03). It alone makes new versions. */
export interface BrokerRecord extends BrokerKey {
  /**
   * Boot generation · 2^20 + a counter: the generation is kept on disk, so a restarted broker's word beats its former one. Also
   * SWIM's incarnation number: a suspicion names the version that it is about, and the broker refutes it by a higher one.
   */
  readonly version: number;
  /** Incarnation of its data directory (meta.json). */
  readonly incarnation: string;
  /** ws://host:port that clients dial. */
  readonly endpoint: string;
  /** http://host:port of health, metrics and status. */
  readonly admin: string;
  /** Peers and gossip: TCP and UDP. */
  readonly address: HostPort;
  /** The machine that it runs on, by name: leaders are spread over hosts. */
  readonly machine: string;
  /** read 4 | write 2, of the broker as a whole (RocketMQ's brokerPermission). */
  readonly perm: number;
  readonly role: BrokerRole;
  readonly term: number;
  /** Newest feature level that it can run. */
  readonly featureLevel: number;
  /** Its disk has less room than the reserve: it should not lead. */
  readonly belowReserve: boolean;
  /** Its log is behind its leader's by more than what the leader holds in memory. */
  readonly lagging: boolean;
  /** Of two that could lead the higher one should (setting `leaderPriority`). */
  readonly priority: number;
}

export interface GroupReplica extends HostPort {
  readonly replicaId: number;
}

/** Who a group is, by its leader alone. Epoch: (term, configVersion, logIndex), the higher wins. */
export interface GroupRecord {
  readonly brokerName: string;
  readonly term: number;
  /** Grows with each change of the group's members. */
  readonly configVersion: number;
  /** The leader's log when it said this. */
  readonly logIndex: number;
  readonly leader: number;
  readonly voters: readonly GroupReplica[];
  readonly learners: readonly GroupReplica[];
}

/** The cluster-wide record of a topic. */
export interface TopicRecord {
  readonly name: string;
  /** Random 53 bits by whoever made the topic: a topic made again under its name is another one. */
  readonly incarnation: number;
  /** 1, 2, 3 … in the whole cluster; each change is one more. */
  readonly version: number;
  /** Queues on each broker group, sorted by brokerName. */
  readonly placement: TopicRoute['placement'];
  readonly perm: number;
  readonly messageType: TopicRoute['messageType'];
  /** Minimum replication mode (protocol/requests.ts ReplicationMode). */
  readonly replication: number;
  /** A tombstone: kept until all groups of the placement have applied it. */
  readonly deleted: boolean;
}

/** A topic's record as one group has applied it. */
export interface AppliedTopic {
  readonly brokerName: string;
  /**
   * Index in that group's log at which this was its state: at the change or later. Within a group's log a higher index is the
   * newer state, also when a deleted topic is made again and its version begins at 1.
   */
  readonly logIndex: number;
  readonly record: TopicRecord;
}

export type MemberState = 'alive' | 'suspect' | 'dead';

export interface Member {
  readonly broker: BrokerRecord;
  readonly state: MemberState;
  /** How long it has been in this state, as this broker saw it. */
  readonly forMs: number;
  readonly self: boolean;
}

export type GossipAlarm = 'broker record conflict' | 'group record conflict' | 'topic record conflict' | 'topic incarnation conflict';

export function brokerKeyOf({ brokerName, replicaId }: BrokerKey): string {
  return `${brokerName}/${replicaId}`;
}
