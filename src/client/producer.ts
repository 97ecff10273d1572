import { assert } from '../base/assert.ts';
import type { Timer } from '../io/clock.ts';
import { asLedgerError, LedgerError } from '../protocol/errors.ts';
import { MessageIdGenerator, MessageIdTexts, messageIdHighText } from '../protocol/message-id.ts';
import { checkSendTopicName } from '../protocol/names.ts';
import { checkKey, checkTag, checkUserProperties, type PropertyList } from '../protocol/properties.ts';
import { type BatchLimits, DEFAULT_BATCH_LIMITS } from '../protocol/record-batch.ts';
import { batchedSizeBound, checkMessage, tooLargeText } from '../protocol/record-batch-encoder.ts';
import { deferralOf, HALF, sameDeferral } from './delay.ts';
import { GroupSender, type GroupSenderContext } from './group-sender.ts';
import { LatencyTracker } from './latency-tracker.ts';
import type { ClientIo } from './link.ts';
import type { MessageQueue } from './message-queue.ts';
import type { ProducerOptions } from './options.ts';
import { type BatchKind, OutBatch, PendingMessage, refused } from './out-batch.ts';
import { isKeyed, isMovable } from './placement.ts';
import { type ProducerSettings, producerSettings } from './producer-settings.ts';
import { QueueRotation } from './queue-rotation.ts';
import type { KnownTopic, Router } from './router.ts';
import { SendQueue, type SendQueueEvents } from './send-queue.ts';
import type { Tracing } from './tracing.ts';
import type { Message, SendCallback, SendResult } from './types.ts';

const SINGLE = { whole: false, oneWay: false } as const;
/** Bytes of a batch that its messages may not fill. */
const BATCH_HEADER_ROOM = 128;

/** A topic as this producer uses it. */
interface ProducerTopic {
  readonly name: string;
  known: KnownTopic | null;
  /** By brokerName, then queueId. */
  readonly queues: Map<string, SendQueue[]>;
  readonly rotation: QueueRotation;
  /** Sends that wait for the route, in order; bounded with the producer's buffer. */
  readonly waiting: ((error: LedgerError | null) => void)[];
}

type Unplaced = { readonly message: Message; readonly pending: PendingMessage; readonly arg: unknown; readonly oneWay: boolean };

/**
 * Sends messages. Each is stored exactly once, in the order of the calls for each queue, or its promise rejects with a
 * LedgerError: OUTCOME_UNKNOWN when nobody can know, any other code when it certainly was not stored.
 * A body must not be changed until its send has settled.
 */
