import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { DeadLetter, DeadLetterPlace } from '../../client/dead-letter.ts';
import type { DeadLetterChanges } from '../../client/dead-letter-replay.ts';
import type { DeadLetters } from '../../client/dead-letters.ts';
import type { LedgerClient } from '../../client/ledger-client.ts';
import { endpointsOf } from '../admin-session.ts';
import { type Context, usageError } from '../context.ts';
import { type ClientFlags, integer, parseTimeMs, withClientFlags } from '../options.ts';
import { formatTable, grouped, Progress, write, writeJson } from '../output.ts';
import { type ShownMessage, shownBody, shownMessage } from '../show-message.ts';

const SHOWN_BODY_CHARACTERS = 60;
const MESSAGE_ID = /^[0-9A-Fa-f]{32}$/;
const PLACE = /^([^:]+):(\d+)$/;

interface FilterFlags extends ClientFlags {
  readonly topic?: string;
  readonly tag?: string;
  readonly key?: string;
  readonly since?: number;
  readonly until?: number;
  readonly notReplayed?: boolean;
}
interface ListFlags extends FilterFlags {
  readonly limit: number;
  readonly from?: DeadLetterPlace;
}
interface ReplayFlags extends FilterFlags {
  readonly all?: boolean;
  readonly toTopic?: string;
  readonly body?: string;
  readonly bodyFile?: string;
  readonly property?: Readonly<Record<string, string>>;
  readonly setTag?: string;
  readonly setKey?: readonly string[];
}

export function register(program: Command, context: Context): void {
  const dlq = program.command('dlq').description('Dead letters of a group: messages that it gave up.');
  withFilter(withClientFlags(dlq.command('list').description('What is there, by broker group and by the order in which it died.')))
    .argument('<group>')
    .option('--limit <n>', 'letters at most', integer(1, 100_000), 100)
    .option('--from <place>', 'the next page: `next` of the page before', parsePlace)
    .action((group: string, flags: ListFlags) => list(context, group, flags));
  withClientFlags(dlq.command('show').description('One of them, whole.'))
    .argument('<group>')
    .argument('<letter>', 'its message id, or brokerName:offset as list prints it')
    .action((group: string, letter: string, flags: ClientFlags) => show(context, group, letter, flags));
  const replay = dlq.command('replay').description('Sends them to their topic again, under their message ids; the dead letters stay.');
  withFilter(withClientFlags(replay, 'one JSON line a message'))
    .argument('<group>')
    .argument('[letters...]', 'message ids, or brokerName:offset as list prints them')
    .option('--all', 'all that there are, or all that the filter leaves')
    .option('--to-topic <topic>', 'another topic than their own')
    .option('--body <text>', 'corrected body')
    .option('--body-file <file>', 'corrected body')
    .option('--property <name=value>', 'corrected property, instead of all others; may be given again', parseProperty)
    .option('--set-tag <tag>', 'corrected tag')
    .option('--set-key <key>', 'corrected key, instead of all others; may be given again', collect)
    .action((group: string, letters: string[], flags: ReplayFlags) => replayLetters(context, group, letters, flags));
}

function withFilter(command: Command): Command {
  return command
    .option('--topic <topic>', 'of this topic only')
    .option('--tag <tag>', 'with this tag only')
    .option('--key <key>', 'with this key only')
    .option('--since <time>', 'given up at or after (ms since 1970 or ISO 8601)', parseTimeMs)
    .option('--until <time>', 'given up before', parseTimeMs)
    .option('--not-replayed', 'only those that were not replayed yet');
}

const collect = (text: string, before: readonly string[] = []): string[] => [...before, text];

