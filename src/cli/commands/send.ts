import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import type { Producer } from '../../client/producer.ts';
import type { Message, SendResult } from '../../client/types.ts';
import { endpointsOf } from '../admin-session.ts';
import { type Context, usageError } from '../context.ts';
import { type ClientFlags, integer, parseTimeMs, withClientFlags } from '../options.ts';
import { grouped, note, Progress, write, writeJson } from '../output.ts';

interface SendFlags extends ClientFlags {
  readonly body?: string;
  readonly file?: string;
  readonly tag?: string;
  readonly key?: readonly string[];
  readonly orderKey?: string;
  readonly delayLevel?: number;
  readonly deliverAt?: number;
}

/** Sends on their way at once; reading lines waits at it. */
const MAX_IN_FLIGHT = 2048;

export function register(program: Command, context: Context): void {
  withClientFlags(program.command('send').description('Sends messages; prints id, queue and offset of each.'), 'one JSON line a message')
    .argument('<topic>')
    .option('--body <text>', 'one message with this body')
    .option('--file <file>', 'a message a line (default: standard input)')
    .option('--tag <tag>', 'tag, for filters')
    .option('--key <key>', 'business key; may be given again', (key: string, keys: readonly string[] = []) => [...keys, key])
    .option('--order-key <key>', 'messages of one order key keep their order')
    .option('--delay-level <level>', 'delivered after the delay of this level; 0 is none', integer(0))
    .option('--deliver-at <time>', 'delivered at this time: an ISO date, or ms since 1970', parseTimeMs)
    .action((topic: string, flags: SendFlags) => send(context, topic, flags));
}

async function send(context: Context, topic: string, flags: SendFlags): Promise<void> {
  if (flags.body !== undefined && flags.file !== undefined) throw usageError('give either --body or --file');
  const endpoints = endpointsOf(context, flags.endpoint);
  const { connectClient } = await import('../client.ts');
  await using client = await connectClient(endpoints, context);
  const producer = client.producer();
  const { tag, key: keys, orderKey: orderingKey, delayLevel: delayTimeLevel, deliverAt } = flags;
  const delay = { ...(delayTimeLevel !== undefined && { delayTimeLevel }), ...(deliverAt !== undefined && { deliverAt }) };
  const fields = { topic, ...(tag && { tag }), ...(keys && { keys }), ...(orderingKey && { orderingKey }), ...delay };
  if (flags.body !== undefined) return print(context, flags, await producer.send({ ...fields, body: flags.body }));
  const input = flags.file === undefined ? context.stdin : createReadStream(flags.file);
  await sendLines(context, flags, producer, fields, input);
}

async function sendLines(
  context: Context,
  flags: SendFlags,
  producer: Producer,
  fields: Omit<Message, 'body'>,
  input: NodeJS.ReadableStream,
): Promise<void> {
  const progress = new Progress(context);
  const inFlight: Promise<SendResult>[] = [];
  let sent = 0;
  const settleOldest = async (): Promise<void> => {
    print(context, flags, await (inFlight.shift() as Promise<SendResult>));
    sent++;
    if (sent > MAX_IN_FLIGHT) progress.tick(() => `${grouped(sent)} messages sent`);
  };
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    const result = producer.send({ ...fields, body: line });
    // The failure is met when its turn comes; until then it must not count as unhandled.
    result.catch(() => undefined);
    inFlight.push(result);
    if (inFlight.length >= MAX_IN_FLIGHT) await settleOldest();
  }
  while (inFlight.length > 0) await settleOldest();
  if (!flags.json && sent !== 1) note(context, `${sent} messages sent`);
}

function print(context: Context, flags: SendFlags, result: SendResult): void {
  if (flags.json) writeJson(context, result);
  else write(context, `${result.msgId}  queue ${result.queueId}  offset ${result.offset ?? '-'}\n`);
}
