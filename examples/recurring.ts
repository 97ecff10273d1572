/**
 * Recurring work by delay. Each run sends the next one, to be delivered when it is due: no cron, and any member of the group does it.
 * The time of the next run is counted from when this one was due, so late deliveries do not add up.
 *
 * A member that dies after sending the next run and before acknowledging this one makes it come again. Without the idempotent handler it
 * would send the next run a second time, and there would be two chains for ever.
 */
import { idempotent, LedgerClient, MemoryMarks } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('reports', { queues: 1 });

const EVERY_MS = 300;
const RUNS = 4;
const producer = client.producer();
const job = `report-${Date.now()}`;
const schedule = (run: number, dueAtMs: number): Promise<unknown> =>
  producer.send({ topic: 'reports', keys: [`${job}/${run}`], body: JSON.stringify({ run, dueAtMs }), deliverAt: dueAtMs });

const { promise: done, resolve } = Promise.withResolvers<void>();
// Members on several machines share their marks: RedisMarks, or the database of the work (docs/guide/idempotence.md).
const marks = new MemoryMarks();
const handler = idempotent({ store: marks, key: (message) => message.keys[0] as string }, async (message) => {
  const { run, dueAtMs } = JSON.parse(message.text()) as { readonly run: number; readonly dueAtMs: number };
  if (!message.keys[0]?.startsWith(job)) return;
  console.log(`run ${run}, ${Math.max(0, Date.now() - dueAtMs)} ms late`);
  if (run === RUNS) resolve();
  else await schedule(run + 1, dueAtMs + EVERY_MS);
});
await client.consumer({ group: 'reports', topics: ['reports'], consumeFromWhere: 'first', handler }).start();
const startMs = Date.now() + EVERY_MS;
await schedule(1, startMs);
await done;
console.log(`${RUNS} runs in ${Math.round((Date.now() - startMs) / EVERY_MS)} intervals`);
