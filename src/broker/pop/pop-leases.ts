import type { PopRequest } from '../../protocol/pop-requests.ts';
import type { BrokerStateMachine } from '../state-machine.ts';
import type { QueueState, TopicState } from '../topics.ts';
import { queueKey } from '../topics.ts';
import type { Checkpoint } from './checkpoints.ts';

/** Where the next delivery comes from: messages from `from` on, or a checkpoint whose time has passed. */
export interface PopSource {
  readonly group: string;
  readonly queue: QueueState;
  readonly from: number;
  readonly checkpoint: Checkpoint | null;
}

const NO_IDS: ReadonlySet<number> = new Set();
/** A cursor that nothing lies behind. */
export const READING = Number.POSITIVE_INFINITY;

/**
 * Which queue a pop is served from, by turns, and what other pops are being served from just now: an entry on its way must not
 * be raced by a second one for the same messages. The leader's memory; the state alone decides.
 */
export class PopLeases {
  readonly #state: BrokerStateMachine;
  /** group → queue → where the next take begins while takes are on their way; none may begin while files are read for one. */
  readonly #cursors = new Map<string, Map<number, number>>();
  /** group → checkpoints that are being delivered again. */
  readonly #reviving = new Map<string, Set<number>>();
  /** group and topic → the queue that is looked at first. Bounded by the groups and topics of the state. */
  readonly #next = new Map<string, number>();

  constructor(state: BrokerStateMachine) {
    this.#state = state;
  }

  /** What has become visible again goes first: it has waited longest. */
  find(topic: TopicState, request: PopRequest, logTimeMs: number): PopSource | null {
    const { group, queueId } = request;
    const queues = queueId >= 0 ? [topic.queues[queueId] as QueueState] : topic.queues;
    const turn = `${topic.id} ${group}`;
    const first = this.#next.get(turn) ?? 0;
    let found: PopSource | null = null;
    for (let i = 0; i < queues.length; i++) {
      const queue = queues[(first + i) % queues.length] as QueueState;
      const source = this.#sourceOf(queue, request, logTimeMs);
      if (source !== null && (found === null || source.checkpoint !== null)) found = source;
      if (found !== null && found.checkpoint !== null) break;
    }
    if (found !== null) this.#next.set(turn, found.queue.queueId + 1);
    return found;
  }

  #sourceOf(queue: QueueState, { group, ordered, from }: PopRequest, logTimeMs: number): PopSource | null {
    const { pop } = this.#state;
    const topicId = queue.topic.id;
    const popped = pop.queue(group, topicId, queue.queueId);
    const reviving = this.#reviving.get(group) ?? NO_IDS;
    const checkpoint = (ordered ? popped?.firstIfExpired(logTimeMs, reviving) : popped?.expired(logTimeMs, reviving)) ?? null;
    if (checkpoint !== null) return { group, queue, from: 0, checkpoint };
    const onItsWay = this.#cursors.get(group)?.get(queueKey(topicId, queue.queueId));
    if (ordered && (onItsWay !== undefined || (popped?.checkpoints.size ?? 0) > 0)) return null;
    const cursor = onItsWay ?? pop.cursor(group, topicId, queue.queueId, from === 'first' ? queue.minOffset : queue.nextOffset);
    return cursor < queue.nextOffset ? { group, queue, from: cursor, checkpoint: null } : null;
  }

  /** The next take of the queue begins here; READING: not before this one is proposed. */
  reserve({ group, queue }: PopSource, cursor: number): void {
    let cursors = this.#cursors.get(group);
    if (cursors === undefined) {
      cursors = new Map();
      this.#cursors.set(group, cursors);
    }
    cursors.set(queueKey(queue.topic.id, queue.queueId), cursor);
  }

  /** A take was applied, or failed: then what was reserved behind it is worth nothing either. */
  taken({ group, queue }: PopSource, failed: boolean): void {
    const cursors = this.#cursors.get(group);
    const key = queueKey(queue.topic.id, queue.queueId);
    const reserved = cursors?.get(key);
    if (cursors === undefined || reserved === undefined) return;
    if (!failed && reserved !== this.#state.pop.queue(group, queue.topic.id, queue.queueId)?.cursor) return;
    cursors.delete(key);
    if (cursors.size === 0) this.#cursors.delete(group);
  }

  revive(group: string, checkpoint: Checkpoint): void {
    const ids = this.#reviving.get(group);
    if (ids === undefined) this.#reviving.set(group, new Set([checkpoint.id]));
    else ids.add(checkpoint.id);
  }

  revived(group: string, checkpoint: Checkpoint): void {
    const ids = this.#reviving.get(group);
    if (ids?.delete(checkpoint.id) === true && ids.size === 0) this.#reviving.delete(group);
  }

  clear(): void {
    this.#cursors.clear();
    this.#reviving.clear();
    this.#next.clear();
  }
}
