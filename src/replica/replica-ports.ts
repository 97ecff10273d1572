import type { Clock } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import type { HardStateFile } from '../log/hard-state.ts';
import type { SnapshotStore } from '../log/snapshot-store.ts';
import type { Log } from '../log/types.ts';
import type { LogDamage } from '../protocol/raft-requests.ts';
import type { RaftCore, ReplicaId } from '../raft/types.ts';
import type { DerivedFiles } from './derived.ts';
import type { HandOverReason } from './leadership.ts';
import type { MajorityLossPorts } from './majority-loss.ts';
import type { GroupMembership } from './membership.ts';
import type { PeerLinks } from './peer-links.ts';
import type { ProposeRefusal, StateMachine } from './types.ts';

/** What a replica is made of, and whom it tells. */
export interface ReplicaPorts {
  readonly id: ReplicaId;
  readonly brokerName: string;
  readonly clock: Clock;
  readonly raft: RaftCore;
  readonly log: Log;
  readonly hardState: HardStateFile;
  readonly links: PeerLinks;
  readonly stateMachine: StateMachine;
  /** Of the replicas that may lead as well the one with the highest should. Default 0. */
  readonly leaderPriority?: number;
  readonly electionTimeoutMs: number;
  readonly tickMs: number;
  readonly catchUpBytesPerSecond: number;
  readonly segmentBytes: number;
  /** Index and position that the restored state stands for. */
  readonly applied: { readonly index: number; readonly position: number };
  readonly disk: Disk;
  /** The data directory. */
  readonly directory: string;
  readonly snapshots: SnapshotStore;
  readonly derived: DerivedFiles;
  readonly snapshotIntervalBytes: number;
  damagedRead?(position: number): void;
  damages?(): readonly LogDamage[];
  /** The membership was decided by an operator (`raft recover`) and is not in the log yet; onForced() when it is, for good. */
  readonly forced?: boolean;
  onForced?(): Promise<void>;
  /** What to do when all other voters have lost what they held. Missing: wait for an operator. */
  readonly majorityLoss?: Pick<MajorityLossPorts, 'graceMs' | 'lost'>;
  /** Every replica of the group can read membership entries (feature level). */
  mayChangeMembership?(): boolean;
  /** The newest membership in the log is another one than before. */
  onMembership?(membership: GroupMembership): void;
  onEvent(name: string, fields: Record<string, string | number>): void;
  /** The replica cannot go on: leadership was given up, nothing is acknowledged any more; the process ends (FAULTS 2). */
  onFailed(error: unknown): void;
}

export interface ReplicaCounts {
  readonly elections: number;
  readonly leaderChanges: number;
  readonly uncommittedBytes: number;
  readonly refusedProposals: Readonly<Record<ProposeRefusal, number>>;
  readonly readBarriers: number;
  readonly snapshotsSent: number;
  readonly handOvers: Readonly<Record<HandOverReason | 'balance', number>>;
}
