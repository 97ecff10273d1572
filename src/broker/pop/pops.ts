import type { ErrorCode } from '../../protocol/errors.ts';
import { LedgerError } from '../../protocol/errors.ts';
import { checkUserGroupName, noTopicText } from '../../protocol/names.ts';
import {
  MAX_POP_MESSAGES,
  type PopAckRequest,
  type PopChangeRequest,
  type PopReceiptFields,
  type PopRequest,
} from '../../protocol/pop-requests.ts';
import { Op } from '../../protocol/requests.ts';
import type { BrokerContext } from '../context.ts';
import { FEATURE_LEVELS } from '../feature-level.ts';
import { nameRefusal } from '../name-refusal.ts';
import type { PendingCommands } from '../pending-commands.ts';
import type { Reader, ReadResult } from '../reader.ts';
import type { Session } from '../session.ts';
import type { QueueState, TopicState } from '../topics.ts';
import { Perm } from '../topics.ts';
import type { Checkpoint } from './checkpoints.ts';
import type { PopReceipt } from './commands.ts';
import { deadRows } from './dead-rows.ts';
import { PopLeases, type PopSource, READING } from './pop-leases.ts';
import { PopWaiter, PopWaiters } from './pop-waiters.ts';

/** Invisible for less, a message would be on its way to two consumers as a rule; for more, a crash would hide it for long. */
const MIN_INVISIBLE_MS = 10;
const MAX_INVISIBLE_MS = 12 * 3_600_000;
/** What was proposed to be taken was taken by another entry: the queue is looked at again, so often. */
const MAX_TRIES = 3;

const NOTHING = { queueId: 0, checkpoint: 0, baseOffset: 0, count: 0, acked: [], attempts: 0, batches: [] } as const;

/** Pops, their receipts, and what becomes visible again (F25): at the leader. */
export class Pops {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #reader: Reader;
  readonly #leases: PopLeases;
  readonly #waiters: PopWaiters;

  constructor(context: BrokerContext, commands: PendingCommands, reader: Reader) {
    this.#context = context;
    this.#commands = commands;
    this.#reader = reader;
    this.#leases = new PopLeases(context.state);
    this.#waiters = new PopWaiters(context, (waiter, last) => this.#try(waiter, last));
  }

  get waiterCount(): number {
    return this.#waiters.size;
  }

  // ---- pop ---------------------------------------------------------------------------------------------------------------

  pop(session: Session, requestId: number, request: PopRequest): void {
    const refusal = this.#refusal(request.group) ?? popFault(request);
    if (refusal !== null) {
      session.refuse(requestId, refusal);
      return;
    }
    const waitMs = Math.min(request.waitMs, this.#context.limits.maxPullWaitMs);
    this.#try(new PopWaiter(session, requestId, request, waitMs, this.#context.clock.monotonicMs()), waitMs === 0);
  }

  #refusal(group: string): ErrorCode | null {
    const { leadership, state } = this.#context;
    const refusal = leadership.refusal();
    if (refusal !== null) return refusal;
    if (state.featureLevel < FEATURE_LEVELS.messaging) return 'FEATURE_LEVEL';
    return nameRefusal(() => checkUserGroupName(group))?.code ?? null;
  }

  /** @param last answer now, whatever there is */
  #try(waiter: PopWaiter, last: boolean): void {
    const { session, requestId, request } = waiter;
    if (session.closed) return;
    const topic = this.#topic(request);
    if (typeof topic === 'string') {
      session.refuse(requestId, topic, topic === 'TOPIC_NOT_FOUND' ? noTopicText(request.topic) : undefined);
      return;
    }
    const source = this.#leases.find(topic, request, this.#context.replica.logTimeMs());
    if (source === null) {
      if (last || waiter.tries >= MAX_TRIES || !this.#waiters.hold(waiter, topic, this.#nextVisibleMs(topic, request)))
        session.respond(Op.pop, requestId, NOTHING);
      return;
    }
    waiter.tries++;
    if (source.checkpoint !== null) this.#giveAgain(waiter, last, source.queue, source.checkpoint);
    else this.#giveNew(waiter, last, source);
  }

