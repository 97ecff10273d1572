import { type BrokerMetrics, NO_METRICS } from '../broker/ports.ts';
import type { BrokerConfig } from '../config.ts';
import { MetricsRegistry } from '../metrics/registry.ts';
import type { ServerView } from './server-view.ts';

/** Binds one replica's counters to the metrics page. */
export class ServerMetrics {
  readonly broker: BrokerMetrics = NO_METRICS;
  readonly #registry: MetricsRegistry;

  constructor(config: BrokerConfig) {
    this.#registry = new MetricsRegistry({ cluster: config.clusterId, brokerName: config.brokerName, replicaId: config.replicaId }, true);
  }

  get contentType(): MetricsRegistry['contentType'] {
    return this.#registry.contentType;
  }

  scrape(): Promise<string> {
    return this.#registry.scrape();
  }

  event(_name: string, _fields: Readonly<Record<string, string | number>>): void {}

  watch(server: ServerView): void {
    const registry = this.#registry;
    registry.value('ledgermq_raft_term', () => server.replica?.role().term ?? 0);
  }
}
