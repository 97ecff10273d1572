import type { PopRequest } from '../../protocol/pop-requests.ts';
import type { BrokerContext } from '../context.ts';
import type { Deadline } from '../deadlines.ts';
import type { Session } from '../session.ts';
import type { TopicState } from '../topics.ts';

/** A pop that is being answered, now or when something comes. */
export class PopWaiter implements Deadline {
  readonly session: Session;
  readonly requestId: number;
  readonly request: PopRequest;
  /** When it is answered at the latest, monotonic ms. */
  readonly endMs: number;
  /** Attempts at giving it something. */
  tries = 0;
  topicId = 0;
  dueMs = 0;
  slot = -1;
  home: PopWaiters | null = null;

  constructor(session: Session, requestId: number, request: PopRequest, waitMs: number, nowMs: number) {
    this.session = session;
    this.requestId = requestId;
    this.request = request;
    this.endMs = nowMs + waitMs;
  }

  due(): void {
    this.home?.timedOut(this);
  }
}

/** Held pops by topic: any queue of it may serve them. One message wakes one of a group, not all. */
export class PopWaiters {
  readonly #context: BrokerContext;
  readonly #resume: (waiter: PopWaiter, last: boolean) => void;
  /** Oldest first. */
  readonly #byTopic = new Map<number, Set<PopWaiter>>();
  #grown = new Set<number>();
  #size = 0;

  constructor(context: BrokerContext, resume: (waiter: PopWaiter, last: boolean) => void) {
    this.#context = context;
    this.#resume = resume;
  }

  get size(): number {
    return this.#size;
  }

  /** @param visibleInMs when something becomes visible for it again @returns false at the bound, or when its time is over */
  hold(waiter: PopWaiter, topic: TopicState, visibleInMs: number): boolean {
    const { limits, clock, deadlines } = this.#context;
    const leftMs = waiter.endMs - clock.monotonicMs();
    if (leftMs <= 0 || this.#size >= limits.maxWaiters) return false;
    let ofTopic = this.#byTopic.get(topic.id);
    if (ofTopic === undefined) {
      ofTopic = new Set();
      this.#byTopic.set(topic.id, ofTopic);
    }
    ofTopic.add(waiter);
    waiter.tries = 0;
    waiter.topicId = topic.id;
    waiter.home = this;
    this.#size++;
    deadlines.set(waiter, Math.max(1, Math.min(leftMs, visibleInMs)));
    return true;
  }

  grew(topicId: number): void {
    if (this.#byTopic.has(topicId)) this.#grown.add(topicId);
  }

  wakeGrown(): void {
    if (this.#grown.size === 0) return;
    const grown = this.#grown;
    this.#grown = new Set();
    for (const topicId of grown) this.#wake(topicId, () => true);
  }

  wakeTopic(topicId: number): void {
    this.#wake(topicId, () => true);
  }

  /** An acknowledgement may have freed a queue for the next delivery in order. */
  wakeOrdered(topic: string, group: string): void {
    this.#wakeNamed(topic, group, ({ request }) => request.ordered);
  }

  /** Something becomes visible sooner than the waiters know. */
  visibleIn(topic: string, group: string, delayMs: number): void {
    const { clock, deadlines } = this.#context;
    const atMs = clock.monotonicMs() + delayMs;
    const topicId = this.#context.state.topics.named(topic)?.id ?? 0;
    for (const waiter of this.#byTopic.get(topicId) ?? [])
      if (waiter.request.group === group && waiter.dueMs > atMs) deadlines.set(waiter, Math.max(1, delayMs));
  }

  #wakeNamed(topic: string, group: string, wanted: (waiter: PopWaiter) => boolean): void {
    const topicId = this.#context.state.topics.named(topic)?.id ?? 0;
    this.#wake(topicId, (waiter) => waiter.request.group === group && wanted(waiter));
  }

  #wake(topicId: number, wanted: (waiter: PopWaiter) => boolean): void {
    const served = new Set<string>();
    for (const waiter of [...(this.#byTopic.get(topicId) ?? [])]) {
      // One that found nothing says that there is nothing for the rest of its group: a message wakes those it can serve.
      if (served.has(waiter.request.group) || !wanted(waiter)) continue;
      this.#drop(waiter);
      this.#resume(waiter, false);
      if (waiter.slot >= 0) served.add(waiter.request.group);
    }
  }

  timedOut(waiter: PopWaiter): void {
    this.#drop(waiter);
    this.#resume(waiter, this.#context.clock.monotonicMs() >= waiter.endMs);
  }

  wakeAll(): void {
    for (const waiters of [...this.#byTopic.values()]) {
      for (const waiter of [...waiters]) {
        this.#drop(waiter);
        this.#resume(waiter, true);
      }
    }
  }

  dropSession(session: Session): void {
    for (const waiters of [...this.#byTopic.values()])
      for (const waiter of [...waiters]) if (waiter.session === session) this.#drop(waiter);
  }

  #drop(waiter: PopWaiter): void {
    this.#context.deadlines.remove(waiter);
    const ofTopic = this.#byTopic.get(waiter.topicId);
    if (ofTopic === undefined || !ofTopic.delete(waiter)) return;
    this.#size--;
    if (ofTopic.size === 0) this.#byTopic.delete(waiter.topicId);
  }
}
