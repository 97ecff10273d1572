import type { Clock } from '../io/clock.ts';
import type { Quota, QuotaUse } from '../protocol/requests.ts';
import { NO_LIMIT, namespaceOf, type Quotas } from './quotas.ts';
import type { Session } from './session.ts';
import { TokenBucket } from './token-bucket.ts';
import type { Topics } from './topics.ts';

/** Meters of clients that are not connected now: who comes back at once finds its debt again. The oldest go first. */
const MAX_IDLE_METERS = 10_000;

/** What one bucket's users have used. */
class Meter {
  readonly quota: Quota;
  readonly #bytes: TokenBucket | null;
  readonly #messages: TokenBucket | null;
  connections = 0;

  constructor(quota: Quota, nowMs: number) {
    this.quota = quota;
    this.#bytes = quota.bytesPerSecond === NO_LIMIT ? null : new TokenBucket(quota.bytesPerSecond, nowMs);
    this.#messages = quota.messagesPerSecond === NO_LIMIT ? null : new TokenBucket(quota.messagesPerSecond, nowMs);
  }

  get full(): boolean {
    return this.quota.connections !== NO_LIMIT && this.connections >= this.quota.connections;
  }

  waitMs(nowMs: number): number {
    return Math.max(this.#bytes?.waitMs(nowMs) ?? 0, this.#messages?.waitMs(nowMs) ?? 0);
  }

  take(messages: number, sizeBytes: number): void {
    this.#bytes?.take(sizeBytes);
    this.#messages?.take(messages);
  }
}

/**
 * What is used of the quotas: this replica's memory (I7), so a new leader begins with full buckets. Rates hold at the leader of
 * each broker group, connections at each broker. Without quotas a send costs one comparison.
 */
export class QuotaMeters {
  readonly #clock: Clock;
  readonly #quotas: Quotas;
  readonly #topics: Topics;
  /** Of connected sessions; null: no quota. */
  readonly #sessions = new Map<Session, Meter | null>();
  readonly #meters = new Map<string, Meter>();
  readonly #refused = new Map<string, number>();
  #version = -1;

  constructor(clock: Clock, quotas: Quotas, topics: Topics) {
    this.#clock = clock;
    this.#quotas = quotas;
    this.#topics = topics;
  }

  /** @returns false when its quota of connections is used up; then closed() does not follow */
  opened(session: Session): boolean {
    this.#refresh();
    const meter = this.#meterOf(session.clientId);
    if (meter?.full === true) {
      this.#count(meter);
      return false;
    }
    this.#sessions.set(session, meter);
    if (meter !== null) meter.connections++;
    return true;
  }

  closed(session: Session): void {
    const meter = this.#sessions.get(session);
    this.#sessions.delete(session);
    if (meter === null || meter === undefined) return;
    meter.connections--;
    this.#trim();
  }

  /** How long a send to the topic has to wait, ms; 0 = it may pass. */
  waitMs(session: Session, topic: string): number {
    if (this.#quotas.size === 0) return 0;
    this.#refresh();
    const nowMs = this.#clock.monotonicMs();
    const client = this.#sessions.get(session) ?? null;
    const namespace = this.#namespace(topic);
    const clientMs = client?.waitMs(nowMs) ?? 0;
    const namespaceMs = namespace?.waitMs(nowMs) ?? 0;
    if (clientMs > 0) this.#count(client as Meter);
    else if (namespaceMs > 0) this.#count(namespace as Meter);
    return Math.max(clientMs, namespaceMs);
  }

  /** What was let through. */
  take(session: Session, topic: string, messages: number, sizeBytes: number): void {
    if (this.#quotas.size === 0) return;
    this.#sessions.get(session)?.take(messages, sizeBytes);
    this.#namespace(topic)?.take(messages, sizeBytes);
  }

  /** Has the topic's namespace room for one more? */
  hasRoomFor(topic: string): boolean {
    this.#refresh();
    const namespace = namespaceOf(topic);
    const quota = namespace === '' ? undefined : this.#quotas.ofNamespace(namespace);
    if (quota === undefined || quota.topics === NO_LIMIT) return true;
    const room = this.#topicsIn(namespace) < quota.topics;
    if (!room) this.#refused.set(keyOf(quota), (this.#refused.get(keyOf(quota)) ?? 0) + 1);
    return room;
  }

  use(): QuotaUse[] {
    this.#refresh();
    return this.#quotas.all().map((quota) => ({ ...quota, used: this.#used(quota), refused: this.#refused.get(keyOf(quota)) ?? 0 }));
  }

  /** Connections of a client's quota, topics of a namespace's. */
  #used(quota: Quota): number {
    if (quota.kind === 'namespace') return this.#topicsIn(quota.name);
    let connections = 0;
    for (const meter of this.#sessions.values()) if (meter?.quota === quota) connections++;
    return connections;
  }

  #topicsIn(namespace: string): number {
    let count = 0;
    for (const { name } of this.#topics.public()) if (namespaceOf(name) === namespace) count++;
    return count;
  }

  #count({ quota }: Meter): void {
    const key = keyOf(quota);
    this.#refused.set(key, (this.#refused.get(key) ?? 0) + 1);
  }

  #namespace(topic: string): Meter | null {
    const namespace = namespaceOf(topic);
    const quota = namespace === '' ? undefined : this.#quotas.ofNamespace(namespace);
    return quota === undefined ? null : this.#meter(keyOf(quota), quota);
  }

  #meterOf(clientId: string): Meter | null {
    const quota = this.#quotas.ofClient(clientId);
    if (quota === undefined) return null;
    return this.#meter(quota.each ? `${keyOf(quota)} ${clientId}` : keyOf(quota), quota);
  }

  #meter(key: string, quota: Quota): Meter {
    let meter = this.#meters.get(key);
    if (meter === undefined) {
      meter = new Meter(quota, this.#clock.monotonicMs());
      this.#meters.set(key, meter);
    }
    return meter;
  }

  #trim(): void {
    let over = this.#meters.size - this.#sessions.size - this.#quotas.size - MAX_IDLE_METERS;
    for (const [key, meter] of this.#meters) {
      if (over <= 0) return;
      if (meter.connections > 0 || !meter.quota.each) continue;
      this.#meters.delete(key);
      over--;
    }
  }

  /** Quotas changed: everybody's meter is looked up anew, with full buckets. Who is connected stays. */
  #refresh(): void {
    if (this.#version === this.#quotas.version) return;
    this.#version = this.#quotas.version;
    this.#meters.clear();
    const known = new Set(this.#quotas.all().map(keyOf));
    for (const key of this.#refused.keys()) if (!known.has(key)) this.#refused.delete(key);
    for (const session of this.#sessions.keys()) {
      const meter = this.#meterOf(session.clientId);
      this.#sessions.set(session, meter);
      if (meter !== null) meter.connections++;
    }
  }
}

function keyOf({ kind, name }: Quota): string {
  return `${kind} ${name}`;
}
