import type { BrokerMetrics } from '../broker/ports.ts';
import type { BrokerConfig } from '../config.ts';
import type { Io } from '../io/io.ts';
import type { MetricName } from '../metrics/definitions.ts';
import { MetricsRegistry } from '../metrics/registry.ts';
import { BrokerCounters } from './broker-counters.ts';
import { bindBroker } from './broker-metrics.ts';
import { consumerLags } from './consumer-lag.ts';
import { bindGateway } from './gateway-metrics.ts';
import { bindGossip } from './gossip-metrics.ts';
import { bindLog } from './log-metrics.ts';
import { bindRaft } from './raft-metrics.ts';
import type { BindGauge, Sampled } from './sampled.ts';
import type { ServerView } from './server-view.ts';

/** A disk that stands still must not hold up the page that says so. */
const DISK_SPACE_WAIT_MS = 500;

/** Binds what one replica counts to the metrics page. */
export class ServerMetrics {
  /** For the broker. */
  readonly broker: BrokerCounters;
  readonly #registry: MetricsRegistry;
  readonly #config: BrokerConfig;
  readonly #io: Pick<Io, 'clock' | 'disk'>;
  readonly #sampled: Sampled = { lags: [], space: null, recoverySeconds: null, damagedFiles: 0 };
  #view: ServerView | null = null;
  #spaceAsked: Promise<void> | null = null;

  /** @param onEvent hears what the broker wants to be logged */
  constructor(config: BrokerConfig, io: Pick<Io, 'clock' | 'disk'>, onEvent: BrokerMetrics['event']) {
    this.#config = config;
    this.#io = io;
    const { clusterId: cluster, brokerName, replicaId } = config;
    this.#registry = new MetricsRegistry({ cluster, brokerName, replicaId }, io.clock);
    const known = {
      hasTopic: (topic: string) => this.#view?.stateMachine?.topics.named(topic) !== undefined,
      hasGroup: (group: string) => this.#view?.stateMachine?.groups.named(group) !== undefined,
    };
    this.broker = new BrokerCounters(known, onEvent);
  }

  get contentType(): MetricsRegistry['contentType'] {
    return this.#registry.contentType;
  }

  /** Metrics of the table that nothing reports. */
  withoutSource(): MetricName[] {
    return this.#registry.withoutSource();
  }

  async scrape(): Promise<string> {
    const view = this.#view;
    this.broker.forgetDeleted();
    const leads = view?.broker?.ready === true && view.stateMachine !== null;
    this.#sampled.lags = leads ? await consumerLags(view.stateMachine) : [];
    await this.#askSpace();
    return this.#registry.scrape();
  }

  /** What the server says of itself besides its parts. */
  event(name: string, fields: Readonly<Record<string, string | number>>): void {
    if (name === 'recovered') this.#sampled.recoverySeconds = Number(fields['recoveryMs']) / 1000;
    if (name === 'derived file damaged') this.#sampled.damagedFiles++;
  }

  /** Called once. */
  watch(view: ServerView): void {
    this.#view = view;
    const registry = this.#registry;
    const gauge: BindGauge = (name, read) => {
      registry.source(name, (emit) => {
        const value = read();
        if (value !== null && value !== undefined) emit(value);
      });
    };
    bindRaft(registry, gauge, view);
    bindLog(registry, gauge, view, this.broker, this.#sampled);
    bindBroker(registry, gauge, view, this.broker, this.#sampled);
    bindGateway(registry, gauge, view);
    bindGossip(registry, gauge, view);
  }

  /** At most one question is under way; what was known before stands until it is answered. */
  async #askSpace(): Promise<void> {
    const { clock, disk } = this.#io;
    this.#spaceAsked ??= disk
      .space(this.#config.dataDir)
      .then(
        (space) => {
          this.#sampled.space = space;
        },
        () => {
          this.#sampled.space = null;
        },
      )
      .finally(() => {
        this.#spaceAsked = null;
      });
    const asked = this.#spaceAsked;
    await new Promise<void>((resolve) => {
      const timer = clock.setTimer(DISK_SPACE_WAIT_MS, resolve);
      void asked.then(() => {
        clock.clearTimer(timer);
        resolve();
      });
    });
  }
}
