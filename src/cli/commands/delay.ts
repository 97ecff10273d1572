import type { Command } from 'commander';
import { delayed } from '../../client/delay-admin.ts';
import { AdminSession } from '../admin-session.ts';
import type { Context } from '../context.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';

const TIMEOUT_MS = 10_000;

interface ListFlags extends ClientFlags {
  readonly buckets: number;
}

export function register(program: Command, context: Context): void {
  const delay = program.command('delay').description('Delayed messages.');
  withClientFlags(delay.command('list').description('What waits: levels, and time buckets, of each broker group.'))
    .option('--buckets <n>', 'time buckets of a group at most', integer(0, 1_000), 10)
    .action((flags: ListFlags) => list(context, flags));
}

const time = (ms: number): string => (ms < 0 ? '-' : new Date(ms).toISOString());

async function list(context: Context, flags: ListFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const groups = await delayed(session.groups(), flags.buckets, TIMEOUT_MS);
  if (flags.json) return writeJson(context, { groups });
  for (const { brokerName, levels, timers, nextDueMs, buckets, bucketCount } of groups) {
    const rows = levels.map(({ level, delayMs, pending, nextDueMs: due }) => [level, `${delayMs / 1_000} s`, pending, time(due)]);
    write(context, `group ${brokerName}\n${formatTable(['level', 'delay', 'pending', 'next due'], rows)}`);
    write(context, `${timers} timers in ${bucketCount} time buckets, the next one due ${time(nextDueMs)}\n`);
    if (buckets.length > 0)
      write(
        context,
        formatTable(
          ['from', 'to', 'timers'],
          buckets.map(({ fromMs, toMs, timers: units }) => [time(fromMs), time(toMs), units]),
        ),
      );
  }
}
