import type { Prng } from '../../sim/prng.ts';
import type { ChaosCluster } from '../cluster/chaos-cluster.ts';
import type { ChaosReplica } from '../cluster/replica.ts';

/** Whether a fault had its effect, and what shows it. */
export interface Evidence {
  readonly fired: boolean;
  readonly text: string;
}

/** What a fault is given when its time comes. */
export interface FaultStage {
  readonly cluster: ChaosCluster;
  /** The replicas of the group, in the order in which they are struck. */
  readonly order: readonly ChaosReplica[];
  readonly prng: Prng;
  /** ms until `end` will be called; a fault that is over by itself may end before. */
  readonly holdMs: number;
}

export interface ActiveFault {
  /** Names of those that are struck. */
  readonly targets: readonly string[];
  /** Resolves when there is nothing more to wait for. Missing: it lasts as long as planned. */
  readonly over?: Promise<unknown>;
  /** Undoes it. */
  end(): Promise<Evidence>;
}

export type StartFault = (stage: FaultStage) => Promise<ActiveFault>;

/** @throws Error when there are fewer */
export function first(order: readonly ChaosReplica[]): ChaosReplica {
  const [replica] = order;
  if (replica === undefined) throw new Error('no replica to strike');
  return replica;
}
