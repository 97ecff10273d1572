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
      handler: (message, context) => {
        const attempts = note(message).length;
        context.delayLevelWhenNextConsume = 1;
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
    for (const body of bodies) if (body !== 'm3') expect(seen.get(body)).toHaveLength(1);
    await until('all is committed', async () => (await client.admin().lag('f22')) === 0);
    await consumer.close();
  });
});
