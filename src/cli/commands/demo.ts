import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { CommandError, type Context, Exit } from '../context.ts';
import type { DemoReport } from '../demo-run.ts';
import { integer, positive } from '../options.ts';
import { grouped, note, write, writeJson } from '../output.ts';

interface DemoFlags {
  readonly groups: number;
  readonly dir?: string;
  readonly input?: string;
  readonly timeout: number;
  readonly json?: boolean;
}

const PROGRESS_MS = 2000;

export function register(program: Command, context: Context): void {
  program
    .command('demo')
    .description(
      'Sends 200,000 real flights, in order per origin airport, through three replica processes to a group of three consumers; kills the leader with -9 midway and brings it back; counts what was lost, duplicated or out of order, and compares the replicas.',
    )
    .option('--groups <n>', 'broker groups of three replicas each', integer(1, 9), 1)
    .option('--dir <dir>', 'data and logs of each run below it, kept (default: a temporary directory, kept only after a failure)')
    .option('--input <file>', 'send this file instead, a message a line')
    .option('--timeout <s>', 'give up after this many seconds, with exit code 4', positive, 180)
    .option('--json', 'one JSON document')
    .action((flags: DemoFlags) => demo(context, flags));
}

async function demo(context: Context, flags: DemoFlags): Promise<void> {
  const deadlineMs = performance.now() + flags.timeout * 1000;
  const { flights, linesOf } = await import('../demo-input.ts');
  const { LocalCluster } = await import('../local-cluster.ts');
  const { DemoRun } = await import('../demo-run.ts');
  const { onStopSignal } = await import('../signals.ts');
  const say = (text: string): void => note(context, text);
  const messages = flags.input === undefined ? await flights() : await linesOf(flags.input);
  const dir = flags.dir ?? mkdtempSync(join(tmpdir(), 'ledgermq-demo-'));
  say(`${grouped(messages.length)} messages read; starting ${3 * flags.groups} replicas in ${dir}`);
  // A signal ends it at once: the replicas end by themselves when this process is gone.
  onStopSignal(
    () => process.exit(Exit.failed),
    () => process.exit(Exit.failed),
  );
  let passed = false;
  const cluster = await LocalCluster.start({ groups: flags.groups, dir: flags.dir === undefined ? dir : join(dir, `demo-${Date.now()}`) });
  try {
    const run = new DemoRun(cluster, messages, deadlineMs, say);
    const ticker = setInterval(() => say(run.state), PROGRESS_MS);
    const report = await run.run().finally(() => clearInterval(ticker));
    passed = isClean(report, messages.length);
    if (flags.json) writeJson(context, report);
    else write(context, textOf(report, passed));
    if (!passed) context.exit = Exit.failed;
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(performance.now() > deadlineMs ? Exit.timedOut : Exit.failed, (error as Error).message, { cause: error });
  } finally {
    await cluster.stop();
    if (passed && flags.dir === undefined) rmSync(dir, { recursive: true, force: true });
    else say(`data and logs: ${cluster.dir}`);
  }
}

function isClean(report: DemoReport, messages: number): boolean {
  const { sent, consumed, lost, duplicated, outOfOrder, verify } = report;
  return (
    sent === messages &&
    sent === consumed &&
    lost === 0 &&
    duplicated === 0 &&
    outOfOrder === 0 &&
    verify.every(({ identical }) => identical)
  );
}

function textOf(report: DemoReport, passed: boolean): string {
  const { verify, killed } = report;
  const lines: [string, string][] = [
    ['sent', `${grouped(report.sent)} messages of ${grouped(report.keys)} keys, all acknowledged by a majority of disks`],
    ['consumed', grouped(report.consumed)],
    ['lost', grouped(report.lost)],
    ['duplicated', grouped(report.duplicated)],
    ['out of order', grouped(report.outOfOrder)],
    [
      'gap',
      `${grouped(report.gapMs)} ms without an acknowledgement when replica ${killed.replicaId}, the leader of group ${killed.brokerName}, was killed`,
    ],
    ['rate', `${grouped(report.msgsPerS)} messages/s, the gap included`],
    ...verify.map((group): [string, string] => [
      verify.length === 1 ? 'replicas' : `replicas ${group.brokerName}`,
      group.identical ? `identical: entries ${group.fromIndex} … ${group.toIndex}` : 'DIFFERENT',
    ]),
    ['verdict', passed ? 'nothing lost, nothing twice, everything in order' : 'FAILED'],
  ];
  return lines.map(([name, value]) => `${name.padEnd(13)}${value}\n`).join('');
}
