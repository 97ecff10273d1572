/**
 * Broadcast of a configuration change. Every instance of a service must hear of it, not one of them: with messageModel 'broadcasting'
 * each member of the group gets every message.
 */
import { LedgerClient } from '../src/index.ts'; // in a project of yours: from 'ledgermq'

await using client = new LedgerClient({ endpoints: process.env['LEDGERMQ_ENDPOINT'] ?? 'ws://127.0.0.1:7460' });
await client.admin().createTopic('configuration', { queues: 1 });
const started = new Date().toISOString();

/** One instance of the shop, with its own copy of the configuration. */
async function instance(name: string): Promise<{ readonly changed: Promise<void> }> {
  const configuration = new Map<string, string>();
  const { promise: changed, resolve } = Promise.withResolvers<void>();
  const consumer = client.consumer({
    group: 'shop-configuration',
    topics: ['configuration'],
    messageModel: 'broadcasting',
    // An instance that starts takes all changes that are kept, so that it misses none.
    consumeFromWhere: 'first',
    handler: (message) => {
      const { key, value, at } = JSON.parse(message.text()) as Record<'key' | 'value' | 'at', string>;
      configuration.set(key, value);
      if (at !== started) return;
      console.log(`${name}: ${key} is now ${configuration.get(key)}`);
      resolve();
    },
  });
  await consumer.start();
  return { changed };
}

const instances = await Promise.all(['shop-1', 'shop-2', 'shop-3'].map(instance));
await client.producer().send({ topic: 'configuration', body: JSON.stringify({ key: 'free-shipping', value: 'from 50 €', at: started }) });
await Promise.all(instances.map(({ changed }) => changed));
