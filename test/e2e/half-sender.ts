/**
 * A producer in a process of its own, to be killed by tests: `node half-sender.ts ENDPOINTS GROUP TOPIC BODY`.
 * Stores one half message, prints its transaction as a JSON line, and never says how it ended.
 */
import { LedgerClient } from '../../src/index.ts';

const [endpoints, group, topic, body] = process.argv.slice(2) as [string, string, string, string];
const client = new LedgerClient({ endpoints });
const producer = client.transactionProducer({ group, checkLocalTransaction: () => new Promise(() => undefined) });
const { transactionId } = await producer.begin({ topic, body, keys: [body] });
process.stdout.write(`${JSON.stringify({ transactionId })}\n`);
