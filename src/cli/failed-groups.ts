import type { FailedGroup } from '../client/backlog.ts';
import { type Context, Exit } from './context.ts';
import { note } from './output.ts';

/** As `--json` has them. */
export function failedGroups(failed: readonly FailedGroup[]): object[] {
  return failed.map(({ brokerName, error }) => ({ brokerName, error: error.code, detail: error.detail }));
}

/** Says which broker groups have not done it; one is enough for the exit code. */
export function endWith(context: Context, failed: readonly FailedGroup[]): void {
  for (const { brokerName, error } of failed) note(context, `broker group ${brokerName}: ${error.message}`);
  if (failed.length > 0) context.exit = Exit.failed;
}

/** Broker groups that did it, for people. */
export function listed(brokerNames: readonly string[]): string {
  return brokerNames.length === 0 ? 'no broker group' : brokerNames.join(', ');
}
