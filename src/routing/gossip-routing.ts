import type { Clock, Timer } from '../io/clock.ts';
import type { DatagramSocket } from '../io/net.ts';
import type { BrokerRoute, RouteResponse, TopicRoute } from '../protocol/requests.ts';
import { type OwnGroupView, resolveGroup, sameBrokerRoute } from './broker-routes.ts';
import { Gossip } from './gossip.ts';
import type { GossipOptions } from './gossip-options.ts';
import type { ClusterGossip, Evidence, OwnBrokerChange } from './gossip-port.ts';
import type { MemberRow } from './member-table.ts';
import { untellable } from './record-codec.ts';
import type { AppliedTopic, BrokerKey, GossipAlarm, GroupRecord, Member, TopicRecord } from './records.ts';
import type { RouteListener } from './routing.ts';
import { resolveTopic, sameTopicRoute } from './topic-routes.ts';

const MAX_LISTENERS = 64;
/** F04: a configured replica that nobody has heard of by now is not there. */
const ABSENT_AFTER_MS = 10_000;

export interface GossipRoutingOptions
  extends Pick<GossipOptions, 'clock' | 'random' | 'clusterId' | 'secret' | 'own' | 'generation' | 'onGeneration' | 'contacts'> {
  /** Replicas of the own group by configuration, with the endpoints that clients dial. */
  readonly replicas: BrokerRoute['replicas'];
  /** There is a connection to that replica of the own group. */
  linked?(replicaId: number): boolean;
  onEvent?(name: string, fields: Readonly<Record<string, string | number>>): void;
}

/** Routes of the whole cluster, from what its brokers tell each other and what the own group has applied. */
export class GossipRouting implements ClusterGossip {
  readonly gossip: Gossip;
  readonly #options: GossipRoutingOptions;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #brokerRoutes = new Map<string, BrokerRoute>();
  readonly #topicRoutes = new Map<string, TopicRoute>();
  /** Topic → brokerName → record. */
  readonly #applied = new Map<string, Map<string, AppliedTopic>>();
  readonly #conflicts = new Set<string>();
  /** Topics that two groups hold as different incarnations, now. */
  get topicConflicts(): number {
    return this.#conflicts.size;
  }
  readonly #routeListeners = new Set<RouteListener>();
  readonly #topicListeners = new Set<(applied: AppliedTopic) => void>();
  readonly #memberListeners = new Set<(member: Member) => void>();
  #absentTimer: Timer | null = null;
  #term = 0;
  #leader = 0;
  #brokers: readonly BrokerRoute[] = [];

  constructor(options: GossipRoutingOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#startedMs = options.clock.monotonicMs();
    this.gossip = new Gossip({
      ...options,
      onMember: (row) => this.#memberChanged(row),
      onForgotten: (row) => this.#groupChanged(row.record.brokerName),
      onGroup: ({ brokerName }) => this.#groupChanged(brokerName),
      onTopic: (applied) => this.#topicApplied(applied),
      onGroupForgotten: (brokerName, topics) => this.#groupForgotten(brokerName, topics),
      onAlarm: (alarm, key) => this.#alarm(alarm, key),
    });
    this.#groupChanged(this.#ownName);
  }

