/**
 * Decoupling. The payment service tells once that an order was paid, and knows nobody who listens. The order and the SMS service
 * each have a group of their own, so each gets every message. The points service comes later: no line of the producer changes, and it
 * starts at the first message that is kept.
 */
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('paid', { queues: 4 });

const ORDERS = ['o-1', 'o-2', 'o-3'];

/** A service that reacts to paid orders. @returns once it has done so for all of them */
async function service(group: string, react: (order: string) => string): Promise<void> {
  const open = new Set(ORDERS);
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const consumer = client.consumer({
    group,
    topics: ['paid'],
    consumeFromWhere: 'first',
    handler: (message) => {
      const order = message.text();
      console.log(`${group}: ${react(order)}`);
      open.delete(order);
      if (open.size === 0) resolve();
    },
  });
  await consumer.start();
  await done;
  await consumer.close();
}

// The payment service. This is all of it, before and after the points came.
const producer = client.producer();
for (const order of ORDERS) await producer.send({ topic: 'paid', body: order, keys: [order] });
console.log(`payment: ${ORDERS.length} orders paid, and told once each`);

await Promise.all([service('order', (order) => `${order} is to be shipped`), service('sms', (order) => `text sent for ${order}`)]);
console.log('a new service is added');
await service('points', (order) => `10 points for ${order}`);
