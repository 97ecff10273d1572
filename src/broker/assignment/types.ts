import type { AllocateStrategy } from '../../protocol/allocate-strategies.ts';

/** A queue as every broker group names it. */
export interface AssignableQueue {
  readonly brokerName: string;
  readonly queueId: number;
}

/** [topic, brokerName, queueId] */
export type ConfiguredQueue = readonly [topic: string, brokerName: string, queueId: number];

/** What a strategy may know of a member: what it said when it joined, alike at every broker group. */
export interface AssignableMember {
  readonly name: string;
  /** Of its client; '' = none. */
  readonly zone: string;
  /** byConfig: the queues that it wants. */
  readonly queues: readonly ConfiguredQueue[];
}

/** What all members of a group agree on. */
export interface AssignmentPlan {
  readonly strategy: AllocateStrategy;
  /** By zone: where each broker group is; one that is not named has the zone ''. Sorted by brokerName. */
  readonly brokerZones: readonly (readonly [brokerName: string, zone: string])[];
  /** byMachineRoom: the zones whose queues are consumed. Sorted. */
  readonly machineRooms: readonly string[];
}

/** No member is to have this queue. */
export const NOBODY = -1;

/**
 * A strategy is a pure function of what all broker groups know alike, and of nothing that was before, so that the leaders of
 * several groups agree without asking each other, and each enforces its own slice of one and the same assignment.
 * @param queues of all broker groups, sorted by brokerName and queueId
 * @param members sorted by name, at least one
 * @returns for each queue the index of its member, or NOBODY
 */
export type Strategy = (
  topic: string,
  queues: readonly AssignableQueue[],
  members: readonly AssignableMember[],
  plan: AssignmentPlan,
) => Int32Array;
