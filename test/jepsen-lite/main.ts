import { HostsUnavailable } from '../support/net-hosts.ts';
import { FAULTS } from './faults/catalogue.ts';
import { checkAgain } from './judge.ts';
import { parseOptions, USAGE, UsageError, type Wish } from './options.ts';
import { runChaos } from './run.ts';

/** `npm run chaos`: real processes under faults, and a verdict. README.md says how to read what it leaves. */
const EXIT = { valid: 0, invalid: 1, usage: 2, unknown: 4 } as const;

function list(): string {
  const width = Math.max(...FAULTS.map(({ name }) => name.length));
  const lines = FAULTS.map(({ name, family, what, evidence }) => `${name.padEnd(width)}  ${what} [${family}]; known by ${evidence}`);
  return `${lines.join('\n')}\n`;
}

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  if (args.includes('--help')) {
    process.stdout.write(`${USAGE}\n`);
    return EXIT.valid;
  }
  let wish: Wish;
  try {
    wish = parseOptions(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n\n${USAGE}\n`);
    return EXIT.usage;
  }
  if (wish.do === 'list') {
    process.stdout.write(list());
    return EXIT.valid;
  }
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopping.abort());
  const { verdict, summary } = wish.do === 'run' ? await runChaos(wish.options, stopping.signal) : checkAgain(wish.directory);
  process.stdout.write(`verdict: ${verdict}${summary === '' ? '' : ` ${summary}`}\n`);
  return EXIT[verdict];
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    const missing = error instanceof HostsUnavailable;
    process.stderr.write(`${missing ? error.message : error.stack}\n`);
    // A run that broke off has shown nothing.
    process.stdout.write(`verdict: unknown ${error.message}\n`);
    process.exit(missing ? EXIT.usage : EXIT.unknown);
  },
);
