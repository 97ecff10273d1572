import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient } from '../../src/index.ts';
import { DatagramCodec, DatagramType } from '../../src/routing/datagram.ts';
import { cli } from '../cli/run.ts';
import { TestCluster, until } from '../e2e/test-cluster.ts';
import { alerts } from '../monitoring/rule-files.ts';
import { PrometheusServer, type Sample } from './prometheus-server.ts';

/**
 * Faults on real replicas, seen by the expressions of the alerts in a real Prometheus, and ended by the steps of the runbooks
 * (docs/operations/alerts.md). How long an expression must hold is tried in rules.test.yaml.
 */
let cluster: TestCluster;
let prometheus: PrometheusServer;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start({ transactionTimeoutMs: 500, transactionCheckIntervalMs: 500, transactionCheckMax: 1 });
  prometheus = await PrometheusServer.start(cluster.local.admin.map((url) => new URL(url).host));
  client = cluster.client();
  await until('feature level 3', async () => Number((await cluster.status(1))['featureLevel']) >= 3);
  await cluster.createTopic('going-on');
}, 90_000);
afterAll(() => Promise.all([prometheus.stop(), cluster.stop()]));

/** @param shorter another threshold than that of operation, so that a test need not wait for it: [what it says, what it says here] */
function expressionOf(alert: string, shorter?: readonly [string, string]): string {
  const found = alerts().find((each) => each.alert === alert);
  if (found === undefined) throw new Error(`no alert ${alert}`);
  if (shorter === undefined) return found.expr;
  if (!found.expr.includes(shorter[0])) throw new Error(`${alert} does not say ${shorter[0]}`);
  return found.expr.replace(...shorter);
}

async function holds(alert: string, shorter?: readonly [string, string]): Promise<readonly Sample[]> {
  let found: readonly Sample[] = [];
  await until(
    `${alert} holds`,
    async () => {
      found = await prometheus.query(expressionOf(alert, shorter));
      return found.length > 0;
    },
    40_000,
  );
  return found;
}

const clears = (alert: string, shorter?: readonly [string, string]): Promise<void> =>
  until(`${alert} holds no more`, async () => (await prometheus.query(expressionOf(alert, shorter))).length === 0, 40_000);

const quiet = async (...names: string[]): Promise<void> => {
  for (const alert of names) expect(await prometheus.query(expressionOf(alert)), alert).toEqual([]);
};

/** Whoever leads now answers requests again. */
async function works(topic: string): Promise<void> {
  await cluster.local.waitLeader();
  await client.producer().send({ topic, body: 'x' });
}

