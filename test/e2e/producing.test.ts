import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LedgerError, type MessageQueue, type SendResult } from '../../src/index.ts';
import { TappedIo } from './tapped-io.ts';
import { dense, drain, numbered, TestCluster, texts, until } from './test-cluster.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('topics and queues', () => {
  test('F01 a topic says its queues; offsets are dense from 0 and FIFO in each queue', async () => {
    const queues = await cluster.createTopic('f01', 3);
    const client = cluster.client();
    expect(await client.pullConsumer().queues('f01')).toEqual(queues);
    const [described] = await client.admin().topics(['f01']);
    expect(described?.placement).toEqual([{ brokerName: 'a', queues: 3 }]);
    const producer = client.producer();
    for (const queue of queues) {
      const sends = numbered(50).map((body) => producer.send({ topic: 'f01', body: `${queue.queueId}-${body}`, queue }));
      expect((await Promise.all(sends)).map(({ offset }) => offset)).toEqual(dense(50));
      const stored = await drain(client, queue);
      expect(stored.map(({ offset }) => offset)).toEqual(dense(50));
      expect(texts(stored)).toEqual(numbered(50).map((body) => `${queue.queueId}-${body}`));
    }
  });
});

describe('load balancing', () => {
  test('F05 unkeyed sends go round robin, and stay on a queue until its batch closes', async () => {
    await cluster.createTopic('f05', 4);
    const io = new TappedIo();
    const client = cluster.client({ io });
    const producer = client.producer({ maxBatchMessages: 8 });
    const inOneTurn = await Promise.all(numbered(32).map((body) => producer.send({ topic: 'f05', body })));
    const queueOf = (results: SendResult[]): number[] => results.map(({ queueId }) => queueId);
    const turns = [0, 8, 16, 24].map((at) => new Set(queueOf(inOneTurn.slice(at, at + 8))));
    for (const turn of turns) expect(turn.size).toBe(1);
    expect(new Set(queueOf(inOneTurn))).toEqual(new Set([0, 1, 2, 3]));
    const first = inOneTurn[0]?.queueId as number;
    const oneByOne: SendResult[] = [];
    for (const body of numbered(8)) oneByOne.push(await producer.send({ topic: 'f05', body }));
    expect(queueOf(oneByOne)).toEqual(dense(8, first).map((queueId) => queueId % 4));
  });

  test('F05 an unanswered send stays with its queue; the refused leader is avoided for the new one', async () => {
    const queues = await cluster.createTopic('f05-stays', 4);
    const io = new TappedIo();
    const client = cluster.client({ io });
    const producer = client.producer();
    await producer.send({ topic: 'f05-stays', body: 'first' });
    const leader = await cluster.local.waitLeader();
    cluster.local.replica(leader).signal('SIGSTOP');
    try {
      const sentBefore = io.sent.length;
      const pending = producer.send({ topic: 'f05-stays', body: 'unanswered' });
      await until('the send is on its way', () => io.sent.length > sentBefore);
      const result = await pending;
      const attempts = io.sent.slice(sentBefore);
      expect(attempts.length).toBeGreaterThan(1);
      expect(new Set(attempts.map(({ body }) => body.parts[0]?.queueId))).toEqual(new Set([result.queueId]));
      expect(attempts[0]?.url).toBe(cluster.local.replica(leader).endpoint);
      expect(attempts.at(-1)?.url).not.toBe(attempts[0]?.url);
    } finally {
      cluster.local.replica(leader).signal('SIGCONT');
    }
    await cluster.local.waitReady(leader);
    const everywhere = (await Promise.all(queues.map((queue) => drain(client, queue)))).flat();
    expect(new Set(texts(everywhere))).toEqual(new Set(['first', 'unanswered']));
    expect(everywhere).toHaveLength(2);
  }, 60_000);
});

