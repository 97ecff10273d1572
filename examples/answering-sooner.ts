/**
 * Answering sooner. Placing an order takes 50 ms in the database, the SMS takes 50 ms and the points 200 ms. The customer need not wait
 * for the last two: with a queue the answer is given when the order and a message are stored.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('placed', { queues: 2 });
const producer = client.producer();

const ORDERS = 5;
const storeOrder = (): Promise<void> => sleep(50);
const sendSms = (): Promise<void> => sleep(50);
const addPoints = (): Promise<void> => sleep(200);

async function placeWithoutQueue(): Promise<void> {
  await storeOrder();
  await sendSms();
  await addPoints();
}
async function placeWithQueue(): Promise<void> {
  await storeOrder();
  await producer.send({ topic: 'placed', body: 'order' });
}

let left = 2 * ORDERS;
const { promise: allDone, resolve } = Promise.withResolvers<void>();
for (const [group, work] of Object.entries({ sms: sendSms, points: addPoints })) {
  const handler = async (): Promise<void> => {
    await work();
    left -= 1;
    if (left === 0) resolve();
  };
  await client.consumer({ group: `${group}-later`, topics: ['placed'], consumeFromWhere: 'first', handler }).start();
}

async function medianMs(place: () => Promise<void>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < ORDERS; i++) {
    const start = performance.now();
    await place();
    times.push(performance.now() - start);
  }
  return Math.round(times.sort((a, b) => a - b)[Math.floor(ORDERS / 2)] as number);
}

console.log(`without the queue the customer waits ${await medianMs(placeWithoutQueue)} ms`);
console.log(`with the queue ${await medianMs(placeWithQueue)} ms`);
await allDone;
console.log(`and ${ORDERS} texts and ${ORDERS} times points were done afterwards`);
