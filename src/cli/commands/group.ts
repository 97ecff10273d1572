import type { Command } from 'commander';
import { mergeGroups } from '../../client/group-merge.ts';
import { LedgerError } from '../../protocol/errors.ts';
import { type GroupDescription, Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, usageError } from '../context.ts';
import { type ClientFlags, type From, integer, parseFrom, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';

interface LagFlags extends ClientFlags {
  readonly topic?: string;
}
interface ResetFlags extends ClientFlags {
  readonly topic: string;
  readonly brokerGroup?: string;
  readonly queue?: number;
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
  sub('lag', 'Messages that a group has not committed yet.')
    .argument('<group>')
    .option('--topic <topic>', 'of this topic only')
    .action((name: string, flags: LagFlags) => lag(context, name, flags));
  sub('reset-offset', 'Moves the committed offset of a group.')
    .argument('<group>')
    .requiredOption('--topic <topic>', 'topic')
    .option('--broker-group <brokerName>', 'queues of this broker group (default: of all)')
    .option('--queue <id>', 'one queue (default: all of the topic)', integer(0, 65_535))
    .option('--offset <n>', 'to this queue offset', integer(0))
    .option('--to <where>', 'first, last, or a time (ms since 1970 or ISO 8601)', parseFrom)
    .action((name: string, flags: ResetFlags) => resetOffset(context, name, flags));
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
    epochs: sorted.map(({ brokerName, body }) => ({ brokerName, epoch: body.epoch })),
  };
}

async function describe(context: Context, name: string, flags: ClientFlags): Promise<void> {
  const { members, queues, epochs } = await fetchGroup(context, name, flags);
  if (flags.json) {
    const epoch = Math.max(...epochs.map((each) => each.epoch));
    return writeJson(context, { group: name, epoch, epochs, members, queues, lag: sumLag(queues) });
  }
  const shown = epochs.map(({ brokerName, epoch }) => (epochs.length === 1 ? `${epoch}` : `${brokerName} ${epoch}`)).join(', ');
  write(context, `${name}: epoch ${shown}, ${members.length} members, lag ${sumLag(queues)}\n`);
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
  const group = await fetchGroup(context, name, flags);
  const queues = group.queues.filter((queue) => flags.topic === undefined || queue.topic === flags.topic);
  const total = sumLag(queues);
  if (flags.json) return writeJson(context, { group: name, lag: total, queues });
  write(
    context,
    formatTable(
      ['topic', 'group', 'queue', 'committed', 'next', 'lag'],
      queues.map((queue) => [queue.topic, queue.brokerName, queue.queueId, queue.committedOffset, queue.maxOffset, queue.lag]),
    ),
  );
  write(context, `total lag ${total}\n`);
}

function sumLag(queues: readonly OwnedQueue[]): number {
  return queues.reduce((sum, queue) => sum + queue.lag, 0);
}

async function resetOffset(context: Context, group: string, flags: ResetFlags): Promise<void> {
  if ((flags.offset === undefined) === (flags.to === undefined)) throw usageError('give either --offset or --to');
  if (flags.offset !== undefined && flags.queue === undefined) throw usageError('--offset needs --queue: offsets are of one queue');
  using session = await AdminSession.open(context, flags.endpoint);
  const { topic } = flags;
  const parts = await session.leaders(Op.topicList, { topics: [topic] });
  const all = parts.flatMap(({ brokerName, body }) => (body.topics[0]?.queues ?? []).map(({ queueId }) => ({ brokerName, queueId })));
  if (all.length === 0) throw new LedgerError('TOPIC_NOT_FOUND', topic);
  const chosen = all.filter(
    ({ brokerName, queueId }) =>
      (flags.queue === undefined || queueId === flags.queue) && (flags.brokerGroup === undefined || brokerName === flags.brokerGroup),
  );
  if (chosen.length === 0) throw new LedgerError('QUEUE_NOT_FOUND', `${topic} has no such queue`);
  if (flags.offset !== undefined && chosen.length > 1)
    throw usageError('--offset: several broker groups have that queue; add --broker-group');
  const results: { brokerName: string; queueId: number; previous: number; offset: number }[] = [];
  for (const { brokerName, queueId } of chosen) {
    const offset = flags.offset ?? (await target(session, brokerName, topic, queueId, flags.to as From));
    const { previous } = (await session.leader(Op.groupResetOffset, { group, topic, queueId, offset }, brokerName)).body;
    results.push({ brokerName, queueId, previous, offset });
  }
  if (flags.json) writeJson(context, { group, topic, queues: results });
  else
    write(
      context,
      formatTable(
        ['group', 'queue', 'before', 'now'],
        results.map((result) => [result.brokerName, result.queueId, result.previous, result.offset]),
      ),
    );
}

async function target(session: AdminSession, brokerName: string, topic: string, queueId: number, to: From): Promise<number> {
  const timeMs = typeof to === 'string' ? 0 : to.timeMs;
  const range = (await session.leader(Op.queueRange, { topic, queueId, timeMs }, brokerName)).body;
  if (to === 'first') return range.minOffset;
  return to === 'last' ? range.maxOffset : range.timeOffset;
}
