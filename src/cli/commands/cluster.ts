import type { Command } from 'commander';
import { FIRST_FEATURE_LEVEL } from '../../broker/feature-level.ts';
import { AdminSession, type ReplicaView } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, withClientFlags } from '../options.ts';
import { formatTable, note, write, writeJson } from '../output.ts';
import { registerBalance } from './cluster-balance.ts';
import { registerDrain } from './cluster-drain.ts';
import { registerUpgrade } from './cluster-upgrade.ts';

export function register(program: Command, context: Context): void {
  const cluster = program.command('cluster').description('Status of brokers and groups.');
  withClientFlags(cluster.command('status').description('Brokers, groups, leaders, terms, commit, lag of each replica.')).action(
    (flags: ClientFlags) => status(context, flags),
  );
  registerDrain(cluster, context);
  registerUpgrade(cluster, context);
  registerBalance(cluster, context);
}

async function status(context: Context, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { clusterId } = await session.clusterStatus();
  const views = await session.replicas();
  const groups = session.brokers.map((broker) => {
    const replicas = views.filter((view) => view.brokerName === broker.brokerName);
    return { brokerName: broker.brokerName, ...leaderOf(replicas), replicas: replicas.map((view) => describe(view, replicas)) };
  });
  if (flags.json) writeJson(context, { clusterId, groups });
  else {
    write(context, `cluster ${clusterId}\n`);
    const rows = groups.flatMap((group) =>
      group.replicas.map((replica) => [
        group.brokerName,
        replica.replicaId,
        replica.endpoint,
        replica.role,
        replica.term,
        replica.commitIndex,
        replica.appliedIndex,
        replica.lag,
        replica.featureLevel,
      ]),
    );
    write(context, formatTable(['group', 'replica', 'endpoint', 'role', 'term', 'commit', 'applied', 'lag', 'level'], rows));
  }
  const leaderless = groups.filter((group) => group.leader === 0);
  if (leaderless.length > 0) {
    note(context, `without a leader: ${leaderless.map((group) => group.brokerName).join(', ')}`);
    context.exit = Exit.failed;
  }
}

/** The leader is who says so itself, with the highest term. */
function leaderOf(replicas: readonly ReplicaView[]): { leader: number; term: number; commitIndex: number } {
  const leaders = replicas.map((view) => view.status).filter((found) => found?.role === 'leader');
  const leader = leaders.toSorted((left, right) => (right?.term ?? 0) - (left?.term ?? 0))[0];
  return { leader: leader?.replicaId ?? 0, term: leader?.term ?? 0, commitIndex: leader?.commitIndex ?? 0 };
}

function describe(
  view: ReplicaView,
  group: readonly ReplicaView[],
): {
  replicaId: number;
  endpoint: string;
  role: string;
  term: number | null;
  commitIndex: number | null;
  appliedIndex: number | null;
  lag: number | null;
  featureLevel: number | null;
} {
  const { replicaId, endpoint, status: found } = view;
  if (found === null) {
    return { replicaId, endpoint, role: 'unreachable', term: null, commitIndex: null, appliedIndex: null, lag: null, featureLevel: null };
  }
  const newest = Math.max(...group.map((other) => other.status?.commitIndex ?? 0));
  const { role, term, commitIndex, appliedIndex, durableIndex } = found;
  // A release that says nothing of levels knows the first one only.
  const featureLevel = found.featureLevel ?? FIRST_FEATURE_LEVEL;
  return { replicaId, endpoint, role, term, commitIndex, appliedIndex, lag: Math.max(0, newest - durableIndex), featureLevel };
}
