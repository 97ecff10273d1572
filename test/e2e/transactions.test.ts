import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueue } from '../../src/index.ts';
import { drain, TestCluster, texts, until } from './test-cluster.ts';

/** Checks come soon, so that the tests need not wait for them. */
const SETTINGS = { transactionTimeoutMs: 700, transactionCheckIntervalMs: 500, transactionCheckMax: 12 };

const never = (): never => {
  throw new Error('not to be asked');
};

let cluster: TestCluster;
let client: LedgerClient;
/** Id of a half message that nobody answers for. */
let lost: string;
beforeAll(async () => {
  cluster = await TestCluster.start(SETTINGS);
  client = cluster.client();
  await until('feature level 3', async () => Number((await cluster.status(1))['featureLevel']) >= 3);
  // Its last check is over when the last test looks for it.
  await cluster.createTopic('f14-lost');
  const producer = client.transactionProducer({ group: 'f14-lost', checkLocalTransaction: never });
  lost = (await producer.begin({ topic: 'f14-lost', body: 'lost' })).msgId;
  await producer.close();
});
afterAll(() => cluster.stop());

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

/** kill -9 of whoever leads; back when `done`. */
async function withoutLeader<T>(work: () => Promise<T>): Promise<T> {
  const leader = await cluster.local.waitLeader();
  await cluster.local.kill(leader);
  const result = await work();
  await cluster.local.restart(leader);
  return result;
}

describe('check-back', () => {
  const children = new Set<ChildProcess>();
  afterAll(() => {
    for (const child of children) child.kill('SIGKILL');
  });

  /** A process that stored a half message and was killed before it said how it ended. */
  async function orphan(group: string, topic: string, body: string): Promise<string> {
    const args = [join(import.meta.dirname, 'half-sender.ts'), cluster.local.endpoints.join(','), group, topic, body];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.add(child);
    const [line] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line')) as [string];
    child.kill('SIGKILL');
    await once(child, 'exit');
    children.delete(child);
    return (JSON.parse(line) as { transactionId: string }).transactionId;
  }

  test('F14 a producer that is killed: any other member of its group is asked, for what it committed and what it did not', async () => {
    const [queue] = (await cluster.createTopic('f14-orphans')) as [MessageQueue];
    const committed = await orphan('f14-orphans', 'f14-orphans', 'paid');
    const rolledBack = await orphan('f14-orphans', 'f14-orphans', 'failed');
    const asked: [string, number, string | undefined, string][] = [];
    const other = cluster.client().transactionProducer({
      group: 'f14-orphans',
      checkLocalTransaction: async (message, { transactionId, check }) => {
        asked.push([transactionId, check, message.keys[0], message.topic]);
        return message.text() === 'paid' ? 'commit' : 'rollback';
      },
    });
    await until('the committed one is seen', async () => (await all(queue)).length > 0);
    await until('both are answered', () => asked.length === 2);
    expect(await all(queue)).toEqual(['paid']);
    const about = new Map(asked.map(([id, , key, topic]) => [id, [key, topic]]));
    expect(about.get(committed)).toEqual(['paid', 'f14-orphans']);
    expect(about.get(rolledBack)).toEqual(['failed', 'f14-orphans']);
    await other.close();
  });

  test('F14 a leader change at every step: after the half message, after the local transaction, while the commit is on its way, while nobody answers', async () => {
    const [queue] = (await cluster.createTopic('f14-kills')) as [MessageQueue];
    const asked: string[] = [];
    const producer = client.transactionProducer({
      group: 'f14-kills',
      checkLocalTransaction: async (message) => {
        asked.push(message.text());
        return 'commit';
      },
    });
    const first = await producer.begin({ topic: 'f14-kills', body: 'after half' }, { checkImmunityTimeInSeconds: 600 });
    expect(await withoutLeader(() => first.commit())).toBe(0);
    const second = await producer.sendInTransaction(
      { topic: 'f14-kills', body: 'after local' },
      async () => {
        await cluster.local.kill(await cluster.local.waitLeader());
        return 'rollback';
      },
      { checkImmunityTimeInSeconds: 600 },
    );
    expect(second.outcome).toBe('rollback');
    await Promise.all(
      [1, 2, 3].map(async (id) => ((await cluster.local.replica(id).status()) === null ? cluster.local.restart(id) : null)),
    );
    const third = await producer.begin({ topic: 'f14-kills', body: 'on its way' }, { checkImmunityTimeInSeconds: 600 });
    const commit = third.commit();
    expect(await withoutLeader(() => commit)).toBe(1);
    await producer.begin({ topic: 'f14-kills', body: 'nobody answered' });
    await withoutLeader(() => until('the check commits it', async () => (await all(queue)).length === 3));
    expect(await all(queue)).toEqual(['after half', 'on its way', 'nobody answered']);
    expect(new Set(asked)).toEqual(new Set(['nobody answered']));
    expect(await first.commit()).toBe(0);
    await expect(first.rollback()).rejects.toMatchObject({ code: 'TRANSACTION_CONFLICT' });
    // Who has just been elected may not have applied the last outcome yet.
    const halves = async (): Promise<unknown> => cluster.metric(await cluster.local.waitLeader(), 'rocketmq_half_messages');
    await until('the gauge says that none is left', async () => (await halves()) === 0);
    await producer.close();
  });
});

