import type { Timer } from '../io/clock.ts';
import { LedgerError } from '../protocol/errors.ts';
import { isRetryTopic } from '../protocol/names.ts';
import { type AssignedQueue, type Assignment, Op } from '../protocol/requests.ts';
import { BroadcastOffsets } from './broadcast-offsets.ts';
import { BrokerOffsetStore } from './broker-offset-store.ts';
import type { ClientCore } from './client-core.ts';
import { type ConsumerSettings, consumerSettings, MAX_CONCURRENCY, mustBe } from './consumer-settings.ts';
import type { FailureSeams } from './failed-messages.ts';
import { Fetcher } from './fetcher.ts';
import { GroupSession } from './group-session.ts';
import { HandlerRunner } from './handler-runner.ts';
import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';
import { OffsetCommitter, type OffsetKeeper } from './offset-committer.ts';
import type { ConsumerOptions } from './options.ts';
import { ProcessQueue } from './process-queue.ts';
import { SendBack } from './send-back.ts';
import type { HandlerStatistics } from './types.ts';

/** Topics that do not exist yet are looked for again. */
const TOPIC_RETRY_MS = 1_000;
/** New broker groups of the topics are looked for this often. */
const PLACEMENT_CHECK_MS = 5_000;

/**
 * A member of a consumer group: queues are assigned by the brokers, messages come by themselves, an offset is committed
 * when the work is done. Give a handler, or iterate:
 *
 *     for await (const message of consumer) { … }   // acknowledged when the loop comes back for the next one
 *
 * Leaving the loop does not acknowledge the message at hand: it comes again. Delivery is at least once; among live members
 * a rebalance repeats nothing, since a queue is handed over with its final offset when its handlers are done.
 */
export class Consumer implements AsyncIterable<ReceivedMessage> {
  readonly #core: ClientCore;
  readonly #settings: ConsumerSettings;
  readonly #member: string;
  readonly #queues = new Map<string, ProcessQueue>();
  readonly #sessions = new Map<string, GroupSession>();
  readonly #fetcher: Fetcher;
  readonly #runner: HandlerRunner;
  readonly #committer: OffsetKeeper;
  /** null: clustering. */
  readonly #broadcast: BroadcastOffsets | null;
  #placementTimer: Timer | null = null;
  #forgetRoutes: () => void = () => undefined;
  #started = false;
  #closing: Promise<void> | null = null;

