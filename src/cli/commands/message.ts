import type { Command } from 'commander';
import { cancelDelayed } from '../../client/delay-admin.ts';
import { type FoundMessage, findMessage, foundMessage, type MessageQuery, queryMessages } from '../../client/message-search.ts';
import { LedgerError } from '../../protocol/errors.ts';
import { Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, Exit, usageError } from '../context.ts';
import { type ClientFlags, integer, parseTimeMs, positive, withClientFlags } from '../options.ts';
import { formatTable, note, write, writeJson } from '../output.ts';
import { shownMessage } from '../show-message.ts';

const GROUP_TIMEOUT_MS = 10_000;
const SHOWN_BODY_CHARACTERS = 60;

interface GetFlags extends ClientFlags {
  readonly topic?: string;
  readonly brokerGroup?: string;
  readonly queue?: number;
  readonly offset?: number;
}
interface CancelFlags extends ClientFlags {
  readonly topic: string;
}
interface QueryFlags extends ClientFlags {
  readonly topic: string;
  readonly key: string;
  readonly from?: number;
  readonly to?: number;
  readonly max: number;
  readonly cursor?: string;
  readonly timeout: number;
}

const MESSAGE_ID = /^[0-9A-F]{32}$/;

export function register(program: Command, context: Context): void {
  const message = program.command('message').description('Stored messages.');
  withClientFlags(message.command('get').description('A message by its id, or by topic, queue and offset.'))
    .argument('[msgId]', '32 hexadecimal digits, as send prints them')
    .option('--topic <topic>', 'topic')
    .option('--broker-group <brokerName>', 'whose queue is meant, when several broker groups have one of that number')
    .option('--queue <id>', 'queue', integer(0, 65_535))
    .option('--offset <n>', 'queue offset', integer(0))
    .action((id: string | undefined, flags: GetFlags) => get(context, id?.toUpperCase(), flags));
  withClientFlags(message.command('cancel').description('A delayed message is not delivered.'))
    .argument('<msgId>', '32 hexadecimal digits, as send prints them')
    .requiredOption('--topic <topic>', 'that it was sent to')
    .action((id: string, flags: CancelFlags) => cancel(context, id.toUpperCase(), flags));
  withClientFlags(message.command('query').description('Messages that carry a key, newest first, from all broker groups.'))
    .requiredOption('--topic <topic>', 'topic')
    .requiredOption('--key <key>', 'one of the keys, whole')
    .option('--from <time>', 'stored at or after (ms since 1970 or ISO 8601)', parseTimeMs)
    .option('--to <time>', 'stored at or before', parseTimeMs)
    .option('--max <n>', 'messages at most', integer(1, 256), 32)
    .option('--cursor <text>', 'the next page: `next` of the page before')
    .option('--timeout <seconds>', 'for how long a broker group without a leader is asked', positive, GROUP_TIMEOUT_MS / 1_000)
    .action((flags: QueryFlags) => query(context, flags));
}

async function cancel(context: Context, id: string, flags: CancelFlags): Promise<void> {
  if (!MESSAGE_ID.test(id)) throw usageError(`${id} is not a message id (32 hexadecimal digits)`);
  using session = await AdminSession.open(context, flags.endpoint);
  await cancelDelayed(session.groups(), id, flags.topic, GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { msgId: id, cancelled: true });
  else write(context, `${id} is not delivered\n`);
}

