import type { Command } from 'commander';
import { AdminSession } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, positive, withClientFlags } from '../options.ts';
import { grouped, Progress, write, writeJson } from '../output.ts';
import { type VerifyResult, verifyReplicas } from '../verify-replicas.ts';

interface VerifyFlags extends ClientFlags {
  readonly timeout: number;
}

export function register(program: Command, context: Context): void {
  withClientFlags(
    program
      .command('verify')
      .description("Compares the logs of each group's replicas byte by byte (by hash), and their states; exit code 1 when they differ."),
  )
    .option('--timeout <s>', 'seconds to wait for replicas that are behind', positive, 30)
    .action((flags: VerifyFlags) => verify(context, flags));
}

async function verify(context: Context, flags: VerifyFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const progress = new Progress(context);
  const groups: VerifyResult[] = [];
  for (const { brokerName } of session.brokers) {
    const tick = (index: number, toIndex: number): void =>
      progress.tick(() => `group ${brokerName}: ${grouped(index)} of ${grouped(toIndex)} entries`);
    groups.push(await verifyReplicas(session, brokerName, flags.timeout * 1000, tick));
  }
  const identical = groups.every((group) => group.identical);
  if (flags.json) writeJson(context, { identical, groups });
  else for (const group of groups) write(context, `${verdictOf(group)}\n`);
  if (!identical) context.exit = Exit.failed;
}

export function verdictOf(group: VerifyResult): string {
  const replicas = `replicas ${group.replicaIds.join(', ')} of group ${group.brokerName}`;
  const { difference } = group;
  const [damage] = group.damages;
  if (difference === null && damage !== undefined) {
    const where = `entry ${damage.index} at position ${damage.position} (${damage.fault})`;
    const more = group.damages.length > 1 ? ` and at ${group.damages.length - 1} more places` : '';
    return `${replicas} WERE DAMAGED: replica ${damage.replicaId} at ${where}${more}; mended by another replica's bytes, and now identical: entries ${group.fromIndex} … ${group.toIndex}`;
  }
  if (difference === null) {
    const state =
      group.digestIndex === null ? '; states not compared: writes are going on' : `, states equal at index ${group.digestIndex}`;
    return `${replicas} are identical: entries ${group.fromIndex} … ${group.toIndex}${state}`;
  }
  const [left, right] = difference.replicaIds;
  const where =
    difference.kind === 'log'
      ? `log entries ${difference.firstIndex} … ${difference.lastIndex} at position ${difference.position}`
      : `state at index ${difference.firstIndex}`;
  const [leftHash, rightHash] = difference.hashes.map((hash) => hash.toString(16).padStart(8, '0'));
  return `${replicas} DIFFER: ${where}: replica ${left} has ${leftHash}, replica ${right} has ${rightHash}`;
}
