import type { BrokerConfig } from '../../src/config.ts';
import type { Io } from '../../src/io/io.ts';
import type { RaftStatus } from '../../src/protocol/raft-requests.ts';
import type { Quota, TopicDescription } from '../../src/protocol/requests.ts';
import type { GroupMembership, Member } from '../../src/replica/membership.ts';

/** One running replica, as the world sees it from within its process. */
export interface BrokerHandle {
  /** null while the group is not formed as far as this replica knows. */
  status(): RaftStatus | null;
  /** Of the group's state, as this replica knows it. */
  featureLevel(): number;
  /** First retained offset of a queue; 0 when there is no such queue. */
  minOffset(topic: string, queueId: number): number;
  /** Those that users made, as this replica has applied them. */
  topics(): readonly TopicDescription[];
  quotas(): readonly Quota[];
  /** Hands leadership to another replica; a refusal is fine. */
  transfer(target: number): Promise<void>;
  /** The newest in its log, and the index of its entry; null as status(). */
  membership(): { readonly now: GroupMembership; readonly index: number } | null;
  addReplica(member: Pick<Member, 'replicaId' | 'host' | 'port'>): Promise<void>;
  removeReplica(replicaId: number): Promise<void>;
}

/**
 * Starts one replica over the given io. Rejects when it refuses to start.
 * @param ended called once when the process would end by itself (a poisoned store)
 * @param event what it would log
 */
export type StartBroker = (
  io: Io,
  config: BrokerConfig,
  ended: (error: unknown) => void,
  event: (name: string, fields: object) => void,
) => Promise<BrokerHandle>;
