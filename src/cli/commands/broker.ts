import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { type Command, Option } from 'commander';
import { type BrokerConfig, CONFIG_KEYS, ConfigError, defaultOf, flagOf, rangeOf, resolveConfig, settingOf } from '../../config.ts';
import { CommandError, type Context, Exit } from '../context.ts';
import { note } from '../output.ts';

interface BrokerFlags extends Record<string, unknown> {
  readonly config?: string;
  readonly stopWithStdin?: boolean;
  readonly json?: boolean;
}

export function register(program: Command, context: Context): void {
  const broker = program
    .command('broker')
    .description('Runs one replica until SIGTERM or SIGINT. Every setting is also a variable LEDGERMQ_… and a key of the file.')
    .option('--config <file>', 'JSON file with settings; flags and variables win over it')
    .option('--stop-with-stdin', 'stop when standard input ends: the replica does not outlive who started it')
    .option('--json', 'accepted as everywhere; the log is JSON in any case');
  broker.optionsGroup('Settings:');
  for (const key of CONFIG_KEYS) {
    const setting = settingOf(key);
    const shown = defaultOf(setting);
    const range = `${rangeOf(setting)}${shown === '' ? '' : `; default ${shown}`}`;
    broker.addOption(new Option(`--${flagOf(key)} <value>`, `${setting.text} (${range})`).helpGroup('Settings:'));
  }
  broker.action((flags: BrokerFlags) => run(context, flags));
}

async function run(context: Context, flags: BrokerFlags): Promise<void> {
  const config = configuration(context, flags);
  const { nodeIo } = await import('../../io/node/io.ts');
  const { startServer } = await import('../../server.ts');
  const { stopSignal } = await import('../signals.ts');
  const stopAsked = Promise.race([stopSignal(Exit.failed), ...(flags.stopWithStdin ? [endOf(context.stdin)] : [])]);
  const server = await startServer(config, nodeIo());
  // A replica may end by kill -9: what was compiled is kept now.
  flushCompileCache();
  const end = await Promise.race([stopAsked.then(() => null), server.ended]);
  if (end === null) {
    await server.drain();
    await server.stop();
    process.exit(Exit.done);
  }
  note(context, `ledgermq: the replica ended: ${end.message}`);
  process.exit(Exit.failed);
}

/** Flags, environment and file, checked. @throws CommandError (usage) with every problem */
export function configuration(context: Context, flags: BrokerFlags): BrokerConfig {
  const { config: path, stopWithStdin: _, json: __, ...settings } = flags;
  try {
    return resolveConfig({ flags: settings, env: context.env, ...(path === undefined ? {} : { file: readConfigFile(path) }) });
  } catch (error) {
    if (error instanceof ConfigError) throw new CommandError(Exit.usage, `wrong configuration\n  ${error.problems.join('\n  ')}`);
    throw error;
  }
}

function readConfigFile(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new CommandError(Exit.usage, `--config ${path}: ${(error as Error).message}`);
  }
}

/** The other end of the pipe is gone: whoever started this process ended, in whatever way. */
function endOf(stdin: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    for (const event of ['end', 'close', 'error']) stdin.once(event, () => resolve());
    stdin.resume();
  });
}