async function get(context: Context, id: string | undefined, flags: GetFlags): Promise<void> {
  if (id !== undefined && !MESSAGE_ID.test(id)) throw usageError(`${id} is not a message id (32 hexadecimal digits)`);
  if (id === undefined && (flags.topic === undefined || flags.offset === undefined))
    throw usageError('give a message id, or --topic, --queue and --offset');
  using session = await AdminSession.open(context, flags.endpoint);
  const { message, position, pendingUntilMs } =
    id === undefined ? await atOffset(session, flags) : await findMessage(session.groups(), id, GROUP_TIMEOUT_MS);
  const found = shownMessage(message);
  if (flags.json) return writeJson(context, { ...found, ...(pendingUntilMs === null ? {} : { offset: null, pendingUntilMs }), position });
  const rows: [string, string][] = [
    ['id', found.msgId],
    ['topic', found.topic],
    ['group', found.brokerName],
    ['queue', String(found.queueId)],
    pendingUntilMs === null ? ['offset', String(found.offset)] : ['pending', `until ${new Date(pendingUntilMs).toISOString()}`],
    ['stored', new Date(found.storeTimeMs).toISOString()],
    ['born', new Date(found.bornTimeMs).toISOString()],
    ['position', String(position)],
  ];
  if (found.tag !== null) rows.push(['tag', found.tag]);
  if (found.keys.length > 0) rows.push(['keys', found.keys.join(' ')]);
  if (found.orderKey !== null) rows.push(['order key', found.orderKey]);
  for (const [name, value] of Object.entries(found.properties)) rows.push([name, value]);
  write(context, rows.map(([name, value]) => `${name.padEnd(10)}${value}\n`).join(''));
  write(context, `\n${found.body ?? `(base64) ${found.bodyBase64 ?? ''}`}\n`);
}

async function atOffset(session: AdminSession, { topic = '', queue = 0, offset = 0, brokerGroup }: GetFlags): Promise<FoundMessage> {
  const brokerName = brokerGroup ?? (await onlyGroupOf(session, topic, queue));
  const { body, raw } = await session.leader(Op.messageGet, { id: '', topic, queueId: queue, offset }, brokerName);
  return foundMessage(brokerName, body, raw);
}

async function onlyGroupOf(session: AdminSession, topic: string, queueId: number): Promise<string> {
  if (session.brokers.length === 1) return session.broker(undefined).brokerName;
  const parts = await session.leaders(Op.topicList, { topics: [topic] });
  if (parts.every(({ body }) => body.topics.length === 0)) throw new LedgerError('TOPIC_NOT_FOUND', topic);
  const having = parts.filter(({ body }) => body.topics[0]?.queues.some((queue) => queue.queueId === queueId));
  const [only] = having;
  if (only === undefined) throw new LedgerError('QUEUE_NOT_FOUND', `${topic} has no queue ${queueId}`);
  if (having.length > 1) throw usageError(`several broker groups have queue ${queueId} of ${topic}; add --broker-group`);
  return only.brokerName;
}

async function query(context: Context, flags: QueryFlags): Promise<void> {
  const { topic, key, max, from, to, cursor } = flags;
  using session = await AdminSession.open(context, flags.endpoint);
  const wanted: MessageQuery = {
    topic,
    key,
    max,
    ...(from === undefined ? {} : { fromTimeMs: from }),
    ...(to === undefined ? {} : { toTimeMs: to }),
    ...(cursor === undefined ? {} : { cursor }),
  };
  const result = await queryMessages(session.groups(), wanted, flags.timeout * 1_000);
  const messages = result.messages.map(shownMessage);
  const groups = result.groups.map(({ brokerName, status, error }) => ({
    brokerName,
    status,
    ...(error === undefined ? {} : { error: error.code, detail: error.detail }),
  }));
  if (flags.json) writeJson(context, { status: result.status, messages, groups, next: result.next });
  else {
    write(
      context,
      formatTable(
        ['stored', 'group', 'queue', 'offset', 'id', 'keys', 'body'],
        messages.map((message) => [
          new Date(message.storeTimeMs).toISOString(),
          message.brokerName,
          message.queueId,
          message.offset,
          message.msgId,
          message.keys.join(' '),
          (message.body ?? '(binary)').slice(0, SHOWN_BODY_CHARACTERS),
        ]),
      ),
    );
    write(context, `${result.status}: ${messages.length} messages\n`);
    if (result.next !== null) write(context, `more: --cursor ${result.next}\n`);
  }
  for (const { brokerName, status, error, detail } of groups) {
    if (status === 'failed') note(context, `broker group ${brokerName} could not be asked: ${error}: ${detail}`);
  }
  if (result.status === 'failed') context.exit = Exit.failed;
}
