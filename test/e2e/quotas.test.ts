import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { measureNeighbour } from '../../bench/quota.ts';
import { TestCluster, until } from './test-cluster.ts';

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

describe('quotas', () => {
  test('F44 a client that sends far above its quota gets its quota, loses nothing, and its neighbour goes on', async () => {
    const quotaBytesPerS = 500_000;
    const report = await measureNeighbour({ endpoints: cluster.local.endpoints, quotaBytesPerS, rounds: 1, roundMs: 2_500, everyMs: 10 });
    const [alone, beside] = report.rounds;
    console.log(
      `F44 neighbour p99 ${alone?.p99Ms.toFixed(1)} ms alone, ${beside?.p99Ms.toFixed(1)} ms beside a client above its quota: ratio ${report.p99Ratio.toFixed(2)}`,
    );
    expect(report.refused).toBeGreaterThan(0);
    // Its bodies alone are counted here; a burst of a quarter of a second and one batch come besides.
    expect(report.busyBytesPerS).toBeLessThan(quotaBytesPerS * 1.3);
    expect(report.busyBytesPerS).toBeGreaterThan(quotaBytesPerS * 0.5);
  }, 60_000);

  test('F44 F42 set, list and remove at the command line; connections and topics; a new leader holds to them', async () => {
    expect(await cluster.json('quota', 'set', '--client', 'crowd-*', '--connections', '1')).toMatchObject({ done: ['a'], failed: [] });
    await cluster.json('quota', 'set', '--namespace', 'shop', '--topics', '1', '--messages-per-s', '100');
    const leader = await cluster.local.waitLeader();
    await cluster.lead((leader % 3) + 1);
    expect(await cluster.json('quota', 'list')).toMatchObject({
      quotas: [
        { kind: 'client', name: 'crowd-*', connections: 1, bytesPerSecond: -1, brokerName: 'a' },
        { kind: 'namespace', name: 'shop', topics: 1, messagesPerSecond: 100 },
      ],
      failed: [],
    });
    await cluster.json('topic', 'create', 'shop%orders');
    const refused = await cluster.cli('topic', 'create', 'shop%more');
    expect(refused.exit).toBe(1);
    expect(refused.stderr).toContain('QUOTA_EXCEEDED');

    await using first = cluster.client({ clientId: 'crowd-1' });
    await first.admin().clusterStatus();
    await using second = cluster.client({ clientId: 'crowd-2' });
    await expect(second.admin().clusterStatus()).rejects.toThrow('NO_ROUTE');
    await first[Symbol.asyncDispose]();
    await until('there is room', async () =>
      second
        .admin()
        .clusterStatus()
        .then(
          () => true,
          () => false,
        ),
    );
    await cluster.json('quota', 'remove', '--client', 'crowd-*');
    await cluster.json('quota', 'remove', '--namespace', 'shop');
    expect(await cluster.json('quota', 'list')).toMatchObject({ quotas: [] });
    expect((await cluster.cli('quota', 'set', '--client', 'x')).exit).toBe(2);
    expect((await cluster.cli('quota', 'set', '--client', 'x', '--topics', '3')).exit).toBe(1);
  }, 60_000);
});