  constructor(core: ClientCore, options: ConsumerOptions, number: number) {
    this.#core = core;
    const settings = consumerSettings(options);
    this.#settings = {
      ...settings,
      handler: settings.handler && core.tracing !== null ? core.tracing.traced(settings.handler, settings.group) : settings.handler,
      onError: (error) => this.#tell(settings.onError, error),
      onSlowHandler: (slow) => this.#tell(settings.onSlowHandler, slow),
    };
    // Two processes may be given one client id by their configuration; as one member both would own the same queues.
    this.#member = `${core.clientId}@${number}-${core.io.random.u32().toString(36)}`;
    this.#fetcher = new Fetcher(core, this.#settings, this.#member, {
      arrived: (queue) => this.#runner.offer(queue),
      ownershipRefused: (queue) => this.#doubt(queue),
      failed: (error) => this.#settings.onError(error),
    });
    // RocketMQ's way: a message that failed is given up, and onError was told (F18). Sent back, all members would get it again.
    const sendBack = new SendBack(core, this.#settings, this.#member, {
      epochOf: (queue) => this.#owned(queue)?.epoch ?? -1,
      ownershipRefused: (queue) => {
        const owned = this.#owned(queue);
        if (owned !== undefined) this.#doubt(owned);
      },
    });
    const seams: FailureSeams = settings.broadcasting
      ? { sendBack: null, onAttemptsExhausted: ({ messages }) => messages }
      : { sendBack: sendBack.retry, onAttemptsExhausted: sendBack.bury };
    this.#runner = new HandlerRunner(core.io, this.#settings, { finished: (queue, messages) => this.#finished(queue, messages) }, seams);
    const { group, commitIntervalMs } = this.#settings;
    this.#broadcast = settings.broadcasting ? broadcastOffsets(core, this.#settings, this.#queues) : null;
    this.#committer =
      this.#broadcast ??
      new OffsetCommitter(core, { group, member: this.#member, intervalMs: commitIntervalMs }, this.#queues, {
        ownershipRefused: (queue) => this.#doubt(queue),
      });
  }

  /** The name of this member in its group. */
  get member(): string {
    return this.#member;
  }
  /** Queues that this consumer owns now. */
  get assignment(): readonly MessageQueue[] {
    return [...this.#queues.values()].filter(({ state }) => state === 'active').map(({ queue }) => queue);
  }
  /** Messages prefetched and not yet done. */
  get heldMessages(): number {
    return this.#fetcher.heldMessages;
  }
  get heldBytes(): number {
    return this.#fetcher.heldBytes;
  }

  /** Handlers that may run at once. */
  get concurrency(): number {
    return this.#runner.concurrency;
  }
  /** Changes it while messages flow; nothing is interrupted. @throws LedgerError BAD_REQUEST */
  setConcurrency(concurrency: number): void {
    mustBe('concurrency', concurrency, 1, MAX_CONCURRENCY);
    this.#runner.setConcurrency(concurrency);
  }
  /** How long handlers took, by topic. */
  handlerStatistics(): HandlerStatistics[] {
    return this.#runner.statistics();
  }

  /** Joins the group. Resolves once the routes are known and the joins are under way. @throws LedgerError CLOSED, NO_ROUTE */
  async start(): Promise<void> {
    if (this.#closing !== null) throw new LedgerError('CLOSED');
    if (this.#started) return;
    this.#started = true;
    try {
      await this.#openSessions(true);
    } catch (error) {
      // Not started: another start() must not resolve over a consumer that does nothing.
      this.#started = false;
      throw error;
    }
    if (this.#closing !== null) return;
    this.#committer.start();
    this.#armPlacementCheck();
    this.#forgetRoutes = this.#core.router.onChange(() => this.#placementChanged());
  }

  /** Stops pulling, waits for running handlers (releaseTimeoutMs at most), commits what is done and leaves the group (the same again). */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Starts the consumer when nobody did. Several loops share the messages. */
  [Symbol.asyncIterator](): AsyncIterator<ReceivedMessage> {
    if (this.#settings.handler !== null) throw new LedgerError('BAD_REQUEST', 'a consumer with a handler cannot be iterated');
    const { tracing } = this.#core;
    let current: ReceivedMessage | null = null;
    let processed: (() => void) | undefined;
    const step = (message: ReceivedMessage | null): IteratorResult<ReceivedMessage> => {
      current = message;
      if (message !== null) processed = tracing?.processing(message, this.#settings.group);
      return message === null ? { done: true, value: undefined } : { done: false, value: message };
    };
    return {
      next: async () => {
        if (!this.#started) await this.start();
        if (current !== null) this.#runner.acknowledge(current);
        processed?.();
        processed = undefined;
        current = null;
        const message = this.#runner.next();
        return step(message instanceof Promise ? await message : message);
      },
      return: async () => {
        processed?.();
        processed = undefined;
        current = null;
        return { done: true, value: undefined };
      },
    };
  }

  async #close(): Promise<void> {
    if (this.#placementTimer !== null) this.#core.io.clock.clearTimer(this.#placementTimer);
    this.#forgetRoutes();
    this.#fetcher.close();
    this.#runner.close();
    const queues = [...this.#queues.values()];
    for (const queue of queues) {
      if (queue.state === 'active') queue.state = 'revoking';
      this.#dropReady(queue);
    }
    const { releaseTimeoutMs } = this.#settings;
    if (this.#settings.handler !== null) await this.#core.within(Promise.all(queues.map((queue) => queue.idle())), releaseTimeoutMs);
    // One bound for both: without a leader neither is answered, and the session ends by itself.
    const { clock } = this.#core.io;
    const deadlineAt = clock.monotonicMs() + releaseTimeoutMs;
    await this.#committer.close(releaseTimeoutMs);
    const leftMs = Math.max(1, deadlineAt - clock.monotonicMs());
    await Promise.all([...this.#sessions.values()].map((session) => session.leave(leftMs)));
    for (const queue of queues) queue.lose();
    this.#queues.clear();
  }

  /** One session for each broker group that has a queue of one of the topics. */
  async #openSessions(wait: boolean): Promise<void> {
    const topics = [...this.#settings.filters.keys()];
    const brokerNames = new Set<string>();
    for (const topic of topics) {
      try {
        const known = wait ? await this.#core.router.find(topic, this.#settings.sessionTimeoutMs) : this.#core.router.topic(topic);
        for (const { brokerName } of known?.route.placement ?? []) brokerNames.add(brokerName);
      } catch (error) {
        if (!(error instanceof LedgerError && error.code === 'TOPIC_NOT_FOUND')) throw error;
        this.#settings.onError(error);
      }
    }
    const { group, heartbeatIntervalMs, sessionTimeoutMs } = this.#settings;
    for (const brokerName of brokerNames) {
      if (this.#sessions.has(brokerName) || this.#closing !== null) continue;
      const { share, broadcasting } = this.#settings;
      const retries = !broadcasting;
      const options = { group, member: this.#member, topics, heartbeatIntervalMs, sessionTimeoutMs, share, retries };
      const session = new GroupSession(brokerName, this.#core, options, {
        assigned: (_session, assignment) => this.#assigned(brokerName, assignment),
        failed: (_session, error) => this.#settings.onError(error),
      });
      this.#sessions.set(brokerName, session);
      session.start();
    }
  }

  /** Broker groups that came to the topics are joined at once, those that left them are left. */
  #placementChanged(): void {
    if (this.#closing !== null) return;
    const placed = new Set<string>();
    for (const topic of this.#settings.filters.keys()) {
      const known = this.#core.router.topic(topic);
      // Nothing is left because of what is not known.
      if (known === undefined) return;
      for (const { brokerName } of known.route.placement) placed.add(brokerName);
    }
    for (const [brokerName, session] of this.#sessions) {
      if (placed.has(brokerName)) continue;
      this.#sessions.delete(brokerName);
      void session.leave(this.#settings.releaseTimeoutMs);
      for (const [key, queue] of this.#queues) if (queue.queue.brokerName === brokerName) this.#lose(key, queue);
    }
    if (this.#broadcast !== null) for (const [brokerName, session] of this.#sessions) if (session.joined) this.#ownAll(brokerName);
    if ([...placed].every((brokerName) => this.#sessions.has(brokerName))) return;
    this.#openSessions(false).catch((error: unknown) => this.#settings.onError(error));
  }

  #armPlacementCheck(): void {
    const missing = [...this.#settings.filters.keys()].some((topic) => this.#core.router.topic(topic) === undefined);
    this.#placementTimer = this.#core.io.clock.setTimer(missing ? TOPIC_RETRY_MS : PLACEMENT_CHECK_MS, () => {
      if (this.#closing !== null) return;
      this.#openSessions(missing)
        .catch((error: unknown) => this.#settings.onError(error))
        .finally(() => {
          if (this.#closing === null) this.#armPlacementCheck();
        });
    });
  }

  /** From the client: an assignment was pushed to it. */
  pushed(brokerName: string, assignment: Assignment): void {
    if (assignment.group !== this.#settings.group || assignment.member !== this.#member) return;
    this.#sessions.get(brokerName)?.take(assignment);
  }

  #assigned(brokerName: string, assignment: Assignment): void {
    if (this.#closing !== null) return;
    if (this.#broadcast !== null) {
      this.#ownAll(brokerName);
      return;
    }
    const revoking = new Set(assignment.revoking.map(({ topic, queueId }) => keyOf(topic, brokerName, queueId)));
    const owned = new Set<string>();
    for (const assigned of assignment.queues) {
      const key = keyOf(assigned.topic, brokerName, assigned.queueId);
      owned.add(key);
      this.#own(key, brokerName, assigned);
      const queue = this.#queues.get(key) as ProcessQueue;
      if (revoking.has(key)) this.#revoke(key, queue);
      else if (queue.state === 'revoking' && !queue.released) this.#reactivate(queue);
    }
    for (const [key, queue] of this.#queues) {
      if (queue.queue.brokerName === brokerName && !owned.has(key)) this.#lose(key, queue);
    }
  }

  #own(key: string, brokerName: string, assigned: AssignedQueue): void {
    const { topic, queueId, epoch, committedOffset } = assigned;
    const known = this.#queues.get(key);
    if (known?.epoch === epoch) {
      // Its release is on the way: what comes back to us then has an epoch of its own. Begun again now, it would repeat what is done.
      if (!known.released) this.#fetcher.retryNow(known);
      return;
    }
    if (known !== undefined && !known.released) {
      // Ours again under a new epoch. When nobody came further meanwhile, what is at hand is still right and goes on.
      const untouched = known.state === 'active' && committedOffset <= known.doneOffset && committedOffset >= known.committedOffset;
      if (untouched) {
        known.epoch = epoch;
        this.#fetcher.retryNow(known);
        return;
      }
    }
    if (known !== undefined) this.#lose(key, known);
    const queue = new ProcessQueue({ topic, brokerName, queueId }, this.#settings.filters.get(topic) ?? null, epoch, committedOffset);
    this.#queues.set(key, queue);
    if (committedOffset >= 0) this.#fetcher.add(queue);
    else void this.#findStart(queue);
  }

  /** Broadcasting: a member owns every queue that there is (F18), from the moment that the broker group knows it. */
  #ownAll(brokerName: string): void {
    const placed = new Set<string>();
    for (const topic of this.#settings.filters.keys()) {
      const route = this.#core.router.topic(topic)?.route;
      const queues = route?.placement.find((place) => place.brokerName === brokerName)?.queues ?? 0;
      for (let queueId = 0; queueId < queues; queueId++) {
        const key = keyOf(topic, brokerName, queueId);
        placed.add(key);
        // No owner, so no epoch of one: the topic's number tells its queues from those of one that was made again.
        const epoch = route?.topicId ?? 0;
        const old = this.#queues.get(key);
        if (old !== undefined && old.epoch !== epoch) this.#lose(key, old);
        this.#own(key, brokerName, { topic, queueId, committedOffset: -1, epoch });
      }
    }
    for (const [key, queue] of this.#queues) if (queue.queue.brokerName === brokerName && !placed.has(key)) this.#lose(key, queue);
  }

  /** A group that never committed on this queue starts where consumeFromWhere says; the place is committed with the next round. */
  async #findStart(queue: ProcessQueue): Promise<void> {
    const { sessionTimeoutMs } = this.#settings;
    const { topic, brokerName, queueId } = queue.queue;
    // Whatever is in the retry queue failed before: the group was to have it.
    const consumeFromWhere = isRetryTopic(topic) ? 'first' : this.#settings.consumeFromWhere;
    const timeMs = typeof consumeFromWhere === 'object' ? consumeFromWhere.timeMs : 0;
    while (queue.state === 'active' && this.#closing === null) {
      try {
        const stored = (await this.#broadcast?.load(queue)) ?? -1;
        const { body } = await this.#core.askLeader(brokerName, Op.queueRange, { topic, queueId, timeMs }, sessionTimeoutMs);
        const start =
          stored >= 0
            ? stored
            : consumeFromWhere === 'first'
              ? body.minOffset
              : consumeFromWhere === 'last'
                ? body.maxOffset
                : body.timeOffset;
        if (queue.nextOffset < 0) queue.nextOffset = start;
        this.#fetcher.add(queue);
        return;
      } catch (error) {
        this.#settings.onError(error);
        await this.#core.sleep(TOPIC_RETRY_MS);
      }
    }
  }

  /** The queue is wanted elsewhere: no new handler starts, running ones finish, then it goes with its final offset. */
  #revoke(key: string, queue: ProcessQueue): void {
    if (queue.state !== 'active') return;
    queue.state = 'revoking';
    this.#fetcher.remove(queue);
    this.#dropReady(queue);
    void this.#release(key, queue);
  }

  async #release(key: string, queue: ProcessQueue): Promise<void> {
    const { group, releaseTimeoutMs } = this.#settings;
    await this.#core.within(queue.idle(), releaseTimeoutMs);
    if (queue.state !== 'revoking' || this.#closing !== null || this.#queues.get(key) !== queue) return;
    queue.released = true;
    const { topic, brokerName, queueId } = queue.queue;
    const offset = queue.doneOffset;
    const request = { group, member: this.#member, queues: [{ topic, queueId, epoch: queue.epoch, offset }] };
    try {
      await this.#core.askLeader(brokerName, Op.groupRelease, request, this.#settings.sessionTimeoutMs);
    } catch (error) {
      this.#settings.onError(error);
      this.#sessions.get(brokerName)?.join();
    }
    if (this.#queues.get(key) === queue) this.#lose(key, queue);
  }

  #reactivate(queue: ProcessQueue): void {
    queue.state = 'active';
    this.#fetcher.add(queue);
    this.#runner.kept(queue);
  }

  /** A broker says that the queue is not ours: nothing new starts from what is buffered until an assignment says so again. */
  #doubt(queue: ProcessQueue): void {
    this.#dropReady(queue);
    this.#sessions.get(queue.queue.brokerName)?.join();
  }

  #owned({ topic, brokerName, queueId }: MessageQueue): ProcessQueue | undefined {
    return this.#queues.get(keyOf(topic, brokerName, queueId));
  }

  #dropReady(queue: ProcessQueue): void {
    const { heldMessages, heldBytes } = queue;
    queue.clearReady();
    this.#fetcher.released(heldMessages - queue.heldMessages, heldBytes - queue.heldBytes);
  }

  #lose(key: string, queue: ProcessQueue): void {
    if (this.#queues.get(key) === queue) this.#queues.delete(key);
    this.#fetcher.remove(queue);
    const { heldMessages, heldBytes } = queue;
    queue.lose();
    this.#fetcher.released(heldMessages, heldBytes);
  }

  /** A user's function that throws must not end what called it half done. Thrown again from nowhere, it is still seen. */
  #tell<T>(listener: (news: T) => void, news: T): void {
    try {
      listener(news);
    } catch (error) {
      this.#core.io.clock.defer(() => {
        throw error;
      });
    }
  }

  #finished(queue: ProcessQueue, messages: readonly ReceivedMessage[]): void {
    if (queue.state === 'lost') return;
    let sizeBytes = 0;
    for (const message of messages) sizeBytes += message.sizeBytes;
    this.#fetcher.released(messages.length, sizeBytes);
    if (queue.state === 'active') this.#fetcher.resume(queue);
  }
}

function broadcastOffsets(core: ClientCore, settings: ConsumerSettings, queues: ReadonlyMap<string, ProcessQueue>): BroadcastOffsets {
  const { group, instanceName, offsetStore, persistConsumerOffsetIntervalMs: intervalMs, onError } = settings;
  const store = offsetStore === 'memory' ? null : offsetStore === 'broker' ? new BrokerOffsetStore(core) : offsetStore;
  return new BroadcastOffsets(core, { owner: { group, instanceName }, store, intervalMs, onError }, queues);
}

function keyOf(topic: string, brokerName: string, queueId: number): string {
  return `${brokerName}/${queueId}/${topic}`;
}
