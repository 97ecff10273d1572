import type { Command } from 'commander';
import { removeRetention, retentions, setRetention } from '../../client/retentions.ts';
import { AdminSession } from '../admin-session.ts';
import type { Context } from '../context.ts';
import { endWith, failedGroups, listed } from '../failed-groups.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';

const GROUP_TIMEOUT_MS = 10_000;
const HOUR_MS = 3_600_000;
const MAX_HOURS = 10 * 365 * 24;

interface SetFlags extends ClientFlags {
  readonly hours: number;
  readonly maxBytes: number;
}

export function register(program: Command, context: Context): void {
  const retention = program
    .command('retention')
    .description('Topics, and dead letters, whose messages are kept for longer than the log, at each broker group.');
  const sub = (name: string, text: string): Command => withClientFlags(retention.command(name).description(text));
  const NAME = 'a topic; %DLQ%group: the dead letters of a group; %DLQ%*: all that have none of their own';
  sub('set', 'Keeps what the log has of a topic now, and what comes, for so long.')
    .argument('<name>', NAME)
    .requiredOption('--hours <n>', 'from when a message was stored', integer(1, MAX_HOURS))
    .requiredOption('--max-bytes <n>', 'of what is kept for longer than the log, at each broker group: the oldest go beyond it', integer(1))
    .action((name: string, flags: SetFlags) => set(context, name, flags));
  sub('list', 'All longer retentions, and what is kept by them.').action((flags: ClientFlags) => list(context, flags));
  sub('remove', 'Keeps it no longer than the log: what was kept goes with the next cut.')
    .argument('<name>', NAME)
    .action((name: string, flags: ClientFlags) => remove(context, name, flags));
}

async function set(context: Context, name: string, flags: SetFlags): Promise<void> {
  const retention = { name, retentionMs: flags.hours * HOUR_MS, maxBytes: flags.maxBytes };
  using session = await AdminSession.open(context, flags.endpoint);
  const { done, failed } = await setRetention(session.groups(), retention, GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { retention, done, failed: failedGroups(failed) });
  else write(context, `${name}: ${flags.hours} h, at most ${flags.maxBytes} bytes at ${listed(done)}\n`);
  endWith(context, failed);
}

async function remove(context: Context, name: string, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { done, failed } = await removeRetention(session.groups(), name, GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { name, done, failed: failedGroups(failed) });
  else write(context, `${name}: removed at ${listed(done)}\n`);
  endWith(context, failed);
}

async function list(context: Context, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const found = await retentions(session.groups(), GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { retentions: found.retentions, failed: failedGroups(found.failed) });
  else {
    const rows = found.retentions.map(({ name, brokerName, retentionMs, maxBytes, keptBytes, keptMessages }) => {
      return [name, brokerName, retentionMs / HOUR_MS, maxBytes, keptBytes, keptMessages];
    });
    write(context, formatTable(['name', 'group', 'hours', 'max bytes', 'kept bytes', 'kept messages'], rows));
  }
  endWith(context, found.failed);
}
