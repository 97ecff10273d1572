import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type LedgerClient, LedgerError, type MessageQueue, type ReceivedMessage } from '../../src/index.ts';
import { drain, numbered, TestCluster, texts, until } from './test-cluster.ts';

/** The group's clock follows those of its replicas, which is this machine's; it may be a little off in between. */
const CLOCK_SLACK_MS = 50;

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start({ messageDelayLevel: '1s 2s' });
  client = cluster.client();
});
afterAll(() => cluster.stop());

/** Waits for so many messages in the queue, and looks again: one that was delivered twice would come behind. */
async function delivered(queue: MessageQueue, count: number): Promise<readonly ReceivedMessage[]> {
  const puller = client.pullConsumer();
  await until(`${count} messages`, async () => (await puller.range(queue)).maxOffset >= count);
  return drain(client, queue);
}

/** Negative: early. */
const lateness = (messages: readonly ReceivedMessage[], delayMs: number): number[] =>
  messages.map(({ storeTimeMs, bornTimeMs }) => storeTimeMs - bornTimeMs - delayMs);

describe('delayed delivery', () => {
  test('F13 by level: after its delay and not before, once, in the order of the sends, with the leader killed while all of it waits', async () => {
    const [queue] = (await cluster.createTopic('levels')) as [MessageQueue];
    const producer = client.producer();
    const bodies = numbered(200);
    const results = await Promise.all(bodies.map((body) => producer.send({ topic: 'levels', body, delayTimeLevel: 2 })));
    expect(results.every(({ offset }) => offset === null)).toBe(true);
    await producer.send({ topic: 'levels', body: 'now', delayTimeLevel: 0 });
    expect(texts(await drain(client, queue))).toEqual(['now']);
    const leader = (await cluster.local.leader()) as number;
    await cluster.local.kill(leader);
    const messages = await delivered(queue, 201);
    await cluster.local.restart(leader);
    expect(texts(messages.slice(1))).toEqual(bodies);
    expect(messages.slice(1).map(({ msgId }) => msgId)).toEqual(results.map(({ msgId }) => msgId));
    expect(Math.min(...lateness(messages.slice(1), 2_000))).toBeGreaterThan(-CLOCK_SLACK_MS);
    expect((await drain(client, queue)).length).toBe(201);
  });

  test('F13 at any time: each when it is due, once, over two leader changes, one of them by kill -9', async () => {
    const [queue] = (await cluster.createTopic('any-time')) as [MessageQueue];
    const producer = client.producer();
    const start = Date.now();
    const delays = Array.from({ length: 300 }, (_, i) => 1_000 + ((i * 97) % 300) * 10);
    const results = await Promise.all(
      delays.map((delayMs, i) =>
        producer.send({
          topic: 'any-time',
          body: String(delayMs),
          ...(i % 2 === 0 ? { delayMs } : { deliverAt: new Date(start + delayMs) }),
        }),
      ),
    );
    const leader = (await cluster.local.leader()) as number;
    await cluster.local.kill(leader);
    await until('half of them', async () => (await client.pullConsumer().range(queue)).maxOffset >= 150);
    await cluster.cli('raft', 'transfer');
    const messages = await delivered(queue, 300);
    await cluster.local.restart(leader);
    expect(new Set(messages.map(({ msgId }) => msgId))).toEqual(new Set(results.map(({ msgId }) => msgId)));
    expect(messages).toHaveLength(300);
    const early = messages.filter((message) => message.storeTimeMs - start < Number(message.text()) - CLOCK_SLACK_MS);
    expect(early).toEqual([]);
    expect((await drain(client, queue)).length).toBe(300);
  });

  test('F13 cancelled before its delivery, by the client and by the command; another that waits is found, listed and delivered', async () => {
    const [queue] = (await cluster.createTopic('cancelled')) as [MessageQueue];
    const send = async (delay: string): Promise<string> =>
      (await cluster.json('send', 'cancelled', '--body', delay, '--deliver-at', String(Date.now() + 5_000)))['msgId'] as string;
    const [one, other, stays] = [await send('one'), await send('other'), await send('stays')] as [string, string, string];
    await client.admin().cancelDelayed(one, 'cancelled');
    expect(await cluster.json('message', 'cancel', other, '--topic', 'cancelled')).toEqual({ msgId: other, cancelled: true });
    expect(await cluster.json('message', 'get', stays)).toMatchObject({ body: 'stays', offset: null, pendingUntilMs: expect.any(Number) });
    expect((await cluster.cli('message', 'get', one)).exit).toBe(1);
    const [group] = await client.admin().delayed();
    expect(group).toMatchObject({ brokerName: 'a', timers: 3, cancelledMessages: 2 });
    expect(group?.levels.map(({ delayMs }) => delayMs)).toEqual([1_000, 2_000]);
    expect((await cluster.cli('delay', 'list')).stdout).toMatch(/3 timers in [12] time buckets/);
    expect(texts(await delivered(queue, 1))).toEqual(['stays']);
    await expect(client.admin().cancelDelayed(stays, 'cancelled')).rejects.toMatchObject({ code: 'ALREADY_DELIVERED' });
    expect(await cluster.json('message', 'get', stays)).toMatchObject({ body: 'stays', offset: 0 });
  });

  test('F13 what is no delay is refused before the network', async () => {
    const producer = client.producer();
    for (const delay of [{ delayTimeLevel: -1 }, { delayMs: Number.NaN }, { delayMs: 41 * 86_400_000 }, { delayMs: 1, deliverAt: 1 }]) {
      const failure = await producer.send({ topic: 'levels', body: '', ...delay }).catch((error: LedgerError) => error);
      expect(failure).toMatchObject({ code: 'BAD_DELAY' });
      expect(failure).toBeInstanceOf(LedgerError);
    }
  });
});
