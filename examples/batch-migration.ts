/**
 * Batch migration. 5,000 rows move from an old database to a new one, 500 in a call: a batch is stored wholly or not at all, so the old
 * side notes how far it came and goes on there after a crash. The new side writes what it is given in one transaction, by primary key, so
 * that a batch that comes twice changes nothing.
 */
import { DatabaseSync } from 'node:sqlite';
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('migration', { queues: 4 });

const ROWS = 5_000;
const BATCH = 500;
type Row = { readonly id: number; readonly name: string };

const old = new DatabaseSync(':memory:');
old.exec('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE progress (id INTEGER); INSERT INTO progress VALUES (0)');
const fill = old.prepare('INSERT INTO users (name) VALUES (?)');
for (let i = 0; i < ROWS; i++) fill.run(`user ${i}`);

const fresh = new DatabaseSync(':memory:');
fresh.exec('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)');
const insert = fresh.prepare('INSERT OR REPLACE INTO users (id, name) VALUES (?, ?)');
const count = (database: DatabaseSync): number => Number(database.prepare('SELECT count(*) AS n FROM users').get()?.['n']);

let calls = 0;
const { promise: moved, resolve } = Promise.withResolvers<void>();
const consumer = client.consumer({
  group: 'migration',
  topics: ['migration'],
  consumeFromWhere: 'first',
  consumeMessageBatchMaxSize: BATCH,
  batchHandler: (messages) => {
    calls += 1;
    fresh.exec('BEGIN');
    for (const message of messages) {
      const row = JSON.parse(message.text()) as Row;
      insert.run(row.id, row.name);
    }
    fresh.exec('COMMIT');
    if (count(fresh) === ROWS) resolve();
  },
});
await consumer.start();

const producer = client.producer();
for (let sent = 0; sent < ROWS; ) {
  const from = Number(old.prepare('SELECT id FROM progress').get()?.['id']);
  const rows = old.prepare('SELECT id, name FROM users WHERE id > ? ORDER BY id LIMIT ?').all(from, BATCH) as unknown as Row[];
  await producer.sendBatch(rows.map((row) => ({ topic: 'migration', body: JSON.stringify(row) })));
  old.prepare('UPDATE progress SET id = ?').run((rows.at(-1) as Row).id);
  sent += rows.length;
}
await moved;
console.log(`${ROWS} rows sent in ${ROWS / BATCH} batches`);
console.log(
  `${count(fresh)} rows in the new database, ${calls < ROWS / 5 ? 'many in one transaction' : `written in ${calls} transactions`}`,
);
