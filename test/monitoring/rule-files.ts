import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';

export const ROOT = resolve(import.meta.dirname, '..', '..');
export const MONITORING = join(ROOT, 'k8s', 'monitoring');
export const RULES_FILE = join(MONITORING, 'rules.yaml');
export const PROMETHEUS_RULE_FILE = join(MONITORING, 'prometheus-rule.yaml');
export const RULES_TEST_FILE = join(ROOT, 'test', 'prometheus', 'rules.test.yaml');

export interface Rule {
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly keep_firing_for?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}
export interface RuleFile {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}
export interface AlertTest {
  readonly alertname: string;
  readonly eval_time: string;
  readonly exp_alerts?: readonly { readonly exp_labels: Readonly<Record<string, string>> }[];
}
export interface TestGroup {
  readonly name: string;
  readonly alert_rule_test?: readonly AlertTest[];
}
export interface RuleTests {
  readonly tests: readonly TestGroup[];
}

export const readRules = (): RuleFile => parse(readFileSync(RULES_FILE, 'utf8')) as RuleFile;
export const readRuleTests = (): RuleTests => parse(readFileSync(RULES_TEST_FILE, 'utf8')) as RuleTests;
export const allRules = (): Rule[] => readRules().groups.flatMap(({ rules }) => rules);
export const alerts = (): (Rule & { readonly alert: string })[] =>
  allRules().filter((rule): rule is Rule & { readonly alert: string } => rule.alert !== undefined);

const HEAD = `# Made of rules.yaml by \`node test/prometheus/write-prometheus-rule.ts\`; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ledgermq
  labels: { app.kubernetes.io/name: ledgermq }
spec:
`;

/** The rules as the Prometheus operator takes them: the same text, two places further in. */
export function prometheusRuleText(): string {
  const rules = readFileSync(RULES_FILE, 'utf8');
  const groups = rules.slice(rules.indexOf('\ngroups:\n') + 1);
  return HEAD + groups.replaceAll(/^(?=.)/gm, '  ');
}
