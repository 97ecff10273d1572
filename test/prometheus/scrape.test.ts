import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { httpGet } from '../../src/cli/local-ports.ts';
import { TestCluster, until } from '../e2e/test-cluster.ts';
import { allQueries } from '../monitoring/dashboard-files.ts';
import { alerts, allRules, readRules } from '../monitoring/rule-files.ts';
import { Load } from './load.ts';
import { PrometheusServer } from './prometheus-server.ts';
import { promtool } from './promtool.ts';

/** A Prometheus, three replicas, and load that gives every panel something to show. */
let cluster: TestCluster;
let prometheus: PrometheusServer;
let load: Load;
beforeAll(async () => {
  cluster = await TestCluster.start({ transactionTimeoutMs: 1_000, transactionCheckIntervalMs: 500, transactionCheckMax: 1 });
  prometheus = await PrometheusServer.start(cluster.local.admin.map((url) => new URL(url).host));
  load = new Load(cluster);
  await until('feature level 3', async () => Number((await cluster.status(1))['featureLevel']) >= 3);
  await load.start();
}, 90_000);
afterAll(async () => {
  await load.stop();
  await Promise.all([prometheus.stop(), cluster.stop()]);
});

/** What a dashboard makes of it with everything selected, over the last quarter of a minute. */
const filledIn = (expr: string): string =>
  expr
    .replaceAll('$__rate_interval', '15s')
    .replaceAll('$cluster', 'local')
    .replaceAll(/\$(group|topic|consumer_group)\b/g, '.*');

describe('a real Prometheus', () => {
  test('F39 all replicas are up, under the name that the rules ask for', async () => {
    await until('three targets are up', async () => {
      const targets = await prometheus.targets();
      return targets.length === 3 && targets.every(({ health }) => health === 'up');
    });
    expect((await prometheus.query('up{job="ledgermq"}')).map(({ value }) => value[1])).toEqual(['1', '1', '1']);
  });

  test('F39 every panel of every dashboard shows something', async () => {
    const waiting = new Map(allQueries().map(({ panel, expr }) => [`${panel}: ${expr}`, filledIn(expr)]));
    expect(waiting.size).toBeGreaterThan(80);
    await until(
      'every query has data',
      async () => {
        for (const [name, expr] of waiting) {
          const samples = await prometheus.query(expr);
          // A quantile of nothing is NaN: no data, though a sample.
          if (samples.some(({ value }) => Number.isFinite(Number(value[1])))) waiting.delete(name);
        }
        return waiting.size === 0;
      },
      90_000,
    ).catch((error: unknown) => {
      throw new Error(`no data:\n${[...waiting].map(([name, expr]) => `${name}\n  ${expr}`).join('\n')}`, { cause: error });
    });
  });

  test('F39 all rules are loaded and evaluate; records have values; a healthy cluster wakes nobody', async () => {
    await until('every rule was evaluated', async () => (await prometheus.rules()).every(({ health }) => health !== 'unknown'));
    const loaded = await prometheus.rules();
    expect(new Set(loaded.map(({ name }) => name))).toEqual(new Set(allRules().map(({ alert, record }) => alert ?? record)));
    expect(loaded.filter(({ health }) => health !== 'ok')).toEqual([]);
    for (const { record } of allRules()) {
      if (record !== undefined) await until(`${record} has values`, async () => (await prometheus.query(record)).length > 0);
    }
    // How full and how fast this machine's disk is says nothing of the cluster.
    const ofTheMachine = new Set(
      readRules()
        .groups.find(({ name }) => name === 'ledgermq-disks')
        ?.rules.map(({ alert }) => alert),
    );
    const critical = new Set(alerts().flatMap(({ alert, labels }) => (labels?.['severity'] === 'critical' ? [alert] : [])));
    const woken = loaded.filter(({ name, state }) => critical.has(name) && !ofTheMachine.has(name) && state === 'firing');
    expect(woken.map(({ name }) => name)).toEqual([]);
  });

  test('F39 promtool finds nothing to say against the metrics of a replica that works', async () => {
    for (const url of cluster.local.admin) {
      const page = (await httpGet(`${url}/metrics`, 5_000))?.text ?? '';
      expect(page).toContain('# TYPE rocketmq_rpc_latency histogram');
      expect(await promtool(['check', 'metrics'], page)).toEqual({ exit: 0, output: '' });
    }
    expect((await promtool(['check', 'metrics'], '# TYPE wrong_count gauge\nwrong_count 1\n')).exit).not.toBe(0);
  });

  test('F39 no series of a deleted topic is left', async () => {
    const client = cluster.client();
    await cluster.createTopic('doomed');
    await client.producer().send({ topic: 'doomed', body: 'x' });
    const consumer = client.consumer({ group: 'doomed', topics: ['doomed'], consumeFromWhere: 'first' });
    for await (const _ of consumer) break;
    await consumer.close();
    const series = async (): Promise<number> => (await prometheus.query('{job="ledgermq",topic="doomed"}')).length;
    await until('its series are there', async () => (await series()) > 10);
    await client.admin().deleteTopic('doomed');
    await until('its series are gone', async () => (await series()) === 0);
  });
});
