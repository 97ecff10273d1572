import type { ClusterGossip } from '../routing/gossip-port.ts';
import type { AppliedTopic, TopicRecord } from '../routing/records.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import type { PendingCommands } from './pending-commands.ts';
import { placeOf, putOfRecord, sameRecord } from './topic-records.ts';

/** What the reconciler hears of other groups. */
export type ClusterTopics = Pick<ClusterGossip, 'onTopic' | 'appliedTopics' | 'allAppliedTopics'>;

/** Everything is looked at again this often: what was refused or lost on its way is mended by it. */
const PASS_MS = 5_000;
/** Proposals under way; what does not fit waits for the next pass. */
const MAX_PROPOSED = 256;
/** Conflicts that were reported already; beyond, they are reported again. */
const MAX_REPORTED = 1_024;

/** What a record that another group has applied asks of this one. */
export type Heard = 'put' | 'conflict' | null;

/**
 * @param own the topic as this group has it; null when it never had it, or all groups have forgotten that it is gone
 * @param told what this group has said of the topic, if anything: outlives the tombstone
 */
export function heardOf(own: TopicRecord | null, told: TopicRecord | undefined, heard: TopicRecord, brokerName: string): Heard {
  const mine = placeOf(heard.placement, brokerName) !== undefined;
  if (own === null) {
    if (!mine) return null;
    // Deleted wins over every version, in gossip too: who leads now may have heard the others' deletion later than its own.
    return told?.incarnation === heard.incarnation && told.deleted ? null : 'put';
  }
  if (own.incarnation !== heard.incarnation) return own.deleted || heard.deleted ? null : 'conflict';
  if (own.deleted) return null;
  if (heard.deleted) return 'put';
  if (heard.version > own.version) return mine || placeOf(own.placement, brokerName) !== undefined ? 'put' : null;
  return heard.version === own.version && !sameRecord(heard, own) ? 'conflict' : null;
}

/** Has that group followed the record that ended a topic here? One that made the name anew had to forget it first. */
export function hasFollowed(gone: TopicRecord, applied: TopicRecord | undefined): boolean {
  if (applied === undefined) return false;
  if (applied.incarnation !== gone.incarnation || applied.deleted) return true;
  return !gone.deleted && applied.version >= gone.version;
}

/**
 * Brings a group that was away in line with the others (F01): its leader proposes the newer records of topics that name it,
 * and ends its tombstones once every group of their placement has said that it applied them. Two incarnations of one name
 * are never decided here, but reported: one of them holds messages that somebody must want to lose.
 */
export class TopicReconciler implements Deadline {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #cluster: ClusterTopics;
  readonly #brokerName: string;
  readonly #forget: () => void;
  readonly #proposed = new Set<string>();
  readonly #reported = new Set<string>();
  dueMs = 0;
  slot = -1;

  constructor(context: BrokerContext, commands: PendingCommands, cluster: ClusterTopics, brokerName: string) {
    this.#context = context;
    this.#commands = commands;
    this.#cluster = cluster;
    this.#brokerName = brokerName;
    this.#forget = cluster.onTopic((applied) => this.#heard(applied));
  }

  becameReady(): void {
    this.due();
  }

  leadershipLost(): void {
    this.#context.deadlines.remove(this);
    this.#proposed.clear();
  }

  close(): void {
    this.#forget();
  }

  due(): void {
    if (!this.#context.leadership.ready) return;
    this.#context.deadlines.set(this, PASS_MS);
    for (const applied of this.#cluster.allAppliedTopics()) this.#heard(applied);
    for (const gone of this.#context.state.topics.allGone()) this.#endTombstone(gone);
  }

  #heard({ brokerName, record }: AppliedTopic): void {
    if (!this.#context.leadership.ready || brokerName === this.#brokerName) return;
    const { topics, pastTopics } = this.#context.state;
    if (pastTopics.has(record)) return;
    const own = topics.record(record.name);
    const verdict = heardOf(own, own === null ? this.#applied(record.name, this.#brokerName) : undefined, record, this.#brokerName);
    if (verdict === 'conflict') this.#report(brokerName, record);
    else if (verdict === 'put') this.#put(brokerName, record);
    const gone = topics.gone(record.name);
    if (gone !== null) this.#endTombstone(gone);
  }

  #applied(topic: string, brokerName: string): TopicRecord | undefined {
    return this.#cluster.appliedTopics(topic).find((applied) => applied.brokerName === brokerName)?.record;
  }

  #put(from: string, record: TopicRecord): void {
    this.#once(record.name, (done) => {
      this.#commands.propose(putOfRecord(record), (error) => {
        done();
        const { name: topic, incarnation, version } = record;
        this.#context.metrics.event('topic reconciled', { topic, incarnation, version, from, error: error ?? '' });
      });
    });
  }

  #endTombstone(gone: TopicRecord): void {
    const { name, incarnation, version, placement } = gone;
    const followed = placement.every(
      ({ brokerName }) => brokerName === this.#brokerName || hasFollowed(gone, this.#applied(name, brokerName)),
    );
    if (!followed) return;
    this.#once(name, (done) => this.#commands.propose({ type: 'topicForget', name, incarnation, version }, done));
  }

  #once(topic: string, propose: (done: () => void) => void): void {
    if (this.#proposed.has(topic) || this.#proposed.size >= MAX_PROPOSED) return;
    this.#proposed.add(topic);
    propose(() => this.#proposed.delete(topic));
  }

  #report(from: string, { name, incarnation, version }: TopicRecord): void {
    const key = `${name} ${from} ${incarnation} ${version}`;
    if (this.#reported.has(key)) return;
    if (this.#reported.size >= MAX_REPORTED) this.#reported.clear();
    this.#reported.add(key);
    this.#context.metrics.event('topic conflict', { topic: name, incarnation, version, from });
  }
}
