import type { Timer } from '../io/clock.ts';
import type { LedgerError } from '../protocol/errors.ts';
import { Op, type PullResponse } from '../protocol/requests.ts';
import { backoffMs } from './backoff.ts';
import { type ClientCore, isTransient } from './client-core.ts';
import type { ConsumerSettings } from './consumer-settings.ts';
import { ANSWER_GRACE_MS, type Link } from './link.ts';
import { ReceivedBatch } from './message.ts';
import { pullFilter } from './message-filter.ts';
import type { ProcessQueue } from './process-queue.ts';
import { ROUTE_WAIT_MS } from './router.ts';

/** Between pulls that met no leader, and between pulls that the leader refused. */
const REDIRECT_BACKOFF = { baseMs: 10, factor: 2, capMs: 500, jitter: true } as const;
const REFUSED_DELAY_MS = 1_000;
/** After a long poll that found nothing and was not held, at most. */
const NOT_HELD_DELAY_MS = 500;
/** A follower is only asked for what it has: one that does not answer is left for the leader. */
const FOLLOWER_TIMEOUT_MS = 3_000;

export interface FetcherEvents {
  arrived(queue: ProcessQueue): void;
  /** NOT_OWNER, FENCED, UNKNOWN_MEMBER: what is buffered may be another's. */
  ownershipRefused(queue: ProcessQueue): void;
  failed(error: LedgerError): void;
}

interface Fetch {
  readonly link: Link;
  readonly atFollower: boolean;
  abandoned: boolean;
}

/**
 * One long poll at a time for each queue, at the leader of its broker group. A leader that finds the queue far behind names a
 * follower to read from (F08): the next pull goes there, and back to the leader when the follower says so, refuses or is gone. An
 * orderly consumer stays with the leader. Pulling stops while a bound on what is prefetched
 * is reached, and goes on from `resume()`. Overshoot: at most one pull's answer a queue.
 */
export class Fetcher {
  readonly #core: ClientCore;
  readonly #settings: ConsumerSettings;
  readonly #member: string;
  readonly #events: FetcherEvents;
  readonly #queues = new Set<ProcessQueue>();
  readonly #fetches = new Map<ProcessQueue, Fetch>();
  /** Queues that wait for a retry. */
  readonly #resting = new Map<ProcessQueue, { readonly timer: Timer; readonly staleTerm: number }>();
  /** Queues that are read from a follower, and its replica id. */
  readonly #suggested = new Map<ProcessQueue, number>();
  readonly #forget: () => void;
  #heldMessages = 0;
  #heldBytes = 0;
  #closed = false;

  constructor(core: ClientCore, settings: ConsumerSettings, member: string, events: FetcherEvents) {
    this.#core = core;
    this.#settings = settings;
    this.#member = member;
    this.#events = events;
    this.#forget = core.router.onChange(() => this.#routeChanged());
  }

  get heldMessages(): number {
    return this.#heldMessages;
  }
  get heldBytes(): number {
    return this.#heldBytes;
  }

  add(queue: ProcessQueue): void {
    this.#queues.add(queue);
    this.#fetch(queue);
  }

  remove(queue: ProcessQueue): void {
    this.#queues.delete(queue);
    this.#suggested.delete(queue);
    this.#awake(queue);
    const fetch = this.#fetches.get(queue);
    if (fetch !== undefined) fetch.abandoned = true;
    this.#fetches.delete(queue);
  }

