import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestCluster } from '../e2e/test-cluster.ts';
import { runExample } from '../examples/run.ts';
import { RedisServer } from './redis-server.ts';

let cluster: TestCluster;
let redis: RedisServer;
beforeAll(async () => {
  [cluster, redis] = await Promise.all([TestCluster.start(), RedisServer.start()]);
});
afterAll(() => Promise.all([cluster.stop(), redis.stop()]));

describe('F53 examples that need a server', () => {
  test('F26 idempotence by Redis: one mail for an order that was sent twice and delivered twice', async () => {
    const lines = await runExample('idempotence-redis', cluster.local.endpoints, { REDIS_URL: redis.path });
    expect(lines).toEqual(['2 messages for one order: 1 mail, 1 duplicate', '4 deliveries: 1 mail, 3 duplicates']);
  });
});
