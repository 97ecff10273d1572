import type { ErrorCode } from '../protocol/errors.ts';
import { LedgerError } from '../protocol/errors.ts';
import { noTopicText } from '../protocol/names.ts';
import type { PullRequest } from '../protocol/requests.ts';
import { Op } from '../protocol/requests.ts';
import type { SqlFilter } from '../protocol/sql-filter/sql-filter.ts';
import { SqlFilters } from './batch-filter.ts';
import type { BrokerContext } from './context.ts';
import { ownership } from './groups.ts';
import type { ReadResult } from './reader.ts';
import { Reader } from './reader.ts';
import type { Session } from './session.ts';
import type { QueueState } from './topics.ts';
import { Perm, queueKey } from './topics.ts';
import { Waiter, Waiters } from './waiters.ts';

/**
 * Pulls (F16, F17, F33). Any replica serves what it has applied; a pull in the name of a group is checked against the owner
 * and its epoch at the leader, again each time it is woken.
 *
 * A reader of old messages is told to go to a follower (F08), so that it does not take the leader's disk and memory from the
 * others. There its pull says that it was sent: it is checked against the owner that this follower has applied, and answered from
 * what it has applied; for everything else, a refusal too, it is sent back to the leader.
 *
 * An offset below the first retained one is answered with an empty result whose nextOffset is minOffset (RocketMQ's
 * PULL_OFFSET_MOVED: consumers go on from there); one above the last message is OFFSET_OUT_OF_RANGE. A follower says
 * neither, since it may be behind: it redirects.
 */
export class Pulls {
  readonly #context: BrokerContext;
  readonly reader: Reader;
  readonly waiters: Waiters;
  readonly #sqlFilters: SqlFilters;
  /** Pulls of sessions that take no more bytes for now; bounded by the requests that a connection may have open. */
  readonly #parked = new Map<Session, Waiter[]>();

  constructor(context: BrokerContext) {
    this.#context = context;
    this.reader = new Reader(context);
    this.#sqlFilters = new SqlFilters(context.limits.maxSqlFilters);
    this.waiters = new Waiters(context.deadlines, context.limits, (waiter, timedOut) => this.#resume(waiter, timedOut));
  }

  pull(session: Session, requestId: number, request: PullRequest): void {
    const { limits, clock } = this.#context;
    const waitMs = Math.min(Math.max(request.waitMs, 0), limits.maxPullWaitMs);
    let sql: SqlFilter | null = null;
    try {
      if (request.filter !== undefined) sql = this.#sqlFilters.get(request.filter);
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      session.refuse(requestId, error.code, error.detail);
      return;
    }
    this.#try(new Waiter(session, requestId, request, waitMs, clock.monotonicMs(), sql), waitMs === 0);
  }

  #resume(waiter: Waiter, timedOut: boolean): void {
    if (!waiter.session.closed) this.#try(waiter, timedOut);
  }

  /** @param last answer now, whatever there is */
  #try(waiter: Waiter, last: boolean): void {
    const { session, request } = waiter;
    if (session.congested) {
      this.#park(waiter);
      return;
    }
    const found = this.#atFollower(request) ? this.#findApplied(waiter) : this.#find(request);
    if (typeof found === 'string') {
      session.refuse(waiter.requestId, found, found === 'TOPIC_NOT_FOUND' ? noTopicText(request.topic) : undefined);
      return;
    }
    const offset = waiter.offset;
    if (offset < found.minOffset || offset > found.nextOffset) {
      this.#outOfRange(waiter, found, offset);
      return;
    }
    if (offset === found.nextOffset) {
      if (last || !this.#hold(waiter, found)) this.#answer(waiter, found, null);
      return;
    }
    this.#read(waiter, found, last);
  }