  get #ownName(): string {
    return this.#options.own.brokerName;
  }

  /** Begins to speak. */
  start(socket: DatagramSocket): void {
    this.gossip.start(socket);
    // What is not there by then leaves the routes.
    this.#absentTimer = this.#clock.setTimer(ABSENT_AFTER_MS, () => this.#groupChanged(this.#ownName));
  }

  stop(): void {
    if (this.#absentTimer !== null) this.#clock.clearTimer(this.#absentTimer);
    this.gossip.stop();
  }

  // ---- Routing ---------------------------------------------------------------------------------------------------------

  route(topics: readonly string[]): RouteResponse {
    const known: TopicRoute[] = [];
    for (const topic of topics) {
      const route = this.#topicRoutes.get(topic);
      if (route !== undefined) known.push(route);
    }
    return { brokers: this.#brokers, topics: known };
  }

  onChange(listener: RouteListener): () => void {
    return listen(this.#routeListeners, listener);
  }

  // ---- what the own broker and group say -------------------------------------------------------------------------------

  /** On every change of the own role. @param leader 0 = unknown in this term */
  setLeader(term: number, leader: number): void {
    this.#term = term;
    this.#leader = leader;
    this.#groupChanged(this.#ownName);
  }

  /** A connection to a replica of the own group was made or lost. */
  linksChanged(): void {
    this.#groupChanged(this.#ownName);
  }

  publishBroker(change: OwnBrokerChange): void {
    this.gossip.publishBroker(change);
    this.#groupChanged(this.#ownName);
    for (const listener of this.#memberListeners) listener(this.#self());
  }

  publishGroup(record: GroupRecord): void {
    this.gossip.publishGroup(record);
  }

  publishTopic(record: TopicRecord, logIndex: number): void {
    const problem = untellable(record);
    if (problem !== null) {
      this.#options.onEvent?.('topic record refused', { topic: record.name, problem });
      return;
    }
    const leads = this.#leader === this.#options.own.replicaId;
    this.gossip.publishTopic({ brokerName: this.#ownName, logIndex, record }, leads);
  }

  suspect(broker: BrokerKey, evidence: Evidence): void {
    this.gossip.suspect(broker, evidence);
  }

  // ---- what is known ---------------------------------------------------------------------------------------------------

  onTopic(listener: (applied: AppliedTopic) => void): () => void {
    return listen(this.#topicListeners, listener);
  }

  onMember(listener: (member: Member) => void): () => void {
    return listen(this.#memberListeners, listener);
  }

  appliedTopics(topic: string): readonly AppliedTopic[] {
    return [...(this.#applied.get(topic)?.values() ?? [])];
  }

  *allAppliedTopics(): IterableIterator<AppliedTopic> {
    for (const groups of this.#applied.values()) yield* groups.values();
  }

  groups(): readonly GroupRecord[] {
    return [...this.gossip.table.groups.values()].map(({ record }) => record);
  }

  members(): readonly Member[] {
    const members = [this.#self(), ...[...this.gossip.members.values()].map((row) => this.#member(row))];
    return members.sort(
      ({ broker: x }, { broker: y }) =>
        (x.brokerName < y.brokerName ? -1 : x.brokerName > y.brokerName ? 1 : 0) || x.replicaId - y.replicaId,
    );
  }

  #self(): Member {
    return { broker: this.gossip.own.record, state: 'alive', forMs: this.#clock.monotonicMs() - this.#startedMs, self: true };
  }

  #member({ record, state, sinceMs }: MemberRow): Member {
    return { broker: record, state, forMs: this.#clock.monotonicMs() - sinceMs, self: false };
  }

  // ---- what follows ----------------------------------------------------------------------------------------------------

  #memberChanged(row: MemberRow): void {
    this.#groupChanged(row.record.brokerName);
    const member = this.#member(row);
    for (const listener of this.#memberListeners) listener(member);
  }

  #groupChanged(brokerName: string): void {
    const brokers: Pick<Member, 'broker' | 'state'>[] = [];
    for (const { record, state } of this.gossip.members.values()) {
      if (record.brokerName === brokerName) brokers.push({ broker: record, state });
    }
    const own = brokerName === this.#ownName;
    if (own) brokers.push({ broker: this.gossip.own.record, state: 'alive' });
    const group = this.gossip.table.groups.get(brokerName)?.record ?? null;
    if (brokers.length === 0 && group === null && !own) {
      if (this.#brokerRoutes.delete(brokerName)) this.#brokers = [...this.#brokerRoutes.values()];
      return;
    }
    const route = resolveGroup(brokers, group, own ? this.#ownGroup() : null);
    const known = this.#brokerRoutes.get(brokerName);
    if (known !== undefined && sameBrokerRoute(known, route)) return;
    this.#brokerRoutes.set(brokerName, route);
    this.#brokers = [...this.#brokerRoutes.values()];
    for (const listener of this.#routeListeners) listener({ brokers: [route], topics: [], deletedTopics: [] });
  }

  #ownGroup(): OwnGroupView {
    const { own, replicas, linked } = this.#options;
    const young = this.#clock.monotonicMs() - this.#startedMs < ABSENT_AFTER_MS;
    return {
      brokerName: own.brokerName,
      term: this.#term,
      leader: this.#leader,
      configured: replicas,
      present: (replicaId) => young || (linked?.(replicaId) ?? false),
    };
  }

  #topicApplied(applied: AppliedTopic): void {
    const { name } = applied.record;
    let groups = this.#applied.get(name);
    if (groups === undefined) {
      groups = new Map();
      this.#applied.set(name, groups);
    }
    groups.set(applied.brokerName, applied);
    this.#resolve(name);
    for (const listener of this.#topicListeners) listener(applied);
  }

  #groupForgotten(brokerName: string, topics: readonly string[]): void {
    for (const topic of topics) {
      const groups = this.#applied.get(topic);
      groups?.delete(brokerName);
      if (groups?.size === 0) this.#applied.delete(topic);
      this.#resolve(topic);
    }
    this.#groupChanged(brokerName);
  }

  #resolve(topic: string): void {
    const { route, conflict } = resolveTopic(this.#applied.get(topic)?.values() ?? []);
    if (!conflict) this.#conflicts.delete(topic);
    else if (!this.#conflicts.has(topic)) {
      this.#conflicts.add(topic);
      this.#alarm('topic incarnation conflict', topic);
    }
    const known = this.#topicRoutes.get(topic) ?? null;
    if (sameTopicRoute(known, route)) return;
    if (route === null) this.#topicRoutes.delete(topic);
    else this.#topicRoutes.set(topic, route);
    const change = route === null ? { topics: [], deletedTopics: [topic] } : { topics: [route], deletedTopics: [] };
    for (const listener of this.#routeListeners) listener({ brokers: [], ...change });
  }

  #alarm(alarm: GossipAlarm, key: string): void {
    this.#options.onEvent?.(alarm, { key });
  }
}

function listen<T>(listeners: Set<T>, listener: T): () => void {
  if (listeners.size >= MAX_LISTENERS) throw new RangeError(`more than ${MAX_LISTENERS} listeners`);
  listeners.add(listener);
  return () => listeners.delete(listener);
}
