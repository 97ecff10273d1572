import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startBroker } from './broker-process.ts';
import { FAULT_KINDS, type FaultKind } from './fault-plan.ts';
import { runSeeds, type SeedFailure, type SeedOutcome, seedRange, trySeed, tryTwice } from './run-seeds.ts';
import { WORKLOADS, type WorkloadName } from './workloads.ts';

const WORKERS = 2;
/** Below this a second process costs more than it brings. */
const SEEDS_WORTH_WORKERS = 20;
const PROGRESS_EVERY = 100;

const LEGEND = `# simulated ms · who · what. rN: replica, cN: client, world: phases. "→ rM type field=…": a Raft message leaves for replica M.
# "fault: kind for N ms": injected on that machine. Between two lines of the same time the order is the order of events.`;

const USAGE = `npm run sim -- --start SEED --seeds N [--json]     runs N seeds, stops at the first that fails
npm run sim -- --start SEED --seeds N --keep-going runs all N, whichever fail
npm run sim -- --start SEED --seeds N --twice      runs each seed twice: both runs must be the same, event by event
npm run sim -- --seed SEED [--trace]               runs one, with everything that happens in it

--workload NAME   this feature is attacked instead of those that the seed draws; again for more: ${Object.keys(WORKLOADS).join(', ')}
--fault KIND      on, often, besides those that the seed draws; again for more: ${FAULT_KINDS.join(', ')}`;

const { values } = readFlags();
const faults = namesOf<FaultKind>('fault', values.fault, FAULT_KINDS) ?? [];
const workloads = namesOf<WorkloadName>('workload', values.workload, Object.keys(WORKLOADS) as WorkloadName[]);
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}

function readFlags() {
  try {
    return parseArgs({
      options: {
        help: { type: 'boolean', short: 'h', default: false },
        start: { type: 'string', default: '1' },
        seeds: { type: 'string', default: '100' },
        seed: { type: 'string' },
        trace: { type: 'boolean', default: false },
        twice: { type: 'boolean', default: false },
        'keep-going': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        workload: { type: 'string', multiple: true },
        fault: { type: 'string', multiple: true },
        worker: { type: 'string' },
      },
    });
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    return process.exit(2);
  }
}

function integer(text: string, name: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`--${name} is a whole number from 0 on, not ${text}`);
  process.exit(2);
}

/** @returns undefined when none is given */
function namesOf<T extends string>(option: string, given: readonly string[] | undefined, known: readonly T[]): readonly T[] | undefined {
  for (const name of given ?? []) {
    if ((known as readonly string[]).includes(name)) continue;
    console.error(`--${option} ${name}: there is none of that name\n${USAGE}`);
    process.exit(2);
  }
  return given as readonly T[] | undefined;
}

const tryOne = (seed: number, sink?: (line: string) => void): Promise<SeedOutcome> => trySeed(seed, startBroker, sink, faults, workloads);
const runOne = values.twice ? (seed: number) => tryTwice(seed, tryOne) : (seed: number) => tryOne(seed);

/** Without them a seed is another run. */
const forced = [...faults.map((kind) => ` --fault ${kind}`), ...(workloads ?? []).map((name) => ` --workload ${name}`)].join('');
const replay = (seed: number): string => `npm run sim -- --seed ${seed}${forced} --trace`;

function report(failure: SeedFailure): void {
  if (values.json) console.log(JSON.stringify({ event: 'failed', ...failure, replay: replay(failure.seed) }));
  else console.log(`seed ${failure.seed} failed: ${failure.message}\n${replay(failure.seed)}`);
}

async function one(seed: number): Promise<void> {
  if (values.trace) console.log(LEGEND);
  const outcome = await tryOne(seed, values.trace ? (line) => console.log(line) : undefined);
  if (outcome.failure === null) console.log(JSON.stringify(outcome.result));
  else {
    report(outcome.failure);
    process.exitCode = 1;
  }
}

/** Counts outcomes and shows how far it is. */
class Progress {
  readonly #startedMs = performance.now();
  #done = 0;
  #simulatedMs = 0;
  #acked = 0;
  #faults = 0;
  #failed = 0;
  readonly #total: number;

