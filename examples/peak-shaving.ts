/**
 * Peak shaving. A sale brings 1,500 orders in a moment, and the database behind takes 500 a second. The queue takes them all at once,
 * and the consumer is given 500 a second, whatever waits.
 */
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('sale', { queues: 4 });

const ORDERS = 1_500;
const producer = client.producer();
const burstStart = performance.now();
await Promise.all(Array.from({ length: ORDERS }, (_, i) => producer.send({ topic: 'sale', body: `order ${i}` })));
console.log(`${ORDERS} orders taken in ${Math.round(performance.now() - burstStart)} ms`);

const stored = new Set<string>();
const handledAtMs: number[] = [];
const { promise: drained, resolve } = Promise.withResolvers<void>();
const consumer = client.consumer({
  group: 'database',
  topics: ['sale'],
  consumeFromWhere: 'first',
  maxMessagesPerSecond: 500,
  handler: (message) => {
    stored.add(message.text());
    handledAtMs.push(performance.now());
    if (stored.size === ORDERS) resolve();
  },
});
await consumer.start();
await drained;

const seconds = ((handledAtMs.at(-1) as number) - (handledAtMs[0] as number)) / 1_000;
console.log(`handed to the database at ${Math.round(handledAtMs.length / seconds)} orders/s, none lost: ${stored.size} of ${ORDERS}`);
