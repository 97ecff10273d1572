import type { Timer } from '../io/clock.ts';
import { LedgerError } from '../protocol/errors.ts';
import { backoffMs } from './backoff.ts';
import { ConsumeTimeouts, type WatchedCall } from './consume-timeouts.ts';
import type { ConsumerSettings } from './consumer-settings.ts';
import { type FailureSeams, MAX_SUSPEND_MS, MIN_SUSPEND_MS, type TakeFailed } from './failed-messages.ts';
import { type HandlerCall, HandlerTimings } from './handler-timings.ts';
import type { ClientIo } from './link.ts';
import type { ReceivedMessage } from './message.ts';
import type { ProcessQueue } from './process-queue.ts';
import { RateCap } from './rate-cap.ts';
import type { ConsumeContext, HandlerStatistics } from './types.ts';

/** Handlers that return at once may keep the event loop for this many calls; sockets and heartbeats come in between. */
const MAX_CALLS_PER_TURN = 256;
/** Delay level of what is to be a dead letter. */
const NO_FURTHER_ATTEMPT = -1;

export interface HandlerRunnerEvents {
  /** Messages are done, or given up with their queue. */
  finished(queue: ProcessQueue, messages: readonly ReceivedMessage[]): void;
}

/** Messages that are to be given, or are given, to a handler together. */
interface Attempt extends HandlerCall, WatchedCall {
  readonly queue: ProcessQueue;
  /** Failed attempts of this process so far. */
  readonly failures: number;
  messages: readonly ReceivedMessage[];
  /** It took too long, and its messages are on their way back: those that stayed here after all. */
  late: Promise<readonly ReceivedMessage[]> | null;
  ended: boolean;
}

const attemptAt = (queue: ProcessQueue, messages: readonly ReceivedMessage[], failures: number): Attempt => ({
  queue,
  messages,
  failures,
  startedMs: 0,
  told: false,
  watchedMs: 0,
  late: null,
  ended: false,
});

/**
 * Gives messages to handlers: `concurrency` at a time, round robin over the queues, in offset order within each; with
 * `ordered` one at a time for each queue. What fails goes where `seams` say, or to the handler again after a while: never
 * acknowledged, never skipped, and the queue's committed offset stays before it meanwhile.
 */
export class HandlerRunner {
  readonly #io: ClientIo;
  readonly #settings: ConsumerSettings;
  readonly #events: HandlerRunnerEvents;
  readonly #seams: FailureSeams;
  readonly #rate: RateCap;
  readonly #timings: HandlerTimings;
  readonly #timeouts: ConsumeTimeouts<Attempt>;
  #concurrency: number;
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