describe('faults, alerts and what to do', () => {
  test('F39 a replica is down: said by its target, its leader and gossip; the group goes on, and all is well when it is started', async () => {
    const down = ((await cluster.local.waitLeader()) % 3) + 1;
    await quiet('LedgerMQReplicaDown', 'LedgerMQReplicaSilent', 'LedgerMQBrokerDead', 'LedgerMQMajorityDown', 'LedgerMQNoLeader');
    await cluster.local.kill(down);
    expect((await holds('LedgerMQReplicaDown')).map(({ metric }) => metric['instance'])).toEqual([
      new URL(cluster.local.replica(down).adminUrl).host,
    ]);
    await holds('LedgerMQBrokerDead');
    expect((await holds('LedgerMQReplicaSilent')).map(({ metric }) => metric['peer'])).toEqual([String(down)]);
    await quiet('LedgerMQMajorityDown', 'LedgerMQNoLeader');
    await works('going-on');
    await cluster.local.restart(down);
    for (const alert of ['LedgerMQReplicaDown', 'LedgerMQReplicaSilent', 'LedgerMQBrokerDead']) await clears(alert);
  });

  test('F39 two of three are down: no majority, no leader; both go when the two are started', async () => {
    const leader = await cluster.local.waitLeader();
    const others = [1, 2, 3].filter((id) => id !== leader);
    for (const id of others) await cluster.local.kill(id);
    await holds('LedgerMQMajorityDown');
    await holds('LedgerMQNoLeader');
    await quiet('LedgerMQNeedsRecover');
    for (const id of others) await cluster.local.restart(id);
    await clears('LedgerMQMajorityDown');
    await clears('LedgerMQNoLeader');
    await works('going-on');
  });

  test('F39 all are down: nobody is left to say so, and it is said all the same', async () => {
    for (const id of [1, 2, 3]) await cluster.local.kill(id);
    await until('no series of a replica is left', async () => (await prometheus.query('ledgermq_server_state')).length === 0);
    await holds('LedgerMQMajorityDown');
    await cluster.local.restartGroup('a');
    await clears('LedgerMQMajorityDown');
    await works('going-on');
  });

  test('F39 a replica stood still for a second: its event loop says so', async () => {
    const { pid } = cluster.local.replica(1);
    process.kill(pid as number, 'SIGSTOP');
    await sleep(1_000);
    process.kill(pid as number, 'SIGCONT');
    const peak = 'max_over_time(nodejs_eventloop_lag_max_seconds{replica_id="1"}[30s]) > 0.3';
    expect(expressionOf('LedgerMQEventLoopStalls')).toBe('nodejs_eventloop_lag_max_seconds{node_type="broker"} > 0.3');
    await until('the stall is seen', async () => (await prometheus.query(peak)).length > 0);
    await clears('LedgerMQEventLoopStalls');
  });

  test('F39 datagrams with a wrong key are said with their reason', async () => {
    const codec = new DatagramCodec('local', 'another secret');
    const socket = createSocket('udp4');
    const port = Number(new URL(cluster.local.replica(1).endpoint).port) + 1;
    try {
      await until('it is refused', async () => {
        const sender = { brokerName: 'a', replicaId: 2, generation: 1, version: 1 };
        socket.send(codec.seal(codec.begin(DatagramType.ping, sender)), port, '127.0.0.1');
        return (await prometheus.query(expressionOf('LedgerMQGossipRefused'))).length > 0;
      });
    } finally {
      socket.close();
      await once(socket, 'close');
    }
    expect((await holds('LedgerMQGossipRefused')).map(({ metric }) => metric['reason'])).toEqual(['mac']);
  });

  test('F39 a group that is left alone lags; skipping, and coming back, end it', async () => {
    await cluster.createTopic('lagging');
    await works('lagging');
    let handled = 0;
    const consumer = client.consumer({ group: 'sleepers', topics: ['lagging'], consumeFromWhere: 'first', handler: () => void handled++ });
    await consumer.start();
    await until('its members have been there', () => handled === 1);
    await consumer.close();
    await works('lagging');
    const soon = ['> 300', '> 1'] as const;
    expect((await holds('LedgerMQConsumerLag', soon))[0]?.metric).toMatchObject({ consumer_group: 'sleepers', topic: 'lagging' });
    expect((await holds('LedgerMQConsumersGone'))[0]?.metric).toMatchObject({ consumer_group: 'sleepers' });
    expect(await cluster.json('group', 'lag', 'sleepers')).toBeDefined();
    await cluster.json('group', 'skip', 'sleepers', '--topic', 'lagging');
    await clears('LedgerMQConsumersGone');
    await clears('LedgerMQConsumerLag', soon);
    await works('lagging');
    await holds('LedgerMQConsumersGone');
    const again = client.consumer({ group: 'sleepers', topics: ['lagging'], handler: () => undefined });
    await again.start();
    await clears('LedgerMQConsumersGone');
    await clears('LedgerMQConsumerLag', soon);
    await again.close();
  });

  test('F39 the first dead letter is said; it is listed, shown and replayed', async () => {
    await cluster.createTopic('failing');
    let broken = true;
    let done = 0;
    const consumer = client.consumer({
      group: 'unlucky',
      topics: ['failing'],
      consumeFromWhere: 'first',
      maxReconsumeTimes: 0,
      handler: () => {
        if (broken) throw new Error('never');
        done++;
      },
    });
    await consumer.start();
    await works('failing');
    expect((await holds('LedgerMQDeadLetters'))[0]?.metric).toMatchObject({ consumer_group: 'unlucky', topic: 'failing' });
    const { letters } = (await cluster.json('dlq', 'list', 'unlucky', '--not-replayed')) as unknown as { letters: unknown[] };
    expect(letters).toHaveLength(1);
    broken = false;
    expect((await cluster.cli('dlq', 'replay', 'unlucky', '--not-replayed', '--all')).exit).toBe(0);
    await until('the replayed message is handled', () => done === 1);
    await consumer.close();
  });

  test('F39 transactions that nobody ended are said when they are rolled back, and listed', async () => {
    await cluster.createTopic('payments');
    const producer = client.transactionProducer({ group: 'payers', checkLocalTransaction: async () => 'unknown' });
    const { msgId } = await producer.begin({ topic: 'payments', body: 'nobody knows' });
    await producer.close();
    await holds('LedgerMQTransactionsDiscarded');
    expect((await cluster.cli('transaction', 'list', '--discarded')).stdout).toContain(msgId);
    expect((await cluster.cli('transaction', 'list', '--discarded', '--json')).stdout).toContain('nobody knows');
  });

  test('F39 a quota that refuses is said by its name; without it nothing is refused', async () => {
    await cluster.createTopic('thrifty');
    await cluster.json('quota', 'set', '--client', 'greedy', '--messages-per-s', '1');
    const greedy = cluster.client({ clientId: 'greedy' });
    const producer = greedy.producer({ deliveryTimeoutMs: 2_000 });
    let asks = true;
    const asking = (async () => {
      // One at a time: a batch would be in debt for so long that nobody asks again.
      while (asks) await Promise.allSettled([producer.send({ topic: 'thrifty', body: 'x' }), sleep(20)]);
    })();
    try {
      expect((await holds('LedgerMQQuotaThrottling'))[0]?.metric).toMatchObject({ kind: 'client', name: 'greedy' });
    } finally {
      asks = false;
      await asking;
    }
    expect(await cluster.json('quota', 'list')).toMatchObject({ quotas: [{ name: 'greedy' }] });
    await cluster.json('quota', 'remove', '--client', 'greedy');
    await Promise.all(Array.from({ length: 10 }, () => producer.send({ topic: 'thrifty', body: 'x' })));
  });

  test('I5 F39 two directories are lost: it is said that the group waits; raft recover on the third ends it', async () => {
    const { local } = cluster;
    for (const id of [1, 2, 3]) await local.stopReplica(id);
    for (const id of [2, 3]) rmSync(local.replica(id).dataDir, { recursive: true });
    await Promise.allSettled([1, 2, 3].map((id) => local.restart(id, 1_000)));
    await holds('LedgerMQNeedsRecover');
    await local.stopReplica(1);
    const recovered = await cli(['raft', 'recover', '--data-dir', local.replica(1).dataDir, '--reason', 'two directories are lost']);
    expect(recovered.exit, recovered.stderr).toBe(0);
    await local.restart(1);
    await clears('LedgerMQNeedsRecover');
    await until(
      'all three vote again',
      async () => {
        const voters = await prometheus.query('ledgermq_raft_members{role="voter"} == 3');
        return voters.length === 3;
      },
      60_000,
    );
    await works('going-on');
  });
});
