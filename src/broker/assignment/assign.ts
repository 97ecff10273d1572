import type { AllocateStrategy } from '../../protocol/allocate-strategies.ts';
import { averagely, averagelyByCircle } from './averagely.ts';
import { byConfig } from './by-config.ts';
import { byMachineRoom, machineRoomNearby } from './by-zone.ts';
import { consistentHash } from './consistent-hash.ts';
import { assignSticky } from './sticky.ts';
import type { AssignableMember, AssignableQueue, AssignmentPlan, Strategy } from './types.ts';
import { NOBODY } from './types.ts';

const STRATEGIES: { readonly [S in AllocateStrategy]: Strategy } = {
  sticky: (topic, queues, members) =>
    assignSticky(
      topic,
      queues,
      members.map(({ name }) => name),
    ),
  averagely,
  averagelyByCircle,
  consistentHash,
  byConfig,
  byMachineRoom,
  machineRoomNearby,
  broadcasting: (_topic, queues) => new Int32Array(queues.length).fill(NOBODY),
};

/**
 * Shares a topic's queues out among a group's members (F07).
 * @param queues of all broker groups, sorted by brokerName and queueId
 * @param members sorted by name
 * @returns for each queue the name of its member; '' = nobody
 */
export function assign(
  topic: string,
  queues: readonly AssignableQueue[],
  members: readonly AssignableMember[],
  plan: AssignmentPlan,
): string[] {
  if (members.length === 0) return queues.map(() => '');
  return Array.from(STRATEGIES[plan.strategy](topic, queues, members, plan), (at) => members[at]?.name ?? '');
}
