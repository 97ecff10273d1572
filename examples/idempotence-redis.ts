/**
 * Idempotence by Redis. The mail for an order is sent once, though the shop sends the order's message twice, and the broker delivers each
 * of them again. Needs a Redis (REDIS_URL; default: on this machine). What it promises: docs/guide/idempotence.md.
 */
import { Redis } from 'ioredis';
import { idempotent, LedgerClient, RedisMarks } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('mails', { queues: 2 });
const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379');

let mails = 0;
let duplicates = 0;
const handler = idempotent(
  {
    store: new RedisMarks(redis),
    // The order number and not the message id: what the shop sends a second time is another message.
    key: (message) => message.keys[0] as string,
    onDuplicate: () => {
      duplicates += 1;
    },
  },
  async () => {
    mails += 1;
  },
);

/** Gives messages to the handler, until `count` of them are done. */
async function consume(count: number): Promise<void> {
  let done = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const consumer = client.consumer({
    group: 'mailer',
    topics: ['mails'],
    consumeFromWhere: 'first',
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

// The shop is not sure about its first try, and sends again.
const startMs = Date.now();
const producer = client.producer();
for (let i = 0; i < 2; i++) await producer.send({ topic: 'mails', body: 'thank you', keys: [`o-${startMs}`] });
await consume(2);
console.log(`2 messages for one order: ${mails} mail, ${duplicates} duplicate`);

// Both come again: somebody reset the group's offset.
await client.admin().resetOffsets('mailer', 'mails', { timeMs: startMs });
await consume(2);
console.log(`4 deliveries: ${mails} mail, ${duplicates} duplicates`);
redis.disconnect();
