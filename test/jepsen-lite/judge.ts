import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CheckContext, type CheckResult, checkHistory } from './checkers/check.ts';
import { mergeHistories, readHistory, writeHistory } from './history.ts';
import type { ChaosOptions } from './options.ts';
import { type Outcome, withOutcome } from './outcome.ts';
import { writeReport } from './report/report.ts';

export interface ChaosVerdict {
  readonly verdict: CheckResult['verdict'];
  /** One line. */
  readonly summary: string;
}

/** result.json, as far as a second look needs it. */
interface Kept {
  readonly context: CheckContext;
  readonly outcome: Pick<Outcome, 'problems' | 'doubts'>;
  readonly recoveryMs: readonly number[];
}

/** Puts the histories together, checks them and writes what is left of a run. */
export function judge(options: ChaosOptions, historyFiles: readonly string[], outcome: Outcome, say: (text: string) => void): ChaosVerdict {
  const { out, schedule, replay } = options;
  const { nemesis, benchMsgsPerS, verify, problems, doubts } = outcome;
  const { seed, minutes } = schedule;
  const lines = writeHistory(join(out, 'history.jsonl'), mergeHistories(historyFiles));
  say(`${lines} lines of history`);
  for (const [name, { planned, fired }] of Object.entries(nemesis.faults)) say(`${name}: ${fired} of ${planned}`);
  const context: CheckContext = { seed, minutes, faults: nemesis.faults, benchMsgsPerS, verify, replay };
  const kept: Kept = { context, outcome: { problems, doubts }, recoveryMs: nemesis.recoveryMs };
  return check(out, kept, say);
}

/** The same once more from what a run has left. @throws Error when it left no history */
export function checkAgain(out: string): ChaosVerdict {
  const kept = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8')) as Kept;
  return check(out, kept, (text) => process.stderr.write(`${text}\n`));
}

function check(out: string, kept: Kept, say: (text: string) => void): ChaosVerdict {
  const { context, outcome } = kept;
  const historyFile = join(out, 'history.jsonl');
  const result = withOutcome(checkHistory(readHistory(historyFile), context), outcome);
  writeFileSync(join(out, 'result.json'), `${JSON.stringify({ ...result, windows: undefined, ...kept }, null, 2)}\n`);
  writeReport(out, readHistory(historyFile), result, context);
  for (const reason of result.reasons) say(reason);
  return { verdict: result.verdict, summary: summaryOf(result, context, out) };
}

function summaryOf(
  { operations, acknowledgedMessages, faultFreeMsgsPerS, reasons }: CheckResult,
  context: CheckContext,
  out: string,
): string {
  const rate = faultFreeMsgsPerS === null ? '?' : Math.round(faultFreeMsgsPerS);
  const figures = [
    `${operations.ok} of ${operations.all} operations`,
    `${acknowledgedMessages} messages acknowledged`,
    `${rate} messages/s without faults (bench ${context.benchMsgsPerS})`,
  ];
  const [first, ...more] = reasons;
  const why = first === undefined ? '' : `; ${first}${more.length > 0 ? ` and ${more.length} more` : ''}`;
  return `seed ${context.seed}: ${figures.join(', ')}${why}; ${out}`;
}
