import type { Command } from 'commander';
import { Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';
import { membershipLine, registerMembers } from './raft-members.ts';
import { registerRecover } from './raft-recover.ts';

interface RaftFlags extends ClientFlags {
  readonly group?: string;
}
interface TransferFlags extends RaftFlags {
  readonly to: number;
}

export function register(program: Command, context: Context): void {
  const raft = program.command('raft').description("One broker group's replicas.");
  withClientFlags(raft.command('status').description("The group's replicas, each asked itself."))
    .option('--group <brokerName>', 'broker group (default: the only one)')
    .action((flags: RaftFlags) => status(context, flags));
  registerMembers(raft, context);
  registerRecover(raft, context);
  withClientFlags(raft.command('transfer').description('Hands leadership to another replica; sends go on meanwhile.'))
    .option('--group <brokerName>', 'broker group (default: the only one)')
    .option('--to <replicaId>', 'the replica that is to lead; 0 = the one that is furthest', integer(0, 65_535), 0)
    .action((flags: TransferFlags) => transfer(context, flags));
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

async function transfer(context: Context, flags: TransferFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { brokerName } = session.broker(flags.group);
  const startMs = performance.now();
  const { body } = await session.leader(Op.raftTransfer, { target: flags.to }, brokerName);
  const tookMs = Math.round(performance.now() - startMs);
  // With --to 0 the broker chose; who it was shows when its followers have heard of it.
  const views = body.target === 0 ? await session.replicas(brokerName) : [];
  const leader = body.target || (views.find((view) => view.status?.role === 'leader')?.replicaId ?? 0);
  if (flags.json) writeJson(context, { brokerName, leader, tookMs });
  else write(context, `replica ${leader === 0 ? '(not known yet)' : leader} leads group ${brokerName} (${tookMs} ms)\n`);
}
