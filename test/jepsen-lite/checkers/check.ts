import type { HistoryLine } from '../history.ts';
import { Deliveries } from './deliveries.ts';
import { DuplicatedChecker } from './duplicated.ts';
import { EarlyChecker } from './early.ts';
import { FabricatedChecker } from './fabricated.ts';
import { HalfMessageChecker } from './half-message.ts';
import { LockHoldersChecker } from './lock-holders.ts';
import { LostChecker } from './lost.ts';
import { OffsetBackChecker } from './offset-back.ts';
import { OffsetReusedChecker } from './offset-reused.ts';
import { type Anomaly, type Checker, feed, type OperationCounts } from './operation.ts';
import { ReorderedChecker } from './reordered.ts';
import { SeenLog } from './seen-log.ts';
import { SkippedChecker } from './skipped.ts';
import { TopicMetadataChecker } from './topic-metadata.ts';
import { Windows } from './windows.ts';

/** What became of one kind of fault. */
export interface FaultTally {
  readonly planned: number;
  /** Carried out, and seen to have had its effect. */
  readonly fired: number;
  /** What shows that it had: counts of a shim, of dropped packets, of exits … */
  readonly evidence: readonly string[];
}

/** What the history itself does not say. */
export interface CheckContext {
  readonly seed: number;
  readonly minutes: number;
  readonly faults: Readonly<Record<string, FaultTally>>;
  /** Of the bench on the same machine; null: not measured. */
  readonly benchMsgsPerS: number | null;
  /** The comparison of the replicas at the end, one for each broker group; null: it could not be made. */
  readonly verify: readonly { readonly brokerName: string; readonly identical: boolean }[] | null;
  /** Shell command that runs this again. */
  readonly replay?: string;
}

export interface CheckerResult {
  readonly name: string;
  readonly anomalies: readonly Anomaly[];
  /** What it had to look at, for people. */
  readonly looked: string;
}

export interface CheckResult {
  readonly verdict: 'valid' | 'invalid' | 'unknown';
  /** Why it is not `valid`. */
  readonly reasons: readonly string[];
  readonly checkers: readonly CheckerResult[];
  readonly operations: OperationCounts;
  readonly acknowledgedMessages: number;
  readonly deliveredMessages: number;
  readonly redelivered: number;
  readonly faultFreeMsgsPerS: number | null;
  readonly windows: Windows;
}

/** Below this part of the bench's throughput the harness looked at a cluster that hardly worked. */
const LEAST_OF_BENCH = 1 / 4;
const LEAST_OK = 1 / 2;

/** Judges a whole history. An anomaly is invalid, whatever else; what could not be judged is unknown. @param lines in the order of time */
export function checkHistory(lines: Iterable<HistoryLine>, context: CheckContext): CheckResult {
  const log = new SeenLog();
  const deliveries = new Deliveries();
  const windows = new Windows();
  const metadata = new TopicMetadataChecker();
  const lost = new LostChecker(log);
  const checkers: readonly Checker[] = [
    lost,
    new FabricatedChecker(log),
    new DuplicatedChecker(log),
    new ReorderedChecker(log),
    new OffsetBackChecker(),
    new OffsetReusedChecker(log),
    new SkippedChecker(log, deliveries),
    new LockHoldersChecker(),
    new HalfMessageChecker(),
    new EarlyChecker(),
    metadata,
  ];
  const operations = feed(lines, [log, deliveries, windows, ...checkers], (line) => windows.nemesis(line));
  const found = checkers.map((checker) => ({ name: checker.name, anomalies: checker.end(), looked: checker.looked?.() ?? '' }));
  const wrong = [
    ...found.filter(({ anomalies }) => anomalies.length > 0).map(({ name, anomalies }) => `${name}: ${anomalies[0]?.text}`),
    ...(context.verify ?? []).filter(({ identical }) => !identical).map(({ brokerName }) => `the replicas of ${brokerName} differ`),
  ];
  const open = openQuestions(context, lost, log, deliveries, windows, metadata, operations);
  const delivered = [...deliveries.counts.values()];
  return {
    verdict: wrong.length > 0 ? 'invalid' : open.length > 0 ? 'unknown' : 'valid',
    reasons: [...wrong, ...open],
    checkers: found,
    operations,
    acknowledgedMessages: log.acknowledgedMessages,
    deliveredMessages: delivered.reduce((sum, { messages }) => sum + messages, 0),
    redelivered: delivered.reduce((sum, { redelivered }) => sum + redelivered, 0),
    faultFreeMsgsPerS: windows.faultFreeMsgsPerS(),
    windows,
  };
}

/** Why a history without anomalies proves nothing. */
function openQuestions(
  { faults, benchMsgsPerS: bench, verify }: CheckContext,
  lost: LostChecker,
  log: SeenLog,
  deliveries: Deliveries,
  windows: Windows,
  metadata: TopicMetadataChecker,
  operations: OperationCounts,
): string[] {
  const reasons: string[] = [];
  if (operations.ok < operations.all * LEAST_OK || operations.all === 0)
    reasons.push(`only ${operations.ok} of ${operations.all} operations succeeded`);
  for (const [name, { planned, fired }] of Object.entries(faults))
    if (fired < planned) reasons.push(`${name} fired ${fired} of ${planned} times`);
  const msgsPerS = windows.faultFreeMsgsPerS();
  if (bench === null) reasons.push('the throughput was held against no bench');
  else if (msgsPerS === null) reasons.push('there was no time without a fault');
  else if (msgsPerS < bench * LEAST_OF_BENCH)
    reasons.push(`${Math.round(msgsPerS)} messages/s without faults, under a quarter of the bench's ${Math.round(bench)}`);
  if (verify === null) reasons.push('the replicas were not compared');
  const unread = log.queueList.filter(({ acknowledged, final }) => acknowledged.length > 0 && (final === null || final.next < final.max));
  if (unread.length > 0) reasons.push(`${unread.length} queues were not read to their end, ${unread[0]?.name} among them`);
  if (lost.unjudged > 0) reasons.push(`${lost.unjudged} acknowledged messages were cut by retention before anybody had read them`);
  for (const [group, error] of deliveries.undrained) reasons.push(`group ${group}: ${error}`);
  for (const name of metadata.unknown) reasons.push(`whether ${name} is linearizable: the search reached its bound`);
  return reasons;
}