  constructor(io: ClientIo, settings: ConsumerSettings, events: HandlerRunnerEvents, seams: FailureSeams) {
    this.#io = io;
    this.#settings = settings;
    this.#events = events;
    this.#seams = seams;
    this.#concurrency = settings.concurrency;
    this.#rate = new RateCap(io.clock, settings.maxMessagesPerSecond);
    this.#timings = new HandlerTimings(io.clock, settings);
    this.#timeouts = new ConsumeTimeouts(io.clock, seams.sendBack === null || settings.ordered ? 0 : settings.consumeTimeoutMs, (attempt) =>
      this.#late(attempt),
    );
  }

  get concurrency(): number {
    return this.#concurrency;
  }

  /** Handlers that run above a lower bound end by themselves; no new one starts until there is room. */
  setConcurrency(concurrency: number): void {
    this.#concurrency = concurrency;
    this.#schedule();
  }

  statistics(): HandlerStatistics[] {
    return this.#timings.statistics();
  }

  /** The queue has messages. */
  offer(queue: ProcessQueue): void {
    this.#list(queue);
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
    this.#timings.close();
    this.#timeouts.close();
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
    // Of loops only what they cannot be shown is ever tried again.
    for (const attempt of this.#retries.splice(0)) this.#run(attempt);
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
    if (!message.decodable) {
      this.#undecodable(attemptAt(queue, [message], 0));
      if (queue.readyCount > 0) this.#list(queue);
      return this.#takeOne();
    }
    this.#owners.set(message, queue);
    if (queue.readyCount > 0) this.#list(queue);
    return message;
  }

  #pump(): void {
    for (let calls = 0; this.#running < this.#concurrency && !this.#closed; calls++) {
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
      if (!this.#settings.ordered && queue.readyCount > 0) this.#list(queue);
      this.#run(attemptAt(queue, messages, 0));
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

  #list(queue: ProcessQueue): void {
    if (this.#listed.has(queue)) return;
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

  #run(whole: Attempt): void {
    // Given up with its queue: another member does it.
    if (whole.queue.state === 'lost') {
      this.#finish(whole.queue, whole.messages);
      return;
    }
    const attempt = this.#decodable(whole);
    if (attempt === null) return;
    const context = this.#contextOf(attempt);
    this.#timings.begin(attempt);
    let outcome: Promise<void> | void;
    try {
      outcome = this.#settings.handler?.(attempt.messages, context);
    } catch (error) {
      this.#settled(attempt, context, true, error);
      return;
    }
    if (!isPromiseLike(outcome)) {
      this.#settled(attempt, context, false, null);
      return;
    }
    this.#running += 1;
    this.#timings.running(attempt);
    this.#timeouts.watch(attempt);
    outcome.then(
      () => this.#ended(attempt, context, false, null),
      (error: unknown) => this.#ended(attempt, context, true, error),
    );
  }

  /** A handler that returned a promise is done. */
  #ended(attempt: Attempt, context: ConsumeContext, failed: boolean, error: unknown): void {
    this.#running -= 1;
    attempt.ended = true;
    this.#timeouts.forget(attempt);
    if (attempt.late === null) {
      this.#settled(attempt, context, failed, error);
      return;
    }
    this.#timings.end(attempt, true);
    this.#schedule();
    // What was sent back is another attempt's, however this one ended; for the rest it counts after all.
    void attempt.late.then((rest) => {
      const all = rest.length === attempt.messages.length;
      if (rest.length > 0) this.#outcome(attemptAt(attempt.queue, rest, attempt.failures), context, failed || !all, error);
    });
  }

  /** Longer than consumeTimeoutMs: a failed attempt. The handler goes on, and keeps its place among those that run. */
  #late(attempt: Attempt): void {
    const { queue, messages } = attempt;
    const { sendBack } = this.#seams;
    if (sendBack === null || queue.state === 'lost') return;
    const error = new LedgerError('DEADLINE_EXCEEDED', `a handler took longer than consumeTimeoutMs ${this.#settings.consumeTimeoutMs}`);
    this.#settings.onError(error);
    const attempts = Math.max(...messages.map(({ reconsumeTimes }) => reconsumeTimes + 1));
    for (const message of messages) message.reconsumeTimes += 1;
    attempt.late = this.#take(() => sendBack({ queue: queue.queue, messages, attempts, delayLevel: 0, error })).then((taken) => {
      const rest = without(messages, taken);
      for (const message of rest) message.reconsumeTimes -= 1;
      if (taken.length > 0) this.#finish(queue, taken);
      // It still runs, so it is not begun again: after the same time once more it is tried to send it back.
      if (rest.length > 0 && !attempt.ended && !this.#closed) {
        attempt.messages = rest;
        attempt.late = null;
        this.#timeouts.watch(attempt);
      }
      return rest;
    });
  }

  /** Without the messages that no handler can read: they go to the dead letters. null: none is left. */
  #decodable(attempt: Attempt): Attempt | null {
    const { queue, messages, failures } = attempt;
    if (messages.every(({ decodable }) => decodable)) return attempt;
    const sound = messages.filter(({ decodable }) => decodable);
    this.#undecodable(
      attemptAt(
        queue,
        messages.filter(({ decodable }) => !decodable),
        failures,
      ),
    );
    return sound.length === 0 ? null : attemptAt(queue, sound, failures);
  }

  #undecodable(attempt: Attempt): void {
    const error = new LedgerError('CORRUPT_BATCH', `message ${attempt.messages[0]?.msgId} cannot be decoded`);
    this.#settings.onError(error);
    for (const message of attempt.messages) message.reconsumeTimes += 1;
    this.#failed(attemptAt(attempt.queue, attempt.messages, attempt.failures + 1), NO_FURTHER_ATTEMPT, null, error);
  }

  /** A handler that returns at once costs no context of its own: the queue's last one is free again. */
  #contextOf({ queue, messages }: Attempt): ConsumeContext {
    const context: Writable<ConsumeContext> = queue.spareContext ?? {
      group: this.#settings.group,
      queue: queue.queue,
      reconsumeTimes: 0,
      fencingToken: 0,
      signal: queue.signal,
      ackIndex: null,
      delayLevelWhenNextConsume: 0,
      suspendCurrentQueueTimeMillis: null,
    };
    queue.spareContext = null;
    context.reconsumeTimes = messages[0]?.reconsumeTimes ?? 0;
    context.fencingToken = queue.epoch;
    context.ackIndex = null;
    context.delayLevelWhenNextConsume = 0;
    context.suspendCurrentQueueTimeMillis = null;
    return context;
  }

  #settled(attempt: Attempt, context: ConsumeContext, failed: boolean, error: unknown): void {
    this.#timings.end(attempt, failed);
    this.#outcome(attempt, context, failed, error);
  }

  #outcome(attempt: Attempt, context: ConsumeContext, failed: boolean, error: unknown): void {
    const { queue, messages } = attempt;
    const { ackIndex, delayLevelWhenNextConsume: delayLevel, suspendCurrentQueueTimeMillis: suspendMs } = context;
    queue.spareContext = context;
    const done = Math.min(messages.length, Math.max(0, ackIndex === null ? (failed ? 0 : messages.length) : ackIndex + 1));
    if (failed) this.#settings.onError(error);
    if (done === messages.length) {
      this.#finish(queue, messages);
      return;
    }
    // First those that failed are counted: finishing the others may end what waits for the queue to be idle.
    const rest = attemptAt(queue, messages.slice(done), attempt.failures + 1);
    for (const message of rest.messages) message.reconsumeTimes += 1;
    if (done > 0) this.#finish(queue, messages.slice(0, done));
    this.#failed(rest, delayLevel, suspendMs, error);
  }

  #finish(queue: ProcessQueue, messages: readonly ReceivedMessage[]): void {
    for (const message of messages) queue.finish(message);
    this.#events.finished(queue, messages);
    if (queue.readyCount > 0) this.offer(queue);
    else if (this.#ready.length > 0 || this.#retries.length > 0) this.#schedule();
  }

  #failed(attempt: Attempt, delayLevel: number, suspendMs: number | null, error: unknown): void {
    const { queue, messages } = attempt;
    if (queue.state === 'lost') {
      this.#finish(queue, messages);
      return;
    }
    this.#schedule();
    const attempts = Math.max(...messages.map(({ reconsumeTimes }) => reconsumeTimes));
    const delayMs = this.#delayMs(attempt, suspendMs);
    const take = this.#takerOf(attempts, delayLevel);
    if (take === null) this.#retryAfter(attempt, delayMs);
    else void this.#give(attempt, delayMs, () => take({ queue: queue.queue, messages, attempts, delayLevel, error }));
  }

  /** Who takes over what failed, if anybody does now. */
  #takerOf(attempts: number, delayLevel: number): TakeFailed | null {
    const { ordered, broadcasting, maxReconsumeTimes } = this.#settings;
    if (!ordered && !broadcasting) return this.#seams.sendBack;
    return attempts > maxReconsumeTimes || delayLevel < 0 ? this.#seams.onAttemptsExhausted : null;
  }

  #delayMs({ failures }: Attempt, suspendMs: number | null): number {
    const { ordered, suspendCurrentQueueTimeMillis, reconsumeBackoffBaseMs: baseMs, reconsumeBackoffCapMs: capMs } = this.#settings;
    if (ordered) return Math.min(Math.max(suspendMs ?? suspendCurrentQueueTimeMillis, MIN_SUSPEND_MS), MAX_SUSPEND_MS);
    return backoffMs({ baseMs, factor: 2, capMs, jitter: true }, failures - 1, this.#io.random);
  }

  async #give({ queue, messages, failures }: Attempt, delayMs: number, take: () => ReturnType<TakeFailed>): Promise<void> {
    const taken = await this.#take(take);
    const rest = without(messages, taken);
    // Also while closing: what is safe elsewhere is part of the last commit.
    if (taken.length > 0) this.#finish(queue, taken);
    if (rest.length > 0) this.#retryAfter(attemptAt(queue, rest, failures), delayMs);
  }

  async #take(take: () => ReturnType<TakeFailed>): Promise<readonly ReceivedMessage[]> {
    try {
      return await take();
    } catch (error) {
      this.#settings.onError(error);
      return [];
    }
  }

  #retryAfter(attempt: Attempt, delayMs: number): void {
    // Failed while closing: not done, so it comes again to whoever is next.
    if (this.#closed) return;
    const timer = this.#io.clock.setTimer(delayMs, () => {
      this.#retryTimers.delete(timer);
      this.#due(attempt);
    });
    this.#retryTimers.add(timer);
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

function without(messages: readonly ReceivedMessage[], taken: readonly ReceivedMessage[]): readonly ReceivedMessage[] {
  if (taken.length === 0) return messages;
  const set = new Set(taken);
  return messages.filter((message) => !set.has(message));
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function isPromiseLike(value: unknown): value is Promise<void> {
  return typeof value === 'object' && value !== null && 'then' in value;
}
