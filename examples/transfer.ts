/**
 * A transfer with a database transaction. Bank A takes the money and notes the transfer in one transaction of its database, and a message
 * to bank B is seen if, and only if, that transaction was committed. Bank B books each transfer once, by a unique key. Three transfers:
 * one goes well, one is not covered, and of one bank A's process loses the thread after its commit: it is asked, and looks it up.
 */
import { DatabaseSync } from 'node:sqlite';
import { idempotentInTransaction, LedgerClient, SqliteMarks } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('transfers', { queues: 2 });
const run = Date.now();

// Bank A.
const a = new DatabaseSync(':memory:');
a.exec('CREATE TABLE account (balance INTEGER CHECK (balance >= 0)); INSERT INTO account VALUES (100)');
a.exec('CREATE TABLE transfers (id TEXT PRIMARY KEY, amount INTEGER)');
const balance = (bank: DatabaseSync): unknown => bank.prepare('SELECT balance FROM account').get()?.['balance'];

function debit(id: string, amount: number): boolean {
  a.exec('BEGIN');
  try {
    a.prepare('UPDATE account SET balance = balance - ?').run(amount);
    a.prepare('INSERT INTO transfers VALUES (?, ?)').run(id, amount);
    a.exec('COMMIT');
    return true;
  } catch {
    a.exec('ROLLBACK');
    return false;
  }
}

let checks = 0;
const producer = client.transactionProducer({
  group: 'bank-a',
  checkLocalTransaction: async (message) => {
    checks += 1;
    const found = a.prepare('SELECT 1 FROM transfers WHERE id = ?').get(message.keys[0] as string);
    // Not there: it may still run. Asked often enough without an answer, the broker rolls back.
    return found === undefined ? 'unknown' : 'commit';
  },
});

// Bank B.
const b = new DatabaseSync(':memory:');
b.exec('CREATE TABLE account (balance INTEGER); INSERT INTO account VALUES (0)');
const expected = new Set([`${run}-1`, `${run}-3`]);
const { promise: booked, resolve } = Promise.withResolvers<void>();
const book = idempotentInTransaction({ store: new SqliteMarks(b), key: (message) => message.keys[0] as string }, (message, tx) => {
  tx.prepare('UPDATE account SET balance = balance + ?').run(Number(message.text()));
});
const consumer = client.consumer({
  group: 'bank-b',
  topics: ['transfers'],
  consumeFromWhere: 'first',
  handler: async (message, context) => {
    await book(message, context);
    expected.delete(message.keys[0] as string);
    if (expected.size === 0) resolve();
  },
});
await consumer.start();

async function transfer(id: string, amount: number, losesTheThread = false): Promise<string> {
  const message = { topic: 'transfers', body: String(amount), keys: [id] };
  const local = async (): Promise<'commit' | 'rollback'> => {
    const done = debit(id, amount);
    if (losesTheThread) throw new Error('the process dies here');
    return done ? 'commit' : 'rollback';
  };
  // Asked after a second; 6 s is the default.
  const sent = producer.sendInTransaction(message, local, { checkImmunityTimeInSeconds: 1 });
  return sent.then(
    ({ outcome }) => outcome,
    (error: unknown) => (error as Error).message,
  );
}
console.log(`30: ${await transfer(`${run}-1`, 30)}`);
console.log(`500: ${await transfer(`${run}-2`, 500)}`);
console.log(`20: ${await transfer(`${run}-3`, 20, true)}`);
await booked;
console.log(
  `bank A has ${balance(a)}, bank B has ${balance(b)}; bank A was ${checks > 0 ? 'asked' : 'not asked'} what became of the last one`,
);
