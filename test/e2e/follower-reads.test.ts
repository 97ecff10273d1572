import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dense, MIB, TestCluster, until } from './test-cluster.ts';

const BODY_BYTES = 16 * 1024;
/** 48 MiB: six times what is kept in memory. */
const MESSAGES = 3072;
const QUEUES = 2;

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start({
    segmentBytes: 16 * MIB,
    hotTailBytes: 8 * MIB,
    followerReadBehindBytes: MIB,
    scrubBytesPerSecond: 0,
  });
}, 60_000);
afterAll(async () => cluster.stop());

const coldReads = async (replicaId: number): Promise<number> => (await cluster.metric(replicaId, 'ledgermq_log_cold_reads_total')) ?? 0;

async function consumeAll(group: string, topic: string, ordered: boolean): Promise<number[][]> {
  const offsets: number[][] = Array.from({ length: QUEUES }, () => []);
  const consumer = cluster.client().consumer({
    group,
    topics: [topic],
    consumeFromWhere: 'first',
    ordered,
    handler: ({ queueId, offset }) => void offsets[queueId]?.push(offset),
  });
  await consumer.start();
  await until(`${group} has everything`, () => offsets.reduce((sum, { length }) => sum + length, 0) >= MESSAGES, 40_000);
  await consumer.close();
  return offsets;
}

describe('pulls from followers', () => {
  test('F08 a consumer behind the hot tail reads from a follower and comes back; an orderly one stays; order and completeness are kept', async () => {
    await cluster.createTopic('t', QUEUES);
    const producer = cluster.client().producer({ compressType: 'none' });
    const body = new Uint8Array(BODY_BYTES).fill(7);
    for (let sent = 0; sent < MESSAGES; sent += 64) {
      await Promise.all(
        Array.from({ length: 64 }, (_, i) =>
          producer.send({ topic: 't', body, queue: { topic: 't', brokerName: 'a', queueId: i % QUEUES } }),
        ),
      );
    }
    await cluster.settled();
    const leader = (await cluster.local.leader()) as number;
    const followers = [1, 2, 3].filter((replicaId) => replicaId !== leader);
    const perQueue = dense(MESSAGES / QUEUES);

    const before = await Promise.all([1, 2, 3].map(coldReads));
    const orderly = await consumeAll('orderly', 't', true);
    expect(orderly).toEqual([perQueue, perQueue]);
    const between = await Promise.all([1, 2, 3].map(coldReads));
    for (const replicaId of followers) expect(between[replicaId - 1]).toBe(before[replicaId - 1]);
    const alone = (between[leader - 1] as number) - (before[leader - 1] as number);

    const concurrent = await consumeAll('concurrent', 't', false);
    for (const offsets of concurrent) expect(offsets.toSorted((a, b) => a - b)).toEqual(perQueue);
    const after = await Promise.all([1, 2, 3].map(coldReads));
    const served = followers.reduce((sum, replicaId) => sum + (after[replicaId - 1] as number) - (between[replicaId - 1] as number), 0);
    const left = (after[leader - 1] as number) - (between[leader - 1] as number);
    expect(served).toBeGreaterThan(0);
    expect(left).toBeLessThan(alone / 4);
    expect(await cluster.local.leader()).toBe(leader);
  }, 90_000);
});
