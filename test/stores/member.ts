/**
 * A consumer in a process of its own that ends itself by SIGKILL at a step of its work:
 * `node member.ts ENDPOINTS GROUP TOPIC HOST redis|postgres claimed|worked|marked|never [REDIS_SOCKET]`. The work is a row of the table `effects`.
 * Prints the message ids that it was done with, duplicates with a leading `=`.
 */
import { Redis } from 'ioredis';
import pg from 'pg';
import { idempotent, idempotentInTransaction, LedgerClient, type MessageHandler, PostgresMarks, RedisMarks } from '../../src/index.ts';

const [endpoints, group, topic, host, kind, dieAt, socket] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
];
const pool = new pg.Pool({ host, user: 'postgres', max: 4 });
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const onDuplicate = ({ msgId }: { readonly msgId: string }): void => say(`=${msgId}`);
const EFFECT = 'INSERT INTO effects (consumer_group, msg_id) VALUES ($1, $2)';

/** As when the power goes: nothing after this line happens. */
async function die(step: string): Promise<void> {
  if (step !== dieAt) return;
  process.kill(process.pid, 'SIGKILL');
  await new Promise(() => undefined);
}

const makers: Record<string, () => MessageHandler> = {
  redis: () => {
    const store = new RedisMarks(new Redis(socket));
    return idempotent({ store, onDuplicate, leaseMs: 1_000 }, async (message) => {
      await die('claimed');
      await pool.query(EFFECT, [group, message.msgId]);
      await die('worked');
    });
  },
  postgres: () => {
    const store = new PostgresMarks(() => pool.connect());
    return idempotentInTransaction({ store, onDuplicate }, async (message, tx) => {
      await die('claimed');
      await tx.query(EFFECT, [group, message.msgId]);
      await die('worked');
    });
  },
};
const handle = (makers[kind] as () => MessageHandler)();

const client = new LedgerClient({ endpoints });
const consumer = client.consumer({
  group,
  topics: [topic],
  consumeFromWhere: 'first',
  reconsumeBackoff: 'exponential',
  reconsumeBackoffBaseMs: 10,
  handler: async (message, context) => {
    await handle(message, context);
    await die('marked');
    say(message.msgId);
  },
});
await consumer.start();
