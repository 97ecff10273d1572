/**
 * How a group's queues are shared out among its members (F07); RocketMQ's names where it has the strategy. The first member of a
 * group decides, a member with another one is refused with GROUP_MODE_CONFLICT. `broadcasting` (F18): nobody owns a queue, every
 * member reads all of them.
 */
export const ALLOCATE_STRATEGIES = [
  'sticky',
  'averagely',
  'averagelyByCircle',
  'consistentHash',
  'byConfig',
  'byMachineRoom',
  'machineRoomNearby',
  'broadcasting',
] as const;
export type AllocateStrategy = (typeof ALLOCATE_STRATEGIES)[number];
