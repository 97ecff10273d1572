import type { TopicOutcome } from '../client/topic-admin.ts';
import { type Context, exitOf } from './context.ts';
import { note } from './output.ts';

export interface ReportedGroup {
  readonly brokerName: string;
  /** null = applied. */
  readonly error: string | null;
}

/**
 * What each broker group made of a change. One that failed is said on stderr and in the exit code: the change may be asked for
 * again, and a group that was away takes it from the others.
 * @throws LedgerError when no group applied it
 */
export function reportGroups(context: Context, { groups }: TopicOutcome): ReportedGroup[] {
  const failed = groups.filter(({ error }) => error !== null);
  const [first] = failed;
  if (first?.error != null) {
    if (failed.length === groups.length) throw first.error;
    context.exit = exitOf(first.error);
    for (const { brokerName, error } of failed) note(context, `group ${brokerName}: ${error?.message}`);
  }
  return groups.map(({ brokerName, error }) => ({ brokerName, error: error?.code ?? null }));
}
