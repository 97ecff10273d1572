import type { MetricName } from '../metrics/definitions.ts';
import type { TopicLag } from './consumer-lag.ts';

/** What is read before a scrape because it is not to be had at once. */
export interface Sampled {
  lags: readonly TopicLag[];
  /** null: not known yet. */
  space: { readonly freeBytes: number; readonly totalBytes: number } | null;
  recoverySeconds: number | null;
  damagedFiles: number;
}

/** Reports a metric without labels when there is something to report. */
export type BindGauge = (name: MetricName, read: () => number | null | undefined) => void;