  #find(request: PullRequest): QueueState | ErrorCode {
    const { state, leadership } = this.#context;
    const topic = state.topics.named(request.topic);
    const grouped = request.group !== '';
    const refusal = grouped ? leadership.refusal() : null;
    if (refusal !== null) return refusal;
    // A follower may not have heard of the topic yet: only the leader may say that there is none.
    if (topic === undefined) return leadership.refusal() ?? 'TOPIC_NOT_FOUND';
    if ((topic.perm & Perm.read) === 0) return 'NO_PERMISSION';
    const queue = topic.queues[request.queueId];
    if (queue === undefined) return leadership.refusal() ?? 'QUEUE_NOT_FOUND';
    if (!grouped) return queue;
    const group = state.groups.named(request.group);
    if (group === undefined) return request.member === '' ? queue : 'UNKNOWN_MEMBER';
    return ownership(group, request.member, topic.id, request.queueId, request.epoch) ?? queue;
  }

  #atFollower({ suggested, group }: PullRequest): boolean {
    return suggested === true && group !== '' && !this.#context.leadership.leader;
  }

  /** A follower may be behind: what it cannot answer, or would refuse, the leader answers. */
  #findApplied({ request, offset }: Waiter): QueueState | ErrorCode {
    const { topics, groups } = this.#context.state;
    const topic = topics.named(request.topic);
    const queue = topic?.queues[request.queueId];
    if (topic === undefined || queue === undefined || (topic.perm & Perm.read) === 0) return 'NOT_LEADER';
    const group = groups.named(request.group);
    if (group === undefined || ownership(group, request.member, topic.id, request.queueId, request.epoch) !== null) return 'NOT_LEADER';
    return offset >= queue.minOffset && offset < queue.nextOffset ? queue : 'NOT_LEADER';
  }

  #outOfRange(waiter: Waiter, queue: QueueState, offset: number): void {
    const refusal = this.#context.leadership.refusal();
    if (refusal !== null) waiter.session.refuse(waiter.requestId, refusal);
    else if (offset > queue.nextOffset) {
      waiter.session.refuse(waiter.requestId, 'OFFSET_OUT_OF_RANGE', `${offset} is not in ${queue.minOffset}…${queue.nextOffset}`);
    } else {
      waiter.offset = queue.minOffset;
      this.#answer(waiter, queue, null);
    }
  }

  #hold(waiter: Waiter, queue: QueueState): boolean {
    const leftMs = waiter.arrivedMs + waiter.waitMs - this.#context.clock.monotonicMs();
    return leftMs > 0 && this.waiters.hold(waiter, queueKey(queue.topic.id, queue.queueId), leftMs);
  }

  #read(waiter: Waiter, queue: QueueState, last: boolean): void {
    const { request } = waiter;
    const { maxPullBytes, maxPullMessages } = this.#context.limits;
    const result = this.reader.read(queue, {
      offset: waiter.offset,
      maxBytes: Math.min(request.maxBytes, maxPullBytes),
      maxMessages: Math.min(request.maxMessages, maxPullMessages),
      tagHashes: request.tagHashes,
      sql: waiter.sql,
      session: waiter.session,
    });
    if (!(result instanceof Promise)) {
      this.#done(waiter, queue, result, last);
      return;
    }
    result.then(
      (read) => this.#readLater(waiter, queue, read, last),
      (error: unknown) => this.#failed(waiter, error),
    );
  }

  /** The world went on while files were read: the queue may be another's, or gone, and so may who asked. */
  #readLater(waiter: Waiter, queue: QueueState, read: ReadResult | null, last: boolean): void {
    if (waiter.session.closed) return;
    // Not read because the session takes nothing for now: everything is looked at again when it does.
    if (read === null) this.#try(waiter, last);
    else if ((this.#atFollower(waiter.request) ? this.#findApplied(waiter) : this.#find(waiter.request)) === queue)
      this.#done(waiter, queue, read, last);
    else this.#try(waiter, true);
  }

  #failed(waiter: Waiter, error: unknown): void {
    if (error instanceof LedgerError && error.code === 'OFFSET_OUT_OF_RANGE') {
      // The log was cut under the read: asked again, it is an ordinary pull below the minimum.
      this.#try(waiter, true);
      return;
    }
    const code = error instanceof LedgerError ? error.code : 'INTERNAL';
    this.#context.metrics.event('pull failed', {
      topic: waiter.request.topic,
      queueId: waiter.request.queueId,
      requestId: waiter.requestId,
      client: waiter.session.clientId,
      code,
      error: String(error),
    });
    waiter.session.refuse(waiter.requestId, code);
  }

  #done(waiter: Waiter, queue: QueueState, read: ReadResult, last: boolean): void {
    waiter.offset = read.nextOffset;
    if (read.filteredBytes > 0) {
      this.#context.metrics.filteredOut(waiter.request.topic, waiter.request.group, read.filteredBytes);
    }
    // Nothing but batches that are not wanted up to the end: the pull goes on waiting from there.
    const waits = read.raw === null && !last && read.nextOffset === queue.nextOffset && !this.#atFollower(waiter.request);
    if (waits && this.#hold(waiter, queue)) return;
    this.#answer(waiter, queue, read);
  }

  #answer(waiter: Waiter, queue: QueueState, read: ReadResult | null): void {
    const { session, requestId, request } = waiter;
    const { clock, metrics } = this.#context;
    metrics.pullLatencyMs(clock.monotonicMs() - waiter.arrivedMs, waiter.waitMs > 0);
    const suggest = read === null ? 0 : this.#suggestion(read, session);
    const body = {
      minOffset: queue.minOffset,
      maxOffset: queue.nextOffset,
      nextOffset: waiter.offset,
      batches: read?.batches ?? [],
      ...(suggest === 0 ? {} : { suggest }),
    };
    if (read === null || read.raw === null) {
      session.respond(Op.pull, requestId, body);
      return;
    }
    metrics.messagesOut(request.topic, request.group, read.messages, read.raw.length - read.headroomBytes);
    session.respond(Op.pull, requestId, body, read.raw, read.headroomBytes);
  }

  /** @returns the replica to read from next, 0 = the leader. Sessions spread over the followers, and each stays with its own. */
  #suggestion({ coldFrom }: ReadResult, session: Session): number {
    const { replica, limits, leadership } = this.#context;
    const endPosition = replica.endPosition?.() ?? 0;
    if (coldFrom < 0 || limits.followerReadBehindBytes === 0 || endPosition - coldFrom <= limits.followerReadBehindBytes) return 0;
    if (!leadership.leader) return replica.id;
    const followers = replica.readFollowers?.() ?? [];
    return followers[session.id % followers.length] ?? 0;
  }

  #park(waiter: Waiter): void {
    const parked = this.#parked.get(waiter.session);
    if (parked === undefined) this.#parked.set(waiter.session, [waiter]);
    else parked.push(waiter);
  }

  drained(session: Session): void {
    const parked = this.#parked.get(session);
    this.#parked.delete(session);
    for (const waiter of parked ?? []) this.#resume(waiter, this.#context.clock.monotonicMs() >= waiter.arrivedMs + waiter.waitMs);
  }

  closed(session: Session): void {
    this.#parked.delete(session);
    this.waiters.dropSession(session);
  }

  /** Pulls of groups wait for messages only where ownership is known. */
  leadershipLost(): void {
    this.waiters.wakeIf((waiter) => waiter.request.group !== '');
  }
}
