import type { StartBroker } from './broker-hook.ts';
import { Violation } from './checkers/violation.ts';
import type { FaultKind } from './fault-plan.ts';
import type { TraceSink } from './trace.ts';
import type { WorkloadName } from './workloads.ts';
import { type RunResult, runSeed } from './world.ts';

export interface SeedFailure {
  readonly seed: number;
  /** Name of the checker, or of the error. */
  readonly checker: string;
  readonly message: string;
}
export type SeedOutcome = { readonly result: RunResult; readonly failure: null } | { readonly result: null; readonly failure: SeedFailure };

/** One seed; whatever goes wrong in it is the outcome, not an exception. */
export async function trySeed(
  seed: number,
  startBroker: StartBroker,
  sink?: TraceSink,
  faults: readonly FaultKind[] = [],
  workloads?: readonly WorkloadName[],
): Promise<SeedOutcome> {
  try {
    const options = { ...(sink === undefined ? {} : { sink }), ...(workloads === undefined ? {} : { workloads }) };
    return { result: await runSeed({ seed, startBroker, faults, ...options }), failure: null };
  } catch (error) {
    const checker = error instanceof Violation ? error.checker : error instanceof Error ? error.name : 'error';
    const message = error instanceof Violation ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
    sink?.(`failed: ${message}`);
    return { result: null, failure: { seed, checker, message } };
  }
}

/** One seed run twice: two different runs are a failure of their own (FAULTS 9). */
export async function tryTwice(seed: number, run: (seed: number) => Promise<SeedOutcome>): Promise<SeedOutcome> {
  const [first, again] = [await run(seed), await run(seed)];
  const [hash, other] = [first, again].map(({ result, failure }) => result?.traceHash ?? failure?.message);
  if (hash === other) return first;
  return { result: null, failure: { seed, checker: 'not deterministic', message: `not deterministic: ${hash}, then ${other}` } };
}

/** Runs seeds in order, up to the first that fails. Without stacks of errors, which cost a tenth of the time: the seed that failed is run again for them. */
export async function runSeeds(
  seeds: Iterable<number>,
  startBroker: StartBroker,
  each: (outcome: SeedOutcome) => void = () => {},
  run: (seed: number, startBroker: StartBroker) => Promise<SeedOutcome> = trySeed,
): Promise<SeedFailure | null> {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    for (const seed of seeds) {
      const outcome = await run(seed, startBroker);
      each(outcome);
      if (outcome.failure !== null) return outcome.failure;
    }
    return null;
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

export function* seedRange(start: number, count: number, step = 1): Generator<number> {
  for (let i = 0; i < count; i += step) yield start + i;
}
