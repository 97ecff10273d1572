import type { Command } from 'commander';
import { AdminSession } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';
import { membershipLine, registerMembers } from './raft-members.ts';
import { registerRecover } from './raft-recover.ts';
import { registerTransfer } from './raft-transfer.ts';

interface RaftFlags extends ClientFlags {
  readonly group?: string;
}

export function register(program: Command, context: Context): void {
  const raft = program.command('raft').description("One broker group's replicas.");
  withClientFlags(raft.command('status').description("The group's replicas, each asked itself."))
    .option('--group <brokerName>', 'broker group (default: the only one)')
    .action((flags: RaftFlags) => status(context, flags));
  registerMembers(raft, context);
  registerRecover(raft, context);
  registerTransfer(raft, context);
}

async function status(context: Context, flags: RaftFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { brokerName } = session.broker(flags.group);
  const views = await session.replicas(brokerName);
  if (views.every((view) => view.status === null)) context.exit = Exit.unreachable;
  if (flags.json) {
    const replicas = views.map(({ replicaId, endpoint, status: found }) => ({ ...found, replicaId, endpoint, reachable: found !== null }));
    return writeJson(context, { brokerName, replicas });
  }
  const header = ['replica', 'role', 'term', 'leader', 'first', 'last', 'durable', 'commit', 'applied', 'start', 'end'];
  const rows = views.map(({ replicaId, status: found }) =>
    found === null
      ? [replicaId, 'unreachable', null, null, null, null, null, null, null, null, null]
      : [
          replicaId,
          found.role,
          found.term,
          found.leader,
          found.firstIndex,
          found.lastIndex,
          found.durableIndex,
          found.commitIndex,
          found.appliedIndex,
          found.startPosition,
          found.endPosition,
        ],
  );
  write(context, `group ${brokerName}${membershipLine(views)}\n${formatTable(header, rows)}`);
}
