import { BucketCounts } from '../metrics/bucket-counts.ts';
import { METRICS } from '../metrics/definitions.ts';
import { MAX_SERIES_PER_METRIC, type MetricsRegistry } from '../metrics/registry.ts';

interface Ends {
  committed: number;
  rolledBack: number;
  readonly ms: BucketCounts;
}

/** Transactions that ended while this replica led, by topic (F14). */
export class TransactionCounters {
  readonly #byTopic = new Map<string, Ends>();

  /** @param hasTopic which topics there are, should there be too many */
  ended(topic: string, committed: boolean, ms: number, hasTopic: (topic: string) => boolean): void {
    let ends = this.#byTopic.get(topic);
    if (ends === undefined) {
      if (this.#byTopic.size >= MAX_SERIES_PER_METRIC) this.forgetDeleted(hasTopic);
      ends = { committed: 0, rolledBack: 0, ms: new BucketCounts(METRICS.rocketmq_finish_message_latency.buckets) };
      this.#byTopic.set(topic, ends);
    }
    if (committed) ends.committed++;
    else ends.rolledBack++;
    ends.ms.observe(ms);
  }

  forgetDeleted(hasTopic: (topic: string) => boolean): void {
    for (const topic of this.#byTopic.keys()) if (!hasTopic(topic)) this.#byTopic.delete(topic);
  }

  bind(registry: MetricsRegistry): void {
    registry.source('rocketmq_commit_messages_total', (emit) => {
      for (const [topic, { committed }] of this.#byTopic) emit(committed, topic);
    });
    registry.source('rocketmq_rollback_messages_total', (emit) => {
      for (const [topic, { rolledBack }] of this.#byTopic) emit(rolledBack, topic);
    });
    registry.histogram('rocketmq_finish_message_latency', (emit) => {
      for (const [topic, { ms }] of this.#byTopic) emit(ms, topic);
    });
  }
}
