import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { LedgerError } from '../../protocol/errors.ts';
import { Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { CommandError, type Context, Exit, usageError } from '../context.ts';
import { type ClientFlags, integer, positive, withClientFlags } from '../options.ts';
import { write, writeJson } from '../output.ts';

const DEFAULT_TIMEOUT_S = 15;
const STATUS_TIMEOUT_MS = 3000;
const RETRY_MS = 100;

interface TransferFlags extends ClientFlags {
  readonly group?: string;
  readonly to: number;
  readonly from?: number;
  readonly timeout: number;
}

export function registerTransfer(raft: Command, context: Context): void {
  withClientFlags(raft.command('transfer').description('Hands leadership to another replica; sends go on meanwhile.'))
    .option('--group <brokerName>', 'broker group (default: the only one)')
    .option('--to <replicaId>', 'the replica that is to lead; 0 = the one that is furthest', integer(0, 65_535), 0)
    .option(
      '--from <replicaId>',
      'only if this replica leads, which is about to be stopped; done already when it does not',
      integer(1, 65_535),
    )
    .option('--timeout <seconds>', 'with --from: how long to try while no other replica can take over', positive, DEFAULT_TIMEOUT_S)
    .action((flags: TransferFlags) => (flags.from === undefined ? transfer(context, flags) : transferFrom(context, flags, flags.from)));
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

/** What a hook before a stop runs, also again and also while the group has no leader: it asks that replica alone, never another leader. */
async function transferFrom(context: Context, flags: TransferFlags, from: number): Promise<void> {
  const startMs = performance.now();
  const deadlineMs = startMs + flags.timeout * 1000;
  using session = await AdminSession.open(context, flags.endpoint);
  const { brokerName, replicas } = session.broker(flags.group);
  const endpoint = replicas.find((replica) => replica.replicaId === from)?.endpoint;
  if (endpoint === undefined) throw usageError(`--from: group ${brokerName} has no replica ${from}`);
  let led = false;
  for (;;) {
    const leader = await handOver(session, endpoint, flags.to, deadlineMs).catch((error: unknown) => {
      if (performance.now() < deadlineMs && error instanceof LedgerError) return 'again' as const;
      throw new CommandError(Exit.timedOut, `replica ${from} still leads group ${brokerName}: ${(error as Error).message}`);
    });
    if (leader !== 'leads' && leader !== 'again') {
      const changed = led;
      const tookMs = Math.round(performance.now() - startMs);
      if (flags.json) writeJson(context, { brokerName, from, leader, changed, tookMs });
      else if (leader === 'alone') write(context, `replica ${from} is the only voter of group ${brokerName}\n`);
      else write(context, `replica ${from} does not lead group ${brokerName}${changed ? ` any more (${tookMs} ms)` : ''}\n`);
      return;
    }
    led ||= leader === 'leads';
    await sleep(RETRY_MS);
  }
}

/** @returns 'leads' when it was told to hand over; 'alone' when there is nobody to hand over to; else the leader it knows, 0 = none */
async function handOver(session: AdminSession, endpoint: string, to: number, deadlineMs: number): Promise<number | 'leads' | 'alone'> {
  const leftMs = (atMostMs: number): number => Math.max(1, Math.min(atMostMs, deadlineMs - performance.now()));
  const { body: status } = await session.call(endpoint, Op.raftStatus, {}, leftMs(STATUS_TIMEOUT_MS));
  if (status.role !== 'leader') return status.leader;
  if (status.voters?.length === 1) return 'alone';
  await session.call(endpoint, Op.raftTransfer, { target: to }, leftMs(STATUS_TIMEOUT_MS));
  return 'leads';
}
