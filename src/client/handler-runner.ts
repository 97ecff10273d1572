import type { Timer } from '../io/clock.ts';
import { backoffMs } from './backoff.ts';
import type { ConsumerSettings } from './consumer-settings.ts';
import type { ClientIo } from './link.ts';
import type { ReceivedMessage } from './message.ts';
import type { ProcessQueue } from './process-queue.ts';
import { RateCap } from './rate-cap.ts';
import type { ConsumeContext } from './types.ts';

/** Handlers that return at once may keep the event loop for this many calls; sockets and heartbeats come in between. */
const MAX_CALLS_PER_TURN = 256;

export interface HandlerRunnerEvents {
  /** Messages are done, or given up with their queue. */
  finished(queue: ProcessQueue, messages: readonly ReceivedMessage[]): void;
}

interface Attempt {
  readonly queue: ProcessQueue;
  readonly messages: readonly ReceivedMessage[];
  /** Failed attempts so far. */
  failures: number;
}

/**
 * Gives messages to handlers: `concurrency` at a time, round robin over the queues, in offset order within each; with
 * `ordered` one at a time for each queue. A failed handler is called again with the same messages after a backoff: never
 * acknowledged, never skipped, and the queue's committed offset stays before them meanwhile.
 */
export class HandlerRunner {
  readonly #io: ClientIo;
  readonly #settings: ConsumerSettings;
  readonly #events: HandlerRunnerEvents;
  readonly #rate: RateCap;
  /** Queues with messages to start, in turn. */
  #ready: ProcessQueue[] = [];
  readonly #listed = new Set<ProcessQueue>();
  readonly #retries: Attempt[] = [];
  readonly #waiters: ((message: ReceivedMessage | null) => void)[] = [];
  readonly #owners = new WeakMap<ReceivedMessage, ProcessQueue>();
  #running = 0;
  /** Messages that loops took since sockets had their turn. */
  #takenInTurn = 0;
  #scheduled = false;
  #rateTimer: Timer | null = null;
  readonly #retryTimers = new Set<Timer>();
  /** Attempts that came due while their queue was being given back. */
  readonly #shelved = new WeakMap<ProcessQueue, Attempt[]>();
  #closed = false;

  constructor(io: ClientIo, settings: ConsumerSettings, events: HandlerRunnerEvents) {
    this.#io = io;
    this.#settings = settings;
    this.#events = events;
    this.#rate = new RateCap(io.clock, settings.maxMessagesPerSecond);
  }

  /** The queue has messages. */
  offer(queue: ProcessQueue): void {
    if (!this.#listed.has(queue)) {
      this.#listed.add(queue);
      this.#ready.push(queue);
    }
    this.#schedule();
  }

  /** The queue stays after all: what failed in it is tried again, or its offset would stand still for good. */
  kept(queue: ProcessQueue): void {
    this.#retries.push(...(this.#shelved.get(queue) ?? []));
    this.#shelved.delete(queue);
    this.offer(queue);
  }

