/** `node bench/waiting.ts ENDPOINTS N`: N clients of a connection each, whose long polls find nothing, until it is killed. */
import { LedgerClient } from '../src/index.ts';

const TOPIC = 'idle';
const WAIT_MS = 20_000;

const [endpoints = '', count = '1'] = process.argv.slice(2);
const admin = new LedgerClient({ endpoints });
await admin.admin().createTopic(TOPIC, { queues: 8 });
const consumers = await Promise.all(
  Array.from({ length: Number(count) }, async (_, i) => {
    const puller = new LedgerClient({ endpoints }).pullConsumer();
    const queues = await puller.queues(TOPIC);
    return { puller, queue: queues[i % queues.length] as (typeof queues)[number] };
  }),
);
console.log(`${consumers.length} waiting`);
await Promise.all(
  consumers.map(async ({ puller, queue }) => {
    for (;;) await puller.pull(queue, 0, { waitMs: WAIT_MS });
  }),
);
