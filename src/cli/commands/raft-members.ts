import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { LedgerError } from '../../protocol/errors.ts';
import type { RaftStatus } from '../../protocol/raft-requests.ts';
import { Op, type Requests } from '../../protocol/requests.ts';
import { MAX_REPLICAS } from '../../raft/quorum.ts';
import { AdminSession, type ReplicaView } from '../admin-session.ts';
import { CommandError, type Context, Exit } from '../context.ts';
import { type ClientFlags, integer, positive, withClientFlags } from '../options.ts';
import { grouped, Progress, write, writeJson } from '../output.ts';

/** A new replica votes when it holds the whole log. */
const DEFAULT_TIMEOUT_S = 600;
/** Bound of one look at the leader: a silent one must not stop the progress. */
const STATUS_TIMEOUT_MS = 3000;
const PROGRESS_MS = 1000;
const RETRY_MS = 100;

interface MemberFlags extends ClientFlags {
  readonly timeout: number;
}
interface Address {
  readonly replicaId: number;
  readonly host: string;
  readonly port: number;
}
type Change =
  | { readonly op: typeof Op.raftAdd; readonly body: Requests[typeof Op.raftAdd] }
  | { readonly op: typeof Op.raftRemove; readonly body: Requests[typeof Op.raftRemove] };

export function registerMembers(raft: Command, context: Context): void {
  withClientFlags(
    raft
      .command('add')
      .description('Takes a replica in that runs and waits for it; done when it votes, having caught up. Again is fine.')
      .argument('<group>', 'broker group')
      .argument('<replica>', 'ID@HOST:PORT, its client port', parseReplica),
  )
    .option('--timeout <seconds>', 'how long to wait; asking again goes on where this ended', positive, DEFAULT_TIMEOUT_S)
    .action((brokerName: string, replica: Address, flags: MemberFlags) =>
      changeMembers(context, flags, brokerName, { op: Op.raftAdd, body: replica }),
    );
  withClientFlags(
    raft
      .command('remove')
      .description('Takes a replica out of its group; it may be stopped then. Again is fine.')
      .argument('<group>', 'broker group')
      .argument('<replicaId>', 'which one', integer(1, MAX_REPLICAS)),
  )
    .option('--timeout <seconds>', 'how long to wait; asking again goes on where this ended', positive, DEFAULT_TIMEOUT_S)
    .action((brokerName: string, replicaId: number, flags: MemberFlags) =>
      changeMembers(context, flags, brokerName, { op: Op.raftRemove, body: { replicaId } }),
    );
}

/** `ID@HOST:PORT`; an IPv6 address in brackets. */
function parseReplica(text: string): Address {
  const [, id = '', bracketed, plain, port = ''] = /^(\d+)@(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/[\]]+)):(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const member = { replicaId: Number(id), host: host ?? '', port: Number(port) };
  const fits = member.replicaId >= 1 && member.replicaId <= MAX_REPLICAS && member.port >= 1 && member.port <= 0xffff;
  if (host === undefined || !fits) throw new InvalidArgumentError(`of the form ID@HOST:PORT, with an id 1 … ${MAX_REPLICAS}`);
  return member;
}

/** As the leader goes by it: appended to the group's name. */
export function membershipLine(views: readonly ReplicaView[]): string {
  const known = views.flatMap(({ status }) => (status?.voters === undefined ? [] : [status]));
  const [status] = known.toSorted((a, b) => Number(b.role === 'leader') - Number(a.role === 'leader') || b.term - a.term);
  if (status === undefined) return '';
  const { voters = [], learners = [], outgoing = [] } = status;
  const parts = [`voters ${voters.join(', ')}`];
  if (learners.length > 0) parts.push(`learners ${learners.join(', ')}`);
  if (outgoing.length > 0) parts.push(`until now ${outgoing.join(', ')}`);
  return `: ${parts.join('; ')}`;
}

