import type { BrokerRoute, RouteResponse, TopicRoute } from '../protocol/requests.ts';

/**
 * What is known of who leads what and where topics lie. Today it is fed by configuration, the own replica and the own topic
 * table; gossip feeds the same records later. A record's owner alone makes new versions of it.
 */
export interface Routing {
  /** All broker groups, and the routes of those of `topics` that are known. The object may be kept; it is never changed. */
  route(topics: readonly string[]): RouteResponse;
  /** Calls back with what has changed, after it has; at most once per changed record and version. @returns ends it */
  onChange(listener: RouteListener): () => void;
}

/** A deleted topic comes in `deletedTopics`. */
export interface RouteChange {
  readonly brokers: readonly BrokerRoute[];
  readonly topics: readonly TopicRoute[];
  readonly deletedTopics: readonly string[];
}
export type RouteListener = (change: RouteChange) => void;
