import type { Command } from 'commander';
import { backlog, type FailedGroup, type ResetTarget, resetOffsets } from '../../client/backlog.ts';
import { mergeGroups } from '../../client/group-merge.ts';
import { LedgerError } from '../../protocol/errors.ts';
import { type GroupDescription, Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, Exit, usageError } from '../context.ts';
import { type ClientFlags, type From, integer, parseFrom, withClientFlags } from '../options.ts';
import { formatTable, note, write, writeJson } from '../output.ts';

/** For how long a broker group without a leader is asked; the command then says so. */
const GROUP_TIMEOUT_MS = 15_000;

interface LagFlags extends ClientFlags {
  readonly topic?: string;
}
interface SkipFlags extends ClientFlags {
  readonly topic: string;
  readonly brokerGroup?: string;
  readonly queue?: number;
}
interface ResetFlags extends SkipFlags {
  readonly offset?: number;
  readonly to?: From;
}

export function register(program: Command, context: Context): void {
  const group = program.command('group').description('Consumer groups.');
  const sub = (name: string, text: string): Command => withClientFlags(group.command(name).description(text));
  sub('list', 'All consumer groups.').action((flags: ClientFlags) => list(context, flags));
  sub('describe', 'Members, queues, owners and offsets of a group.')
    .argument('<group>')
    .action((name: string, flags: ClientFlags) => describe(context, name, flags));
  sub('lag', 'Messages that a group has not committed yet, and how old the oldest is.')
    .argument('<group>')
    .option('--topic <topic>', 'of this topic only')
    .action((name: string, flags: LagFlags) => lag(context, name, flags));
  sub('reset-offset', 'Moves the committed offset of a group, also while its members run.')
    .argument('<group>')
    .requiredOption('--topic <topic>', 'topic')
    .option('--broker-group <brokerName>', 'queues of this broker group (default: of all)')
    .option('--queue <id>', 'one queue (default: all of the topic)', integer(0, 65_535))
    .option('--offset <n>', 'to this queue offset', integer(0))
    .option('--to <where>', 'first, last, or a time (ms since 1970 or ISO 8601)', parseFrom)
    .action((name: string, flags: ResetFlags) => resetOffset(context, name, flags));
  sub('skip', 'Skips what is stored now: the group goes on with what comes.')
    .argument('<group>')
    .requiredOption('--topic <topic>', 'topic')
    .option('--broker-group <brokerName>', 'queues of this broker group (default: of all)')
    .option('--queue <id>', 'one queue (default: all of the topic)', integer(0, 65_535))
    .action((name: string, flags: SkipFlags) => reset(context, name, flags, 'last'));
}

async function list(context: Context, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const groups = mergeGroups((await session.leaders(Op.groupList, {})).map(({ body }) => body.groups));
  if (flags.json) writeJson(context, { groups });
  else
    write(
      context,
      formatTable(
        ['group', 'members', 'epoch', 'lag'],
        groups.map((group) => [group.group, group.members, group.epoch, group.lag]),
      ),
    );
}

type OwnedQueue = GroupDescription['queues'][number] & { readonly brokerName: string };

/** A consumer group over all broker groups that have something of it. */
interface WholeGroup {
  readonly members: GroupDescription['members'];
  readonly strategy: string;
  readonly queues: readonly OwnedQueue[];
  /** Each broker group counts its own. */
  readonly epochs: readonly { readonly brokerName: string; readonly epoch: number }[];
}

async function fetchGroup(context: Context, group: string, flags: ClientFlags): Promise<WholeGroup> {
  using session = await AdminSession.open(context, flags.endpoint);
  const parts = await session.leaders(Op.groupDescribe, { group }, 'GROUP_NOT_FOUND');
  const sorted = parts.sort((a, b) => (a.brokerName < b.brokerName ? -1 : 1));
  const members = new Map(sorted.flatMap(({ body }) => body.members.map((member) => [member.member, member])));
  return {
    members: [...members.values()].sort((a, b) => (a.member < b.member ? -1 : 1)),
    queues: sorted.flatMap(({ brokerName, body }) => body.queues.map((queue) => ({ brokerName, ...queue }))),
    strategy: sorted[0]?.body.strategy ?? 'sticky',
    epochs: sorted.map(({ brokerName, body }) => ({ brokerName, epoch: body.epoch })),
  };
}

