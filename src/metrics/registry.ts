import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { assert } from '../base/assert.ts';
import type { Clock } from '../io/clock.ts';
import type { BucketCounts } from './bucket-counts.ts';
import { METRIC_NAMES, type MetricDefinition, type MetricName, metricOf } from './definitions.ts';

/** Reports one series: its value and its label values in the order of the definition. */
export type EmitValue = (value: number, ...labels: readonly string[]) => void;
export type EmitHistogram = (counts: BucketCounts, ...labels: readonly string[]) => void;

export interface MetricsIdentity {
  readonly cluster: string;
  readonly brokerName: string;
  readonly replicaId: number;
}

/** Gauges of prom-client that are named like counters; the series by type beside them say the same. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** A metric never has more series than this; what comes after is left out, so that one scrape stays bounded (I8). */
export const MAX_SERIES_PER_METRIC = 20_000;

/**
 * Metrics that are read when they are asked for.
 *
 * Nothing is counted here: rooms keep plain numbers, and say with source() how to read them. So a hot path pays an
 * addition, and the series of a deleted topic end by themselves, because a source no longer reports it.
 */
export class MetricsRegistry {
  readonly #registry = new Registry();
  readonly #sources = new Map<MetricName, ((emit: EmitValue) => void)[]>();
  readonly #process: Clock | null;
  readonly #histogramSources = new Map<MetricName, ((emit: EmitHistogram) => void)[]>();
  /** Of the scrape under way: metrics are read one after the other in the order of the table, in one turn of the event loop. */
  #leftOut = 0;

  /** @param process of a real process: also process_* and nodejs_* (memory, event loop) */
  constructor(identity: MetricsIdentity, process: Clock | null = null) {
    this.#registry.setDefaultLabels({
      node_type: 'broker',
      cluster: identity.cluster,
      node_id: identity.brokerName,
      replica_id: String(identity.replicaId),
    });
    for (const name of METRIC_NAMES) this.#define(name, metricOf(name));
    this.#process = process;
    if (process !== null) {
      collectDefaultMetrics({ register: this.#registry });
      for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
    }
    this.value('ledgermq_metrics_left_out_series', () => this.#leftOut);
  }

  /** Counter or gauge. Several sources of one metric must report different series. */
  source(name: MetricName, read: (emit: EmitValue) => void): void {
    assert(metricOf(name).type !== 'histogram', 'a histogram has a histogram source');
    this.#sources.set(name, [...(this.#sources.get(name) ?? []), read]);
  }

  /** Counter or gauge without labels. */
  value(name: MetricName, read: () => number): void {
    assert(metricOf(name).labels.length === 0, 'a metric with labels needs a source');
    this.source(name, (emit) => emit(read()));
  }

  histogram(name: MetricName, read: (emit: EmitHistogram) => void): void {
    assert(metricOf(name).type === 'histogram', 'only a histogram has buckets');
    this.#histogramSources.set(name, [...(this.#histogramSources.get(name) ?? []), read]);
  }

  /** Metrics of the table that nothing reports. */
  withoutSource(): MetricName[] {
    return METRIC_NAMES.filter((name) => !this.#sources.has(name) && !this.#histogramSources.has(name));
  }

  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;

  /** The text that Prometheus reads. */
  async scrape(): Promise<string> {
    // Reading the loop's delays empties them. What asks right behind a stall is served before the timer that measures it, and nobody
    // would ever hear of the stall: that timer is due before this one.
    await new Promise<void>((resolve) => (this.#process === null ? resolve() : this.#process.setTimer(1, resolve)));
    this.#leftOut = 0;
    return this.#registry.metrics();
  }

  #define(name: MetricName, definition: MetricDefinition): void {
    const options = { name, help: definition.help, labelNames: [...definition.labels], registers: [this.#registry] };
    const sources = this.#sources;
    const leftOut = (): void => {
      this.#leftOut++;
    };
    if (definition.type === 'histogram') {
      new SampledHistogram(options, definition, () => this.#histogramSources.get(name) ?? [], leftOut);
    } else if (definition.type === 'counter') {
      const metric: Counter = new Counter({
        ...options,
        collect: () => readInto(metric, definition, sources.get(name), (labels, value) => metric.inc(labels, value), leftOut),
      });
    } else {
      const metric: Gauge = new Gauge({
        ...options,
        collect: () => readInto(metric, definition, sources.get(name), (labels, value) => metric.set(labels, value), leftOut),
      });
    }
  }
}

function labelsOf(definition: MetricDefinition, values: readonly string[]): Record<string, string> {
  assert(values.length === definition.labels.length, 'one value a label');
  return Object.fromEntries(definition.labels.map((label, at) => [label, values[at] as string]));
}

function readInto(
  metric: { remove(labels: Record<string, string>): void; reset(): void },
  definition: MetricDefinition,
  sources: readonly ((emit: EmitValue) => void)[] | undefined,
  put: (labels: Record<string, string>, value: number) => void,
  leftOut: () => void,
): void {
  metric.reset();
  // prom-client shows a metric without labels as 0 after a reset; one that nothing reports now must not claim a value.
  if (definition.labels.length === 0) metric.remove({});
  let series = 0;
  for (const read of sources ?? []) {
    read((value, ...labels) => {
      if (++series <= MAX_SERIES_PER_METRIC) put(labelsOf(definition, labels), value);
      else leftOut();
    });
  }
}

/** prom-client's histograms count by themselves; this one shows counts that others keep. */
class SampledHistogram extends Histogram {
  readonly #name: string;
  readonly #definition: MetricDefinition;
  readonly #sources: () => readonly ((emit: EmitHistogram) => void)[];
  readonly #leftOut: () => void;

  constructor(
    options: { name: string; help: string; labelNames: string[]; registers: Registry[] },
    definition: MetricDefinition,
    sources: () => readonly ((emit: EmitHistogram) => void)[],
    leftOut: () => void,
  ) {
    super({ ...options, buckets: [...(definition.buckets ?? [])] });
    this.#name = options.name;
    this.#definition = definition;
    this.#sources = sources;
    this.#leftOut = leftOut;
  }

  override get(): ReturnType<Histogram['get']> {
    const values: { metricName: string; labels: Record<string, string | number>; value: number }[] = [];
    let series = 0;
    for (const read of this.#sources()) {
      read((counts, ...labelValues) => {
        if (++series > MAX_SERIES_PER_METRIC) {
          this.#leftOut();
          return;
        }
        const labels = labelsOf(this.#definition, labelValues);
        let cumulative = 0;
        counts.bounds.forEach((bound, at) => {
          cumulative += counts.counts[at] as number;
          values.push({ metricName: `${this.#name}_bucket`, labels: { ...labels, le: bound }, value: cumulative });
        });
        values.push({ metricName: `${this.#name}_bucket`, labels: { ...labels, le: '+Inf' }, value: counts.count });
        values.push({ metricName: `${this.#name}_sum`, labels, value: counts.sum });
        values.push({ metricName: `${this.#name}_count`, labels, value: counts.count });
      });
    }
    const shown = { name: this.#name, help: this.#definition.help, type: 'histogram', values, aggregator: 'sum' };
    return Promise.resolve(shown as unknown as Awaited<ReturnType<Histogram['get']>>);
  }

  /** The registry's text asks this one. */
  getForPromString(): ReturnType<Histogram['get']> {
    return this.get();
  }
}