  /** Something else was first, or nothing was left of what was to be given: there may be more. */
  #again(waiter: PopWaiter, last: boolean, code: ErrorCode): void {
    const again = code === 'FENCED' || code === 'OFFSET_OUT_OF_RANGE' || code === 'MESSAGE_NOT_FOUND';
    if (again && waiter.tries < MAX_TRIES) this.#try(waiter, last);
    else waiter.session.refuse(waiter.requestId, again ? 'BUSY' : code);
  }

  #topic(request: PopRequest): TopicState | ErrorCode {
    const { state, leadership } = this.#context;
    const refusal = leadership.refusal();
    if (refusal !== null) return refusal;
    const topic = state.topics.named(request.topic);
    if (topic === undefined) return 'TOPIC_NOT_FOUND';
    if ((topic.perm & Perm.read) === 0) return 'NO_PERMISSION';
    if (request.queueId >= topic.queues.length) return 'QUEUE_NOT_FOUND';
    return (state.groups.named(request.group)?.members.size ?? 0) > 0 ? 'GROUP_MODE_CONFLICT' : topic;
  }

  #giveNew(waiter: PopWaiter, last: boolean, source: PopSource): void {
    const { request } = waiter;
    const failed = (error: unknown): void => {
      this.#leases.taken(source, true);
      this.#again(waiter, last, codeOf(error));
      // Pops that were held because this one was reading the queue.
      this.#waiters.wakeTopic(source.queue.topic.id);
    };
    const take = (read: ReadResult | null): void => {
      if (read === null || read.nextOffset <= source.from) {
        failed(new LedgerError(read === null ? 'BUSY' : 'FENCED'));
        return;
      }
      const count = Math.min(request.maxMessages, read.nextOffset - source.from);
      this.#leases.reserve(source, source.from + count);
      this.#take(waiter, last, source, count, read);
    };
    const read = this.#read(waiter, source.queue, source.from, request.maxMessages);
    if (!(read instanceof Promise)) {
      take(read);
      return;
    }
    this.#leases.reserve(source, READING);
    read.then(take).catch(failed);
  }

  #take(waiter: PopWaiter, last: boolean, source: PopSource, count: number, read: ReadResult): void {
    const { group, queue, from } = source;
    const command = { type: 'popTake', ...placeOf(group, queue), from, count, invisibleMs: waiter.request.invisibleMs } as const;
    this.#commands.propose(command, (error, _results, checkpoint) => {
      this.#leases.taken(source, error !== null);
      if (error === null) this.#respond(waiter, queue, { checkpoint, baseOffset: from, count, acked: [], attempts: 0 }, read);
      else this.#again(waiter, last, error);
      this.#waiters.wakeTopic(queue.topic.id);
    });
  }

  #giveAgain(waiter: PopWaiter, last: boolean, queue: QueueState, checkpoint: Checkpoint): void {
    const { group, maxAttempts } = waiter.request;
    this.#leases.revive(group, checkpoint);
    const bury = checkpoint.attempts + 1 >= maxAttempts;
    (bury ? this.#bury(group, queue, checkpoint) : this.#revive(waiter, queue, checkpoint)).then(
      (given) => {
        this.#leases.revived(group, checkpoint);
        if (given) return;
        // What was in the way is gone: it does not count as a try.
        waiter.tries--;
        this.#try(waiter, last);
      },
      (error: unknown) => {
        this.#leases.revived(group, checkpoint);
        this.#again(waiter, last, codeOf(error));
      },
    );
  }

  /** @returns whether there was something left to give */
  async #revive(waiter: PopWaiter, queue: QueueState, old: Checkpoint): Promise<boolean> {
    const { group, invisibleMs } = waiter.request;
    const from = Math.max(old.firstLeft(), queue.minOffset);
    const read = from >= old.endOffset ? null : await this.#read(waiter, queue, from, old.endOffset - from);
    if (read === null && from < old.endOffset) throw new LedgerError('BUSY', 'the connection takes no more bytes for now');
    // A read ends where memory ends and files begin, or at its bounds: what it does not hold is not delivered.
    const upTo = read === null ? old.endOffset : Math.min(read.nextOffset, old.endOffset);
    const { baseOffset, ackedWords: acked } = old;
    const checkpoint = await this.#propose({ type: 'popRevive', ...placeOf(group, queue), checkpoint: old.id, upTo, invisibleMs });
    const count = upTo - baseOffset;
    if (read !== null) this.#respond(waiter, queue, { checkpoint, baseOffset, count, acked, attempts: old.attempts + 1 }, read);
    return read !== null;
  }

  async #bury(group: string, queue: QueueState, checkpoint: Checkpoint): Promise<boolean> {
    const rows = await deadRows(queue, checkpoint, this.#reader);
    await this.#propose({ type: 'popBury', ...placeOf(group, queue), checkpoint: checkpoint.id }, rows);
    this.#context.metrics.event('pop: messages given up', { group, topic: queue.topic.name, messages: rows.length });
    return false;
  }

  #read(waiter: PopWaiter, queue: QueueState, offset: number, maxMessages: number): ReadResult | Promise<ReadResult | null> {
    const { request, session } = waiter;
    const maxBytes = Math.min(request.maxBytes, this.#context.limits.maxPullBytes);
    return this.#reader.read(queue, { offset, maxBytes, maxMessages, tagHashes: request.tagHashes, sql: null, session });
  }

  /** @returns the entry's index: the name of the checkpoint that it made */
  #propose(command: Parameters<PendingCommands['propose']>[0], rows: Parameters<PendingCommands['propose']>[2] = []): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#commands.propose(
        command,
        (error, _results, index) => {
          if (error === null) resolve(index);
          else reject(new LedgerError(error));
        },
        rows,
      );
    });
  }

  #respond(
    { session, requestId, request }: PopWaiter,
    queue: QueueState,
    delivery: { checkpoint: number; baseOffset: number; count: number; acked: readonly number[]; attempts: number },
    read: ReadResult,
  ): void {
    const { metrics } = this.#context;
    const body = { queueId: queue.queueId, ...delivery, batches: read.batches };
    if (read.raw === null) session.respond(Op.pop, requestId, body);
    else {
      metrics.messagesOut(request.topic, request.group, read.messages, read.raw.length - read.headroomBytes);
      session.respond(Op.pop, requestId, body, read.raw, read.headroomBytes);
    }
  }

  /** ms until something of the group's becomes visible again on this topic. */
  #nextVisibleMs(topic: TopicState, { group }: PopRequest): number {
    const { state, replica } = this.#context;
    let next = Number.POSITIVE_INFINITY;
    for (const { queueId } of topic.queues) next = Math.min(next, state.pop.queue(group, topic.id, queueId)?.nextVisibleMs() ?? next);
    return next - replica.logTimeMs();
  }

  // ---- receipts ----------------------------------------------------------------------------------------------------------

  ack(session: Session, requestId: number, { group, topic, receipts }: PopAckRequest): void {
    const named = this.#receipts(group, topic, receipts);
    if (typeof named === 'string') {
      session.refuse(requestId, named);
      return;
    }
    this.#commands.propose({ type: 'popAck', receipts: named }, (error, errors) => {
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.popAck, requestId, { errors });
      this.#waiters.wakeOrdered(topic, group);
    });
  }

  change(session: Session, requestId: number, request: PopChangeRequest): void {
    const { group, topic, invisibleMs } = request;
    const named = invisibleMs > MAX_INVISIBLE_MS ? 'BAD_REQUEST' : this.#receipts(group, topic, [request]);
    if (typeof named === 'string') {
      session.refuse(requestId, named);
      return;
    }
    this.#commands.propose({ type: 'popChange', receipt: named[0] as PopReceipt, invisibleMs }, (error, _results, index) => {
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.popChange, requestId, { checkpoint: index });
      this.#waiters.visibleIn(topic, group, invisibleMs);
    });
  }

  #receipts(group: string, topicName: string, receipts: readonly PopReceiptFields[]): PopReceipt[] | ErrorCode {
    const refusal = this.#refusal(group);
    if (refusal !== null) return refusal;
    const topic = this.#context.state.topics.named(topicName);
    if (topic === undefined) return 'TOPIC_NOT_FOUND';
    return receipts.map(({ queueId, checkpoint, offset }) => [group, topic.id, queueId, checkpoint, offset] as const);
  }

  // ---- events ------------------------------------------------------------------------------------------------------------

  /** A queue grew. Costs one look-up when nobody waits for its topic. */
  grew(topicId: number): void {
    this.#waiters.grew(topicId);
  }

  /** End of a run of entries. */
  wakeGrown(): void {
    this.#waiters.wakeGrown();
  }

  closed(session: Session): void {
    this.#waiters.dropSession(session);
  }

  leadershipLost(): void {
    this.#leases.clear();
    this.#waiters.wakeAll();
  }
}

const placeOf = (group: string, { topic, queueId }: QueueState) => ({ group, topicId: topic.id, queueId });
const codeOf = (error: unknown): ErrorCode => (error instanceof LedgerError ? error.code : 'INTERNAL');

function popFault({ maxMessages, invisibleMs, maxAttempts, queueId }: PopRequest): ErrorCode | null {
  const sound =
    maxMessages >= 1 &&
    maxMessages <= MAX_POP_MESSAGES &&
    invisibleMs >= MIN_INVISIBLE_MS &&
    invisibleMs <= MAX_INVISIBLE_MS &&
    maxAttempts >= 1 &&
    queueId >= -1;
  return sound ? null : 'BAD_REQUEST';
}
