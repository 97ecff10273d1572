import { type ErrorCode, LedgerError } from '../protocol/errors.ts';
import type { FailedGroup } from './backlog.ts';
import type { GroupPort } from './message-search.ts';

/**
 * Asks every broker group at once; each knows its own part.
 * @param absent a refusal that only says that the group has none of it
 * @throws LedgerError what a group refused or failed with; `absent` when all say so
 */
export async function askEveryGroup<T>(
  brokerNames: readonly string[],
  ask: (brokerName: string) => Promise<T>,
  absent?: ErrorCode,
): Promise<{ readonly brokerName: string; readonly body: T }[]> {
  let missing: LedgerError | null = null;
  const answers = await Promise.all(
    brokerNames.map(async (brokerName) => {
      try {
        return [{ brokerName, body: await ask(brokerName) }];
      } catch (error) {
        if (!(error instanceof LedgerError) || error.code !== absent) throw error;
        missing = error;
        return [];
      }
    }),
  );
  const found = answers.flat();
  if (found.length === 0 && missing !== null) throw missing;
  return found;
}

/** Of a setting that each broker group keeps for itself. */
export interface GroupOutcome {
  /** Broker groups that have it, by name. One that is wholly down may be unknown to the others, and then is in neither list. */
  readonly done: readonly string[];
  /** Broker groups that have not taken it: again is fine. */
  readonly failed: readonly FailedGroup[];
}

/** Tells every broker group. @throws LedgerError BAD_REQUEST of any */
export async function everywhere(port: GroupPort, ask: (brokerName: string) => Promise<void>): Promise<GroupOutcome> {
  const done: string[] = [];
  const failed: FailedGroup[] = [];
  await Promise.all(
    (await port.brokerNames()).map(async (brokerName) => {
      try {
        await ask(brokerName);
        done.push(brokerName);
      } catch (error) {
        if (!(error instanceof LedgerError) || error.code === 'BAD_REQUEST') throw error;
        failed.push({ brokerName, error });
      }
    }),
  );
  return { done: done.sort((a, b) => (a < b ? -1 : 1)), failed };
}
