import type { Command } from 'commander';
import { discardedTransactions, endByHand, pendingTransaction, pendingTransactions } from '../../client/transaction-admin.ts';
import { AdminSession } from '../admin-session.ts';
import type { Context } from '../context.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { formatTable, note, write, writeJson } from '../output.ts';
import { shownMessage } from '../show-message.ts';

const GROUP_TIMEOUT_MS = 10_000;
const DEFAULT_MAX = 100;

interface ListFlags extends ClientFlags {
  readonly group?: string;
  readonly max: number;
  readonly discarded?: boolean;
}

export function register(program: Command, context: Context): void {
  const transaction = program.command('transaction').description('Transactions whose outcome is missing.');
  const sub = (name: string, text: string): Command => withClientFlags(transaction.command(name).description(text));
  sub('list', 'Half messages that wait for their outcome, oldest first, with age and checks.')
    .option('--group <name>', 'of this producer group (default: of all)')
    .option('--max <n>', 'so many at most', integer(1), DEFAULT_MAX)
    .option('--discarded', 'instead: messages that were rolled back after the last check (TRANS_CHECK_MAX_TIME_TOPIC)')
    .action((flags: ListFlags) => (flags.discarded ? discarded(context, flags) : list(context, flags)));
  sub('show', 'One half message, with its body.')
    .argument('<id>', 'as "transaction list" shows it')
    .action((id: string, flags: ClientFlags) => show(context, id, flags));
  for (const [outcome, text] of [
    ['commit', 'Commits a transaction by hand: its message is visible. Written to the log of the broker.'],
    ['rollback', 'Rolls a transaction back by hand: its message is never seen. Written to the log of the broker.'],
  ] as const) {
    sub(outcome, text)
      .argument('<id>', 'as "transaction list" shows it')
      .action((id: string, flags: ClientFlags) => end(context, id, outcome, flags));
  }
}

async function list(context: Context, flags: ListFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { transactions, total } = await pendingTransactions(session.groups(), flags.group ?? '', flags.max, GROUP_TIMEOUT_MS);
  if (flags.json) return writeJson(context, { transactions, total });
  const rows = transactions.map(({ transactionId, producerGroup, topic, queueId, ageMs, checks }) => [
    transactionId,
    producerGroup,
    topic,
    queueId,
    Math.round(ageMs / 1000),
    checks,
  ]);
  write(context, formatTable(['transaction', 'group', 'topic', 'queue', 'age s', 'checks'], rows));
  if (total > transactions.length) note(context, `${transactions.length} of ${total} half messages`);
}

async function discarded(context: Context, flags: ListFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const messages = await discardedTransactions(session.groups(), flags.max, GROUP_TIMEOUT_MS);
  if (flags.json) return writeJson(context, { messages: messages.map(shownMessage) });
  const rows = messages.map(({ msgId, topic, brokerName, offset, keys, storeTimeMs }) => [
    msgId,
    topic,
    brokerName,
    offset,
    keys.join(' '),
    new Date(storeTimeMs).toISOString(),
  ]);
  write(context, formatTable(['message', 'topic', 'broker', 'offset', 'keys', 'discarded'], rows));
}

async function show(context: Context, id: string, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const { transaction, message } = await pendingTransaction(session.groups(), id, GROUP_TIMEOUT_MS);
  const { tag, keys, orderKey, properties, bornTimeMs, body, bodyBase64 } = shownMessage(message);
  const { transactionId, msgId, producerGroup, topic, brokerName, queueId, storedMs, nextCheckMs, checks } = transaction;
  const place = { transactionId, msgId, producerGroup, topic, brokerName, queueId, storedMs, nextCheckMs, checks };
  const document = { ...place, tag, keys, orderKey, properties, bornTimeMs, body, ...(bodyBase64 === undefined ? {} : { bodyBase64 }) };
  if (flags.json) return writeJson(context, document);
  for (const [name, value] of Object.entries(document))
    write(context, `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
}

async function end(context: Context, id: string, outcome: 'commit' | 'rollback', flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const offset = await endByHand(session.groups(), id, outcome, GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { transactionId: id, outcome, offset });
  else write(context, outcome === 'commit' ? `committed at offset ${offset}\n` : 'rolled back\n');
}
