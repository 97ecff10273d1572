import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { knownSeries, nameProblems, selectorsOf } from './promql.ts';
import { alerts, allRules, PROMETHEUS_RULE_FILE, prometheusRuleText, ROOT, readRules, readRuleTests } from './rule-files.ts';

const RUNBOOKS = 'docs/operations/alerts.md';
/** What every section says, so that nobody has to look for it at three in the morning. */
const PARTS = ['**Means**', '**Look**', '**Do**', '**Tried**'];

/** Text of the section with this heading. */
function sectionOf(page: string, heading: string): string {
  return page.split(/^## /m).find((section) => section.startsWith(`${heading}\n`)) ?? '';
}

describe('alert rules', () => {
  test('F39 alerts: a severity that says who looks when, a summary, a section of the runbook with all its parts', () => {
    const page = readFileSync(join(ROOT, RUNBOOKS), 'utf8');
    expect(alerts().length).toBeGreaterThan(30);
    for (const { alert, labels, annotations } of alerts()) {
      expect(alert).toMatch(/^LedgerMQ[A-Z][A-Za-z]+$/);
      expect(['critical', 'warning', 'info'], alert).toContain(labels?.['severity']);
      expect(annotations?.['summary']?.length, alert).toBeGreaterThan(20);
      expect(annotations?.['runbook_url'], alert).toBe(`${RUNBOOKS}#${alert.toLowerCase()}`);
      const section = sectionOf(page, alert);
      for (const part of PARTS) expect(section, alert).toContain(part);
    }
    for (const [, path] of page.matchAll(/`((?:test|docs|k8s)\/[\w./-]+)`/g))
      expect(existsSync(join(ROOT, path as string)), path).toBe(true);
    const headings = [...page.matchAll(/^## (LedgerMQ\w+)$/gm)].map(([, heading]) => heading);
    expect(new Set(headings)).toEqual(new Set(alerts().map(({ alert }) => alert)));
    expect(headings).toHaveLength(alerts().length);
  });

  test('F39 alerts: each has a test in which it fires and one in which it does not', () => {
    const tests = readRuleTests().tests.flatMap(({ alert_rule_test }) => alert_rule_test ?? []);
    for (const { alert, labels } of alerts()) {
      const own = tests.filter(({ alertname }) => alertname === alert);
      const firing = own.filter(({ exp_alerts }) => (exp_alerts?.length ?? 0) > 0);
      expect(firing.length, `${alert} fires`).toBeGreaterThan(0);
      expect(own.length - firing.length, `${alert} does not`).toBeGreaterThan(0);
      for (const { exp_alerts } of firing) expect(exp_alerts?.[0]?.exp_labels['severity']).toBe(labels?.['severity']);
    }
    const known = new Set(alerts().map(({ alert }) => alert));
    expect(tests.map(({ alertname }) => alertname).filter((name) => !known.has(name))).toEqual([]);
  });

  test('F39 alerts: every metric and every label that a rule names is in the table of metrics', async () => {
    const known = await knownSeries();
    const records = new Set(allRules().flatMap(({ record }) => record ?? []));
    for (const { alert, record, expr } of allRules()) {
      expect(selectorsOf(expr).length, alert ?? record).toBeGreaterThan(0);
      expect(nameProblems(expr, known, records), alert ?? record).toEqual([]);
    }
    expect(nameProblems('rate(ledgermq_no_such_total[5m])', known, records)).toEqual(['ledgermq_no_such_total is no metric']);
    expect(nameProblems('ledgermq_raft_term{peer="1"} > 0', known, records)).toEqual(['ledgermq_raft_term has no label peer']);
    expect(nameProblems('rocketmq_rpc_latency > 0', known, records)).toEqual(['rocketmq_rpc_latency is no metric']);
  });

  test('F42 runbooks: every command, option and setting that they name is there', () => {
    const page = readFileSync(join(ROOT, RUNBOOKS), 'utf8');
    const reference = readFileSync(join(ROOT, 'docs', 'reference', 'cli.md'), 'utf8');
    const commands = new Map(
      reference
        .split(/^## ledgermq /m)
        .slice(1)
        .map((text) => [/^[a-z0-9]+(?: [a-z-]+)?/.exec(text)?.[0] as string, text] as const),
    );
    const used = [...page.matchAll(/(?:`|^|-- )ledgermq ([a-z0-9]+(?: [a-z-]+)?)([^`\n]*)/gm)];
    expect(used.length).toBeGreaterThan(30);
    for (const [line, words, rest] of used) {
      const name = commands.has(words as string) ? (words as string) : (words as string).split(' ')[0];
      const text = commands.get(name as string);
      expect(text, line).toBeDefined();
      for (const [option] of (rest as string).matchAll(/--[a-z-]+/g)) expect(text, line).toContain(`\`${option}`);
    }
    const settings = readFileSync(join(ROOT, 'docs', 'reference', 'config.md'), 'utf8');
    for (const [, setting] of page.matchAll(/`((?:retention|election|transaction|catchUp|max|featureLevel|onMajority)[A-Za-z]+)[`=]/g)) {
      expect(settings).toContain(`\`${setting}\``);
    }
  });

  test('the PrometheusRule is made of the rules', () => {
    const text = readFileSync(PROMETHEUS_RULE_FILE, 'utf8');
    expect(text).toBe(prometheusRuleText());
    expect((parse(text) as { spec: unknown }).spec).toEqual(readRules());
  });
});
