import type { Command } from 'commander';
import { LedgerError } from '../../protocol/errors.ts';
import { Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { note, write, writeJson } from '../output.ts';

interface UpgradeFlags extends ClientFlags {
  readonly group?: string;
  readonly level: number;
}

/** `ledgermq cluster upgrade`: after the last replica of a group runs the new release. */
export function registerUpgrade(cluster: Command, context: Context): void {
  withClientFlags(
    cluster.command('upgrade').description("Raises the groups' feature level; an older release cannot be started on their data after it."),
  )
    .option('--group <brokerName>', 'one broker group (default: all)')
    .option('--level <number>', 'to this level; 0 = the highest that all replicas of the group know', integer(0, 65_535), 0)
    .action((flags: UpgradeFlags) => upgrade(context, flags));
}

function reasonOf(error: unknown): string {
  if (error instanceof LedgerError && error.code === 'UNKNOWN_OPERATION') {
    return 'UNKNOWN_OPERATION: its leader runs a release that knows of no feature levels; upgrade it first';
  }
  return (error as Error).message;
}

async function upgrade(context: Context, flags: UpgradeFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const brokers = flags.group === undefined ? session.brokers : [session.broker(flags.group)];
  const groups: { brokerName: string; featureLevel: number | null; error: string | null }[] = [];
  for (const { brokerName } of brokers) {
    try {
      const { body } = await session.leader(Op.featureLevelRaise, { level: flags.level }, brokerName);
      groups.push({ brokerName, featureLevel: body.featureLevel, error: null });
    } catch (error) {
      groups.push({ brokerName, featureLevel: null, error: reasonOf(error) });
      context.exit = Exit.failed;
    }
  }
  if (flags.json) return writeJson(context, { groups });
  for (const { brokerName, featureLevel, error } of groups) {
    if (error === null) write(context, `group ${brokerName} is at feature level ${featureLevel}\n`);
    else note(context, `group ${brokerName}: ${error}`);
  }
}
