import type { Clock } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import type { MemberRow } from './member-table.ts';
import type { AppliedTopic, BrokerRecord, GossipAlarm, GroupRecord, HostPort, MemberState } from './records.ts';

/** What one broker's gossip is made of, and whom it tells. */
export interface GossipOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly clusterId: string;
  readonly secret: string;
  /** The own record but for its version. */
  readonly own: Omit<BrokerRecord, 'version'>;
  /** Of this boot: higher than any before. */
  readonly generation: number;
  /** Others go by a higher one (this directory was emptied): to be kept for the next boot. */
  onGeneration?(generation: number): void;
  /** Whom to ask for the cluster: seeds, the own group's replicas. Asked again at each use. */
  contacts(): readonly HostPort[];
  /** `was` null: new. `row` null in the table afterwards: forgotten. */
  onMember(row: MemberRow, was: MemberState | null): void;
  onForgotten(row: MemberRow): void;
  onGroup(record: GroupRecord): void;
  onTopic(applied: AppliedTopic): void;
  onGroupForgotten(brokerName: string, topics: readonly string[]): void;
  onAlarm(alarm: GossipAlarm, key: string): void;
  onEvent?(name: string, fields: Readonly<Record<string, string | number>>): void;
}
