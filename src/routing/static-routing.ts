import type { BrokerRoute, RouteResponse, TopicRoute } from '../protocol/requests.ts';
import { RouteTable } from './route-table.ts';
import type { RouteListener, Routing } from './routing.ts';

export interface StaticRoutingOptions {
  /** Of the own group. */
  readonly brokerName: string;
  /** All its replicas, with the endpoints (ws://host:port) that clients dial. */
  readonly replicas: BrokerRoute['replicas'];
}

/** Routing of a cluster of one group: endpoints from configuration, leader from the own Raft role, topics from the own table. */
export class StaticRouting implements Routing {
  readonly #options: StaticRoutingOptions;
  readonly #table = new RouteTable();

  constructor(options: StaticRoutingOptions) {
    this.#options = options;
    this.setLeader(0, 0);
  }

  route(topics: readonly string[]): RouteResponse {
    return this.#table.route(topics);
  }

  onChange(listener: RouteListener): () => void {
    return this.#table.onChange(listener);
  }

  /** On every change of role. @param leader 0 = unknown in this term */
  setLeader(term: number, leader: number): void {
    const { brokerName, replicas } = this.#options;
    this.#table.mergeBroker({ brokerName, term, leader, replicas });
  }

  /** A topic was created or changed at apply. */
  setTopic(route: TopicRoute): void {
    this.#table.mergeTopic(route);
  }

  /** A topic was deleted at apply. @param version higher than its last one */
  removeTopic(topic: string, version: number): void {
    this.#table.removeTopic(topic, version);
  }
}