describe('sending', () => {
  test('F09 sync, async and one-way: result, callback, and no reply frame at all', async () => {
    const [queue] = (await cluster.createTopic('f09')) as [MessageQueue];
    const io = new TappedIo();
    const client = cluster.client({ io });
    const producer = client.producer();
    const sync = await producer.send({ topic: 'f09', body: 'sync' });
    expect(JSON.parse(JSON.stringify(sync))).toEqual({
      msgId: expect.stringMatching(/^[0-9A-F]{32}$/),
      topic: 'f09',
      brokerName: 'a',
      queueId: 0,
      offset: 0,
    });
    const async = await new Promise<SendResult | null>((resolve, reject) => {
      const returned = producer.send({ topic: 'f09', body: 'async' }, (error, result) =>
        error === null ? resolve(result) : reject(error),
      );
      expect(returned).toBeUndefined();
    });
    expect(async).toMatchObject({ queueId: 0, offset: 1 });
    producer.send({ topic: 'no-such-topic', body: '' }, (error) => io.received.push(Buffer.from(error?.code ?? '')));
    await until('the callback of a failure', () => io.received.some((frame) => Buffer.from(frame).toString() === 'TOPIC_NOT_FOUND'));

    producer.sendOneWay({ topic: 'f09', body: 'one-way' });
    await until('one-way stored', async () => (await client.pullConsumer().range(queue)).maxOffset === 3);
    const oneWay = io.sent.at(-1);
    expect(oneWay?.body.oneWay).toBe(true);
    // The connection is in order: only what is sent after it is answered.
    const before = io.received.length;
    await producer.send({ topic: 'f09', body: 'after' });
    expect(io.received.length).toBe(before + 1);
    expect(texts(await drain(client, queue))).toEqual(['sync', 'async', 'one-way', 'after']);
  });

  test('F10 definite refusals: 2 retries are 3 attempts with the stated backoff, then a code and every cause', async () => {
    const [queue] = (await cluster.createTopic('f10')) as [MessageQueue];
    const io = new TappedIo();
    const client = cluster.client({ io });
    const producer = client.producer({ retryBackoffBaseMs: 100, retryBackoffFactor: 2, retryJitter: false });
    io.fate = () => 'DISK_FULL';
    const error = (await producer.send({ topic: 'f10', body: 'refused' }).catch((reason: unknown) => reason)) as LedgerError;
    expect(error).toBeInstanceOf(LedgerError);
    expect(error.code).toBe('RETRIES_EXHAUSTED');
    expect(error.causes.map(({ code }) => code)).toEqual(['DISK_FULL', 'DISK_FULL', 'DISK_FULL']);
    const at = io.sent.map(({ atMs }) => atMs);
    expect(at).toHaveLength(3);
    expect((at[1] as number) - (at[0] as number)).toBeGreaterThanOrEqual(99);
    expect((at[2] as number) - (at[1] as number)).toBeGreaterThanOrEqual(199);

    let refusals = 0;
    io.fate = () => (refusals++ < 2 ? 'DISK_FULL' : null);
    expect(await producer.send({ topic: 'f10', body: 'third time' })).toMatchObject({ offset: 0 });
    expect(texts(await drain(client, queue))).toEqual(['third time']);
  });

  test('F10 lost answers and redirects use up no retry, and nothing is stored twice', async () => {
    const [queue] = (await cluster.createTopic('f10-lost')) as [MessageQueue];
    const io = new TappedIo();
    const client = cluster.client({ io, reconnectBackoffCapMs: 50 });
    const producer = client.producer({ retryTimesWhenSendFailed: 0 });
    let lost = 0;
    io.fate = () => (lost < 4 ? (lost++ % 2 === 0 ? 'loseAnswer' : 'NOT_LEADER') : null);
    const results = await Promise.all(numbered(20).map((body) => producer.send({ topic: 'f10-lost', body })));
    expect(lost).toBe(4);
    expect(results.map(({ offset }) => offset)).toEqual(dense(20));
    expect(texts(await drain(client, queue))).toEqual(numbered(20));
  });

  test('F10 nobody can know: OUTCOME_UNKNOWN at the delivery deadline', async () => {
    await cluster.createTopic('f10-unknown');
    const io = new TappedIo();
    const client = cluster.client({ io, reconnectBackoffCapMs: 50 });
    const producer = client.producer({ deliveryTimeoutMs: 700 });
    await producer.send({ topic: 'f10-unknown', body: 'known' });
    io.fate = () => 'loseAnswer';
    const error = (await producer.send({ topic: 'f10-unknown', body: 'unknown' }).catch((reason: unknown) => reason)) as LedgerError;
    expect(error.code).toBe('OUTCOME_UNKNOWN');
    expect(error.causes.length).toBeGreaterThan(0);
  });

  test('F11 a batch is stored together or not at all; single sends of one turn share one batch', async () => {
    const queues = await cluster.createTopic('f11', 2);
    const io = new TappedIo();
    const client = cluster.client({ io });
    const producer = client.producer();
    await producer.send({ topic: 'f11', body: 'first', queue: queues[0] as MessageQueue });
    const results = await producer.sendBatch(numbered(30).map((body) => ({ topic: 'f11', body })));
    expect(new Set(results.map(({ queueId }) => queueId)).size).toBe(1);
    const base = results[0]?.offset as number;
    expect(results.map(({ offset }) => offset)).toEqual(dense(30, base));
    expect(new Set(results.map(({ msgId }) => msgId)).size).toBe(30);

    const before = (await Promise.all(queues.map((queue) => client.pullConsumer().range(queue)))).map(({ maxOffset }) => maxOffset);
    const good = { topic: 'f11', body: 'good' };
    await expect(producer.sendBatch([good, { topic: 'f11', body: new Uint8Array(5 * 1024 * 1024) }])).rejects.toMatchObject({
      code: 'MESSAGE_TOO_LARGE',
    });
    await expect(producer.sendBatch([good, { topic: 'f09', body: 'other topic' }])).rejects.toMatchObject({ code: 'BAD_REQUEST' });
    io.fate = () => 'DISK_FULL';
    const refused = client.producer({ retryTimesWhenSendFailed: 0 });
    await expect(refused.sendBatch(numbered(5).map((body) => ({ topic: 'f11', body })))).rejects.toMatchObject({
      code: 'RETRIES_EXHAUSTED',
    });
    io.fate = () => null;
    const after = (await Promise.all(queues.map((queue) => client.pullConsumer().range(queue)))).map(({ maxOffset }) => maxOffset);
    expect(after).toEqual(before);

    const frames = io.sent.length;
    await Promise.all(numbered(200).map((body) => producer.send({ topic: 'f11', body })));
    expect(io.sent.length).toBe(frames + 1);
    expect(io.sent.at(-1)?.body.parts).toHaveLength(1);

    const lingering = client.producer({ lingerMs: 30_000, maxBatchMessages: 3 });
    const gathered = [lingering.send({ topic: 'f11', body: 'a' })];
    await producer.send({ topic: 'f11', body: 'another turn' });
    gathered.push(lingering.send({ topic: 'f11', body: 'b' }));
    await producer.send({ topic: 'f11', body: 'another turn' });
    gathered.push(lingering.send({ topic: 'f11', body: 'c' }));
    const together = await Promise.all(gathered);
    expect(together.map(({ offset }) => offset)).toEqual(dense(3, together[0]?.offset as number));
  });

  test('F12 order: keys keep theirs, pipelined async sends keep the order of the calls', async () => {
    const queues = await cluster.createTopic('f12', 4);
    const client = cluster.client();
    const producer = client.producer({ maxBatchMessages: 7 });
    const sends: Promise<SendResult>[] = [];
    for (let i = 0; i < 600; i++) sends.push(producer.send({ topic: 'f12', body: `k${i % 10}:${i}`, orderingKey: `k${i % 10}` }));
    const results = await Promise.all(sends);
    for (let key = 0; key < 10; key++) {
      expect(new Set(results.filter((_, i) => i % 10 === key).map(({ queueId }) => queueId)).size).toBe(1);
    }
    expect(new Set(results.map(({ queueId }) => queueId)).size).toBeGreaterThan(1);
    for (const queue of queues) {
      const numbers = texts(await drain(client, queue)).map((text) => Number(text.split(':')[1]));
      expect(numbers).toEqual(numbers.toSorted((left, right) => left - right));
    }
    const chosen = client.producer({ messageQueueSelector: (all, _message, arg) => all[Number(arg)] as MessageQueue });
    expect(await chosen.send({ topic: 'f12', body: 'mine' }, 3)).toMatchObject({ queueId: 3 });
  });
});

