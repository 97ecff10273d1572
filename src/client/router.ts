import type { Timer } from '../io/clock.ts';
import { LedgerError } from '../protocol/errors.ts';
import { topicNotFound } from '../protocol/names.ts';
import { type BrokerRoute, Op, type RouteResponse, type TopicRoute } from '../protocol/requests.ts';
import { type BackoffOptions, backoffMs } from './backoff.ts';
import type { Connections } from './connections.ts';
import type { ClientIo, Link } from './link.ts';
import type { MessageQueue } from './message-queue.ts';
import { Naps } from './naps.ts';
import { configuredQueues } from './selector.ts';

/**
 * Whoever was told NOT_LEADER waits this long for another route before it asks the same replica again: long enough for the route
 * question to come back, so that a stale route costs one redirect, and no longer than a failover may wait for a lost answer.
 */
export const ROUTE_WAIT_MS = 200;

/** A topic as the client uses it: its record and what is computed once from it. */
export interface KnownTopic {
  readonly route: TopicRoute;
  /** All configured queues in the stable order of selectors. */
  readonly queues: readonly MessageQueue[];
}

export interface RouterOptions {
  readonly seeds: readonly string[];
  readonly requestTimeoutMs: number;
  readonly refreshMs: number;
  readonly backoff: BackoffOptions;
}

/**
 * Who leads which broker group and where topics lie. Any broker answers; answers are merged, the leader of a higher term and a higher
 * version win, so that a broker that is behind cannot take the client back. Refreshed every refreshMs, and at once when somebody says
 * that a route is wrong: then every known broker is asked, since the first to know of a new leader may be any.
 */
