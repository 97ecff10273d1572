import { CANARIES, runCanary } from './canaries.ts';

/**
 * npm run canary: plants bugs, one at a time, and runs seeds until a checker finds each. A checker that finds nothing when
 * something is broken is worth nothing. Last line: `N of N planted bugs caught`; exit code 1 when one was not.
 */
const USAGE = `npm run canary             plants each of ${CANARIES.length} bugs and runs the simulator until a checker finds it; takes minutes
npm run canary -- WORDS    only those in whose name or promise these words are

The last line is "N of N planted bugs caught"; exit code 1 when one was not.`;
const words = process.argv.slice(2).join(' ');
const isHelp = words === '--help' || words === '-h';
const wanted = CANARIES.filter(({ name, breaks }) => `${name} ${breaks}`.includes(words));
if (isHelp || wanted.length === 0) {
  if (isHelp) console.log(USAGE);
  else console.error(`${words}: no planted bug is of that name\n${USAGE}`);
  process.exit(isHelp ? 0 : 2);
}

let caught = 0;
for (const canary of wanted) {
  const startedMs = performance.now();
  const failure = await runCanary(canary);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const found = failure !== null && canary.caughtBy.includes(failure.checker);
  if (found) caught++;
  const what = failure === null ? `not found in ${canary.seeds} seeds` : `seed ${failure.seed}: ${failure.message.split('\n')[0]}`;
  console.log(`${found ? 'caught' : 'MISSED'}  ${canary.name} (${canary.breaks})\n        ${what} (${seconds} s)`);
}
console.log(`${caught} of ${wanted.length} planted bugs caught`);
process.exitCode = caught === wanted.length ? 0 : 1;
