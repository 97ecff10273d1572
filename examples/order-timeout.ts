/**
 * Order time-out. With each order goes a message that is delivered when its time to pay is over (15 minutes in a shop, a second here).
 * Whoever gets it looks: paid orders stay, the others are cancelled. No table is scanned. (The message of a paid order could be cancelled,
 * `client.admin().cancelDelayed`, but looking is needed all the same: the payment may come as the message does.)
 */
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('payment-due', { queues: 2 });

const PAY_WITHIN_MS = 1_000;
const orders = new Map([1, 2, 3].map((n) => [`o-${n}`, 'placed']));
const producer = client.producer();

let open = orders.size;
const { promise: done, resolve } = Promise.withResolvers<void>();
const consumer = client.consumer({
  group: 'payment-due',
  topics: ['payment-due'],
  consumeFromWhere: 'first',
  handler: (message) => {
    const order = message.text();
    // In a database: UPDATE orders SET state = 'cancelled' WHERE id = … AND state = 'placed'. Done twice, it changes nothing more.
    if (orders.get(order) === 'placed') orders.set(order, 'cancelled');
    console.log(`${order}: ${orders.get(order)}`);
    open -= 1;
    if (open === 0) resolve();
  },
});
await consumer.start();

const placedAtMs = performance.now();
for (const order of orders.keys()) await producer.send({ topic: 'payment-due', body: order, delayMs: PAY_WITHIN_MS });
orders.set('o-2', 'paid');
await done;
console.log(performance.now() - placedAtMs >= PAY_WITHIN_MS ? 'nobody was asked before the time was over' : 'somebody was asked too early');