async function describe(context: Context, name: string, flags: ClientFlags): Promise<void> {
  const { members, strategy, queues, epochs } = await fetchGroup(context, name, flags);
  if (flags.json) {
    const epoch = Math.max(...epochs.map((each) => each.epoch));
    return writeJson(context, { group: name, epoch, epochs, strategy, members, queues, lag: sumLag(queues) });
  }
  const shown = epochs.map(({ brokerName, epoch }) => (epochs.length === 1 ? `${epoch}` : `${brokerName} ${epoch}`)).join(', ');
  write(context, `${name}: epoch ${shown}, ${members.length} members, ${strategy}, lag ${sumLag(queues)}\n`);
  write(
    context,
    formatTable(
      ['member', 'address', 'topics'],
      members.map((member) => [member.member, member.address, member.topics.join(',')]),
    ),
  );
  const rows = queues.map((queue) => [
    queue.topic,
    queue.brokerName,
    queue.queueId,
    queue.owner,
    queue.committedOffset,
    queue.maxOffset,
    queue.lag,
  ]);
  write(context, `\n${formatTable(['topic', 'group', 'queue', 'owner', 'committed', 'next', 'lag'], rows)}`);
}

async function lag(context: Context, name: string, flags: LagFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const found = await backlog(session.groups(), name, flags.topic ?? '', GROUP_TIMEOUT_MS);
  const queues = found.queues.toSorted((a, b) => compare(a.topic, b.topic) || compare(a.brokerName, b.brokerName) || a.queueId - b.queueId);
  const seconds = (ageMs: number | null): number | null => (ageMs === null ? null : Math.round(ageMs) / 1_000);
  if (flags.json) writeJson(context, { group: name, lag: found.lag, ageMs: found.ageMs, queues, failed: shownFailures(found.failed) });
  else {
    write(
      context,
      formatTable(
        ['topic', 'group', 'queue', 'committed', 'next', 'lag', 'age s'],
        queues.map((queue) => [
          queue.topic,
          queue.brokerName,
          queue.queueId,
          queue.committedOffset ?? -1,
          queue.maxOffset,
          queue.lag,
          seconds(queue.ageMs),
        ]),
      ),
    );
    write(context, `total lag ${found.lag}, oldest ${seconds(found.ageMs)} s\n`);
  }
  noteFailures(context, found.failed);
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

function shownFailures(failed: readonly FailedGroup[]): object[] {
  return failed.map(({ brokerName, error }) => ({ brokerName, error: error.code, detail: error.detail }));
}

/** What the others said is shown; the command has failed all the same. */
function noteFailures(context: Context, failed: readonly FailedGroup[]): void {
  for (const { brokerName, error } of failed) note(context, `broker group ${brokerName}: ${error.message}`);
  if (failed.length > 0) context.exit = Exit.failed;
}

function sumLag(queues: readonly OwnedQueue[]): number {
  return queues.reduce((sum, queue) => sum + queue.lag, 0);
}

async function resetOffset(context: Context, group: string, flags: ResetFlags): Promise<void> {
  if ((flags.offset === undefined) === (flags.to === undefined)) throw usageError('give either --offset or --to');
  if (flags.offset !== undefined && flags.queue === undefined) throw usageError('--offset needs --queue: offsets are of one queue');
  await reset(context, group, flags, flags.offset === undefined ? (flags.to as From) : { offset: flags.offset });
}

async function reset(context: Context, group: string, flags: SkipFlags, to: ResetTarget): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { topic } = flags;
  const scope = {
    ...(flags.queue === undefined ? {} : { queueId: flags.queue }),
    ...(flags.brokerGroup === undefined ? {} : { brokerName: session.broker(flags.brokerGroup).brokerName }),
  };
  const outcome = await resetOffsets(session.groups(), group, topic, to, scope, GROUP_TIMEOUT_MS).catch((error: unknown) => {
    if (error instanceof LedgerError && error.code === 'BAD_REQUEST')
      throw usageError('--offset: several broker groups have that queue; add --broker-group');
    throw error;
  });
  const results = outcome.queues.map(({ previous, ...rest }) => ({ ...rest, previous: previous ?? -1 }));
  const failed = outcome.failed.length === 0 ? {} : { failed: shownFailures(outcome.failed) };
  if (flags.json) writeJson(context, { group, topic, queues: results, ...failed });
  else
    write(
      context,
      formatTable(
        ['group', 'queue', 'before', 'now'],
        results.map((result) => [result.brokerName, result.queueId, result.previous, result.offset]),
      ),
    );
  noteFailures(context, outcome.failed);
}
