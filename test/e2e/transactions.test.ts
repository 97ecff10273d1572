import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueue } from '../../src/index.ts';
import { drain, TestCluster, texts, until } from './test-cluster.ts';

/** Checks come soon, so that the tests need not wait for them. */
const SETTINGS = { transactionTimeoutMs: 700, transactionCheckIntervalMs: 500, transactionCheckMax: 40 };

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start(SETTINGS);
  client = cluster.client();
  await until('feature level 3', async () => (await cluster.status(1))['featureLevel'] === 3);
});
afterAll(() => cluster.stop());

const never = (): never => {
  throw new Error('not to be asked');
};
const all = async (queue: MessageQueue): Promise<string[]> => texts(await drain(client, queue));

describe('transactions', () => {
  test('F14 committed: seen once, in the order of the commits; rolled back: never; nothing before its commit', async () => {
    const [queue] = (await cluster.createTopic('f14')) as [MessageQueue];
    const producer = client.transactionProducer({ group: 'f14', checkLocalTransaction: never });
    const seenDuring: number[] = [];
    const committed = await producer.sendInTransaction({ topic: 'f14', body: 'one', tag: 't' }, async () => {
      seenDuring.push((await all(queue)).length);
      return 'commit';
    });
    expect(seenDuring).toEqual([0]);
    expect(committed).toMatchObject({ topic: 'f14', brokerName: 'a', queueId: 0, offset: 0, outcome: 'commit' });
    const rolledBack = await producer.sendInTransaction({ topic: 'f14', body: 'never' }, async () => 'rollback');
    expect(rolledBack).toMatchObject({ offset: null, outcome: 'rollback' });
    const [two, three] = [await producer.begin({ topic: 'f14', body: 'two' }), await producer.begin({ topic: 'f14', body: 'three' })];
    expect(await three.commit()).toBe(1);
    expect(await two.commit()).toBe(2);
    expect(await two.commit()).toBe(2);
    await expect(two.rollback()).rejects.toMatchObject({ code: 'TRANSACTION_CONFLICT' });
    const messages = await drain(client, queue);
    expect(texts(messages)).toEqual(['one', 'three', 'two']);
    expect(messages.map(({ msgId }) => msgId)).toEqual([committed.msgId, three.msgId, two.msgId]);
    expect(messages[0]).toMatchObject({ tag: 't', offset: 0 });
    expect((await client.admin().message(two.msgId)).text()).toBe('two');
    await expect(client.admin().message(rolledBack.msgId)).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
    await producer.close();
  });
});
