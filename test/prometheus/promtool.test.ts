import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { alerts, allRules, RULES_FILE, RULES_TEST_FILE, type Rule, readRuleTests } from '../monitoring/rule-files.ts';
import { promtool } from './promtool.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ledgermq-promtool-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The tests of one alert alone, against rules of which only what it needs is left. @returns promtool's exit code */
async function testsOf(alert: string, expr: string): Promise<number> {
  const records = allRules().filter(({ record }) => record !== undefined);
  const rule = alerts().find((each) => each.alert === alert) as Rule;
  const rules = join(scratch, `${alert}.rules.yaml`);
  writeFileSync(rules, stringify({ groups: [{ name: 'one', rules: [...records, { ...rule, expr }] }] }));
  const tests = readRuleTests().tests.filter(({ alert_rule_test }) => alert_rule_test?.[0]?.alertname === alert);
  const file = join(scratch, `${alert}.test.yaml`);
  writeFileSync(file, stringify({ ...readRuleTests(), rule_files: [rules], tests }));
  return (await promtool(['test', 'rules', file])).exit;
}

describe('promtool', () => {
  test('F39 the rules load, for Prometheus and as the tests have them', async () => {
    expect(await promtool(['check', 'rules', RULES_FILE])).toMatchObject({ exit: 0, output: expect.stringContaining('SUCCESS') });
    expect((await promtool(['check', 'rules'], readFileSync(RULES_FILE, 'utf8').replace('max by (', 'max by ((')))?.exit).not.toBe(0);
  });

  test('F39 every alert fires, and does not', async () => {
    const { exit, output } = await promtool(['test', 'rules', RULES_TEST_FILE]);
    expect(output).toContain('SUCCESS');
    expect(exit).toBe(0);
  });

  test('F39 the tests of every alert see it broken: one that never fires, one that always does', async () => {
    const unseen: string[] = [];
    for (const { alert, expr } of alerts()) {
      if ((await testsOf(alert, expr)) !== 0) unseen.push(`${alert} fails alone`);
      if ((await testsOf(alert, 'vector(0) > 1')) === 0) unseen.push(`${alert} never fires`);
      if ((await testsOf(alert, 'vector(1)')) === 0) unseen.push(`${alert} always fires`);
    }
    expect(unseen).toEqual([]);
  }, 300_000);
});