async function changeMembers(context: Context, flags: MemberFlags, group: string, change: Change): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { brokerName } = session.broker(group);
  const { replicaId } = change.body;
  const startMs = performance.now();
  const stop = new AbortController();
  const shown = showProgress(context, session, brokerName, change, stop.signal);
  let changed: boolean;
  try {
    changed = await untilDone(session, brokerName, change, startMs + flags.timeout * 1000);
  } finally {
    stop.abort();
    await shown;
  }
  const tookMs = Math.round(performance.now() - startMs);
  if (flags.json) return writeJson(context, { brokerName, replicaId, changed, tookMs });
  const now = change.op === Op.raftAdd ? `votes in group ${brokerName}` : `is not in group ${brokerName}`;
  write(context, changed ? `replica ${replicaId} ${now} now (${tookMs} ms)\n` : `replica ${replicaId} ${now} already\n`);
}

/**
 * Asks every leader that there is until one says that it is done: the change is in the log, another leader goes on with it, and
 * asking again is harmless.
 * @returns whether there was anything to do
 */
async function untilDone(session: AdminSession, brokerName: string, { op, body }: Change, deadlineMs: number): Promise<boolean> {
  let changed: boolean | null = null;
  let last = 'no leader known';
  for (;;) {
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw new CommandError(Exit.timedOut, `broker group ${brokerName}: not done in time; ask again: ${last}`);
    try {
      const endpoint = leaderOf(session, brokerName);
      if (endpoint !== null) {
        const before = (await session.call(endpoint, Op.raftStatus, {}, Math.min(leftMs, STATUS_TIMEOUT_MS))).body;
        changed ??= isToDo(before, op, body.replicaId);
        await session.call(endpoint, op, body, Math.max(1, deadlineMs - performance.now()));
        return changed;
      }
    } catch (error) {
      if (!(error instanceof LedgerError) || !(error.retry === 'redirect' || AGAIN.has(error.code))) throw error;
      last = error.message;
    }
    await sleep(RETRY_MS);
    await session.clusterStatus();
  }
}

/** The leader died, or has too many of these at once. */
const AGAIN: ReadonlySet<string> = new Set(['CONNECTION_LOST', 'DEADLINE_EXCEEDED', 'NO_ROUTE', 'OUTCOME_UNKNOWN', 'TOO_MANY']);

function leaderOf(session: AdminSession, brokerName: string): string | null {
  const { leader, replicas } = session.broker(brokerName);
  return replicas.find(({ replicaId }) => replicaId === leader)?.endpoint ?? null;
}

/** A leader of an older release does not say who votes, and refuses the change. */
function isToDo({ voters, learners = [], outgoing = [] }: RaftStatus, op: Change['op'], replicaId: number): boolean {
  if (voters === undefined) return true;
  if (op === Op.raftAdd) return !voters.includes(replicaId) || outgoing.length > 0;
  return [...voters, ...learners, ...outgoing].includes(replicaId);
}

/** A line a second on stderr, of what the leader says. */
async function showProgress(context: Context, session: AdminSession, brokerName: string, change: Change, stop: AbortSignal): Promise<void> {
  const progress = new Progress(context, PROGRESS_MS);
  while (!stop.aborted) {
    // The wait ends with the change.
    await sleep(PROGRESS_MS, undefined, { signal: stop }).catch(() => {});
    if (stop.aborted) return;
    const endpoint = leaderOf(session, brokerName);
    const status = endpoint === null ? null : await session.call(endpoint, Op.raftStatus, {}, STATUS_TIMEOUT_MS).catch(() => null);
    if (!stop.aborted) progress.tick(() => (status === null ? 'no leader answers' : progressOf(status.body, change)));
  }
}

/** What the leader's status says of a change under way. */
export function progressOf({ lastIndex, learners = [], outgoing = [], peers }: RaftStatus, { op, body }: Change): string {
  const { replicaId } = body;
  const peer = peers.find((one) => one.replicaId === replicaId);
  if (op === Op.raftRemove || outgoing.length > 0) return `replica ${replicaId}: waits for the majorities before and after the change`;
  if (learners.includes(replicaId)) return `replica ${replicaId} holds ${grouped(peer?.matchIndex ?? 0)} of ${grouped(lastIndex)} entries`;
  return `replica ${replicaId}: does it run at ${body.host}:${body.port}? The leader has not heard from it yet`;
}