  close(): void {
    this.#closed = true;
    if (this.#rateTimer !== null) this.#io.clock.clearTimer(this.#rateTimer);
    for (const timer of this.#retryTimers) this.#io.clock.clearTimer(timer);
    this.#retryTimers.clear();
    for (const waiter of this.#waiters.splice(0)) waiter(null);
  }

  /** For iteration: the next message, or null when closed. */
  next(): ReceivedMessage | null | Promise<ReceivedMessage | null> {
    if (this.#closed) return null;
    if (this.#waiters.length > 0 || this.#takenInTurn >= MAX_CALLS_PER_TURN || !this.#allowed()) return this.#wait();
    this.#takenInTurn += 1;
    return this.#takeOne() ?? this.#wait();
  }

  /** For iteration: the loop came back, so the work on `message` is done. */
  acknowledge(message: ReceivedMessage): void {
    const queue = this.#owners.get(message);
    if (queue !== undefined) this.#finish(queue, [message]);
  }

  #wait(): Promise<ReceivedMessage | null> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#io.clock.defer(() => {
      this.#scheduled = false;
      this.#takenInTurn = 0;
      if (this.#settings.handler === null) this.#serveWaiters();
      else this.#pump();
    });
  }

  #serveWaiters(): void {
    while (this.#waiters.length > 0 && this.#allowed()) {
      const message = this.#takeOne();
      if (message === null) return;
      (this.#waiters.shift() as (message: ReceivedMessage | null) => void)(message);
    }
  }

  #takeOne(): ReceivedMessage | null {
    const queue = this.#nextQueue();
    const message = queue?.takeOne() ?? null;
    if (queue === null || message === null) return null;
    this.#rate.take(1);
    this.#owners.set(message, queue);
    this.#relist(queue);
    return message;
  }

  #pump(): void {
    for (let calls = 0; this.#running < this.#settings.concurrency && !this.#closed; calls++) {
      if (calls === MAX_CALLS_PER_TURN) {
        this.#schedule();
        return;
      }
      const retry = this.#retries.shift();
      if (retry !== undefined) {
        this.#run(retry);
        continue;
      }
      if (!this.#allowed()) return;
      const queue = this.#nextQueue();
      if (queue === null) return;
      const messages = queue.take(this.#rate.atMost(this.#settings.consumeMessageBatchMaxSize));
      this.#rate.take(messages.length);
      // An ordered queue comes back when its handler is done.
      if (!this.#settings.ordered) this.#relist(queue);
      this.#run({ queue, messages, failures: 0 });
    }
  }

  #nextQueue(): ProcessQueue | null {
    for (let queue = this.#ready.shift(); queue !== undefined; queue = this.#ready.shift()) {
      this.#listed.delete(queue);
      const busy = this.#settings.ordered && queue.startedCount > 0;
      if (queue.state === 'active' && queue.readyCount > 0 && !busy) return queue;
    }
    return null;
  }

  #relist(queue: ProcessQueue): void {
    if (queue.readyCount === 0 || this.#listed.has(queue)) return;
    this.#listed.add(queue);
    this.#ready.push(queue);
  }

  #allowed(): boolean {
    const waitMs = this.#rate.waitMs();
    if (waitMs === 0) return true;
    this.#rateTimer ??= this.#io.clock.setTimer(waitMs, () => {
      this.#rateTimer = null;
      this.#schedule();
    });
    return false;
  }

  #run(attempt: Attempt): void {
    const { queue, messages } = attempt;
    // Given up with its queue: another member does it.
    if (queue.state === 'lost') {
      this.#finish(queue, messages);
      return;
    }
    let outcome: Promise<void> | void;
    try {
      outcome = this.#settings.handler?.(messages, this.#contextOf(attempt));
    } catch (error) {
      this.#failed(attempt, error);
      return;
    }
    if (!isPromiseLike(outcome)) {
      this.#finish(queue, messages);
      return;
    }
    this.#running += 1;
    outcome.then(
      () => {
        this.#running -= 1;
        this.#finish(queue, messages);
      },
      (error: unknown) => {
        this.#running -= 1;
        this.#failed(attempt, error);
      },
    );
  }

  #contextOf({ queue, failures }: Attempt): ConsumeContext {
    const context = this.#contexts.get(queue);
    if (failures === 0 && context !== undefined) return context;
    const made = { group: this.#settings.group, queue: queue.queue, reconsumeTimes: failures, signal: queue.signal };
    if (failures === 0) this.#contexts.set(queue, made);
    return made;
  }
  readonly #contexts = new WeakMap<ProcessQueue, ConsumeContext>();

  #finish(queue: ProcessQueue, messages: readonly ReceivedMessage[]): void {
    for (const message of messages) queue.finish(message);
    this.#events.finished(queue, messages);
    if (queue.readyCount > 0) this.offer(queue);
    else if (this.#ready.length > 0 || this.#retries.length > 0) this.#schedule();
  }

  #failed(attempt: Attempt, error: unknown): void {
    const { reconsumeBackoffBaseMs: baseMs, reconsumeBackoffCapMs: capMs, maxReconsumeTimes, onError } = this.#settings;
    const exponent = Math.min(attempt.failures, maxReconsumeTimes);
    const delayMs = backoffMs({ baseMs, factor: 2, capMs, jitter: true }, exponent, this.#io.random);
    attempt.failures += 1;
    for (const message of attempt.messages) message.reconsumeTimes = attempt.failures;
    onError(error);
    // Failed while closing: not done, so it comes again to whoever is next.
    if (this.#closed) return;
    const timer = this.#io.clock.setTimer(delayMs, () => {
      this.#retryTimers.delete(timer);
      this.#due(attempt);
    });
    this.#retryTimers.add(timer);
    this.#schedule();
  }

  /** A queue that is being given back goes without this message done: the next owner gets it, or we when it stays. */
  #due(attempt: Attempt): void {
    const { queue } = attempt;
    if (queue.state === 'active') {
      this.#retries.push(attempt);
      this.#schedule();
    } else if (queue.state === 'revoking') this.#shelved.set(queue, [...(this.#shelved.get(queue) ?? []), attempt]);
  }
}

function isPromiseLike(value: unknown): value is Promise<void> {
  return typeof value === 'object' && value !== null && 'then' in value;
}
