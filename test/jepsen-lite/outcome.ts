import type { VerifyResult } from '../../src/cli/verify-replicas.ts';
import type { CheckResult } from './checkers/check.ts';
import type { NemesisReport } from './nemesis.ts';

/** What is left of a run when it is over. */
export interface Outcome {
  readonly nemesis: NemesisReport;
  readonly benchMsgsPerS: number;
  readonly verify: readonly VerifyResult[] | null;
  /** What makes it invalid besides the histories. */
  readonly problems: readonly string[];
  /** Why it proves nothing. */
  readonly doubts: readonly string[];
}

/** The histories are one part of it: a group that did not come back, or a replica that ended by itself, is wrong too. */
export function withOutcome(result: CheckResult, { problems, doubts }: Pick<Outcome, 'problems' | 'doubts'>): CheckResult {
  const verdict = problems.length > 0 ? 'invalid' : result.verdict === 'valid' && doubts.length > 0 ? 'unknown' : result.verdict;
  return { ...result, verdict, reasons: [...problems, ...result.reasons, ...doubts] };
}
