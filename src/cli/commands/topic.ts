import { type Command, Option } from 'commander';
import { LedgerError } from '../../protocol/errors.ts';
import { Op, type TopicDescription, type TopicRoute } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import type { Context } from '../context.ts';
import { type ClientFlags, integer, parsePerm, parseReplication, showPerm, showReplication, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';

interface TopicFlags extends ClientFlags {
  readonly group?: string;
}
interface CreateFlags extends TopicFlags {
  readonly queues: number;
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  readonly replication: number;
}
interface UpdateFlags extends TopicFlags {
  readonly queues?: number;
  readonly perm?: number;
  readonly replication?: number;
}

const DEFAULT_QUEUES = 8;

export function register(program: Command, context: Context): void {
  const topic = program.command('topic').description('Topics.');
  const sub = (name: string, text: string): Command =>
    withClientFlags(topic.command(name).description(text)).option('--group <brokerName>', 'broker group (default: the only one)');
  sub('create', 'Creates a topic; one that exists with the same definition is fine.')
    .argument('<topic>')
    .option('--queues <n>', 'queues, 1 … 65535', integer(1, 65_535), DEFAULT_QUEUES)
    .addOption(new Option('--perm <perm>', 'what is allowed: rw, r, w, -').argParser(parsePerm).default(6, 'rw'))
    .addOption(new Option('--message-type <type>', 'kind of messages').choices(['normal', 'fifo']).default('normal'))
    .addOption(
      new Option('--replication <mode>', 'least replication of its messages: leader, quorum, all')
        .argParser(parseReplication)
        .default(0, "the broker's"),
    )
    .action((name: string, flags: CreateFlags) => create(context, name, flags));
  sub('update', 'Changes a topic. Queues may be added, never taken away.')
    .argument('<topic>')
    .option('--queues <n>', 'queues in all', integer(1, 65_535))
    .option('--perm <perm>', 'what is allowed: rw, r, w, -', parsePerm)
    .option('--replication <mode>', 'least replication of its messages: leader, quorum, all', parseReplication)
    .action((name: string, flags: UpdateFlags) => update(context, name, flags));
  sub('list', 'All topics.').action((flags: TopicFlags) => list(context, flags));
  sub('describe', 'A topic with the offsets of its queues.')
    .argument('<topic>')
    .action((name: string, flags: TopicFlags) => describe(context, name, flags));
  sub('delete', 'Deletes a topic with all its messages.')
    .argument('<topic>')
    .action((name: string, flags: TopicFlags) => remove(context, name, flags));
}

async function create(context: Context, topic: string, flags: CreateFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { queues, perm, messageType, replication } = flags;
  const { body } = await session.leader(Op.topicCreate, { topic, queues, perm, messageType, replication }, flags.group);
  changed(context, flags, 'created', body);
}

async function update(context: Context, topic: string, flags: UpdateFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const request = { topic, queues: flags.queues ?? -1, perm: flags.perm ?? -1, replication: flags.replication ?? -1 };
  const { body } = await session.leader(Op.topicUpdate, request, flags.group);
  changed(context, flags, 'updated', body);
}

function changed(context: Context, flags: TopicFlags, what: string, route: TopicRoute): void {
  const queues = route.placement.reduce((sum, part) => sum + part.queues, 0);
  if (flags.json) writeJson(context, { ...route, perm: showPerm(route.perm), queues });
  else write(context, `${what} ${route.topic}: ${queues} queues, ${route.messageType}, perm ${showPerm(route.perm)}\n`);
}

async function list(context: Context, flags: TopicFlags): Promise<void> {
  const topics = await fetchTopics(context, [], flags);
  if (flags.json) return writeJson(context, { topics: topics.map(summary) });
  const rows = topics
    .map(summary)
    .map((topic) => [topic.topic, topic.queues, topic.messageType, topic.perm, topic.replication, topic.messages]);
  write(context, formatTable(['topic', 'queues', 'type', 'perm', 'replication', 'messages'], rows));
}

async function describe(context: Context, name: string, flags: TopicFlags): Promise<void> {
  const [topic] = await fetchTopics(context, [name], flags);
  if (topic === undefined) throw new LedgerError('TOPIC_NOT_FOUND', name);
  if (flags.json)
    return writeJson(context, { ...summary(topic), topicId: topic.topicId, placement: topic.placement, queues: topic.queues });
  const { messageType, perm, replication, messages } = summary(topic);
  write(context, `${name}: ${messageType}, perm ${perm}, replication ${replication}, ${messages} messages\n`);
  write(
    context,
    formatTable(
      ['queue', 'first', 'next', 'messages'],
      topic.queues.map((queue) => [queue.queueId, queue.minOffset, queue.maxOffset, queue.maxOffset - queue.minOffset]),
    ),
  );
}

async function remove(context: Context, topic: string, flags: TopicFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  await session.leader(Op.topicDelete, { topic }, flags.group);
  if (flags.json) writeJson(context, { topic, deleted: true });
  else write(context, `deleted ${topic}\n`);
}

async function fetchTopics(context: Context, topics: readonly string[], flags: TopicFlags): Promise<readonly TopicDescription[]> {
  using session = await AdminSession.open(context, flags.endpoint);
  return (await session.leader(Op.topicList, { topics }, flags.group)).body.topics;
}

function summary(topic: TopicDescription): {
  topic: string;
  queues: number;
  messageType: string;
  perm: string;
  replication: string;
  messages: number;
} {
  return {
    topic: topic.topic,
    queues: topic.queues.length,
    messageType: topic.messageType,
    perm: showPerm(topic.perm),
    replication: showReplication(topic.replication),
    messages: topic.queues.reduce((sum, queue) => sum + queue.maxOffset - queue.minOffset, 0),
  };
}
