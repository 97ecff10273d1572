import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { idempotent, type LedgerClient, MemoryMarks, type MessageHandler } from '../../src/index.ts';
import { TestCluster, until } from './test-cluster.ts';

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

const RETRY_SOON = { reconsumeBackoff: 'exponential', reconsumeBackoffBaseMs: 10 } as const;

/** A handler that counts its runs by message id, and what was kept from it. */
function counting(work: MessageHandler = () => undefined): {
  readonly handler: MessageHandler;
  readonly runs: string[];
  readonly duplicates: string[];
} {
  const runs: string[] = [];
  const duplicates: string[] = [];
  const store = new MemoryMarks();
  const handler = idempotent({ store, onDuplicate: ({ msgId }) => void duplicates.push(msgId) }, async (message, context) => {
    runs.push(message.msgId);
    await work(message, context);
  });
  return { handler, runs, duplicates };
}

describe('idempotence', () => {
  test('F26 the message id is the same over a lost answer, a retry, a delay and a reset: the work is done once', async () => {
    const [queue] = await cluster.createTopic('f26', 1);
    let failures = 0;
    const { handler, runs, duplicates } = counting((_message, { reconsumeTimes }) => {
      if (reconsumeTimes > 0) return;
      failures += 1;
      throw new Error('not now');
    });
    let done = 0;
    const seenTopics: string[] = [];
    const consumer = client.consumer({
      ...RETRY_SOON,
      group: 'f26',
      topics: ['f26'],
      consumeFromWhere: 'first',
      handler: async (message, context) => {
        await handler(message, context);
        seenTopics.push(message.queue.topic);
        done += 1;
      },
    });
    await consumer.start();
    const producer = client.producer();
    // The second one is told of as stored only after a change of leader: the answer to its first attempt is lost.
    const first = await producer.send({ topic: 'f26', body: 'at once' });
    const unanswered = producer.send({ topic: 'f26', body: 'over a failover' });
    await cluster.local.kill((await cluster.local.leader()) as number);
    const second = await unanswered;
    const third = await producer.send({ topic: 'f26', body: 'later', delayTimeLevel: 1 });
    const ids = [first, second, third].map(({ msgId }) => msgId);

    await until('all three are done, each by its retry', () => done === 3, 60_000);
    expect(failures).toBe(3);
    expect(seenTopics).toEqual(['%RETRY%f26', '%RETRY%f26', '%RETRY%f26']);
    expect(new Set(runs)).toEqual(new Set(ids));
    expect(runs).toHaveLength(6);

    await client.admin().resetOffsets('f26', 'f26', 'first');
    await until('all three came again', () => done === 6, 60_000);
    expect(runs).toHaveLength(6);
    expect(new Set(duplicates)).toEqual(new Set(ids));
    expect(queue?.queueId).toBe(0);
    await consumer.close();
  });

  test('F26 F23 a dead letter keeps its id: what was never done is done by its replay, once', async () => {
    await cluster.createTopic('f26-dead', 1);
    let works = false;
    const { handler, runs, duplicates } = counting(() => {
      if (!works) throw new Error('not now');
    });
    const consumer = client.consumer({
      ...RETRY_SOON,
      maxReconsumeTimes: 1,
      group: 'f26-dead',
      topics: ['f26-dead'],
      consumeFromWhere: 'first',
      handler,
    });
    await consumer.start();
    const { msgId } = await client.producer().send({ topic: 'f26-dead', body: 'x' });
    const deadLetters = client.admin().deadLetters('f26-dead');
    await until('it is dead', async () => (await deadLetters.list()).letters.length === 1);
    expect(runs).toEqual([msgId, msgId]);
    works = true;
    await deadLetters.replay(await deadLetters.get(msgId));
    await until('it is done', () => runs.length === 3);
    await deadLetters.replay(await deadLetters.get(msgId));
    await until('it came again', () => duplicates.length === 1);
    expect(runs).toEqual([msgId, msgId, msgId]);
    expect(duplicates).toEqual([msgId]);
    await consumer.close();
  });
});