export class Router {
  readonly #io: ClientIo;
  readonly #connections: Connections;
  readonly #options: RouterOptions;
  readonly #brokers = new Map<string, BrokerRoute>();
  readonly #topics = new Map<string, KnownTopic>();
  /** Topics that a broker was asked for, so that refreshes keep them. */
  readonly #wanted = new Set<string>();
  /** Questions under way, by topic. */
  readonly #goneQuestions = new Map<string, Promise<boolean>>();
  readonly #listeners = new Set<() => void>();
  readonly #naps: Naps;
  #refreshTimer: Timer | null = null;
  #urgentTimer: Timer | null = null;
  #urgentAttempts = 0;
  #urgentAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(io: ClientIo, connections: Connections, options: RouterOptions) {
    this.#io = io;
    this.#connections = connections;
    this.#options = options;
    this.#naps = new Naps(io.clock);
  }

  start(): void {
    for (const seed of this.#options.seeds) this.#connections.to(seed);
    this.#armRefresh();
  }

  close(): void {
    this.#closed = true;
    if (this.#refreshTimer !== null) this.#io.clock.clearTimer(this.#refreshTimer);
    if (this.#urgentTimer !== null) this.#io.clock.clearTimer(this.#urgentTimer);
    this.#naps.close();
    // Who waits for a change sees that there will be none.
    this.#changed();
    this.#listeners.clear();
  }

  topic(name: string): KnownTopic | undefined {
    return this.#topics.get(name);
  }
  get brokers(): Iterable<BrokerRoute> {
    return this.#brokers.values();
  }
  /** Term of the route to a broker group; 0 = unknown. */
  term(brokerName: string): number {
    return this.#brokers.get(brokerName)?.term ?? 0;
  }

  /** The leader's link, ready or not; null when nobody said who leads. */
  leader(brokerName: string): Link | null {
    const route = this.#brokers.get(brokerName);
    if (route === undefined || route.leader === 0) return null;
    const endpoint = route.replicas.find(({ replicaId }) => replicaId === route.leader)?.endpoint;
    return endpoint === undefined ? null : this.#connections.to(endpoint);
  }

  /** The link to one replica, ready or not; null when no route names it. */
  replica(brokerName: string, replicaId: number): Link | null {
    const endpoint = this.#brokers.get(brokerName)?.replicas.find((replica) => replica.replicaId === replicaId)?.endpoint;
    return endpoint === undefined ? null : this.#connections.to(endpoint);
  }

  /** Called at each change of any route or link; the callee looks for itself whether it matters. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A link became ready: its broker may know routes that are missing, and pushes later changes. */
  linkReady(link: Link): void {
    this.#ask(link);
    this.#changed();
  }

  linkLost(): void {
    this.suspect();
    this.#changed();
  }

  /** Somebody met a wrong route. Single flight: at most one round of questions is waiting at a time, with backoff. */
  suspect(): void {
    if (this.#urgentTimer !== null || this.#closed) return;
    // Trouble that is over, like a follower that was started again, must not slow down the next one's first question.
    const now = this.#io.clock.monotonicMs();
    if (now - this.#urgentAt > 2 * this.#options.backoff.capMs) this.#urgentAttempts = 0;
    this.#urgentAt = now;
    // The first one goes at once; the next ones wait, since an election takes its time.
    const delayMs = this.#urgentAttempts === 0 ? 0 : backoffMs(this.#options.backoff, this.#urgentAttempts - 1, this.#io.random);
    this.#urgentAttempts += 1;
    this.#urgentTimer = this.#io.clock.setTimer(delayMs, () => {
      this.#urgentTimer = null;
      for (const endpoint of this.#endpoints()) {
        const link = this.#connections.to(endpoint);
        if (link.ready) this.#ask(link);
      }
    });
  }

  /**
   * The topic's route, asked for when unknown.
   * @throws LedgerError TOPIC_NOT_FOUND when a leader does not know it, NO_ROUTE when nobody answered in time
   */
  async find(name: string, timeoutMs: number): Promise<KnownTopic> {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    const clock = this.#io.clock;
    const deadlineAt = clock.monotonicMs() + timeoutMs;
    for (let attempt = 0; !this.#closed; attempt++) {
      const missing = await this.#askForTopic(name, Math.min(this.#options.requestTimeoutMs, deadlineAt - clock.monotonicMs()));
      const found = this.#topics.get(name);
      if (found !== undefined) return found;
      if (missing) throw topicNotFound(name);
      if (clock.monotonicMs() >= deadlineAt) throw new LedgerError('NO_ROUTE', name);
      const delayMs = Math.min(backoffMs(this.#options.backoff, attempt, this.#io.random), deadlineAt - clock.monotonicMs());
      await this.#naps.take(Math.max(1, delayMs));
    }
    throw new LedgerError('CLOSED');
  }

  /**
   * Whether a topic that was known exists no more: every leader was asked and none has it. One group's word is not enough, since a
   * group that joins a topic hears of it after others have told the clients. Single flight.
   */
  isGone(name: string): Promise<boolean> {
    const asked = this.#goneQuestions.get(name) ?? this.#askWhetherGone(name).finally(() => this.#goneQuestions.delete(name));
    this.#goneQuestions.set(name, asked);
    return asked;
  }

  async #askWhetherGone(name: string): Promise<boolean> {
    const leaders = [...this.#brokers.keys()].map((brokerName) => this.leader(brokerName));
    const answers = await Promise.all(
      leaders.map((link) => (link?.ready ? this.#askOne(link, [name], this.#options.requestTimeoutMs) : Promise.resolve(null))),
    );
    return answers.every((answer) => answer?.topics.length === 0);
  }

  /** Waits until some broker answered a route request. @throws LedgerError NO_ROUTE */
  async findBrokers(timeoutMs: number): Promise<BrokerRoute[]> {
    const clock = this.#io.clock;
    const deadlineAt = clock.monotonicMs() + timeoutMs;
    while (this.#brokers.size === 0 && !this.#closed) {
      if (clock.monotonicMs() >= deadlineAt) throw new LedgerError('NO_ROUTE', 'no broker answered');
      await this.#nextChange(deadlineAt - clock.monotonicMs());
    }
    return [...this.#brokers.values()];
  }

  /** Waits until the group's route is of another term than `staleTerm`, `timeoutMs` at most. A term has one leader: what it was refused by. */
  async otherTerm(brokerName: string, staleTerm: number, timeoutMs: number): Promise<void> {
    const clock = this.#io.clock;
    const deadlineAt = clock.monotonicMs() + timeoutMs;
    while (this.term(brokerName) === staleTerm && !this.#closed) {
      const leftMs = deadlineAt - clock.monotonicMs();
      if (leftMs <= 0) return;
      await this.#nextChange(leftMs);
    }
  }

  #nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#io.clock.clearTimer(timer);
        forget();
        resolve();
      };
      const timer = this.#io.clock.setTimer(timeoutMs, done);
      const forget = this.onChange(done);
    });
  }

  /** @returns true when every leader was asked and none knows the topic. A follower may not have applied it yet. */
  async #askForTopic(name: string, timeoutMs: number): Promise<boolean> {
    this.#wanted.add(name);
    const leaders = [...this.#brokers.keys()].map((brokerName) => this.leader(brokerName));
    const links = leaders.filter((link) => link?.ready) as Link[];
    if (links.length === 0) {
      this.suspect();
      await this.#nextChange(Math.max(1, timeoutMs));
      return false;
    }
    const answers = await Promise.all(links.map((link) => this.#askOne(link, [name], timeoutMs)));
    const missing = leaders.length === links.length && answers.every((answer) => answer !== null);
    if (missing && !this.#topics.has(name)) this.#wanted.delete(name);
    return missing;
  }

  /** @returns null when it did not answer */
  #askOne(link: Link, topics: readonly string[], timeoutMs: number): Promise<RouteResponse | null> {
    return new Promise((resolve) => {
      link.request(Op.route, { topics }, Math.max(1, timeoutMs), (_error, body) => {
        if (body !== null) this.merge(body);
        resolve(body);
      });
    });
  }

  #ask(link: Link): void {
    link.request(Op.route, { topics: [...this.#wanted] }, this.#options.requestTimeoutMs, (_error, body) => {
      if (body === null) return;
      this.merge(body);
      this.#forgetRemoved(body);
    });
  }

  /** A whole answer, no topic and no connection knows a broker group any more: it was removed, and its addresses with it. */
  #forgetRemoved(answer: RouteResponse): void {
    if (answer.brokers.length === 0) return;
    const placed = [...this.#topics.values()].flatMap(({ route }) => route.placement);
    for (const [brokerName, { replicas }] of this.#brokers) {
      const known = answer.brokers.some((broker) => broker.brokerName === brokerName);
      if (known || placed.some((place) => place.brokerName === brokerName)) continue;
      if (replicas.some(({ endpoint }) => this.#connections.to(endpoint).ready)) continue;
      this.#brokers.delete(brokerName);
    }
  }

  /** Takes over what is newer. Also called with the records of a push. */
  merge(answer: RouteResponse): void {
    if (this.#closed) return;
    let changed = false;
    for (const broker of answer.brokers) {
      const known = this.#brokers.get(broker.brokerName);
      const merged = known === undefined ? broker : mergedRoute(known, broker);
      if (merged === known) continue;
      this.#brokers.set(broker.brokerName, merged);
      for (const { endpoint } of merged.replicas) this.#connections.to(endpoint);
      changed = true;
    }
    for (const route of answer.topics) {
      const known = this.#topics.get(route.topic);
      // Another id is another topic of that name: the last word counts, since ids say nothing of the time.
      if (known !== undefined && known.route.topicId === route.topicId && known.route.version >= route.version) continue;
      this.#topics.set(route.topic, { route, queues: configuredQueues(route) });
      changed = true;
    }
    if (!changed) return;
    this.#urgentAttempts = 0;
    this.#changed();
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #endpoints(): Set<string> {
    const endpoints = new Set(this.#options.seeds);
    for (const { replicas } of this.#brokers.values()) for (const { endpoint } of replicas) endpoints.add(endpoint);
    return endpoints;
  }

  #armRefresh(): void {
    this.#refreshTimer = this.#io.clock.setTimer(this.#options.refreshMs, () => {
      this.#connections.retain(this.#endpoints());
      const ready = [...this.#connections.all].filter((link) => link.ready);
      const link = ready[Math.floor(this.#io.random.unit() * ready.length)];
      if (link === undefined) this.suspect();
      else this.#ask(link);
      this.#armRefresh();
    });
  }
}

/** What is known after a broker said `said`; `known` itself when that is nothing new. */
function mergedRoute(known: BrokerRoute, said: BrokerRoute): BrokerRoute {
  // A group that is wholly down has no replicas in any answer, and comes back where it was.
  const replicas = said.replicas.length === 0 ? known.replicas : said.replicas;
  const named = said.leader !== 0;
  if (named && (known.leader === 0 || said.term > known.term)) return { ...said, replicas };
  if (said.term < known.term) return known;
  // Two replicas cannot lead in one term.
  if (named && said.leader !== known.leader) return known;
  // Who names nobody unseats nobody. One broker's gossip may have lost the leader while the leader serves; and a replica that is cut off
  // from the others campaigns in a higher term than theirs, in which nobody may ever win.
  const { leader } = known;
  const term = leader === 0 ? said.term : known.term;
  const kept = replicas.some(({ replicaId }) => replicaId === leader) ? [] : known.replicas.filter(({ replicaId }) => replicaId === leader);
  const merged = { ...said, term, leader, replicas: [...replicas, ...kept].sort((x, y) => x.replicaId - y.replicaId) };
  return known.term === term && sameReplicas(known, merged) ? known : merged;
}

/** In any order. */
function sameReplicas(a: BrokerRoute, b: BrokerRoute): boolean {
  if (a.replicas.length !== b.replicas.length) return false;
  return a.replicas.every(({ replicaId, endpoint }) =>
    b.replicas.some((other) => other.replicaId === replicaId && other.endpoint === endpoint),
  );
}
