import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, ReceivedMessage } from '../../src/index.ts';
import { TestCluster, until } from './test-cluster.ts';

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

interface Seen {
  readonly atMs: number;
  readonly reconsumeTimes: number;
  readonly message: ReceivedMessage;
}

async function send(topic: string, bodies: readonly string[], tag?: string): Promise<string[]> {
  const producer = client.producer();
  const results = await Promise.all(bodies.map((body) => producer.send({ topic, body, ...(tag === undefined ? {} : { tag }) })));
  await producer.close();
  return results.map(({ msgId }) => msgId);
}

/** Messages that were handled, by body, and when. */
function keeper(): { readonly seen: Map<string, Seen[]>; note(message: ReceivedMessage): Seen[] } {
  const seen = new Map<string, Seen[]>();
  return {
    seen,
    note(message) {
      const all = seen.get(message.text()) ?? [];
      seen.set(message.text(), all);
      all.push({ atMs: performance.now(), reconsumeTimes: message.reconsumeTimes, message });
      return all;
    },
  };
}

const FAST = { reconsumeBackoff: 'exponential', reconsumeBackoffBaseMs: 100, reconsumeBackoffJitter: false } as const;

describe('retries', () => {
  test('F22 a message that failed comes again to the group, never early, as the same message of its own topic; the others go on meanwhile', async () => {
    await cluster.createTopic('f22', 2);
    const { seen, note } = keeper();
    const consumer = client.consumer({
      ...FAST,
      group: 'f22',
      subscriptions: [{ topic: 'f22', filter: 'red' }],
      consumeFromWhere: 'first',
      handler: (message) => {
        const attempts = note(message).length;
        if (message.text() === 'm3' && attempts <= 3) throw new Error('not yet');
      },
    });
    await consumer.start();
    const bodies = Array.from({ length: 8 }, (_, i) => `m${i}`);
    const ids = await send('f22', bodies, 'red');
    await until('the one that failed three times is done', () => seen.get('m3')?.length === 4);
    const attempts = seen.get('m3') as Seen[];
    expect(attempts.map(({ reconsumeTimes }) => reconsumeTimes)).toEqual([0, 1, 2, 3]);
    expect(new Set(attempts.map(({ message }) => message.msgId))).toEqual(new Set([ids[3]]));
    expect(new Set(attempts.map(({ message }) => message.topic))).toEqual(new Set(['f22']));
    expect(new Set(attempts.map(({ message }) => message.tag))).toEqual(new Set(['red']));
    expect(attempts.map(({ message }) => message.queue.topic)).toEqual(['f22', '%RETRY%f22', '%RETRY%f22', '%RETRY%f22']);
    const first = attempts[0] as Seen;
    for (const { message } of attempts.slice(1)) {
      expect(message.origin).toEqual({ ...first.message.queue, offset: first.message.offset });
    }
    const waits = attempts.slice(1).map(({ atMs }, i) => atMs - (attempts[i] as Seen).atMs);
    // 100, 200, 400 ms of log time, which may be slewed a little against this clock.
    waits.forEach((waitMs, i) => {
      expect(waitMs).toBeGreaterThanOrEqual(100 * 2 ** i * 0.95);
    });
    // A fresh group: its retry queue is the member's long before the first retry is due.
    expect(waits[0]).toBeLessThan(1_500);
    for (const body of bodies) if (body !== 'm3') expect(seen.get(body)).toHaveLength(1);
    await until('all is committed', async () => (await client.admin().lag('f22')) === 0);
    await consumer.close();
  });

  test('F22 a handler that takes longer than consumeTimeoutMs is a failed attempt', async () => {
    await cluster.createTopic('f22-slow', 1);
    const { seen, note } = keeper();
    let end: () => void = () => {};
    const consumer = client.consumer({
      ...FAST,
      group: 'f22-slow',
      topics: ['f22-slow'],
      consumeFromWhere: 'first',
      consumeTimeoutMs: 300,
      handler: async (message) => {
        if (note(message).length > 1) return;
        await new Promise<void>((resolve) => {
          end = resolve;
        });
      },
    });
    await consumer.start();
    await send('f22-slow', ['stuck']);
    await until('it is handled again', () => seen.get('stuck')?.length === 2);
    expect(seen.get('stuck')?.[1]?.reconsumeTimes).toBe(1);
    // Its handler never came back, and still the offset moved.
    await until('all is committed', async () => (await client.admin().lag('f22-slow')) === 0);
    end();
    await consumer.close();
  });

  test('F20 what a batch handler did not acknowledge is sent back, and nothing else', async () => {
    await cluster.createTopic('f20', 1);
    const batches: string[][] = [];
    await send('f20', ['a', 'b', 'c', 'd']);
    const consumer = client.consumer({
      ...FAST,
      group: 'f20',
      topics: ['f20'],
      consumeFromWhere: 'first',
      consumeMessageBatchMaxSize: 4,
      batchHandler: (messages, context) => {
        batches.push(messages.map((message) => message.text()));
        if (messages.length === 4) context.ackIndex = 1;
      },
    });
    await consumer.start();
    await until('the rest came again', () => batches.flat().length === 6);
    expect(batches[0]).toEqual(['a', 'b', 'c', 'd']);
    expect(new Set(batches.slice(1).flat())).toEqual(new Set(['c', 'd']));
    await until('all is committed', async () => (await client.admin().lag('f20')) === 0);
    await consumer.close();
  });

  test('F22 the leader is killed while messages are retried: none is lost, none comes early, attempts go on counting', async () => {
    const queues = await cluster.createTopic('f22-kill', 4);
    const { seen, note } = keeper();
    const consumer = client.consumer({
      ...FAST,
      group: 'f22-kill',
      topics: ['f22-kill'],
      consumeFromWhere: 'first',
      handler: (message) => {
        note(message);
        if (message.reconsumeTimes < 3) throw new Error('not yet');
      },
    });
    await consumer.start();
    const bodies = Array.from({ length: 40 }, (_, i) => `k${i}`);
    await send('f22-kill', bodies);
    await until('retries are under way', () => [...seen.values()].some((all) => all.some(({ reconsumeTimes }) => reconsumeTimes === 2)));
    const leader = (await cluster.local.leader()) as number;
    await cluster.local.kill(leader);
    await until('all are done', () => bodies.every((body) => seen.get(body)?.some(({ reconsumeTimes }) => reconsumeTimes === 3)));
    await until('all is committed', async () => (await client.admin().lag('f22-kill')) === 0);
    for (const body of bodies) {
      const attempts = seen.get(body) as Seen[];
      expect(new Set(attempts.map(({ reconsumeTimes }) => reconsumeTimes))).toEqual(new Set([0, 1, 2, 3]));
      for (let times = 1; times <= 3; times++) {
        const last = attempts.find(({ reconsumeTimes }) => reconsumeTimes === times - 1) as Seen;
        const next = attempts.find(({ reconsumeTimes }) => reconsumeTimes === times) as Seen;
        expect(next.atMs - last.atMs).toBeGreaterThanOrEqual(100 * 2 ** (times - 1) * 0.95);
      }
    }
    expect(queues).toHaveLength(4);
    await consumer.close();
    await cluster.local.restart(leader);
  });
});
