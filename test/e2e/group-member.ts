/**
 * A consumer in a process of its own, to be killed and frozen by tests: `node group-member.ts ENDPOINTS GROUP TOPIC`.
 * Prints one JSON line for each message handled and each change of its assignment; ends its session in order on SIGTERM.
 */
import { LedgerClient } from '../../src/index.ts';

const [endpoints, group, topic] = process.argv.slice(2) as [string, string, string];
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

const client = new LedgerClient({ endpoints });
const consumer = client.consumer({
  group,
  topics: [topic],
  consumeFromWhere: 'first',
  ordered: true,
  handler: ({ queueId, offset }) => say({ queueId, offset }),
});
await consumer.start();
process.once('SIGTERM', () => void client.close().then(() => say({ closed: true })));
