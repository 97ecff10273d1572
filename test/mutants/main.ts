import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Prng } from '../sim/prng.ts';
import { type JudgeOptions, judgesOf, notices } from './judges.ts';
import { type Mutation, mutated, mutationsOf } from './mutations.ts';

/**
 * npm run mutants: changes a line of src/raft, src/log or src/broker at random, and asks the tests. What nobody notices is printed as
 * survived: a hole in the tests, or a change that makes no difference.
 */
const USAGE = `npm run mutants -- [--count 50] [--seed 1] [--from 1] [--sim-seeds 30] [--e2e] [--list]

--list prints the mutants of a seed without trying them; --from goes on with the n-th; --e2e asks
real processes, too, about those that survived everything else. The last line is "N of M mutants noticed".`;

const ROOMS = ['raft', 'log', 'broker'];
const ROOT = resolve(import.meta.dirname, '../..');

interface Mutant {
  readonly path: string;
  readonly mutation: Mutation;
}

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', short: 'h', default: false },
    count: { type: 'string', default: '50' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string', default: '1' },
    'sim-seeds': { type: 'string', default: '30' },
    e2e: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}

/** Each mutation of each file is as likely as any other. */
function drawMutants(seed: number, count: number): Mutant[] {
  const all = ROOMS.flatMap((room) =>
    readdirSync(join(ROOT, 'src', room), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .sort()
      .map((name) => join('src', room, name)),
  ).flatMap((path) => mutationsOf(readFileSync(join(ROOT, path), 'utf8')).map((mutation) => ({ path, mutation })));
  return new Prng(seed).shuffle(all).slice(0, count);
}

/** The checkout as it is, without what it was built to; each mutant is planted there, not here. */
function copyOfCheckout(): string {
  const directory = mkdtempSync(join(tmpdir(), 'ledgermq-mutants-'));
  const kept = (path: string): boolean => !/^(node_modules|dist|\.git)(\/|$)/.test(relative(ROOT, path));
  cpSync(ROOT, directory, { recursive: true, filter: kept });
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  return directory;
}

/** A judge that fails by itself would seem to notice everything. */
async function checkJudges(directory: string, options: JudgeOptions): Promise<void> {
  for (const judge of judgesOf('src/raft', options)) {
    if (await notices(judge, directory)) throw new Error(`without any mutant, this fails: ${judge.command.join(' ')}`);
  }
}

async function tryMutant({ path, mutation }: Mutant, directory: string, options: JudgeOptions): Promise<string | null> {
  const file = join(directory, path);
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, mutated(text, mutation));
  try {
    for (const judge of judgesOf(path, options)) if (await notices(judge, directory)) return judge.name;
    return null;
  } finally {
    writeFileSync(file, text);
  }
}

async function main(): Promise<void> {
  const mutants = drawMutants(Number(values.seed), Number(values.count));
  const nameOf = ({ path, mutation }: Mutant): string => `${path}:${mutation.line}  ${mutation.what}`;
  if (values.list) {
    for (const [at, mutant] of mutants.entries()) console.log(`${at + 1}  ${nameOf(mutant)}`);
    return;
  }
  const options = { seeds: Number(values['sim-seeds']), e2e: values.e2e };
  const directory = copyOfCheckout();
  let noticed = 0;
  let tried = 0;
  try {
    await checkJudges(directory, options);
    for (const mutant of mutants.slice(Number(values.from) - 1)) {
      const startedMs = performance.now();
      const by = await tryMutant(mutant, directory, options);
      tried += 1;
      if (by !== null) noticed += 1;
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
      const number = Number(values.from) - 1 + tried;
      console.log(`${number}  ${by === null ? 'SURVIVED' : 'noticed '}  ${nameOf(mutant)}  (${by ?? 'nobody'}, ${seconds} s)`);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  console.log(`${noticed} of ${tried} mutants noticed`);
}

await main();
