import { UnitBatch } from '../log/consume-queue-types.ts';
import type { GroupLagResponse } from '../protocol/requests.ts';
import { groupDescription } from './describe.ts';
import type { GroupState } from './groups.ts';
import type { BrokerStateMachine } from './state-machine.ts';
import type { QueueState } from './topics.ts';

/** Queues that one answer looks into for the age of their oldest message; further ones have none. */
const MAX_AGE_LOOKUPS = 4_096;

/** Log time of the oldest message that is not consumed; null when there is none, or it cannot be read here (its owner tells of damage). */
export async function oldestTimeMs(queue: QueueState, committedOffset: number, units: UnitBatch): Promise<number | null> {
  try {
    const found = await queue.readUnits(Math.max(queue.minOffset, committedOffset), 1, units);
    return found > 0 ? (units.logTimeMs[0] as number) : null;
  } catch {
    return null;
  }
}

/** What a group has not consumed here (F27), in messages and by the log time of the oldest. @param topic '' = all */
export async function groupLagOf(
  group: GroupState,
  topic: string,
  state: BrokerStateMachine,
  logTimeMs: number,
): Promise<GroupLagResponse> {
  const units = new UnitBatch(1);
  const described = groupDescription(group, state).queues.filter((queue) => topic === '' || queue.topic === topic);
  let lookups = 0;
  const queues: GroupLagResponse['queues'][number][] = [];
  for (const { topic: name, queueId, owner, committedOffset, maxOffset, lag } of described) {
    const queue = lag > 0 ? state.topics.named(name)?.queues[queueId] : undefined;
    const oldest = queue === undefined || ++lookups > MAX_AGE_LOOKUPS ? null : await oldestTimeMs(queue, committedOffset, units);
    queues.push({ topic: name, queueId, owner, committedOffset, maxOffset, lag, oldestTimeMs: oldest ?? -1 });
  }
  return { logTimeMs, queues };
}
