import { LedgerError } from '../../protocol/errors.ts';
import { checkTopicName, checkUserGroupName } from '../../protocol/names.ts';
import { MAX_POP_MESSAGES } from '../../protocol/pop-requests.ts';
import { backoffMs } from '../backoff.ts';
import type { ClientCore } from '../client-core.ts';
import { parseTagFilter } from '../selector.ts';
import { PopSource } from './pop-source.ts';
import type { PoppedMessage } from './popped-message.ts';

/** A handler that has taken this much of the invisible time gets it anew. */
const RENEW_AT = 0.5;
/** After a pop that failed. */
const FAILED_BACKOFF = { baseMs: 100, factor: 2, capMs: 5_000, jitter: true } as const;

export interface PopConsumerOptions {
  readonly group: string;
  readonly topic: string;
  /** Called with each message; its return acknowledges, its throw is a failed attempt. Without one: pop(). */
  readonly handler?: (popped: PoppedMessage) => Promise<void> | void;
  /** Handlers at the same time (RocketMQ's consumeThreadNumber). */
  readonly concurrency?: number;
  /** Messages of one pop, 1…1024 (RocketMQ: 32). */
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  /** For how long a message is kept from others; 10 ms…12 h. A handler that takes longer has it renewed. */
  readonly invisibleMs?: number;
  /** How long a pop waits at the broker. */
  readonly waitMs?: number;
  /** Deliveries at most; then the message goes to the dead letters of the group. */
  readonly maxAttempts?: number;
  /** When a failed attempt is delivered again: base · factor^attempts, at most the cap, with full jitter. */
  readonly retryBackoffBaseMs?: number;
  readonly retryBackoffCapMs?: number;
  /** One delivery of a queue at a time. */
  readonly ordered?: boolean;
  /** Tag expression: `*` or `A || B`. */
  readonly filter?: string;
  /** Where a group begins that never consumed a queue. */
  readonly consumeFromWhere?: 'first' | 'last';
  /** What went wrong on the way: handlers' errors, receipts that expired, pops that failed. */
  readonly onError?: (error: unknown) => void;
}

export const POP_CONSUMER_DEFAULTS = {
  concurrency: 20,
  maxMessages: 32,
  maxBytes: 4 * 1024 * 1024,
  invisibleMs: 60_000,
  waitMs: 15_000,
  maxAttempts: 16,
  retryBackoffBaseMs: 1_000,
  retryBackoffCapMs: 60_000,
  ordered: false,
  consumeFromWhere: 'last',
} as const;

type Settings = PopConsumerOptions & Required<Omit<PopConsumerOptions, 'handler' | 'filter' | 'onError'>>;

/**
 * Pop consumption (F25): any number of consumers share any number of queues, message by message. Nobody owns a queue, so nobody waits
 * for a rebalance; a message that its consumer did not acknowledge becomes visible to the others again.
 */
export class PopConsumer {
  readonly #core: ClientCore;
  readonly #settings: Settings;
  readonly #sources = new Map<string, PopSource>();
  readonly #popping = new Set<string>();
  readonly #running = new Set<Promise<void>>();
  #endRouteListener: (() => void) | null = null;
  #closed = false;
  #next = 0;

  /** @throws LedgerError BAD_NAME, BAD_REQUEST */
  constructor(core: ClientCore, options: PopConsumerOptions) {
    checkUserGroupName(options.group);
    checkTopicName(options.topic);
    const settings = { ...POP_CONSUMER_DEFAULTS, ...options };
    parseTagFilter(settings.filter);
    inRange('maxMessages', settings.maxMessages, 1, MAX_POP_MESSAGES);
    inRange('concurrency', settings.concurrency, 1, 10_000);
    inRange('invisibleMs', settings.invisibleMs, 10, 12 * 3_600_000);
    inRange('maxAttempts', settings.maxAttempts, 1, 0xffff);
    this.#core = core;
    this.#settings = settings;
  }