  /** Messages left the hands of this consumer. Pulls that a bound had stopped go on. */
  released(messages: number, sizeBytes: number): void {
    const wasFull = this.#full();
    this.#heldMessages -= messages;
    this.#heldBytes -= sizeBytes;
    if (wasFull && !this.#full()) for (const queue of this.#queues) this.#fetch(queue);
  }

  resume(queue: ProcessQueue): void {
    this.#fetch(queue);
  }

  /** What was refused may be granted now: no rest before the next pull. */
  retryNow(queue: ProcessQueue): void {
    this.#awake(queue);
    this.#fetch(queue);
  }

  close(): void {
    this.#closed = true;
    this.#forget();
    for (const queue of [...this.#queues]) this.remove(queue);
  }

  #full(): boolean {
    return this.#heldMessages >= this.#settings.prefetchMessages || this.#heldBytes >= this.#settings.prefetchBytes;
  }

  /** @param addedBytes that are not in #heldBytes yet */
  #isFull(queue: ProcessQueue, addedBytes: number): boolean {
    const { prefetchBytesPerQueue, prefetchBytes } = this.#settings;
    return queue.heldBytes >= prefetchBytesPerQueue || this.#heldBytes + addedBytes >= prefetchBytes;
  }

  #mayFetch(queue: ProcessQueue): boolean {
    if (this.#closed || queue.state !== 'active' || queue.nextOffset < 0 || !this.#queues.has(queue)) return false;
    if (this.#fetches.has(queue) || this.#resting.has(queue) || this.#full()) return false;
    return queue.heldMessages < this.#settings.prefetchMessagesPerQueue && queue.heldBytes < this.#settings.prefetchBytesPerQueue;
  }

  #fetch(queue: ProcessQueue): void {
    if (!this.#mayFetch(queue)) return;
    const settings = this.#settings;
    const follower = this.#follower(queue);
    const link = follower ?? this.#core.router.leader(queue.queue.brokerName);
    if (link === null || !link.ready) {
      this.#core.router.suspect();
      this.#rest(queue, REDIRECT_BACKOFF.capMs);
      return;
    }
    const fetch: Fetch = { link, atFollower: follower !== null, abandoned: false };
    const { clock, random } = this.#core.io;
    const askedMs = clock.monotonicMs();
    const term = this.#core.router.term(queue.queue.brokerName);
    this.#fetches.set(queue, fetch);
    const { topic, queueId } = queue.queue;
    const request = {
      topic,
      queueId,
      offset: queue.nextOffset,
      maxBytes: Math.max(1, Math.min(settings.pullBatchBytes, settings.prefetchBytesPerQueue - queue.heldBytes)),
      maxMessages: Math.max(1, Math.min(settings.pullBatchSize, settings.prefetchMessagesPerQueue - queue.heldMessages)),
      waitMs: fetch.atFollower ? 0 : settings.pullWaitMs,
      group: settings.group,
      member: this.#member,
      epoch: queue.epoch,
      ...pullFilter(queue.filter),
      ...(fetch.atFollower ? { suggested: true } : {}),
    };
    const timeoutMs = fetch.atFollower ? FOLLOWER_TIMEOUT_MS : settings.pullWaitMs + ANSWER_GRACE_MS;
    link.request(Op.pull, request, timeoutMs, (error, body, raw) => {
      if (fetch.abandoned) return;
      this.#fetches.delete(queue);
      if (error !== null && fetch.atFollower) this.#leaveFollower(queue);
      else if (error !== null) this.#refused(queue, error, term);
      // Buffered messages were given back meanwhile: what was asked for lies behind them, and taking it in would skip them.
      else if (queue.nextOffset !== request.offset) this.#fetch(queue);
      else {
        const { nextOffset, batches, suggest = 0 } = body as PullResponse;
        if (suggest === 0 || settings.ordered) this.#suggested.delete(queue);
        else this.#suggested.set(queue, suggest);
        // A broker that holds no more pulls answers at once: asked again at once, all consumers together would be a storm.
        const notHeld = batches.length === 0 && nextOffset === request.offset && clock.monotonicMs() - askedMs < settings.pullWaitMs / 2;
        if (notHeld) this.#rest(queue, NOT_HELD_DELAY_MS * (0.5 + random.unit() / 2));
        this.#took(queue, body as PullResponse, raw);
      }
    });
  }

  /** Where the queue is read from when not at the leader. */
  #follower(queue: ProcessQueue): Link | null {
    const replicaId = this.#suggested.get(queue);
    if (replicaId === undefined) return null;
    const link = this.#core.router.replica(queue.queue.brokerName, replicaId);
    return link?.ready ? link : null;
  }

  /** Whatever a follower's refusal was about, the leader has the last word. */
  #leaveFollower(queue: ProcessQueue): void {
    this.#suggested.delete(queue);
    this.#fetch(queue);
  }

