import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { allQueries, readDashboards } from './dashboard-files.ts';
import { knownSeries, nameProblems, selectorsOf } from './promql.ts';
import { allRules, MONITORING } from './rule-files.ts';

/** Of Grafana 12; older ones are raised to it when they are loaded. */
const SCHEMA_VERSION = 41;
const COLUMNS = 24;
/** Grafana's names of units that are used here. */
const UNITS = ['none', 'cps', 'pps', 'Bps', 'bytes', 'ms', 's', 'percentunit'];

const dashboards = readDashboards();

describe('dashboards', () => {
  test('F39 there is one for the cluster, broker groups, topics, consumer groups and client errors', () => {
    const names = ['cluster', 'group', 'topics', 'consumers', 'clients'];
    expect(new Set(dashboards.keys())).toEqual(new Set(names.map((name) => `ledgermq-${name}`)));
    for (const [file, { uid, title, tags, schemaVersion, templating }] of dashboards) {
      expect(uid).toBe(file);
      expect(title).toMatch(/^LedgerMQ: /);
      expect(tags).toEqual(['ledgermq']);
      expect(schemaVersion).toBe(SCHEMA_VERSION);
      expect(templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource', query: 'prometheus' });
      expect(templating.list[1]?.name).toBe('cluster');
    }
  });

  test('F39 panels: ids of their own, on the grid, each with a unit, the variable datasource, a query and a legend', () => {
    for (const [file, { panels }] of dashboards) {
      expect(new Set(panels.map(({ id }) => id)).size, file).toBe(panels.length);
      const taken = new Set<string>();
      for (const { type, title, gridPos, fieldConfig, datasource, targets } of panels) {
        const name = `${file}: ${title}`;
        expect(title.length, name).toBeGreaterThan(2);
        expect(gridPos.x + gridPos.w, name).toBeLessThanOrEqual(COLUMNS);
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(taken.has(`${x} ${y}`), `${name} lies on another one`).toBe(false);
            taken.add(`${x} ${y}`);
          }
        }
        if (type === 'row') continue;
        expect(['timeseries', 'stat'], name).toContain(type);
        expect(UNITS, name).toContain(fieldConfig?.defaults.unit);
        expect(datasource, name).toEqual({ type: 'prometheus', uid: expect.stringMatching(/^\$\{datasource\}$/) });
        expect(targets?.length, name).toBeGreaterThan(0);
        expect(new Set(targets?.map(({ refId }) => refId)).size, name).toBe(targets?.length);
        for (const target of targets ?? []) {
          expect(target.datasource, name).toEqual(datasource);
          if (type === 'timeseries') expect(target.legendFormat, name).not.toBe('');
        }
      }
    }
  });

  test('F39 queries: every metric and label is in the table of metrics, every variable is one of the dashboard', async () => {
    const known = await knownSeries();
    const records = new Set(allRules().flatMap(({ record }) => record ?? []));
    const queries = allQueries();
    expect(queries.length).toBeGreaterThan(80);
    for (const { panel, expr } of queries) {
      expect(selectorsOf(expr).length, panel).toBeGreaterThan(0);
      expect(nameProblems(expr, known, records), panel).toEqual([]);
      const own = dashboards.get(panel.split(':')[0] as string)?.templating.list.map(({ name }) => name) ?? [];
      const variables = [...expr.matchAll(/\$([a-z_]+)/g)].map(([, name]) => name as string);
      expect(
        variables.filter((name) => ![...own, '__rate_interval'].includes(name)),
        panel,
      ).toEqual([]);
    }
  });

  test('F39 lag is there in messages and in seconds', () => {
    const metrics = (unit: string): string[] =>
      (dashboards.get('ledgermq-consumers')?.panels ?? [])
        .filter(({ fieldConfig }) => fieldConfig?.defaults.unit === unit)
        .flatMap(({ targets }) => targets ?? [])
        .flatMap(({ expr }) => selectorsOf(expr))
        .map(({ metric }) => metric);
    expect(metrics('none')).toContain('rocketmq_consumer_lag_messages');
    expect(metrics('s')).toContain('rocketmq_consumer_lag_latency');
  });

  test('F41 kustomize: each dashboard in a ConfigMap that Grafana looks for, under one name; rules and targets are there', () => {
    const file = parse(readFileSync(join(MONITORING, 'kustomization.yaml'), 'utf8')) as {
      readonly resources: readonly string[];
      readonly configMapGenerator: readonly { readonly name: string; readonly files: readonly string[] }[];
      readonly generatorOptions: { readonly disableNameSuffixHash: boolean; readonly labels: Readonly<Record<string, string>> };
    };
    expect(file.configMapGenerator.flatMap(({ files }) => files).sort()).toEqual(
      [...dashboards.keys()].map((name) => `dashboards/${name}.json`),
    );
    expect(file.generatorOptions).toEqual({ disableNameSuffixHash: true, labels: { grafana_dashboard: '1' } });
    expect(file.resources).toEqual(['service-monitor.yaml', 'prometheus-rule.yaml']);
    const monitor = parse(readFileSync(join(MONITORING, 'service-monitor.yaml'), 'utf8')) as {
      readonly spec: {
        readonly jobLabel: string;
        readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
        readonly endpoints: readonly { readonly port: string; readonly path: string }[];
      };
    };
    // The rules say job="ledgermq".
    expect(monitor.spec.selector.matchLabels[monitor.spec.jobLabel]).toBe('ledgermq');
    expect(monitor.spec.endpoints).toMatchObject([{ port: 'admin', path: '/metrics' }]);
  });
});
