import type { DelayListResponse } from '../protocol/delay-requests.ts';
import { Op } from '../protocol/requests.ts';
import { askEveryGroup } from './every-group.ts';
import type { GroupPort } from './message-search.ts';

/** What waits for its time in one broker group. */
export interface DelayedInGroup extends DelayListResponse {
  readonly brokerName: string;
}

/**
 * The message is not delivered. Doing it again is fine while it would still wait.
 * @param topic that it was sent to
 * @throws LedgerError ALREADY_DELIVERED: it is in its queue, or was never delayed; MESSAGE_NOT_FOUND, TOPIC_NOT_FOUND; BAD_REQUEST: one
 *   of a batch of more than 1,024
 */
export async function cancelDelayed(port: GroupPort, id: string, topic: string, timeoutMs: number): Promise<void> {
  const asked = (await port.brokerNames()).map(async (brokerName) => {
    await port.askLeader(brokerName, Op.delayCancel, { id, topic }, timeoutMs);
  });
  await firstAnswer(asked);
}

/** Of several groups one has the message; what the others say counts only when none has it. */
async function firstAnswer(asked: readonly Promise<void>[]): Promise<void> {
  try {
    await Promise.any(asked);
  } catch (error) {
    const failures = (error as AggregateError).errors as { code?: string }[];
    throw failures.find(({ code }) => code !== 'MESSAGE_NOT_FOUND' && code !== 'TOPIC_NOT_FOUND') ?? failures[0];
  }
}

/** @param maxBuckets time buckets of each group at most, the earliest ones */
export async function delayed(port: GroupPort, maxBuckets: number, timeoutMs: number): Promise<DelayedInGroup[]> {
  const ask = async (brokerName: string) => (await port.askLeader(brokerName, Op.delayList, { maxBuckets }, timeoutMs)).body;
  const answers = await askEveryGroup(await port.brokerNames(), ask);
  return answers.map(({ brokerName, body }) => ({ brokerName, ...body }));
}
