/**
 * Dead letters, repaired and replayed. One of three invoices has an amount that nobody can read. The consumer gives it up after its last
 * attempt, and the others go on. Somebody looks at it, corrects its body, and has it delivered again: under the same message id, so that
 * who has had it already can tell. The dead letter itself stays as it was.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('invoices', { queues: 1 });

const booked = new Map<string, number>();
const { promise: allBooked, resolve } = Promise.withResolvers<void>();
const consumer = client.consumer({
  group: 'book-keeping',
  topics: ['invoices'],
  consumeFromWhere: 'first',
  // Three attempts, soon after each other. By default 17: at once, after 10 s, 30 s, 1 min … 2 h.
  maxReconsumeTimes: 2,
  reconsumeBackoff: 'exponential',
  reconsumeBackoffBaseMs: 50,
  handler: (message) => {
    const amount = Number(message.text());
    if (Number.isNaN(amount)) throw new Error(`no amount: ${message.text()}`);
    booked.set(message.msgId, amount);
    if (booked.size === 3) resolve();
  },
});
await consumer.start();

const producer = client.producer();
const ids: string[] = [];
for (const body of ['100', '2oo', '300']) ids.push((await producer.send({ topic: 'invoices', body })).msgId);

const deadLetters = client.admin().deadLetters('book-keeping');
const broken = ids[1] as string;
for (let found = false; !found; await sleep(50)) {
  for await (const letter of deadLetters) found ||= letter.msgId === broken;
}
const letter = await deadLetters.get(broken);
console.log(`given up after ${letter.attempts} attempts: ${letter.message.text()}, from ${letter.origin.topic}`);
console.log(`booked meanwhile: ${[...booked.values()].join(', ')}`);

await deadLetters.replay(letter, { body: letter.message.text().replaceAll('o', '0') });
await allBooked;
console.log(`replayed: ${booked.get(broken)}, as the same message`);
const after = await deadLetters.get(broken);
console.log(`the dead letter still says ${after.message.text()}, replayed ${after.replays} time`);