describe('what waits', () => {
  test('F14 F42 ledgermq transaction list, show, commit and rollback; what nobody answered for is listed as discarded', async () => {
    const [queue] = (await cluster.createTopic('f14-cli')) as [MessageQueue];
    const producer = client.transactionProducer({ group: 'f14-cli', checkLocalTransaction: async () => 'unknown' });
    const options = { checkImmunityTimeInSeconds: 600 };
    const [yes, no] = [
      await producer.begin({ topic: 'f14-cli', body: 'yes', keys: ['k'] }, options),
      await producer.begin({ topic: 'f14-cli', body: 'no' }, options),
    ];
    const listed = await cluster.json('transaction', 'list', '--group', 'f14-cli');
    expect(listed).toMatchObject({
      transactions: [
        { transactionId: yes.transactionId, msgId: yes.msgId, producerGroup: 'f14-cli', topic: 'f14-cli', queueId: 0, checks: 0 },
        { transactionId: no.transactionId },
      ],
    });
    expect((await client.admin().pendingTransactions({ producerGroup: 'f14-cli' })).map(({ msgId }) => msgId)).toEqual([
      yes.msgId,
      no.msgId,
    ]);
    expect((await cluster.cli('transaction', 'list')).stdout).toContain(yes.transactionId);
    expect(await cluster.json('transaction', 'show', yes.transactionId)).toMatchObject({ body: 'yes', keys: ['k'], checks: 0 });
    expect(await cluster.json('transaction', 'commit', yes.transactionId)).toMatchObject({ outcome: 'commit', offset: 0 });
    expect(await client.admin().endTransaction(no.transactionId, 'rollback')).toBeNull();
    expect(await all(queue)).toEqual(['yes']);
    const again = await cluster.cli('transaction', 'rollback', yes.transactionId);
    expect([again.exit, again.stderr.includes('TRANSACTION_NOT_FOUND')]).toEqual([1, true]);
    await expect(no.commit()).rejects.toMatchObject({ code: 'TRANSACTION_CONFLICT' });
    await producer.close();
    const discarded = async () =>
      (await cluster.json('transaction', 'list', '--discarded'))['messages'] as { msgId: string; body: string }[];
    await until('the last check is over', async () => (await discarded()).length === 1);
    expect(await discarded()).toMatchObject([{ msgId: lost, body: 'lost', topic: 'f14-lost' }]);
    expect(await all({ topic: 'f14-lost', brokerName: 'a', queueId: 0 })).toEqual([]);
  });
});
