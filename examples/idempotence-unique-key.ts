/**
 * Idempotence by a unique key in the transaction of the work: points are added to an account once for each message, also when a process
 * dies between any two lines. Here with SQLite; PostgresMarks does the same with PostgreSQL (docs/guide/idempotence.md).
 */
import { DatabaseSync } from 'node:sqlite';
import { idempotentInTransaction, LedgerClient, SqliteMarks } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('earned', { queues: 2 });

const database = new DatabaseSync(':memory:');
database.exec("CREATE TABLE accounts (name TEXT PRIMARY KEY, points INTEGER); INSERT INTO accounts VALUES ('ann', 0)");
const points = (): unknown => database.prepare('SELECT points FROM accounts').get()?.['points'];

let attempts = 0;
let duplicates = 0;
const handler = idempotentInTransaction({ store: new SqliteMarks(database), onDuplicate: () => (duplicates += 1) }, (message, tx) => {
  attempts += 1;
  tx.prepare('UPDATE accounts SET points = points + ? WHERE name = ?').run(Number(message.text()), 'ann');
  // The first attempt fails after its work: the work is taken back with the mark.
  if (attempts === 1) throw new Error('the process stumbles');
});

/** Gives all messages to the handler, until `count` of them are done. */
async function consume(count: number): Promise<void> {
  let done = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const consumer = client.consumer({
    group: 'points-accounts',
    topics: ['earned'],
    consumeFromWhere: 'first',
    // What fails comes again after 100 ms at most; by default after 10 s, 30 s, 1 min …
    reconsumeBackoff: 'exponential',
    reconsumeBackoffBaseMs: 100,
    handler: async (message, context) => {
      await handler(message, context);
      done += 1;
      if (done === count) resolve();
    },
  });
  await consumer.start();
  await all;
  await consumer.close();
}

const startMs = Date.now();
const producer = client.producer();
for (const earned of ['10', '20', '30']) await producer.send({ topic: 'earned', body: earned });
await consume(3);
console.log(`ann has ${points()} points, after ${attempts} attempts at 3 messages`);

// All come again: somebody reset the group's offset.
await client.admin().resetOffsets('points-accounts', 'earned', { timeMs: startMs });
await consume(3);
console.log(`ann has ${points()} points, after ${duplicates} duplicates`);
