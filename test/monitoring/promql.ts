import { NodeClock } from '../../src/io/node/clock.ts';
import { BASE_LABELS, METRIC_NAMES, metricOf } from '../../src/metrics/definitions.ts';
import { MetricsRegistry } from '../../src/metrics/registry.ts';

/** One metric that an expression selects, with the names of the labels that it selects by. */
export interface Selector {
  readonly metric: string;
  readonly labels: readonly string[];
}

/** What Prometheus adds to every series. */
const TARGET_LABELS = ['job', 'instance'];
const METRIC = /\b(?:(?:rocketmq|ledgermq|nodejs|process)_\w+|up|ALERTS|\w+:\w+:\w+)\b/g;

/** Every metric that the expression names. Words in strings are none. */
export function selectorsOf(expression: string): Selector[] {
  const found: Selector[] = [];
  for (const match of expression.matchAll(METRIC)) {
    const before = expression.slice(0, match.index);
    // In a string, or a name of a label.
    if (((before.match(/"/g) ?? []).length & 1) === 1) continue;
    const braces = /^\{([^}]*)\}/.exec(expression.slice(match.index + match[0].length))?.[1] ?? '';
    const labels = [...braces.replaceAll(/"[^"]*"/g, '""').matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label as string);
    found.push({ metric: match[0], labels });
  }
  return found;
}

/** Names of a page and their labels: what a replica can report, with the names that a histogram is seen under. */
export async function knownSeries(): Promise<Map<string, readonly string[]>> {
  const known = new Map<string, readonly string[]>();
  const page = await new MetricsRegistry({ cluster: 'c', brokerName: 'a', replicaId: 1 }, new NodeClock()).scrape();
  // Of a histogram that has counted nothing yet there is the type alone.
  for (const [, name] of page.matchAll(/^# TYPE ((?:nodejs|process)_\w+) histogram$/gm)) {
    for (const suffix of ['_bucket', '_sum', '_count']) known.set(`${name}${suffix}`, [...BASE_LABELS, ...TARGET_LABELS, 'kind', 'le']);
  }
  for (const [, name, braces = ''] of page.matchAll(/^((?:nodejs|process)_\w+)(?:\{(.*)\})? /gm)) {
    const labels = [...braces.matchAll(/(\w+)="/g)].map(([, label]) => label as string);
    known.set(name as string, [...new Set([...(known.get(name as string) ?? []), ...labels, ...TARGET_LABELS])]);
  }
  for (const name of METRIC_NAMES) {
    const { type, labels } = metricOf(name);
    const all = [...labels, ...BASE_LABELS, ...TARGET_LABELS];
    if (type !== 'histogram') known.set(name, all);
    else for (const suffix of ['_bucket', '_sum', '_count']) known.set(name + suffix, suffix === '_bucket' ? [...all, 'le'] : all);
  }
  known.set('up', TARGET_LABELS);
  known.set('ALERTS', ['alertname', 'alertstate', 'severity', ...BASE_LABELS]);
  return known;
}

/** What is wrong with the names in an expression; recorded series are known by `records`. */
export function nameProblems(expression: string, known: ReadonlyMap<string, readonly string[]>, records: ReadonlySet<string>): string[] {
  return selectorsOf(expression).flatMap(({ metric, labels }) => {
    if (records.has(metric)) return [];
    const has = known.get(metric);
    if (has === undefined) return [`${metric} is no metric`];
    return labels.filter((label) => !has.includes(label)).map((label) => `${metric} has no label ${label}`);
  });
}