function parseProperty(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw usageError(`--property ${text}: give name=value`);
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

function parsePlace(text: string): DeadLetterPlace {
  const [, brokerName, offset] = PLACE.exec(text) ?? [];
  if (brokerName === undefined) throw usageError(`${text} is not of the form brokerName:offset`);
  return { brokerName, offset: Number(offset) };
}

function parseLetter(text: string): string | DeadLetterPlace {
  if (MESSAGE_ID.test(text)) return text.toUpperCase();
  if (PLACE.test(text)) return parsePlace(text);
  throw usageError(`${text} is neither a message id (32 hexadecimal digits) nor brokerName:offset`);
}

const placeText = ({ brokerName, offset }: DeadLetterPlace): string => `${brokerName}:${offset}`;

function filterOf({ topic, tag, key, since, until, notReplayed }: FilterFlags): (letter: DeadLetter) => boolean {
  return ({ origin, message, deadTimeMs, replays }) => {
    if (topic !== undefined && origin.topic !== topic) return false;
    if (since !== undefined && deadTimeMs < since) return false;
    if (until !== undefined && deadTimeMs >= until) return false;
    if (notReplayed === true && replays > 0) return false;
    if (tag === undefined && key === undefined) return true;
    return message.decodable && (tag === undefined || message.tag === tag) && (key === undefined || message.keys.includes(key));
  };
}

interface ShownLetter extends Omit<ShownMessage, 'queueId' | 'offset'> {
  readonly letter: string;
  readonly origin: DeadLetter['origin'];
  readonly attempts: number;
  readonly deadTimeMs: number;
  readonly replays: number;
  readonly lastReplayMs: number | null;
  readonly decodable: boolean;
}

/** As `--json` prints it. What cannot be decoded is shown without tag, keys and properties. */
function shownLetter(letter: DeadLetter): ShownLetter {
  const { message, origin, attempts, deadTimeMs, replays, lastReplayMs } = letter;
  const { msgId, topic, brokerName, bornTimeMs, storeTimeMs, decodable } = message;
  const plain = { msgId, topic, brokerName, tag: null, keys: [], orderKey: null, properties: {}, bornTimeMs, storeTimeMs };
  const {
    queueId: _,
    offset: __,
    ...shown
  } = decodable ? shownMessage(message) : { ...plain, queueId: 0, offset: 0, ...shownBody(message.body) };
  return { letter: placeText(letter), ...shown, origin, attempts, deadTimeMs, replays, lastReplayMs, decodable };
}

async function withLetters(
  context: Context,
  group: string,
  flags: ClientFlags,
  work: (letters: DeadLetters) => Promise<void>,
): Promise<void> {
  const { connectClient } = await import('../client.ts');
  await using client: LedgerClient = await connectClient(endpointsOf(context, flags.endpoint), context);
  await work(client.admin().deadLetters(group));
}

async function list(context: Context, group: string, flags: ListFlags): Promise<void> {
  await withLetters(context, group, flags, async (deadLetters) => {
    const { limit, from } = flags;
    const { letters, next } = await deadLetters.list({ limit, filter: filterOf(flags), ...(from && { from }) });
    const shown = letters.map(shownLetter);
    if (flags.json) return writeJson(context, { group, letters: shown, next: next === null ? null : placeText(next) });
    const rows = shown.map((letter) => [
      letter.letter,
      new Date(letter.deadTimeMs).toISOString(),
      letter.msgId,
      letter.topic,
      letter.attempts,
      letter.replays,
      (letter.body ?? '(binary)').slice(0, SHOWN_BODY_CHARACTERS),
    ]);
    write(context, formatTable(['letter', 'given up', 'id', 'topic', 'attempts', 'replays', 'body'], rows));
    if (next !== null) write(context, `more: --from ${placeText(next)}\n`);
  });
}

async function show(context: Context, group: string, letter: string, flags: ClientFlags): Promise<void> {
  const at = parseLetter(letter);
  await withLetters(context, group, flags, async (deadLetters) => {
    const found = shownLetter(await deadLetters.get(at));
    if (flags.json) return writeJson(context, found);
    const { topic, brokerName, queueId, offset } = found.origin;
    const rows: [string, string][] = [
      ['letter', found.letter],
      ['id', found.msgId],
      ['topic', topic === '' ? '(deleted since)' : topic],
      ['origin', `queue ${queueId} of ${brokerName}, offset ${offset}`],
      ['attempts', String(found.attempts)],
      ['given up', new Date(found.deadTimeMs).toISOString()],
      ['born', new Date(found.bornTimeMs).toISOString()],
      ['replays', found.lastReplayMs === null ? '0' : `${found.replays}, the last at ${new Date(found.lastReplayMs).toISOString()}`],
    ];
    if (!found.decodable) rows.push(['properties', 'cannot be decoded']);
    if (found.tag !== null) rows.push(['tag', found.tag]);
    if (found.keys.length > 0) rows.push(['keys', found.keys.join(' ')]);
    if (found.orderKey !== null) rows.push(['order key', found.orderKey]);
    for (const [name, value] of Object.entries(found.properties)) rows.push([name, value]);
    write(context, rows.map(([name, value]) => `${name.padEnd(12)}${value}\n`).join(''));
    write(context, `\n${found.body ?? `(base64) ${found.bodyBase64 ?? ''}`}\n`);
  });
}

async function changesOf(flags: ReplayFlags): Promise<DeadLetterChanges> {
  if (flags.body !== undefined && flags.bodyFile !== undefined) throw usageError('give either --body or --body-file');
  const body = flags.bodyFile === undefined ? flags.body : new Uint8Array(await readFile(flags.bodyFile));
  const { toTopic: topic, property: properties, setTag: tag, setKey: keys } = flags;
  return {
    ...(body !== undefined && { body }),
    ...(topic && { topic }),
    ...(properties && { properties }),
    ...(tag && { tag }),
    ...(keys && { keys }),
  };
}

async function replayLetters(context: Context, group: string, named: readonly string[], flags: ReplayFlags): Promise<void> {
  if (named.length > 0 === (flags.all === true)) throw usageError('name letters, or give --all');
  const places = named.map(parseLetter);
  const changes = await changesOf(flags);
  await withLetters(context, group, flags, async (deadLetters) => {
    const progress = new Progress(context);
    let replayed = 0;
    for await (const letter of flags.all === true ? filtered(deadLetters, filterOf(flags)) : chosen(deadLetters, places)) {
      const stored = await deadLetters.replay(letter, changes);
      replayed++;
      if (flags.json) writeJson(context, { letter: placeText(letter), ...stored });
      else write(context, `${placeText(letter)}  ${stored.msgId}  ${stored.topic} queue ${stored.queueId} offset ${stored.offset}\n`);
      progress.tick(() => `${grouped(replayed)} replayed`);
    }
    if (!flags.json && replayed !== 1) write(context, `${replayed} replayed\n`);
  });
}

async function* filtered(letters: DeadLetters, filter: (letter: DeadLetter) => boolean): AsyncGenerator<DeadLetter> {
  for await (const letter of letters) if (filter(letter)) yield letter;
}

/** All are looked for before the first is sent: a mistyped one stops the command while nothing is done. */
async function* chosen(letters: DeadLetters, places: readonly (string | DeadLetterPlace)[]): AsyncGenerator<DeadLetter> {
  const found: DeadLetter[] = [];
  for (const place of places) found.push(await letters.get(place));
  yield* found;
}
