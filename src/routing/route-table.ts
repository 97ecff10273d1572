import type { BrokerRoute, RouteResponse, TopicRoute } from '../protocol/requests.ts';
import type { RouteChange, RouteListener, Routing } from './routing.ts';

/** Records at the bounds: further ones are dropped and counted. Far above what a cluster has (30 groups, 10,000 topics). */
export const MAX_BROKER_RECORDS = 1_024;
export const MAX_TOPIC_RECORDS = 100_000;
const MAX_LISTENERS = 64;

/** What merge() made of a record. `conflict`: the same version with another body, which no owner makes: raise an alarm. */
export type MergeResult = 'taken' | 'known' | 'older' | 'conflict' | 'full';

interface TopicRecord {
  readonly version: number;
  /** null: deleted at that version, so that a late older record cannot bring it back. */
  readonly route: TopicRoute | null;
}

/** Versioned records; the higher version wins whatever the order of arrival, so all tables that heard the same agree. */
export class RouteTable implements Routing {
  readonly #brokers = new Map<string, BrokerRoute>();
  readonly #topics = new Map<string, TopicRecord>();
  readonly #listeners = new Set<RouteListener>();

  route(topics: readonly string[]): RouteResponse {
    const known: TopicRoute[] = [];
    for (const topic of topics) {
      const route = this.topic(topic);
      if (route !== null) known.push(route);
    }
    return { brokers: [...this.#brokers.values()], topics: known };
  }

  broker(brokerName: string): BrokerRoute | null {
    return this.#brokers.get(brokerName) ?? null;
  }

  topic(topic: string): TopicRoute | null {
    return this.#topics.get(topic)?.route ?? null;
  }

  /** Not deleted ones, in no order. */
  *topics(): IterableIterator<TopicRoute> {
    for (const record of this.#topics.values()) if (record.route !== null) yield record.route;
  }

  onChange(listener: RouteListener): () => void {
    if (this.#listeners.size >= MAX_LISTENERS) throw new RangeError(`more than ${MAX_LISTENERS} route listeners`);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * By term. Within one term a known leader is newer than "unknown": a candidate says the term before anybody has won it, and
   * a term has one leader at most (Raft paper, 5.2).
   */
  mergeBroker(route: BrokerRoute): MergeResult {
    const known = this.#brokers.get(route.brokerName);
    if (known === undefined) {
      if (this.#brokers.size >= MAX_BROKER_RECORDS) return 'full';
    } else {
      if (route.term < known.term) return 'older';
      if (route.term === known.term) {
        if (sameBroker(known, route)) return 'known';
        if (route.leader === 0 && known.leader !== 0) return 'older';
        if (known.leader !== 0 && known.leader !== route.leader) return 'conflict';
      }
    }
    this.#brokers.set(route.brokerName, route);
    this.#tell({ brokers: [route], topics: [], deletedTopics: [] });
    return 'taken';
  }

  /** @param version what decides which of two records is the newer one */
  mergeTopic(route: TopicRoute, version: number = route.version): MergeResult {
    return this.#mergeTopic(route.topic, { version, route });
  }

  /** The topic is gone as of `version`, which must be higher than that of the record it ends. */
  removeTopic(topic: string, version: number): MergeResult {
    return this.#mergeTopic(topic, { version, route: null });
  }

  #mergeTopic(topic: string, record: TopicRecord): MergeResult {
    const known = this.#topics.get(topic);
    if (known === undefined) {
      if (this.#topics.size >= MAX_TOPIC_RECORDS) return 'full';
    } else {
      if (record.version < known.version) return 'older';
      if (record.version === known.version) return sameTopic(known.route, record.route) ? 'known' : 'conflict';
    }
    this.#topics.set(topic, record);
    if (record.route !== null) this.#tell({ brokers: [], topics: [record.route], deletedTopics: [] });
    else if (known !== undefined && known.route !== null) this.#tell({ brokers: [], topics: [], deletedTopics: [topic] });
    return 'taken';
  }

  #tell(change: RouteChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

function sameBroker(a: BrokerRoute, b: BrokerRoute): boolean {
  if (a.leader !== b.leader || a.replicas.length !== b.replicas.length) return false;
  return a.replicas.every((replica, i) => {
    const other = b.replicas[i];
    return other !== undefined && replica.replicaId === other.replicaId && replica.endpoint === other.endpoint;
  });
}

function sameTopic(a: TopicRoute | null, b: TopicRoute | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.topicId !== b.topicId || a.perm !== b.perm || a.messageType !== b.messageType) return false;
  if (a.placement.length !== b.placement.length) return false;
  return a.placement.every((place, i) => {
    const other = b.placement[i];
    return place.brokerName === other?.brokerName && place.queues === other.queues && place.perm === other.perm;
  });
}
