import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { type Context, Exit, exitOf } from './context.ts';
import { note } from './output.ts';

/** A file under commands/: adds its command to the program. Heavy modules are imported when the command runs. */
export interface CommandModule {
  register(program: Command, context: Context): void;
}

interface CommandEntry {
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

/** Only the file of the command that was asked for is loaded: the program starts quickly. */
export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  dev: { summary: 'run a local cluster, each replica its own process', load: () => import('./commands/dev.ts') },
  demo: { summary: 'produce and consume a real data set while the leader is killed; count', load: () => import('./commands/demo.ts') },
  broker: { summary: 'run one replica', load: () => import('./commands/broker.ts') },
  cluster: { summary: 'status of brokers and groups', load: () => import('./commands/cluster.ts') },
  raft: { summary: "one broker group's replicas: status, transfer", load: () => import('./commands/raft.ts') },
  topic: { summary: 'create, update, list, describe, delete topics', load: () => import('./commands/topic.ts') },
  group: { summary: 'list, describe, lag, reset-offset, skip of consumer groups', load: () => import('./commands/group.ts') },
  delay: { summary: 'what waits for its time', load: () => import('./commands/delay.ts') },
  retention: { summary: 'topics and dead letters that are kept for longer than the log', load: () => import('./commands/retention.ts') },
  quota: { summary: 'limits of what clients and namespaces use', load: () => import('./commands/quota.ts') },
  transaction: { summary: 'list, show, commit, rollback half messages', load: () => import('./commands/transaction.ts') },
  send: { summary: 'send messages', load: () => import('./commands/send.ts') },
  consume: { summary: 'receive messages as a member of a group', load: () => import('./commands/consume.ts') },
  message: { summary: 'find stored messages', load: () => import('./commands/message.ts') },
  dlq: { summary: 'dead letters of a group: list, show, replay', load: () => import('./commands/dlq.ts') },
  bench: { summary: 'measure: produce, consume, e2e', load: () => import('./commands/bench.ts') },
  verify: { summary: "compare the replicas' logs and states by hash", load: () => import('./commands/verify.ts') },
};

export function packageVersion(): string {
  return (JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as { version: string }).version;
}

/** The program with the commands whose names are given. */
export async function createProgram(context: Context, names: readonly string[]): Promise<Command> {
  const program = new Command('ledgermq');
  program
    .description('A message broker cluster with the semantics of Apache RocketMQ, replicated by Raft, durable by default.')
    .version(packageVersion())
    .helpCommand(false)
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
    })
    .exitOverride()
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 timed out. Data goes to stdout, the rest to stderr.',
    );
  for (const [name, entry] of Object.entries(COMMANDS)) {
    if (names.includes(name)) (await entry.load()).register(program, context);
    else program.command(name).description(entry.summary);
  }
  inheritSettings(program);
  return program;
}

/** exitOverride and output are copied when a subcommand is made by command(), but not by addCommand(). */
function inheritSettings(command: Command): void {
  for (const child of command.commands) {
    child.copyInheritedSettings(command);
    inheritSettings(child);
  }
}

/** Runs one command line. Never throws. @returns the exit code */
export async function run(args: readonly string[], context: Context): Promise<number> {
  try {
    const program = await createProgram(context, args.filter((argument) => Object.hasOwn(COMMANDS, argument)).slice(0, 1));
    await program.parseAsync([...args], { from: 'user' });
    return context.exit;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.done : Exit.usage;
    note(context, `ledgermq: ${(error as Error).message}`);
    if (context.env['LEDGERMQ_DEBUG'] !== undefined) note(context, String((error as Error).stack));
    return exitOf(error);
  }
}