  constructor(total: number) {
    this.#total = total;
  }

  add({ result, failure }: SeedOutcome): void {
    this.#done++;
    if (failure !== null) {
      this.#failed++;
      report(failure);
    }
    this.#simulatedMs += result?.simulatedMs ?? 0;
    this.#acked += result?.acked ?? 0;
    this.#faults += result?.faults ?? 0;
    if (this.#done % PROGRESS_EVERY === 0 && !values.json) console.error(this.#line());
  }

  #line(): string {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    return `${this.#done} of ${this.#total} seeds, ${(this.#done / seconds).toFixed(1)} seeds/s, ${Math.round(this.#simulatedMs / 1000)} simulated s, ${this.#faults} faults, ${this.#acked} acknowledged messages`;
  }

  finish(): void {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    if (!values.json) console.log(`${this.#line()}, ${this.#failed === 0 ? 'none' : this.#failed} failed`);
    else
      console.log(
        JSON.stringify({
          event: this.#failed === 0 ? 'passed' : 'ended',
          seeds: this.#done,
          failed: this.#failed,
          seconds,
          simulatedMs: this.#simulatedMs,
          faults: this.#faults,
          acked: this.#acked,
        }),
      );
  }
}

/** Each worker takes every second seed and tells of each outcome. @returns whether one failed */
function inWorkers(start: number, count: number, progress: Progress): Promise<boolean> {
  const workers = Array.from({ length: WORKERS }, (_, at) =>
    fork(
      fileURLToPath(import.meta.url),
      [
        ...['--start', String(start + at), '--seeds', String(count - at), '--worker', String(WORKERS)],
        ...(values.twice ? ['--twice'] : []),
        ...(values['keep-going'] ? ['--keep-going'] : []),
        ...faults.flatMap((kind) => ['--fault', kind]),
        ...(workloads ?? []).flatMap((name) => ['--workload', name]),
      ],
      // There is a worker for each core already.
      { execArgv: ['--single-threaded-gc', '--max-semi-space-size=16'] },
    ),
  );
  let failed = false;
  let crashed = false;
  const ends = workers.map(
    (worker) =>
      new Promise<void>((resolve) => {
        worker.on('message', (message) => {
          const outcome = message as SeedOutcome;
          progress.add(outcome);
          if (outcome.failure === null) return;
          failed = true;
          if (!values['keep-going']) for (const other of workers) other.kill();
        });
        worker.on('exit', (code) => {
          if (code !== 0 && (!failed || values['keep-going'])) crashed = true;
          resolve();
        });
      }),
  );
  return Promise.all(ends).then(() => {
    if (crashed) throw new Error('a worker ended without an outcome');
    return failed;
  });
}

/** Up to the first that fails, or all of them. @returns whether one failed */
async function inThis(seeds: readonly number[], each: (outcome: SeedOutcome) => void): Promise<boolean> {
  const failure = await runSeeds(seeds, startBroker, each, runOne);
  if (failure !== null && values['keep-going']) await inThis(seeds.slice(seeds.indexOf(failure.seed) + 1), each);
  return failure !== null;
}

async function many(start: number, count: number): Promise<void> {
  const progress = new Progress(count);
  const isFew = count < SEEDS_WORTH_WORKERS;
  const failed = isFew
    ? await inThis([...seedRange(start, count)], (outcome) => progress.add(outcome))
    : await inWorkers(start, count, progress);
  if (!failed || values['keep-going']) progress.finish();
  if (failed) process.exitCode = 1;
}

if (values.worker !== undefined) {
  const step = integer(values.worker, 'worker');
  const seeds = [...seedRange(integer(values.start, 'start'), integer(values.seeds, 'seeds'), step)];
  await inThis(seeds, (outcome) => process.send?.(outcome));
  process.disconnect();
} else if (values.seed !== undefined) await one(integer(values.seed, 'seed'));
else await many(integer(values.start, 'start'), integer(values.seeds, 'seeds'));
