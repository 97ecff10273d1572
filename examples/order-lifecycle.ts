/**
 * An order's life, in order. Everything about one order has the same ordering key, so it is in one queue, and an ordered consumer is given
 * it one by one: also when a step fails, nothing behind it overtakes. Different orders go on at the same time.
 */
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('lifecycle', { queues: 4, messageType: 'fifo' });

const STEPS = ['created', 'paid', 'shipped', 'delivered'];
const run = Date.now();
const orders = Array.from({ length: 6 }, (_, i) => `${run}-${i + 1}`);

const states = new Map<string, string[]>();
let left = orders.length * STEPS.length;
let failures = 0;
const { promise: done, resolve } = Promise.withResolvers<void>();
const consumer = client.consumer({
  group: 'lifecycle',
  topics: ['lifecycle'],
  consumeFromWhere: 'first',
  ordered: true,
  suspendCurrentQueueTimeMillis: 100,
  handler: (message, { reconsumeTimes }) => {
    const order = message.orderingKey as string;
    if (!order.startsWith(`${run}-`)) return;
    // The warehouse does not answer the first time.
    if (message.text() === 'shipped' && order === orders[1] && reconsumeTimes === 0) {
      failures += 1;
      throw new Error('the warehouse does not answer');
    }
    states.set(order, [...(states.get(order) ?? []), message.text()]);
    left -= 1;
    if (left === 0) resolve();
  },
});
await consumer.start();

// Pipelined, step by step over all orders: nobody waits for an acknowledgement, the order of the calls is kept for each queue.
const producer = client.producer();
await Promise.all(STEPS.flatMap((step) => orders.map((order) => producer.send({ topic: 'lifecycle', body: step, orderingKey: order }))));
await done;
for (const [i, order] of orders.entries()) console.log(`order ${i + 1}: ${states.get(order)?.join(' → ')}`);
console.log(`${failures} step failed and was done again before anything behind it`);
