import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { Op } from '../../protocol/requests.ts';
import { type LedGroup, type Move, planMoves } from '../../server/leader-balance.ts';
import { AdminSession, type ReplicaView } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, withClientFlags } from '../options.ts';
import { note, write, writeJson } from '../output.ts';

/** A replica is in step for a move when it lacks no more of the committed entries. */
const MAX_LAG_ENTRIES = 10_000;
/** Time for the new leader to be known before the next look. */
const PAUSE_MS = 200;

/** `ledgermq cluster balance`: the moves that leaderBalance makes by itself, at once, and each reported. */
export function registerBalance(cluster: Command, context: Context): void {
  withClientFlags(
    cluster.command('balance').description('Spreads leaders over the machines until none leads more than one broker group above another.'),
  ).action((flags: ClientFlags) => balance(context, flags));
}

interface Made extends Move {
  readonly error: string | null;
}

async function balance(context: Context, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const made: Made[] = [];
  const failed = new Set<string>();
  // The plan is made anew after each move, and no group is moved more often than there are groups: it ends.
  for (let step = 0; step < 2 * session.brokers.length; step++) {
    const { hosts, groups } = viewOf(await session.replicas());
    const move = planMoves(hosts, groups, failed)[0];
    if (move === undefined) break;
    try {
      await session.leader(Op.raftTransfer, { target: move.to }, move.brokerName);
      made.push({ ...move, error: null });
    } catch (error) {
      failed.add(move.brokerName);
      made.push({ ...move, error: (error as Error).message });
    }
    await sleep(PAUSE_MS);
  }
  const { hosts, groups } = viewOf(await session.replicas());
  const leaders = Object.fromEntries(hosts.map((host) => [host, groups.filter((group) => group.host === host).length]));
  if (failed.size > 0) context.exit = Exit.failed;
  if (flags.json) return writeJson(context, { moves: made, leaders });
  for (const { brokerName, from, to, fromHost, toHost, error } of made) {
    if (error === null) write(context, `group ${brokerName}: replica ${from} on ${fromHost} → replica ${to} on ${toHost}\n`);
    else note(context, `group ${brokerName} was not moved to replica ${to}: ${error}`);
  }
  write(context, `leaders: ${hosts.map((host) => `${host} ${leaders[host]}`).join(', ')}\n`);
}

/** As the replicas themselves say now. A release that does not say where it runs is taken by the host that clients dial. */
function viewOf(views: readonly ReplicaView[]): { hosts: string[]; groups: LedGroup[] } {
  const hostOf = ({ endpoint, status }: ReplicaView): string => status?.machine ?? new URL(endpoint).hostname;
  const live = views.filter(({ status }) => status !== null);
  const groups: LedGroup[] = [];
  for (const brokerName of [...new Set(live.map((view) => view.brokerName))].sort()) {
    const replicas = live.filter((view) => view.brokerName === brokerName).sort((a, b) => a.replicaId - b.replicaId);
    const leader = replicas
      .filter(({ status }) => status?.role === 'leader')
      .toSorted((a, b) => (b.status?.term ?? 0) - (a.status?.term ?? 0))[0];
    if (leader === undefined) continue;
    const commitIndex = leader.status?.commitIndex ?? 0;
    const targets = replicas.filter(
      ({ replicaId, status }) =>
        replicaId !== leader.replicaId &&
        status?.role === 'follower' &&
        commitIndex - status.durableIndex <= MAX_LAG_ENTRIES &&
        (leader.status?.belowReserve === true || status.belowReserve !== true) &&
        (status.priority ?? 0) >= (leader.status?.priority ?? 0),
    );
    groups.push({
      brokerName,
      leader: leader.replicaId,
      host: hostOf(leader),
      targets: targets.map((view) => ({ replicaId: view.replicaId, host: hostOf(view) })),
    });
  }
  return { hosts: [...new Set(live.map(hostOf))].sort(), groups };
}
