/**
 * A backlog drained by scaling out. One member works off its queues at its own speed; three more join while messages wait, take their
 * share of the queues, and the backlog shrinks that much faster. Nothing is configured anew.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Consumer, LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('pictures', { queues: 8 });
const producer = client.producer();
// Keys spread over the queues. Without one, what is sent at once becomes one batch of one queue, which one member works off alone.
const send = (i: number) => producer.send({ topic: 'pictures', body: `picture ${i}`, orderingKey: `album ${i % 100}` });
await Promise.all(Array.from({ length: 2_000 }, (_, i) => send(i)));

let done = 0;
async function join(): Promise<Consumer> {
  const member = client.consumer({
    group: 'thumbnails',
    topics: ['pictures'],
    consumeFromWhere: 'first',
    concurrency: 1,
    handler: async () => {
      await sleep(5); // a picture is made small
      done += 1;
    },
  });
  await member.start();
  return member;
}
const backlog = async (): Promise<number> => (await client.admin().backlog('thumbnails', 'pictures')).lag;

async function ratePerS(): Promise<number> {
  const before = done;
  const start = performance.now();
  await sleep(1_500);
  return ((done - before) * 1_000) / (performance.now() - start);
}

const members = [await join()];
while (done === 0) await sleep(10);
const alone = await ratePerS();
console.log(`1 member: ${Math.round(alone)}/s`);
members.push(...(await Promise.all([join(), join(), join()])));
while (members.some((member) => member.assignment.length !== 2)) await sleep(10);
const together = await ratePerS();
console.log(`4 members, 2 queues each: ${Math.round(together)}/s, ${(together / alone).toFixed(1)} times as many`);
while ((await backlog()) > 0) await sleep(50);
console.log('the backlog is gone');
