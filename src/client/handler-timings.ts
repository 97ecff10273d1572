import { channel } from 'node:diagnostics_channel';
import type { Clock, Timer } from '../io/clock.ts';
import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';
import type { HandledCall, HandlerStatistics, SlowHandler } from './types.ts';

/** Upper bounds of the histogram, ms; those of the brokers' latencies. +Inf is implied. */
export const HANDLER_DURATION_BUCKETS_MS: readonly number[] = [1, 3, 5, 10, 30, 100, 300, 1_000, 3_000, 10_000];
/** Message ids named for one slow call. */
const NAMED_IDS = 8;

/** `node:diagnostics_channel`: one HandledCall for each finished call of a handler, one SlowHandler for each slow one. */
const handledChannel = channel('ledgermq.consumer.handled');
const slowChannel = channel('ledgermq.consumer.slow');

/** A call of a handler under way. */
export interface HandlerCall {
  readonly queue: { readonly queue: MessageQueue };
  readonly messages: readonly ReceivedMessage[];
  startedMs: number;
  /** It was told of already while it ran. */
  told: boolean;
}

interface Counts {
  count: number;
  messages: number;
  failures: number;
  sumMs: number;
  maxMs: number;
  /** One more than bounds. */
  readonly buckets: number[];
}

/**
 * How long handlers take, by topic (F27): a histogram that costs one look at the clock at each end of a call, and a word about
 * calls that take longer than slowHandlerMs, while they run: one that never ends is seen, too.
 */
export class HandlerTimings {
  readonly #clock: Clock;
  readonly #group: string;
  readonly #slowMs: number;
  readonly #onSlow: (slow: SlowHandler) => void;
  readonly #topics = new Map<string, Counts>();
  /** Calls that returned a promise, oldest first. At most `concurrency`. */
  readonly #running = new Set<HandlerCall>();
  #timer: Timer | null = null;

  constructor(clock: Clock, options: { group: string; slowHandlerMs: number; onSlowHandler: (slow: SlowHandler) => void }) {
    this.#clock = clock;
    this.#group = options.group;
    this.#slowMs = options.slowHandlerMs;
    this.#onSlow = options.onSlowHandler;
  }

  begin(call: HandlerCall): void {
    call.startedMs = this.#clock.monotonicMs();
    call.told = false;
  }

  /** The handler gave a promise: it may take its time. */
  running(call: HandlerCall): void {
    if (this.#slowMs === 0) return;
    this.#running.add(call);
    this.#timer ??= this.#clock.setTimer(this.#slowMs, () => this.#look());
  }

  end(call: HandlerCall, failed: boolean): void {
    this.#running.delete(call);
    const durationMs = this.#clock.monotonicMs() - call.startedMs;
    const { queue } = call.queue;
    const counts = this.#countsOf(queue.topic);
    counts.count += 1;
    counts.messages += call.messages.length;
    if (failed) counts.failures += 1;
    counts.sumMs += durationMs;
    counts.maxMs = Math.max(counts.maxMs, durationMs);
    let bucket = 0;
    while (durationMs > (HANDLER_DURATION_BUCKETS_MS[bucket] ?? Number.POSITIVE_INFINITY)) bucket += 1;
    counts.buckets[bucket] = (counts.buckets[bucket] as number) + 1;
    if (handledChannel.hasSubscribers) {
      const handled: HandledCall = { group: this.#group, queue, messages: call.messages.length, durationMs, failed };
      handledChannel.publish(handled);
    }
    if (this.#slowMs > 0 && durationMs >= this.#slowMs && !call.told) this.#tell(call, durationMs, false);
  }

  statistics(): HandlerStatistics[] {
    return [...this.#topics]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([topic, counts]) => ({ group: this.#group, topic, ...counts, buckets: [...counts.buckets] }));
  }

  close(): void {
    if (this.#timer !== null) this.#clock.clearTimer(this.#timer);
    this.#timer = null;
    this.#running.clear();
  }

  #countsOf(topic: string): Counts {
    let counts = this.#topics.get(topic);
    if (counts === undefined) {
      const buckets = new Array<number>(HANDLER_DURATION_BUCKETS_MS.length + 1).fill(0);
      counts = { count: 0, messages: 0, failures: 0, sumMs: 0, maxMs: 0, buckets };
      this.#topics.set(topic, counts);
    }
    return counts;
  }

  /** Tells of those that have become slow, and looks again when the oldest of the others may have. */
  #look(): void {
    this.#timer = null;
    const nowMs = this.#clock.monotonicMs();
    for (const call of this.#running) {
      const durationMs = nowMs - call.startedMs;
      if (durationMs < this.#slowMs) {
        this.#timer ??= this.#clock.setTimer(this.#slowMs - durationMs, () => this.#look());
        return;
      }
      this.#running.delete(call);
      call.told = true;
      this.#tell(call, durationMs, true);
    }
  }

  #tell({ queue, messages }: HandlerCall, durationMs: number, running: boolean): void {
    const msgIds = messages.slice(0, NAMED_IDS).map(({ msgId }) => msgId);
    const offset = messages[0]?.offset ?? 0;
    const slow: SlowHandler = { group: this.#group, queue: queue.queue, offset, msgIds, messages: messages.length, durationMs, running };
    this.#onSlow(slow);
    if (slowChannel.hasSubscribers) slowChannel.publish(slow);
  }
}
