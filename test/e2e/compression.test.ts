import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueue, ReceivedMessage } from '../../src/index.ts';
import { drain, TestCluster, texts, until } from './test-cluster.ts';

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

/** 10 KB that look alike, and none of them the same. */
const bodyOf = (i: number): string => `{"order":${i},"state":"paid"}\n`.repeat(360);

async function logBytes(): Promise<number> {
  return (await cluster.status((await cluster.local.leader()) as number))['endPosition'] as number;
}

describe('compression', () => {
  test('F46 large bodies take little room in the log and on the wire; filters, keys, pulls and single messages work on them', async () => {
    const [queue] = (await cluster.createTopic('f46')) as [MessageQueue];
    const [plainQueue] = (await cluster.createTopic('f46-plain')) as [MessageQueue];
    const grown = async (topic: MessageQueue, options: object): Promise<{ bytes: number; msgIds: string[] }> => {
      const before = await logBytes();
      const producer = client.producer(options);
      const sent = Array.from({ length: 60 }, (_, i) =>
        producer.send({
          topic: topic.topic,
          queue: topic,
          body: bodyOf(i),
          tag: `t${i % 3}`,
          keys: [`k${i}`],
          properties: { n: String(i) },
        }),
      );
      const msgIds = (await Promise.all(sent)).map(({ msgId }) => msgId);
      await producer.close();
      return { bytes: (await logBytes()) - before, msgIds };
    };
    const { bytes: plainBytes } = await grown(plainQueue, { compressType: 'none' });
    const { bytes, msgIds } = await grown(queue, {});
    expect(plainBytes).toBeGreaterThan(60 * 10_000);
    expect(bytes * 10).toBeLessThan(plainBytes);

    const expected = Array.from({ length: 60 }, (_, i) => bodyOf(i));
    expect(texts(await drain(client, queue))).toEqual(expected);
    const got: ReceivedMessage[] = [];
    const consumer = client.consumer({
      group: 'f46',
      subscriptions: [{ topic: 'f46', filter: 't1', sql: 'n > 30' }],
      consumeFromWhere: 'first',
      handler: (message) => void got.push(message),
    });
    await consumer.start();
    const wanted = expected.filter((_, i) => i % 3 === 1 && i > 30);
    await until('the filtered ones are there', () => got.length === wanted.length);
    await consumer.close();
    expect(texts(got)).toEqual(wanted);

    expect(await cluster.json('message', 'get', msgIds[7] as string)).toMatchObject({ body: bodyOf(7), tag: 't1', keys: ['k7'] });
    const { messages } = await client.admin().queryMessages({ topic: 'f46', key: 'k42' });
    expect(texts(messages)).toEqual([bodyOf(42)]);
    // The replicas hold the same bytes, and every one of them can be read from its own disk.
    expect((await cluster.cli('verify')).exit).toBe(0);
  });

  test('F46 F15 a body above the limit is refused, however small it would be compressed', async () => {
    await cluster.createTopic('f46-large');
    const producer = client.producer();
    await expect(producer.send({ topic: 'f46-large', body: new Uint8Array(4 * 1024 * 1024 + 1) })).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });
    const { offset } = await producer.send({ topic: 'f46-large', body: new Uint8Array(4 * 1024 * 1024) });
    expect(offset).toBe(0);
    await producer.close();
  });
});