export class Producer {
  readonly #io: ClientIo;
  readonly #router: Router;
  readonly #settings: ProducerSettings;
  readonly #limits: BatchLimits;
  readonly #ids: MessageIdGenerator;
  readonly #idTexts: MessageIdTexts;
  readonly #groups = new Map<string, GroupSender>();
  readonly #topics = new Map<string, ProducerTopic>();
  readonly #queues: SendQueue[] = [];
  /** Sends that wait for room, from #waitingHead on: shifting a long array for each would be quadratic. */
  #waiting: (() => void)[] = [];
  #waitingHead = 0;
  readonly #context: GroupSenderContext;
  readonly #events: SendQueueEvents;
  readonly #tracing: Tracing | null;
  readonly #forget: () => void;
  #bufferedBytes = 0;
  #bufferedMessages = 0;
  #flushScheduled = false;
  #lingerTimer: Timer | null = null;
  #expiryTimer: Timer | null = null;
  #closed = false;
  #closing: Promise<void> | null = null;
  #admitting = false;
  #idle: (() => void)[] = [];
  #resolve: (result: SendResult) => void = nothing;
  #reject: (error: LedgerError) => void = nothing;
  /** One executor for all promises: a closure for each send would cost as much as the rest of it. */
  readonly #executor = (resolve: (result: SendResult) => void, reject: (error: LedgerError) => void): void => {
    this.#resolve = resolve;
    this.#reject = reject;
  };

  constructor(io: ClientIo, router: Router, options: ProducerOptions, tracing: Tracing | null = null) {
    this.#tracing = tracing;
    this.#io = io;
    this.#router = router;
    this.#settings = producerSettings(options);
    assert(
      this.#settings.maxInFlightBatchesPerQueue >= 1 && this.#settings.maxInFlightBatchesPerQueue <= 8,
      'maxInFlightBatchesPerQueue is 1…8',
    );
    this.#limits = { ...DEFAULT_BATCH_LIMITS, maxMessageBytes: this.#settings.maxMessageBytes };
    this.#ids = new MessageIdGenerator(io.random);
    this.#idTexts = new MessageIdTexts(messageIdHighText(this.#ids.high));
    this.#events = { settled: (queue, batch, error, baseOffset) => this.#settled(queue, batch, error, baseOffset) };
    this.#context = {
      io,
      router,
      settings: this.#settings,
      producerId: randomProducerId(io),
      idHigh: this.#ids.high,
      tracker: new LatencyTracker(io.clock),
      takeIds: (count) => this.#ids.take(count),
      elsewhere: (queue, batch) => this.#elsewhere(queue, batch),
      placeAgain: (queue, batch) => this.#placeAgain(queue, batch),
      scheduleFlush: () => this.#scheduleFlush(),
      oneWayDone: (batch) => this.#release(batch),
    };
    this.#forget = router.onChange(() => {
      for (const group of this.#groups.values()) group.routeChanged();
    });
  }

  /** Bytes accepted and not yet settled. */
  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /**
   * Resolves when the message is stored as the topic's replication asks for (default: synced to disk by a majority).
   * With a callback nothing is returned and the callback is called once instead.
   * @param arg handed to a custom messageQueueSelector
   */
  send(message: Message, callback: SendCallback): undefined;
  send(message: Message, arg?: unknown): Promise<SendResult>;
  send(message: Message, argOrCallback?: unknown): Promise<SendResult> | undefined {
    if (typeof argOrCallback === 'function') {
      const callback = argOrCallback as SendCallback;
      try {
        const pending = this.#accept(message);
        pending.callback = callback;
        this.#submit({ message, pending, arg: undefined, oneWay: false });
      } catch (error) {
        this.#call(callback, asLedgerError(error));
      }
      return undefined;
    }
    const promise = new Promise<SendResult>(this.#executor);
    const resolve = this.#resolve;
    const reject = this.#reject;
    try {
      const pending = this.#accept(message);
      pending.resolve = resolve;
      pending.reject = reject;
      this.#submit({ message, pending, arg: argOrCallback, oneWay: false });
    } catch (error) {
      reject(asLedgerError(error));
    }
    return promise;
  }

  /**
   * Stores a half message, for the transaction producer.
   * @param properties reserved ones, the producer group among them
   * @returns `offset` is the number of the transaction
   */
  sendHalf(message: Message, properties: PropertyList): Promise<SendResult> {
    return new Promise((resolve, reject) => {
      const pending = this.#accept(message, properties);
      pending.deferral = HALF;
      pending.resolve = resolve;
      pending.reject = reject;
      this.#submit({ message, pending, arg: undefined, oneWay: false });
    });
  }

  /**
   * Fire and forget: no answer, no sequence, no retry; may be lost, duplicated by nobody, and order is not promised.
   * @throws LedgerError for what is wrong with the message itself, BUSY when the buffer is full
   */
  sendOneWay(message: Message): void {
    const pending = this.#accept(message);
    if (this.#full()) throw refused([pending], new LedgerError('BUSY', 'the send buffer is full'));
    this.#submit({ message, pending, arg: undefined, oneWay: true });
  }

  /**
   * Stores all of the messages or none, next to each other in one queue.
   * @param messages one topic; the first one's ordering key or queue decides where they go
   */
  async sendBatch(messages: readonly Message[], arg?: unknown): Promise<SendResult[]> {
    const [first] = messages;
    if (first === undefined) return [];
    if (messages.some(({ topic }) => topic !== first.topic)) throw new LedgerError('BAD_REQUEST', 'messages of one batch have one topic');
    const accepted = messages.map((message) => this.#accept(message));
    const { deferral } = accepted[0] as PendingMessage;
    if (accepted.some((each) => !sameDeferral(each.deferral, deferral)))
      throw refused(accepted, new LedgerError('BAD_DELAY', 'messages of one batch have one delay'));
    const sizeBytes = accepted.reduce((sum, { sizeBytes: bytes }) => sum + bytes, 0);
    const { maxBatchBytes, maxCount } = this.#limits;
    if (sizeBytes > maxBatchBytes - BATCH_HEADER_ROOM || messages.length > maxCount) {
      const limits = `the limits are ${maxCount} messages, ${maxBatchBytes - BATCH_HEADER_ROOM} bytes`;
      throw refused(
        accepted,
        new LedgerError('MESSAGE_TOO_LARGE', `a batch of ${messages.length} messages, ${sizeBytes} bytes; ${limits}`),
      );
    }
    const results = accepted.map((pending) => {
      const promise = new Promise<SendResult>(this.#executor);
      pending.resolve = this.#resolve;
      pending.reject = this.#reject;
      return promise;
    });
    this.#admit(sizeBytes, accepted, () => {
      this.#whenRouted(
        first.topic,
        (topic) => {
          const queue = this.#place(topic, first, arg);
          const kind = { whole: true, oneWay: false, movable: isMovable(first, arg), keyed: isKeyed(first, arg), deferral };
          const batch = this.#newBatch(kind);
          for (const pending of accepted) batch.add(pending);
          queue.pending.push(batch);
          topic.rotation.closed(queue);
          this.#mark(queue);
        },
        (error) => {
          refused(accepted, error);
          for (const pending of accepted) pending.reject?.(error);
          this.#unbuffer(sizeBytes, accepted.length);
        },
      );
    });
    return Promise.all(results);
  }

  /** Resolves when nothing is unsettled: for a producer that nobody sends with meanwhile. */
  async flush(): Promise<void> {
    if (this.#bufferedMessages === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Refuses further sends and waits for the others to settle, the delivery deadline at most. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    await this.flush();
    this.#forget();
    for (const group of this.#groups.values()) group.close();
    for (const timer of [this.#lingerTimer, this.#expiryTimer]) if (timer !== null) this.#io.clock.clearTimer(timer);
  }

  /** What can be refused is refused here, before the network (F15). @throws LedgerError */
  #accept(message: Message, reserved: PropertyList = []): PendingMessage {
    if (this.#closed) throw new LedgerError('CLOSED');
    if (!this.#topics.has(message.topic)) checkSendTopicName(message.topic);
    const { tag, keys, properties, body, orderingKey } = message;
    if (tag !== undefined) checkTag(tag);
    if (keys !== undefined) for (const key of keys) checkKey(key);
    const list = properties === undefined ? (this.#tracing === null ? undefined : []) : Object.entries(properties);
    if (list !== undefined) checkUserProperties(list);
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    const all = reserved.length === 0 ? list : [...reserved, ...(list ?? [])];
    const pending = new PendingMessage(bytes, this.#io.clock.wallMs(), tag, keys, orderingKey, all);
    const refusal = checkMessage(pending, this.#limits);
    if (refusal !== null) throw new LedgerError(refusal, refusal === 'MESSAGE_TOO_LARGE' ? tooLargeText(pending, this.#limits) : undefined);
    pending.deferral = deferralOf(message);
    if (this.#tracing !== null) this.#trace(this.#tracing, message, pending, list as [string, string][]);
    pending.sizeBytes = batchedSizeBound(pending);
    return pending;
  }

  /** What a message carries for its trace is left out where its own properties leave no room. */
  #trace(tracing: Tracing, message: Message, pending: PendingMessage, properties: (readonly [string, string])[]): void {
    pending.trace = tracing.send(message, pending.body.length);
    const own = properties.length;
    properties.push(...pending.trace.properties);
    if (checkMessage(pending, this.#limits) !== null) properties.length = own;
  }

  #submit(unplaced: Unplaced): void {
    const { sizeBytes } = unplaced.pending;
    if (!this.#full() && this.#waiting.length === 0) {
      this.#bufferedBytes += sizeBytes;
      this.#bufferedMessages += 1;
      this.#route(unplaced);
    } else this.#admit(sizeBytes, [unplaced.pending], () => this.#route(unplaced));
  }

  #full(): boolean {
    return this.#bufferedBytes >= this.#settings.maxBufferedBytes || this.#bufferedMessages >= this.#settings.maxBufferedMessages;
  }

  /** Takes room in the buffer, waiting for it in order of the calls. @throws LedgerError BUSY */
  #admit(sizeBytes: number, pending: readonly PendingMessage[], go: () => void): void {
    const enter = (): void => {
      this.#bufferedBytes += sizeBytes;
      this.#bufferedMessages += pending.length;
      go();
    };
    if (!this.#full() && this.#waiting.length === 0) {
      enter();
      return;
    }
    if (this.#waiting.length - this.#waitingHead >= this.#settings.maxWaitingSends)
      throw refused(pending, new LedgerError('BUSY', 'too many sends wait for the send buffer'));
    this.#waiting.push(enter);
  }

  #route(unplaced: Unplaced): void {
    const topic = this.#topics.get(unplaced.message.topic);
    // The usual way: no closure.
    if (topic !== undefined && topic.waiting.length === 0 && this.#refresh(topic)) {
      try {
        this.#enqueue(topic, unplaced);
      } catch (error) {
        this.#fail(unplaced, asLedgerError(error));
      }
      return;
    }
    this.#whenRouted(
      unplaced.message.topic,
      (found) => this.#enqueue(found, unplaced),
      (error) => this.#fail(unplaced, error),
    );
  }

  #fail({ pending }: Unplaced, error: LedgerError): void {
    this.#unbuffer(pending.sizeBytes, 1);
    refused([pending], error);
    if (pending.reject !== null) pending.reject(error);
    else if (pending.callback !== null) this.#call(pending.callback, error);
  }

  #call(callback: SendCallback, error: LedgerError): void {
    this.#io.clock.defer(() => callback(error, null));
  }

  /** @returns whether the topic's route is known; takes over a newer one */
  #refresh(topic: ProducerTopic): boolean {
    const known = this.#router.topic(topic.name);
    if (known === undefined) return topic.known !== null;
    if (known !== topic.known) {
      topic.known = known;
      topic.rotation.update(known, (queue) => this.#queue(topic, queue));
    }
    return true;
  }

  #whenRouted(name: string, go: (topic: ProducerTopic) => void, fail: (error: LedgerError) => void): void {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      const admits = (brokerName: string): boolean => this.#admits(brokerName);
      topic = { name, known: null, queues: new Map(), rotation: new QueueRotation(this.#io.random, admits), waiting: [] };
      this.#topics.set(name, topic);
    }
    const found = topic;
    const settle = (error: LedgerError | null): void => {
      if (error !== null) {
        fail(error);
        return;
      }
      try {
        go(found);
      } catch (thrown) {
        fail(asLedgerError(thrown));
      }
    };
    if (found.waiting.length === 0 && this.#refresh(found)) {
      settle(null);
      return;
    }
    if (found.waiting.push(settle) === 1) this.#find(found);
  }

  #find(topic: ProducerTopic): void {
    const wake = (error: LedgerError | null): void => {
      if (error === null) this.#refresh(topic);
      else this.#topics.delete(topic.name);
      for (const settle of topic.waiting.splice(0)) settle(error);
    };
    this.#router.find(topic.name, this.#settings.deliveryTimeoutMs).then(
      () => wake(null),
      (error: unknown) => wake(asLedgerError(error)),
    );
  }

  #admits(brokerName: string): boolean {
    const link = this.#router.leader(brokerName);
    if (link === null || !link.ready) return false;
    return !this.#settings.sendLatencyFaultEnable || this.#context.tracker.admits(brokerName);
  }

  #place(topic: ProducerTopic, message: Message, arg: unknown): SendQueue {
    const known = topic.known as KnownTopic;
    if (message.queue !== undefined) return this.#configured(topic, message.queue);
    const custom = this.#settings.messageQueueSelector;
    if (message.orderingKey !== undefined || arg !== undefined) return this.#configured(topic, custom(known.queues, message, arg));
    const queue = topic.rotation.current();
    if (queue === null) throw new LedgerError('NO_PERMISSION', `${topic.name} has no queue that may be written`);
    return queue;
  }

  #configured(topic: ProducerTopic, { brokerName, queueId }: MessageQueue): SendQueue {
    const queue = topic.queues.get(brokerName)?.[queueId];
    if (queue === undefined) throw new LedgerError('QUEUE_NOT_FOUND', `${topic.name}/${brokerName}/${queueId}`);
    return queue;
  }

  #enqueue(topic: ProducerTopic, { message, pending, arg, oneWay }: Unplaced): void {
    const queue = this.#place(topic, message, arg);
    const { maxBatchBytes, maxBatchMessages } = this.#settings;
    const movable = isMovable(message, arg);
    const keyed = isKeyed(message, arg);
    let batch = oneWay ? queue.oneWay[queue.oneWay.length - 1] : queue.open();
    const room =
      batch !== undefined &&
      batch.sizeBytes + pending.sizeBytes <= maxBatchBytes &&
      batch.count < maxBatchMessages &&
      batch.movable === movable &&
      batch.keyed === keyed &&
      sameDeferral(batch.deferral, pending.deferral);
    if (batch === undefined || !room) {
      batch = this.#newBatch({ ...SINGLE, oneWay, movable, keyed, deferral: pending.deferral });
      (oneWay ? queue.oneWay : queue.pending).push(batch);
    }
    batch.add(pending);
    // A transaction is one message's.
    if (batch.deferral === HALF || batch.sizeBytes >= maxBatchBytes || batch.count >= maxBatchMessages) {
      // Full: it leaves with this turn, however long others linger.
      batch.closed = true;
      topic.rotation.closed(queue);
    }
    this.#mark(queue);
  }

  #newBatch(kind: BatchKind): OutBatch {
    const now = this.#io.clock.monotonicMs();
    const { deliveryTimeoutMs } = this.#settings;
    if (this.#expiryTimer === null) this.#armExpiry(deliveryTimeoutMs);
    return new OutBatch(now, now + deliveryTimeoutMs, kind);
  }

  #mark(queue: SendQueue): void {
    this.#group(queue.queue.brokerName).mark(queue);
    this.#scheduleFlush();
  }

  #group(brokerName: string): GroupSender {
    let group = this.#groups.get(brokerName);
    if (group === undefined) {
      group = new GroupSender(brokerName, this.#context);
      this.#groups.set(brokerName, group);
    }
    return group;
  }

  #queue(topic: ProducerTopic, queue: MessageQueue): SendQueue {
    let queues = topic.queues.get(queue.brokerName);
    if (queues === undefined) {
      queues = [];
      topic.queues.set(queue.brokerName, queues);
    }
    let found = queues[queue.queueId];
    if (found === undefined) {
      found = new SendQueue(queue, this.#settings.maxInFlightBatchesPerQueue, this.#events);
      queues[queue.queueId] = found;
      this.#queues.push(found);
    }
    return found;
  }

  /** Everything that is sent in this turn of the event loop leaves at its end. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    this.#io.clock.defer(() => {
      this.#flushScheduled = false;
      this.#flushNow();
    });
  }

  #flushNow(): void {
    const now = this.#io.clock.monotonicMs();
    for (const topic of this.#topics.values()) topic.rotation.turnEnded(this.#settings.lingerMs, now);
    let lingerMs = Number.POSITIVE_INFINITY;
    for (const group of this.#groups.values()) lingerMs = Math.min(lingerMs, group.flush());
    if (lingerMs === Number.POSITIVE_INFINITY || this.#lingerTimer !== null) return;
    this.#lingerTimer = this.#io.clock.setTimer(Math.max(0, lingerMs), () => {
      this.#lingerTimer = null;
      this.#flushNow();
    });
  }

  #elsewhere(queue: SendQueue, batch: OutBatch): boolean {
    const topic = this.#topics.get(queue.queue.topic);
    const other = topic?.rotation.elsewhere(queue.queue.brokerName) ?? null;
    if (other === null) return false;
    queue.take(batch);
    batch.closed = true;
    other.pending.push(batch);
    this.#mark(other);
    return true;
  }

  /** The queue was taken away by an operator: each message goes where its key belongs now. @returns false while the route does not say so */
  #placeAgain(queue: SendQueue, batch: OutBatch): boolean {
    const topic = this.#topics.get(queue.queue.topic);
    if (topic === undefined || !this.#refresh(topic)) return false;
    const { queues } = topic.known as KnownTopic;
    const { brokerName, queueId } = queue.queue;
    if (queues.length === 0 || queues.some((each) => each.brokerName === brokerName && each.queueId === queueId)) return false;
    const select = this.#settings.messageQueueSelector;
    const targetOf = ({ body, shardingKey }: PendingMessage): SendQueue => {
      const message = { topic: topic.name, body, ...(shardingKey === undefined ? {} : { orderingKey: shardingKey }) };
      return this.#configured(topic, select(queues, message, undefined));
    };
    const byTarget = batch.whole
      ? new Map([[targetOf(batch.messages[0] as PendingMessage), batch.messages]])
      : Map.groupBy(batch.messages, targetOf);
    queue.take(batch);
    for (const [target, messages] of byTarget) {
      const placed = new OutBatch(batch.createdAt, batch.deadlineAt, batch);
      for (const message of messages) placed.add(message);
      placed.closed = true;
      target.pending.push(placed);
      this.#mark(target);
    }
    return true;
  }

  #settled(queue: SendQueue, batch: OutBatch, error: LedgerError | null, baseOffset: number): void {
    this.#release(batch);
    if (error === null) batch.resolve(queue.queue, baseOffset, this.#idTexts, this.#thrown);
    else batch.reject(error, this.#thrown);
  }

  /** A callback's own error goes where errors of callbacks go; answers that come behind it are still read. */
  readonly #thrown = (error: unknown): void => {
    this.#io.clock.defer(() => {
      throw error;
    });
  };

  #release(batch: OutBatch): void {
    if (batch.oneWay) batch.gone();
    this.#unbuffer(batch.sizeBytes, batch.count);
  }

  #unbuffer(sizeBytes: number, count: number): void {
    this.#bufferedBytes -= sizeBytes;
    this.#bufferedMessages -= count;
    this.#admitWaiting();
    if (this.#bufferedMessages > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** One that is refused as it enters makes room itself: called again from there, a long queue would overflow the stack. */
  #admitWaiting(): void {
    if (this.#admitting) return;
    this.#admitting = true;
    try {
      while (this.#waitingHead < this.#waiting.length && !this.#full()) (this.#waiting[this.#waitingHead++] as () => void)();
    } finally {
      this.#admitting = false;
    }
    if (this.#waitingHead === this.#waiting.length) {
      this.#waiting = [];
      this.#waitingHead = 0;
    }
  }

  #armExpiry(delayMs: number): void {
    this.#expiryTimer = this.#io.clock.setTimer(delayMs, () => this.#expire());
  }

  /** Delivery deadlines, one timer for all. One-way messages that found no leader until then are lost, as they may be. */
  #expire(): void {
    this.#expiryTimer = null;
    const now = this.#io.clock.monotonicMs();
    let next = Number.POSITIVE_INFINITY;
    for (const queue of this.#queues) {
      // One that moved here from another group may be older than those before it.
      for (const batch of queue.pending.filter(({ deadlineAt }) => deadlineAt <= now)) {
        // Settled with one before it.
        if (!queue.pending.includes(batch)) continue;
        const unknown = batch.inDoubt || batch.attempt !== null;
        queue.drop(batch, new LedgerError(unknown ? 'OUTCOME_UNKNOWN' : 'RETRIES_EXHAUSTED', 'delivery deadline', [...batch.causes]));
      }
      while ((queue.oneWay[0]?.deadlineAt ?? Number.POSITIVE_INFINITY) <= now) this.#release(queue.oneWay.shift() as OutBatch);
      for (const batch of queue.pending) next = Math.min(next, batch.deadlineAt);
      next = Math.min(next, queue.oneWay[0]?.deadlineAt ?? Number.POSITIVE_INFINITY);
    }
    if (next !== Number.POSITIVE_INFINITY && this.#expiryTimer === null) this.#armExpiry(next - now);
    this.#scheduleFlush();
  }
}

function nothing(): void {}

/** 1…2^53 − 1. */
function randomProducerId(io: ClientIo): number {
  return (io.random.u32() & 0x1f_ffff) * 0x1_0000_0000 + io.random.u32() || 1;
}
