/**
 * Log collection. A log line is worth a try, not a wait: one-way sends are neither answered nor repeated, and may be lost. The collector
 * of errors is sent nothing else by the broker: it filters by tag.
 */
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('logs', { queues: 2 });

const LINES = 1_000;
const producer = client.producer();
const start = performance.now();
for (let i = 0; i < LINES; i++) {
  // Throws BUSY when the buffer is full: a service would count the line as lost and go on.
  producer.sendOneWay({ topic: 'logs', tag: i % 100 === 0 ? 'ERROR' : 'INFO', body: `line ${i} of the shop` });
}
console.log(`${LINES} lines handed over, ${(((performance.now() - start) * 1_000) / LINES).toFixed(0)} µs each`);

/** How many lines a collector with this filter has by the time when nothing more comes. */
async function collect(group: string, filter: string): Promise<number> {
  let lines = 0;
  const { promise: quiet, resolve } = Promise.withResolvers<void>();
  let timer = setTimeout(resolve, 5_000);
  const consumer = client.consumer({
    group,
    subscriptions: [{ topic: 'logs', filter }],
    consumeFromWhere: 'first',
    handler: () => {
      lines += 1;
      clearTimeout(timer);
      timer = setTimeout(resolve, 500);
    },
  });
  await consumer.start();
  await quiet;
  await consumer.close();
  return lines;
}
const [all, errors] = await Promise.all([collect('log-archive', '*'), collect('log-alarms', 'ERROR')]);
console.log(`archived ${all} lines, alarmed for ${errors}`);
