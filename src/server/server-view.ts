import type { Broker } from '../broker/broker.ts';
import type { BrokerStateMachine } from '../broker/state-machine.ts';
import type { NativeGateway } from '../gateway/native.ts';
import type { Recovered } from '../replica/recover.ts';
import type { RepairService } from '../replica/repair-service.ts';
import type { Replica } from '../replica/replica.ts';
import type { Gossip } from '../routing/gossip.ts';

/** What metrics read of gossip. */
export type GossipView = Pick<Gossip, 'counts' | 'members' | 'rumorCount' | 'detector' | 'table'>;

/** In the order of a life. */
export const SERVER_STATES = ['recovering', 'forming', 'running', 'draining', 'stopped', 'failed'] as const;
export type ServerState = (typeof SERVER_STATES)[number];

/** What health and metrics read of a server. Parts are null until the start has come so far. */
export interface ServerView {
  readonly state: ServerState;
  /** Replicas that the formation still waits for. */
  readonly missing: readonly number[];
  readonly recovered: Recovered | null;
  readonly repair?: RepairService | null;
  readonly stateMachine: BrokerStateMachine | null;
  readonly replica: Replica | null;
  readonly broker: Broker | null;
  readonly gateway: NativeGateway | null;
  readonly gossipCounters?: GossipView | null;
  /** Topics that broker groups hold as different ones under one name, as far as gossip tells. */
  readonly topicConflicts?: number;
}
