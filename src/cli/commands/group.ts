import type { Command } from 'commander';
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
    .option('--queue <id>', 'one queue (default: all of the topic)', integer(0, 65_535))
    .option('--offset <n>', 'to this queue offset', integer(0))
    .option('--to <where>', 'first, last, or a time (ms since 1970 or ISO 8601)', parseFrom)
    .action((name: string, flags: ResetFlags) => resetOffset(context, name, flags));
}

async function list(context: Context, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { groups } = (await session.leader(Op.groupList, {})).body;
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

async function fetchGroup(context: Context, group: string, flags: ClientFlags): Promise<GroupDescription> {
  using session = await AdminSession.open(context, flags.endpoint);
  return (await session.leader(Op.groupDescribe, { group })).body;
}

async function describe(context: Context, name: string, flags: ClientFlags): Promise<void> {
  const group = await fetchGroup(context, name, flags);
  if (flags.json) return writeJson(context, { ...group, lag: sumLag(group.queues) });
  write(context, `${name}: epoch ${group.epoch}, ${group.members.length} members, lag ${sumLag(group.queues)}\n`);
  write(
    context,
    formatTable(
      ['member', 'address', 'topics'],
      group.members.map((member) => [member.member, member.address, member.topics.join(',')]),
    ),
  );
  const rows = group.queues.map((queue) => [queue.topic, queue.queueId, queue.owner, queue.committedOffset, queue.maxOffset, queue.lag]);
  write(context, `\n${formatTable(['topic', 'queue', 'owner', 'committed', 'next', 'lag'], rows)}`);
}

async function lag(context: Context, name: string, flags: LagFlags): Promise<void> {
  const group = await fetchGroup(context, name, flags);
  const queues = group.queues.filter((queue) => flags.topic === undefined || queue.topic === flags.topic);
  const total = sumLag(queues);
  if (flags.json) return writeJson(context, { group: name, lag: total, queues });
  write(
    context,
    formatTable(
      ['topic', 'queue', 'committed', 'next', 'lag'],
      queues.map((queue) => [queue.topic, queue.queueId, queue.committedOffset, queue.maxOffset, queue.lag]),
    ),
  );
  write(context, `total lag ${total}\n`);
}

function sumLag(queues: GroupDescription['queues']): number {
  return queues.reduce((sum, queue) => sum + queue.lag, 0);
}

async function resetOffset(context: Context, group: string, flags: ResetFlags): Promise<void> {
  if ((flags.offset === undefined) === (flags.to === undefined)) throw usageError('give either --offset or --to');
  if (flags.offset !== undefined && flags.queue === undefined) throw usageError('--offset needs --queue: offsets are of one queue');
  using session = await AdminSession.open(context, flags.endpoint);
  const { topic } = flags;
  const found = (await session.leader(Op.topicList, { topics: [topic] })).body.topics[0];
  const queueIds = flags.queue !== undefined ? [flags.queue] : (found?.queues ?? []).map((queue) => queue.queueId);
  const results: { queueId: number; previous: number; offset: number }[] = [];
  for (const queueId of queueIds) {
    const offset = flags.offset ?? (await target(session, topic, queueId, flags.to as From));
    const { previous } = (await session.leader(Op.groupResetOffset, { group, topic, queueId, offset })).body;
    results.push({ queueId, previous, offset });
  }
  if (flags.json) writeJson(context, { group, topic, queues: results });
  else
    write(
      context,
      formatTable(
        ['queue', 'before', 'now'],
        results.map((result) => [result.queueId, result.previous, result.offset]),
      ),
    );
}

async function target(session: AdminSession, topic: string, queueId: number, to: From): Promise<number> {
  const timeMs = typeof to === 'string' ? 0 : to.timeMs;
  const range = (await session.leader(Op.queueRange, { topic, queueId, timeMs })).body;
  if (to === 'first') return range.minOffset;
  return to === 'last' ? range.maxOffset : range.timeOffset;
}