  #took(queue: ProcessQueue, body: PullResponse, raw: Uint8Array): void {
    const heldBytes = queue.heldBytes;
    let added = 0;
    try {
      let at = 0;
      let openedBytes = 0;
      const receivedMs = this.#core.io.clock.monotonicMs();
      for (const { baseOffset, logTimeMs, sizeBytes, reference } of body.batches) {
        // A pull is bounded by what travels; opened, bodies may be a thousand times as much. What is left is pulled again.
        if (openedBytes > 0 && this.#isFull(queue, queue.heldBytes - heldBytes)) break;
        const batch = new ReceivedBatch(raw.subarray(at, at + sizeBytes), queue.queue, baseOffset, logTimeMs, reference);
        batch.receivedMs = receivedMs;
        added += queue.add(batch);
        at += sizeBytes;
        openedBytes += batch.memoryBytes - sizeBytes;
      }
      if (at === raw.length) queue.nextOffset = Math.max(queue.nextOffset, body.nextOffset);
    } catch (error) {
      // Damaged on the way, or a format from the future: never skipped, asked for again.
      this.#rest(queue, REFUSED_DELAY_MS);
      this.#events.failed(error as LedgerError);
    }
    this.#heldMessages += added;
    this.#heldBytes += queue.heldBytes - heldBytes;
    if (added > 0) this.#events.arrived(queue);
    this.#fetch(queue);
  }

  #refused(queue: ProcessQueue, error: LedgerError, term: number): void {
    switch (error.code) {
      case 'NOT_OWNER':
      case 'FENCED':
      case 'UNKNOWN_MEMBER':
        this.#rest(queue, REFUSED_DELAY_MS);
        this.#events.ownershipRefused(queue);
        return;
      case 'OFFSET_OUT_OF_RANGE':
        this.#events.failed(error);
        void this.#reposition(queue);
        return;
      default:
        if (isTransient(error)) {
          this.#core.router.suspect();
          const delayMs = backoffMs(REDIRECT_BACKOFF, 2, this.#core.io.random);
          if (error.code === 'NOT_LEADER') this.#rest(queue, ROUTE_WAIT_MS + delayMs, term);
          else this.#rest(queue, delayMs);
          return;
        }
        this.#events.failed(error);
        this.#rest(queue, REFUSED_DELAY_MS);
    }
  }

  /** The first retained offset moved past ours: what lay before is gone by retention. An offset above the end is only waited for. */
  async #reposition(queue: ProcessQueue): Promise<void> {
    this.#rest(queue, REFUSED_DELAY_MS);
    const { topic, queueId, brokerName } = queue.queue;
    try {
      const { body } = await this.#core.askLeader(brokerName, Op.queueRange, { topic, queueId, timeMs: 0 });
      if (queue.nextOffset < body.minOffset) queue.nextOffset = body.minOffset;
    } catch (error) {
      this.#events.failed(error as LedgerError);
    }
  }

  /** @param staleTerm a route of this term does not end the rest; -1: any does */
  #rest(queue: ProcessQueue, delayMs: number, staleTerm = -1): void {
    this.#awake(queue);
    // A queue given up meanwhile has nobody to wait for it, and a timer left behind would keep the process alive.
    if (!this.#queues.has(queue)) return;
    const timer = this.#core.io.clock.setTimer(delayMs, () => {
      this.#resting.delete(queue);
      this.#fetch(queue);
    });
    this.#resting.set(queue, { timer, staleTerm });
  }

  #awake(queue: ProcessQueue): void {
    const resting = this.#resting.get(queue);
    if (resting === undefined) return;
    this.#core.io.clock.clearTimer(resting.timer);
    this.#resting.delete(queue);
  }

  /** A poll that hangs at an old leader is given up, and queues without a leader try at once. */
  #routeChanged(): void {
    for (const queue of this.#queues) {
      const link = this.#core.router.leader(queue.queue.brokerName);
      if (link === null || !link.ready) continue;
      const fetch = this.#fetches.get(queue);
      if (fetch !== undefined && !fetch.atFollower && fetch.link !== link) {
        fetch.abandoned = true;
        this.#fetches.delete(queue);
      }
      const stale = this.#resting.get(queue)?.staleTerm === this.#core.router.term(queue.queue.brokerName);
      if (!this.#fetches.has(queue) && !stale) {
        this.#awake(queue);
        this.#fetch(queue);
      }
    }
  }
}
