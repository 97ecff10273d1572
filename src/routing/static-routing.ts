import type { BrokerRoute, RouteResponse } from '../protocol/requests.ts';
import type { TopicRecord } from './records.ts';
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

  /** A topic was created, changed or deleted at apply. */
  publishTopic(record: TopicRecord, logIndex: number): void {
    const { name: topic, incarnation: topicId, version, perm, messageType, placement } = record;
    // In one group's log the later state is the newer one, also when a deleted topic is made again from version 1.
    if (record.deleted) this.#table.removeTopic(topic, logIndex);
    else this.#table.mergeTopic({ topic, topicId, version, perm, messageType, placement }, logIndex);
  }
}
