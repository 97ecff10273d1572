import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseFaults } from './faults/catalogue.ts';
import { makeSchedule, type Schedule } from './schedule.ts';
import { WORKLOADS } from './worker-plans.ts';

export const USAGE = `npm run chaos -- [--minutes M] [--faults all|NAME,…] [--seed S] [--out DIR]

  --minutes M       length of the schedule of faults (default 3; 0.5 … 600)
  --faults F        all (default), or names and families, comma-separated; --list names them
  --seed S          a whole number (default: drawn, and printed)
  --out DIR         history.jsonl, schedule.json, report.html and logs go there (default: a directory below ${tmpdir()})
  --schedule FILE   carries out the schedule.json of another run instead of a drawn one
  --workloads W     ${WORKLOADS.join(',')} (default: all)
  --check DIR       judges a run's history.jsonl again, with the checkers as they are now; writes result.json and report.html anew
  --list            the faults, and how it is known of each that it was there

The last line of standard output is the verdict. Exit codes: 0 valid, 1 invalid, 2 wrong usage or something is missing here
(root, iproute2, nftables, gcc, libfaketime), 4 unknown.`;

export class UsageError extends Error {
  override name = 'UsageError';
}

export interface ChaosOptions {
  readonly schedule: Schedule;
  readonly out: string;
  readonly workloads: readonly string[];
  /** Shell command that runs this again. */
  readonly replay: string;
}

export type Wish =
  | { readonly do: 'run'; readonly options: ChaosOptions }
  | { readonly do: 'check'; readonly directory: string }
  | { readonly do: 'list' };

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Wish {
  const values = parsed(args);
  if (values.list) return { do: 'list' };
  if (values.check !== undefined) return { do: 'check', directory: resolve(values.check) };
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new UsageError(`--seed ${values.seed}: a whole number from 0`);
  const minutes = Number(values.minutes);
  if (!(minutes >= 0.5 && minutes <= 600)) throw new UsageError(`--minutes ${values.minutes}: 0.5 … 600`);
  const workloads = values.workloads === 'all' ? [...WORKLOADS] : values.workloads.split(',');
  const unknown = workloads.filter((name) => !WORKLOADS.includes(name));
  if (unknown.length > 0) throw new UsageError(`--workloads ${unknown.join()}: of ${WORKLOADS.join(', ')}`);
  const schedule = values.schedule === undefined ? drawn(seed, minutes, values.faults) : read(values.schedule);
  const out = resolve(values.out ?? join(tmpdir(), `ledgermq-chaos-${schedule.seed}-${process.pid}`));
  const replay = `npm run chaos -- --minutes ${schedule.minutes} --faults ${values.faults} --seed ${schedule.seed}`;
  const again = values.schedule === undefined ? replay : `npm run chaos -- --schedule ${values.schedule}`;
  return { do: 'run', options: { schedule, out, workloads, replay: again } };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        minutes: { type: 'string', default: '3' },
        faults: { type: 'string', default: 'all' },
        seed: { type: 'string' },
        out: { type: 'string' },
        schedule: { type: 'string' },
        check: { type: 'string' },
        workloads: { type: 'string', default: 'all' },
        list: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function drawn(seed: number, minutes: number, faults: string): Schedule {
  try {
    return makeSchedule(seed, minutes, parseFaults(faults));
  } catch (error) {
    throw new UsageError(`--faults: ${(error as Error).message}`);
  }
}

function read(path: string): Schedule {
  try {
    const schedule = JSON.parse(readFileSync(path, 'utf8')) as Schedule;
    if (schedule.version !== 1 || !Array.isArray(schedule.rounds)) throw new Error('no schedule of this release');
    return schedule;
  } catch (error) {
    throw new UsageError(`--schedule ${path}: ${(error as Error).message}`);
  }
}
