import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, PoppedMessage } from '../../src/index.ts';
import { numbered, TestCluster, until } from './test-cluster.ts';

const CONSUMERS = 6;
const QUEUES = 2;
const MESSAGES = 600;

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

async function send(topic: string, count: number): Promise<void> {
  const producer = client.producer();
  await Promise.all(numbered(count).map((body) => producer.send({ topic, body })));
}

const text = ({ message }: PoppedMessage): string => message.text();

describe('pop consumption', () => {
  test('F25 more consumers than queues share the work; a leader that is killed midway forgets no acknowledgement and loses nothing', async () => {
    await cluster.createTopic('f25', QUEUES);
    const handled = new Map<string, number>();
    const shares = new Array<number>(CONSUMERS).fill(0);
    const consumers = shares.map((_, at) =>
      cluster.client().popConsumer({
        group: 'f25',
        topic: 'f25',
        consumeFromWhere: 'first',
        concurrency: 4,
        maxMessages: 4,
        invisibleMs: 4_000,
        handler: (popped) => {
          shares[at] = (shares[at] as number) + 1;
          handled.set(popped.message.msgId, (handled.get(popped.message.msgId) ?? 0) + 1);
        },
      }),
    );
    await Promise.all(consumers.map((consumer) => consumer.start()));
    await send('f25', MESSAGES / 2);
    await until('half is handled', () => handled.size === MESSAGES / 2);
    const sending = send('f25', MESSAGES / 2);
    await cluster.local.replica((await cluster.local.leader()) as number).end('SIGKILL', 0);
    await sending;
    await until('all is handled', () => handled.size === MESSAGES, 30_000);
    await until('and acknowledged', async () => (await client.admin().lag('f25')) === 0, 30_000);
    // None of the six was left without work, though there are two queues.
    expect(Math.min(...shares)).toBeGreaterThan(0);
    const again = [...handled.values()].reduce((sum, times) => sum + times - 1, 0);
    // What was popped or acknowledged while the leader fell may come again, no more than all handlers held.
    expect(again).toBeLessThanOrEqual(CONSUMERS * 4);
    await Promise.all(consumers.map((consumer) => consumer.close()));
  }, 60_000);

  test('F25 F23 what is not acknowledged comes again to somebody else, what is acknowledged late does not count, what fails for ever is a dead letter', async () => {
    await cluster.createTopic('f25-again', 1);
    await send('f25-again', 2);
    const options = { group: 'f25-again', topic: 'f25-again', consumeFromWhere: 'first', invisibleMs: 500, maxAttempts: 3 } as const;
    const sleeper = cluster.client().popConsumer(options);
    const [kept, late] = (await sleeper.pop()) as [PoppedMessage, PoppedMessage];
    await kept.changeInvisibleTime(60_000);
    const other = cluster.client().popConsumer(options);
    const [again] = (await other.pop()) as [PoppedMessage];
    expect([text(again), again.attempts, again.message.msgId]).toEqual([text(late), 1, late.message.msgId]);
    await expect(late.ack()).rejects.toMatchObject({ code: 'RECEIPT_EXPIRED' });
    await kept.ack();
    await again.changeInvisibleTime(0);
    const [last] = (await other.pop()) as [PoppedMessage];
    expect(last.attempts).toBe(2);
    await last.changeInvisibleTime(0);
    expect(await other.pop(1, 100)).toEqual([]);
    const dead = await client.pullConsumer().pull({ topic: '%DLQ%f25-again', brokerName: 'a', queueId: 0 }, 0);
    expect(dead.messages).toMatchObject([{ topic: 'f25-again', msgId: late.message.msgId, reconsumeTimes: 3 }]);
    expect(dead.messages[0]?.origin).toEqual({ topic: 'f25-again', brokerName: 'a', queueId: 0, offset: late.message.offset });
    expect(await client.admin().lag('f25-again')).toBe(0);
  });
});
