import type { Command } from 'commander';
import { BatchReader } from '../../protocol/record-batch-reader.ts';
import { Op } from '../../protocol/requests.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, usageError } from '../context.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { write, writeJson } from '../output.ts';
import { shownMessage } from '../show-message.ts';

interface GetFlags extends ClientFlags {
  readonly topic?: string;
  readonly queue?: number;
  readonly offset?: number;
}

const MESSAGE_ID = /^[0-9A-F]{32}$/;

export function register(program: Command, context: Context): void {
  const message = program.command('message').description('Stored messages.');
  withClientFlags(message.command('get').description('A message by its id, or by topic, queue and offset.'))
    .argument('[msgId]', '32 hexadecimal digits, as send prints them')
    .option('--topic <topic>', 'topic')
    .option('--queue <id>', 'queue', integer(0, 65_535))
    .option('--offset <n>', 'queue offset', integer(0))
    .action((id: string | undefined, flags: GetFlags) => get(context, id?.toUpperCase(), flags));
}

async function get(context: Context, id: string | undefined, flags: GetFlags): Promise<void> {
  const { topic = '', queue = 0, offset } = flags;
  if (id !== undefined && !MESSAGE_ID.test(id)) throw usageError(`${id} is not a message id (32 hexadecimal digits)`);
  if (id === undefined && (topic === '' || offset === undefined)) throw usageError('give a message id, or --topic, --queue and --offset');
  using session = await AdminSession.open(context, flags.endpoint);
  const { body, raw } = await session.leader(Op.messageGet, { id: id ?? '', topic, queueId: queue, offset: offset ?? 0 });
  const found = shownMessage(new BatchReader(raw, body.baseOffset), body.messageIndex, body.topic, body.queueId, body.logTimeMs);
  if (flags.json) return writeJson(context, { ...found, position: body.position });
  const rows: [string, string][] = [
    ['id', found.msgId],
    ['topic', found.topic],
    ['queue', String(found.queueId)],
    ['offset', String(found.offset)],
    ['stored', new Date(found.storeTimeMs).toISOString()],
    ['born', new Date(found.bornTimeMs).toISOString()],
    ['position', String(body.position)],
  ];
  if (found.tag !== null) rows.push(['tag', found.tag]);
  if (found.keys.length > 0) rows.push(['keys', found.keys.join(' ')]);
  if (found.orderKey !== null) rows.push(['order key', found.orderKey]);
  for (const [name, value] of Object.entries(found.properties)) rows.push([name, value]);
  write(context, rows.map(([name, value]) => `${name.padEnd(10)}${value}\n`).join(''));
  write(context, `\n${found.body ?? `(base64) ${found.bodyBase64 ?? ''}`}\n`);
}
