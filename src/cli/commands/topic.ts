import { type Command, InvalidArgumentError, Option } from 'commander';
import type { TopicOutcome } from '../../client/topic-admin.ts';
import { topicNotFound } from '../../protocol/names.ts';
import { Op, type TopicDescription } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, usageError } from '../context.ts';
import { type ClientFlags, integer, parsePerm, parseReplication, showPerm, showReplication, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';
import { reportGroups } from '../topic-report.ts';

interface CreateFlags extends ClientFlags {
  readonly group?: readonly string[];
  readonly queues: number;
  readonly perm: number;
  readonly messageType: 'normal' | 'fifo';
  readonly replication: number;
}
interface UpdateFlags extends ClientFlags {
  readonly group?: readonly string[];
  readonly queues?: number;
  readonly perm?: number;
  readonly replication?: number;
}

const DEFAULT_QUEUES = 8;

export function register(program: Command, context: Context): void {
  const topic = program.command('topic').description('Topics. Changes go to every broker group, which reports each for itself.');
  const sub = (name: string, text: string): Command => withClientFlags(topic.command(name).description(text));
  sub('create', 'Creates a topic; one that exists with the same definition is fine.')
    .argument('<topic>')
    .option('--group <brokerNames>', 'broker groups, comma-separated (default: all)', brokerNamesOf)
    .option('--queues <n>', 'queues on each broker group, 1 … 65535', integer(1, 65_535), DEFAULT_QUEUES)
    .addOption(new Option('--perm <perm>', 'what is allowed: rw, r, w, -').argParser(parsePerm).default(6, 'rw'))
    .addOption(new Option('--message-type <type>', 'kind of messages').choices(['normal', 'fifo']).default('normal'))
    .addOption(
      new Option('--replication <mode>', 'least replication of its messages: leader, quorum, all')
        .argParser(parseReplication)
        .default(0, "the broker's"),
    )
    .action((name: string, flags: CreateFlags) => create(context, name, flags));
  sub('update', 'Changes a topic. Queues and broker groups may be added; queues are never taken away.')
    .argument('<topic>')
    .option('--group <brokerNames>', 'with --queues: these broker groups only, also ones that the topic is not on yet', brokerNamesOf)
    .option('--queues <n>', 'queues in all, on each broker group', integer(1, 65_535))
    .option('--perm <perm>', 'what is allowed: rw, r, w, -', parsePerm)
    .option('--replication <mode>', 'least replication of its messages: leader, quorum, all', parseReplication)
    .action((name: string, flags: UpdateFlags) => update(context, name, flags));
  sub('list', 'All topics.').action((flags: ClientFlags) => list(context, flags));
  sub('describe', 'A topic with the offsets of its queues.')
    .argument('<topic>')
    .action((name: string, flags: ClientFlags) => describe(context, name, flags));
  sub('delete', 'Deletes a topic with all its messages.')
    .argument('<topic>')
    .action((name: string, flags: ClientFlags) => remove(context, name, flags));
}

function brokerNamesOf(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError('names of broker groups, comma-separated');
  return [...new Set(names)];
}

async function create(context: Context, topic: string, flags: CreateFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  for (const brokerName of flags.group ?? []) session.broker(brokerName);
  const { queues, perm, messageType, replication } = flags;
  changed(context, flags, 'created', await session.topics().create(topic, { queues, perm, messageType, replication }, flags.group));
}

async function update(context: Context, topic: string, flags: UpdateFlags): Promise<void> {
  const { queues, perm, replication } = flags;
  if (flags.group !== undefined && queues === undefined) throw usageError('--group needs --queues: how many the broker group is to have');
  using session = await AdminSession.open(context, flags.endpoint);
  for (const brokerName of flags.group ?? []) session.broker(brokerName);
  changed(context, flags, 'updated', await session.topics().update(topic, { queues, perm, replication }, flags.group));
}

function changed(context: Context, flags: ClientFlags, what: string, outcome: TopicOutcome): void {
  const { topic, topicId, version, perm, messageType, placement } = outcome.record;
  const groups = reportGroups(context, outcome);
  const queues = placement.reduce((sum, part) => sum + part.queues, 0);
  if (flags.json) writeJson(context, { topic, topicId, version, messageType, placement, perm: showPerm(perm), queues, groups });
  else {
    const places = placement.length === 1 ? '' : ` (${placement.map((place) => `${place.brokerName} ${place.queues}`).join(', ')})`;
    write(context, `${what} ${topic}: ${queues} queues${places}, ${messageType}, perm ${showPerm(perm)}\n`);
  }
}

async function list(context: Context, flags: ClientFlags): Promise<void> {
  const topics = byTopic(await fetchTopics(context, [], flags)).map(summary);
  if (flags.json) return writeJson(context, { topics });
  const rows = topics.map((topic) => [topic.topic, topic.queues, topic.messageType, topic.perm, topic.replication, topic.messages]);
  write(context, formatTable(['topic', 'queues', 'type', 'perm', 'replication', 'messages'], rows));
}

async function describe(context: Context, name: string, flags: ClientFlags): Promise<void> {
  const parts = await fetchTopics(context, [name], flags);
  const [first] = parts;
  if (first === undefined) throw topicNotFound(name);
  const newest = parts.reduce((best, part) => (part.version > best.version ? part : best), first);
  const queues = parts.flatMap((part) => part.queues.map((queue) => ({ brokerName: part.brokerName, ...queue })));
  if (flags.json) {
    const { topicId, version, placement } = newest;
    return writeJson(context, { ...summary(parts), topicId, version, placement, queues });
  }
  const { messageType, perm, replication, messages } = summary(parts);
  write(context, `${name}: ${messageType}, perm ${perm}, replication ${replication}, ${messages} messages\n`);
  const drained = newest.placement.filter((place) => place.perm !== undefined);
  if (drained.length > 0) write(context, `drained: ${drained.map(({ brokerName }) => brokerName).join(', ')}\n`);
  write(
    context,
    formatTable(
      ['group', 'queue', 'first', 'next', 'messages'],
      queues.map((queue) => [queue.brokerName, queue.queueId, queue.minOffset, queue.maxOffset, queue.maxOffset - queue.minOffset]),
    ),
  );
}

async function remove(context: Context, topic: string, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const outcomes = await session.topics().delete(topic);
  const groups = outcomes.flatMap((outcome) => reportGroups(context, outcome));
  if (flags.json) writeJson(context, { topic, deleted: true, groups });
  else write(context, `deleted ${topic}\n`);
}

/** A topic as one broker group has it. */
type TopicPart = TopicDescription & { readonly brokerName: string };

async function fetchTopics(context: Context, topics: readonly string[], flags: ClientFlags): Promise<TopicPart[]> {
  using session = await AdminSession.open(context, flags.endpoint);
  const answers = await session.leaders(Op.topicList, { topics });
  return answers
    .flatMap(({ brokerName, body }) => body.topics.map((topic) => ({ ...topic, brokerName })))
    .sort((a, b) => (a.brokerName < b.brokerName ? -1 : 1));
}

/** The parts of each topic, by name. */
function byTopic(parts: readonly TopicPart[]): TopicPart[][] {
  const found = Map.groupBy(parts, ({ topic }) => topic);
  return [...found.keys()].sort().map((topic) => found.get(topic) ?? []);
}

function summary(parts: readonly TopicDescription[]): {
  topic: string;
  queues: number;
  messageType: string;
  perm: string;
  replication: string;
  messages: number;
} {
  const [{ topic, messageType, perm, replication }] = parts as [TopicDescription, ...TopicDescription[]];
  const queues = parts.flatMap((part) => part.queues);
  return {
    topic,
    queues: queues.length,
    messageType,
    perm: showPerm(perm),
    replication: showReplication(replication),
    messages: queues.reduce((sum, queue) => sum + queue.maxOffset - queue.minOffset, 0),
  };
}
