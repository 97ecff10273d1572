import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Link } from '../../src/client/link.ts';
import type { DeadLetter, LedgerClient, ReceivedMessage } from '../../src/index.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { encodeBatch } from '../../src/protocol/record-batch-encoder.ts';
import { Op } from '../../src/protocol/requests.ts';
import { TestCluster, until } from './test-cluster.ts';

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

const ONCE = { maxReconsumeTimes: 1, reconsumeBackoff: 'exponential', reconsumeBackoffBaseMs: 50, reconsumeBackoffJitter: false } as const;

async function all(group: string): Promise<DeadLetter[]> {
  const letters: DeadLetter[] = [];
  for await (const letter of client.admin().deadLetters(group)) letters.push(letter);
  return letters;
}

describe('dead letters', () => {
  test('F23 after the last attempt: browsed, replayed one, by filter, all and corrected; the original and its origin stay, over a change of the leader too', async () => {
    const [queue] = await cluster.createTopic('f23', 1);
    const producer = client.producer();
    const sent = [];
    for (const body of ['bad-0', 'good', 'bad-1', 'bad-2']) {
      sent.push(await producer.send({ topic: 'f23', body, tag: body.slice(0, 3), keys: [`key-${body}`], properties: { kind: 'order' } }));
    }
    await producer.close();
    const handled: ReceivedMessage[] = [];
    let works = false;
    const consumer = client.consumer({
      ...ONCE,
      group: 'f23',
      topics: ['f23'],
      consumeFromWhere: 'first',
      handler: (message) => {
        if (message.tag === 'bad' && !works && message.properties['kind'] !== 'fixed') throw new Error('no');
        handled.push(message);
      },
    });
    await consumer.start();
    const deadLetters = client.admin().deadLetters('f23');
    await until('three are dead', async () => (await deadLetters.list()).letters.length === 3);
    const letters = await all('f23');
    expect(handled.map((message) => message.text())).toEqual(['good']);
    const byBody = new Map(letters.map((letter) => [letter.message.text(), letter]));
    const dead = byBody.get('bad-1') as DeadLetter;
    expect(dead).toMatchObject({ msgId: sent[2]?.msgId, attempts: 2, replays: 0, lastReplayMs: null, origin: { ...queue, offset: 2 } });
    expect(dead.message).toMatchObject({ topic: 'f23', tag: 'bad', keys: ['key-bad-1'], properties: { kind: 'order' } });
    await until('and nothing of them is left', async () => (await client.admin().lag('f23')) === 0);

    const counted = (await cluster.local.leader()) as number;
    expect(await cluster.metric(counted, 'rocketmq_send_to_dlq_messages_total')).toBe(3);

    // One, corrected: the others stay dead, and this one, too.
    const stored = await deadLetters.replay(dead, { body: 'mended', properties: { kind: 'fixed' } });
    expect(stored).toMatchObject({ msgId: dead.msgId, ...queue });
    await until('the corrected one is handled', () => handled.length === 2);
    const mended = handled[1] as ReceivedMessage;
    expect(mended.text()).toBe('mended');
    expect(mended).toMatchObject({ msgId: dead.msgId, tag: 'bad', keys: ['key-bad-1'], properties: { kind: 'fixed' }, reconsumeTimes: 0 });
    expect(mended.bornTimeMs).toBe(dead.message.bornTimeMs);
    const after = await deadLetters.get(dead.msgId);
    expect(after).toMatchObject({ replays: 1, origin: { offset: 2 } });
    expect(after.message.text()).toBe('bad-1');

    // By filter from the command line, after a change of the leader.
    works = true;
    const leader = (await cluster.local.leader()) as number;
    await cluster.lead((leader % 3) + 1);
    const page = await cluster.json('dlq', 'list', 'f23', '--key', 'key-bad-0');
    expect(page['letters']).toMatchObject([
      { msgId: sent[0]?.msgId, body: 'bad-0', attempts: 2, replays: 0, origin: { ...queue, offset: 0 } },
    ]);
    const ran = await cluster.cli('dlq', 'replay', 'f23', '--all', '--not-replayed', '--json');
    expect(ran.exit).toBe(0);
    const replayed = ran.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { msgId: string }).msgId);
    expect(replayed).toHaveLength(2);
    expect(new Set(replayed)).toEqual(new Set([sent[0]?.msgId, sent[3]?.msgId]));
    await until('all are handled', () => handled.length === 4);
    expect(new Set(handled.map(({ msgId }) => msgId))).toEqual(new Set(sent.map(({ msgId }) => msgId)));
    expect((await all('f23')).map(({ replays }) => replays)).toEqual([1, 1, 1]);

    // As a person sees them.
    const shown = await cluster.cli('dlq', 'show', 'f23', dead.msgId);
    expect(shown.stdout).toContain('queue 0 of a, offset 2');
    expect(shown.stdout).toContain('bad-1');
    const table = await cluster.cli('dlq', 'list', 'f23', '--limit', '2');
    expect(table.stdout).toMatch(/more: --from a:2/);
    expect((await cluster.cli('dlq', 'show', 'f23', 'a:99')).exit).toBe(1);
    expect((await cluster.cli('dlq', 'replay', 'f23')).exit).toBe(2);
    await consumer.close();
  });

  test('F23 a message that cannot be decoded is a dead letter at once, and stops nobody; replayed with properties it can be read', async () => {
    const [queue] = await cluster.createTopic('f23-bytes', 1);
    // What a broken client may have stored: a property that reaches beyond its region.
    const broken = { body: new TextEncoder().encode('broken'), bornTimeMs: 1, properties: Uint8Array.of(9, 9, 9, 9) };
    const sound = { body: new TextEncoder().encode('sound'), bornTimeMs: 1, tag: 't' };
    const idHigh = Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2);
    const { bytes } = encodeBatch([sound, broken, sound], { producerId: 5, producerEpoch: 0, firstSequence: 0, idHigh, idLow: 1 });
    const leader = (await cluster.local.leader()) as number;
    await store(cluster.local.replica(leader).endpoint, queue?.topic as string, bytes);
    for (const filter of ['*', 't']) {
      const group = filter === '*' ? 'f23-all' : 'f23-tag';
      const handled: string[] = [];
      const errors: unknown[] = [];
      const consumer = client.consumer({
        group,
        subscriptions: [{ topic: 'f23-bytes', filter }],
        consumeFromWhere: 'first',
        handler: (message) => void handled.push(message.text()),
        onError: (error) => void errors.push(error),
      });
      await consumer.start();
      await until(`all is committed with ${filter}`, async () => handled.length === 2 && (await client.admin().lag(group)) === 0);
      expect(handled).toEqual(['sound', 'sound']);
      const letters = await all(group);
      expect(letters).toMatchObject([{ attempts: 1, origin: { offset: 1 } }]);
      expect(letters[0]?.message.decodable).toBe(false);
      expect(errors).toMatchObject([{ code: 'CORRUPT_BATCH' }]);
      const deadLetters = client.admin().deadLetters(group);
      await expect(deadLetters.replay(letters[0] as DeadLetter)).rejects.toMatchObject({ code: 'CORRUPT_BATCH' });
      if (filter === 't') {
        const json = await cluster.json('dlq', 'list', group);
        expect(json['letters']).toMatchObject([{ decodable: false, body: 'broken', properties: {} }]);
        await deadLetters.replay(letters[0] as DeadLetter, { properties: {}, tag: 't' });
        await until('it is handled', () => handled.includes('broken'));
      }
      await consumer.close();
    }
  });

  test('F23 orderly: after maxReconsumeTimes in place the message is a dead letter, and its queue goes on', async () => {
    await cluster.createTopic('f23-order', 1);
    const producer = client.producer();
    for (const body of ['a', 'b', 'c']) await producer.send({ topic: 'f23-order', body, orderingKey: 'k' });
    await producer.close();
    const handled: string[] = [];
    const consumer = client.consumer({
      group: 'f23-order',
      topics: ['f23-order'],
      ordered: true,
      maxReconsumeTimes: 2,
      suspendCurrentQueueTimeMillis: 20,
      consumeFromWhere: 'first',
      handler: (message) => {
        handled.push(message.text());
        if (message.text() === 'b') throw new Error('no');
      },
    });
    await consumer.start();
    await until('all is committed', async () => handled.includes('c') && (await client.admin().lag('f23-order')) === 0);
    expect(handled).toEqual(['a', 'b', 'b', 'b', 'c']);
    expect(await all('f23-order')).toMatchObject([{ attempts: 3, origin: { offset: 1 } }]);
    await consumer.close();
  });
});

/** A batch as it is, from no client of ours. */
async function store(endpoint: string, topic: string, bytes: Uint8Array): Promise<void> {
  const hello = { clientId: 'broken', namespace: '', zone: '', agent: 'broken/1.0' };
  const reconnect = { baseMs: 100, factor: 2, capMs: 1_000, jitter: false };
  const options = { hello, requestTimeoutMs: 5_000, reconnect, keepAliveMs: 10_000, maxFrameBytes: 1 << 24, maxPendingRequests: 10 };
  const link = new Link(endpoint, nodeIo(), options, { onReady: () => {}, onLost: () => {}, onPush: () => {} });
  try {
    await new Promise<void>((resolve) => link.whenReady(5_000, () => resolve()));
    const request = { oneWay: false, replication: 0, parts: [{ topic, queueId: 0, sizeBytes: bytes.length }] };
    const error = await new Promise<unknown>((resolve) => {
      link.request(Op.send, request, 5_000, (failure, body) => resolve(failure ?? body?.results[0]?.error), bytes);
    });
    expect(error).toBe(0);
  } finally {
    link.close();
  }
}