  /** Begins to pop and to call the handler. @throws LedgerError TOPIC_NOT_FOUND, BAD_REQUEST without a handler */
  async start(): Promise<void> {
    if (this.#settings.handler === undefined) throw new LedgerError('BAD_REQUEST', 'a pop consumer that is started needs a handler');
    await this.#find();
    this.#endRouteListener = this.#core.router.onChange(() => this.#popAll());
    this.#popAll();
  }

  /**
   * One pop, from one broker group after the other. The caller acknowledges.
   * @param waitMs how long the last group that is asked may hold it; the others answer at once
   * @throws LedgerError
   */
  async pop(maxMessages: number = this.#settings.maxMessages, waitMs: number = this.#settings.waitMs): Promise<PoppedMessage[]> {
    if (this.#closed) throw new LedgerError('CLOSED');
    const sources = await this.#find();
    for (let i = 0; i < sources.length; i++) {
      const source = sources[(this.#next + i) % sources.length] as PopSource;
      const popped = await source.pop(maxMessages, i === sources.length - 1 ? waitMs : 0);
      if (popped.length === 0) continue;
      this.#next += i + 1;
      return popped;
    }
    return [];
  }

  /** No further message is taken; handlers end, and what they acknowledged is told. What was popped and not begun is given back. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#endRouteListener?.();
    await Promise.all(this.#running);
    await Promise.all([...this.#sources.values()].map((source) => source.receipts.settled()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #find(): Promise<PopSource[]> {
    const { topic } = this.#settings;
    await this.#core.router.find(topic, this.#core.requestTimeoutMs);
    return this.#known();
  }

  #known(): PopSource[] {
    const { group, topic, maxBytes, invisibleMs, waitMs, consumeFromWhere, ordered, maxAttempts } = this.#settings;
    const filter = parseTagFilter(this.#settings.filter);
    const places = this.#core.router.topic(topic)?.route.placement ?? [];
    return places.map(({ brokerName }) => {
      let source = this.#sources.get(brokerName);
      if (source === undefined) {
        const bounds = { maxBytes, invisibleMs, waitMs, from: consumeFromWhere, ordered, maxAttempts };
        const request = { group, topic, queueId: -1, ...bounds, tagHashes: filter?.hashes ?? [] };
        source = new PopSource(this.#core, brokerName, request, filter, (error) => this.#failed(error));
        this.#sources.set(brokerName, source);
      }
      return source;
    });
  }

  /** A pop for each broker group, as long as there is a handler free. */
  #popAll(): void {
    for (const source of this.#known()) void this.#popFrom(source);
  }

  async #popFrom(source: PopSource): Promise<void> {
    if (this.#popping.has(source.brokerName)) return;
    this.#popping.add(source.brokerName);
    for (let failures = 0; !this.#closed; ) {
      const free = this.#settings.concurrency - this.#running.size;
      if (free <= 0) {
        await Promise.race(this.#running);
        continue;
      }
      try {
        const popped = await source.pop(Math.min(free, this.#settings.maxMessages));
        failures = 0;
        this.#begin(popped);
      } catch (error) {
        this.#failed(error as LedgerError);
        await this.#core.sleep(backoffMs(FAILED_BACKOFF, failures++, this.#core.io.random));
      }
    }
    this.#popping.delete(source.brokerName);
  }

  #begin(popped: readonly PoppedMessage[]): void {
    // In order, a delivery's messages are handled one after the other.
    const runs = this.#settings.ordered ? [popped] : popped.map((one) => [one]);
    for (const run of runs) {
      const running = this.#handleAll(run).finally(() => this.#running.delete(running));
      this.#running.add(running);
    }
  }

  async #handleAll(run: readonly PoppedMessage[]): Promise<void> {
    for (const [i, popped] of run.entries()) {
      if (this.#closed) await this.#giveUp(run.slice(i), 0);
      else if (await this.#handle(popped)) continue;
      // What is behind one that failed must not overtake it.
      else await this.#giveUp(run.slice(i + 1), this.#retryDelayMs(popped));
      return;
    }
  }

  /** @returns whether it was handled */
  async #handle(popped: PoppedMessage): Promise<boolean> {
    const { handler, invisibleMs } = this.#settings;
    const { clock } = this.#core.io;
    const renew = (): void => {
      popped.changeInvisibleTime(invisibleMs).catch((error: unknown) => this.#failed(error));
      timer = clock.setTimer(invisibleMs * RENEW_AT, renew);
    };
    let timer = clock.setTimer(invisibleMs * RENEW_AT, renew);
    try {
      await handler?.(popped);
      clock.clearTimer(timer);
      await popped.ack().catch((error: unknown) => this.#failed(error));
      return true;
    } catch (error) {
      clock.clearTimer(timer);
      this.#failed(error);
      await this.#giveUp([popped], this.#retryDelayMs(popped));
      return false;
    }
  }

  #retryDelayMs({ attempts }: PoppedMessage): number {
    const { retryBackoffBaseMs: baseMs, retryBackoffCapMs: capMs } = this.#settings;
    return Math.round(backoffMs({ baseMs, factor: 2, capMs, jitter: true }, attempts, this.#core.io.random));
  }

  async #giveUp(run: readonly PoppedMessage[], delayMs: number): Promise<void> {
    await Promise.all(run.map((popped) => popped.changeInvisibleTime(delayMs).catch((error: unknown) => this.#failed(error))));
  }

  #failed(error: unknown): void {
    this.#settings.onError?.(error);
  }
}

function inRange(name: string, value: number, min: number, max: number): void {
  if (!(Number.isSafeInteger(value) && value >= min && value <= max)) throw new LedgerError('BAD_REQUEST', `${name} is ${min}…${max}`);
}