describe('stored bytes', () => {
  test('F30 a message by id and by offset, found and not found', async () => {
    const [queue] = (await cluster.createTopic('f30')) as [MessageQueue];
    const client = cluster.client();
    const producer = client.producer();
    const results = await producer.sendBatch(numbered(10).map((body) => ({ topic: 'f30', body, keys: [`key-${body}`], tag: 'T' })));
    const admin = client.admin();
    for (const at of [0, 4, 9]) {
      const { msgId } = results[at] as SendResult;
      const byId = await admin.message(msgId);
      expect(byId).toMatchObject({ msgId, topic: 'f30', queueId: 0, offset: at, tag: 'T', keys: [`key-m${at}`] });
      expect(byId.text()).toBe(`m${at}`);
      const byOffset = await admin.message({ ...queue, offset: at });
      expect([byOffset.msgId, byOffset.text()]).toEqual([msgId, `m${at}`]);
    }
    await expect(admin.message('0123456789ABCDEF0000000000000001')).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
    await expect(admin.message({ ...queue, offset: 10 })).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
    await expect(admin.message({ ...queue, topic: 'f30-none', offset: 0 })).rejects.toMatchObject({ code: 'TOPIC_NOT_FOUND' });
  });

  test('F32 leader: no offset; quorum and all: an offset; the topic says the minimum', async () => {
    const [queue] = (await cluster.createTopic('f32')) as [MessageQueue];
    const client = cluster.client();
    const admin = client.admin();
    await admin.createTopic('f32-leader', { queues: 1, replication: 'leader' });
    await admin.createTopic('f32-all', { queues: 1, replication: 'all' });
    const send = (topic: string, replication: 'topicMinimum' | 'leader' | 'quorum' | 'all'): Promise<SendResult> =>
      client.producer({ replication }).send({ topic, body: replication });
    expect((await send('f32-leader', 'leader')).offset).toBeNull();
    expect((await send('f32-leader', 'topicMinimum')).offset).toBeNull();
    expect((await send('f32-leader', 'quorum')).offset).toBe(2);
    expect((await send('f32-leader', 'all')).offset).toBe(3);
    // Less than the topic's minimum is not given.
    expect((await send('f32', 'leader')).offset).toBe(0);
    expect(texts(await drain(client, queue))).toEqual(['leader']);

    const leader = await cluster.local.waitLeader();
    const follower = [1, 2, 3].find((replicaId) => replicaId !== leader) as number;
    const toAll = client.producer();
    expect((await toAll.send({ topic: 'f32-all', body: 'first' })).offset).toBe(0);
    cluster.local.replica(follower).signal('SIGSTOP');
    try {
      let acknowledged = false;
      const all = toAll.send({ topic: 'f32-all', body: 'waits' }).then((result) => {
        acknowledged = true;
        return result;
      });
      // Each of these is a round of the majority; with `all` none of them is enough.
      for (let at = 1; at <= 5; at++) expect((await send('f32', 'quorum')).offset).toBe(at);
      expect(acknowledged).toBe(false);
      cluster.local.replica(follower).signal('SIGCONT');
      expect((await all).offset).toBe(1);
    } finally {
      cluster.local.replica(follower).signal('SIGCONT');
    }
  }, 60_000);

  test("F33 a batch is the same in the client, on three disks and in the pull's answer", async () => {
    const [queue] = (await cluster.createTopic('f33')) as [MessageQueue];
    const io = new TappedIo();
    const client = cluster.client({ io });
    await client.producer().sendBatch(numbered(100).map((body) => ({ topic: 'f33', body: body.repeat(50), tag: 'x' })));
    const sent = io.sent.at(-1)?.raw as Uint8Array;
    await cluster.settled();
    const { position } = await cluster.json('message', 'get', '--topic', 'f33', '--queue', '0', '--offset', '0');
    for (const replicaId of [1, 2, 3]) {
      expect(sha256(cluster.logBytes(replicaId, position as number, sent.length))).toBe(sha256(sent));
    }
    io.received.length = 0;
    await client.pullConsumer().pull(queue, 0);
    const answer = Buffer.from(io.received.at(-1) as Uint8Array);
    expect(sha256(answer.subarray(answer.indexOf(sent)).subarray(0, sent.length))).toBe(sha256(sent));
  });

  test('F33 consumption at the tail reads 0 bytes from disk', async () => {
    const [queue] = (await cluster.createTopic('f33-tail')) as [MessageQueue];
    const client = cluster.client();
    const leader = await cluster.local.waitLeader();
    const cold = (): Promise<number | null> => cluster.metric(leader, 'ledgermq_log_cold_read_bytes_total');
    const before = await cold();
    expect(before).not.toBeNull();
    const seen: string[] = [];
    const consumer = client.consumer({
      group: 'f33',
      topics: ['f33-tail'],
      consumeFromWhere: 'first',
      handler: (message) => void seen.push(message.text()),
    });
    await consumer.start();
    const producer = client.producer();
    for (let turn = 0; turn < 20; turn++)
      await Promise.all(numbered(50, turn * 50).map((body) => producer.send({ topic: 'f33-tail', body, queue })));
    await until('all consumed', () => seen.length >= 1_000);
    expect(seen).toEqual(numbered(1_000));
    expect(await cold()).toBe(before);
  });
});
