import type { ErrorCode } from '../../protocol/errors.ts';
import { ERRORS } from '../../protocol/errors.ts';
import { dlqTopicOf } from '../../protocol/names.ts';
import type { AppliedEntry } from '../../replica/types.ts';
import type { Command } from '../commands.ts';
import type { DeliveryRow } from '../delivery.ts';
import { StateLimits } from '../limits.ts';
import type { CommandHandler, CommandResult, PlacedRows, StateTable } from '../state-table.ts';
import type { TopicState, Topics } from '../topics.ts';
import { queueKey, topicIdOf } from '../topics.ts';
import { Checkpoint } from './checkpoints.ts';
import type { PopBury, PopChange, PopCommand, PopReceipt, PopRevive, PopTake } from './commands.ts';
import { type PackedPopQueue, PopQueue } from './pop-queue.ts';

/** What the table needs of the rest of the state. */
export interface PopState {
  readonly topics: Topics;
  /** Members own the queues of this group: it is consumed by them. */
  hasMembers(group: string): boolean;
  committedOffset(group: string, topicId: number, queueId: number): number | undefined;
  /** Where the group would go on if it were consumed otherwise; what its lag is counted from. @returns why not */
  setOffset(group: string, topicId: number, queueId: number, offset: number): ErrorCode | null;
  placeRow(row: DeliveryRow, position: number, logTimeMs: number): number;
}

const DONE: CommandResult = { error: 0, results: [] };
const refused = (code: ErrorCode): CommandResult => ({ error: ERRORS[code].number, results: [] });

/**
 * Pop consumption (F25, RocketMQ 5's pop mode): nobody owns a queue; each delivery makes its messages invisible for a time,
 * and what is not acknowledged by then is delivered again. All of it is in the log, so a new leader neither forgets an
 * acknowledgement nor shows a message early.
 */
export class PopTable implements StateTable, CommandHandler {
  readonly name = 'pop';
  readonly #state: PopState;
  readonly #byGroup = new Map<string, Map<number, PopQueue>>();
  #queues = 0;
  #checkpoints = 0;

  constructor(state: PopState) {
    this.#state = state;
  }

  static readonly COMMANDS = ['popTake', 'popRevive', 'popAck', 'popChange', 'popBury'] as const satisfies readonly PopCommand['type'][];

  queue(group: string, topicId: number, queueId: number): PopQueue | undefined {
    return this.#byGroup.get(group)?.get(queueKey(topicId, queueId));
  }

  /** Something is invisible for this group. */
  isPopping(group: string): boolean {
    for (const queue of this.#byGroup.get(group)?.values() ?? []) if (queue.checkpoints.size > 0) return true;
    return false;
  }

  get checkpointCount(): number {
    return this.#checkpoints;
  }

  /** Where the next pop begins: behind what is popped, or where the group stands, or `initial`; never before the first retained message. */
  cursor(group: string, topicId: number, queueId: number, initial: number): number {
    const minOffset = this.#state.topics.queue(topicId, queueId)?.minOffset ?? 0;
    const cursor = this.queue(group, topicId, queueId)?.cursor ?? this.#state.committedOffset(group, topicId, queueId) ?? initial;
    return Math.max(cursor, minOffset);
  }

  handle(command: Command, entry: AppliedEntry, rows: PlacedRows): CommandResult {
    switch (command.type) {
      case 'popTake':
        return this.#take(command, entry);
      case 'popRevive':
        return this.#revive(command, entry);
      case 'popAck':
        return { error: 0, results: this.#ackAll(command.receipts) };
      case 'popChange':
        return this.#change(command, entry);
      default:
        return this.#bury(command as PopBury, entry, rows);
    }
  }

  #take({ group, topicId, queueId, from, count, invisibleMs }: PopTake, entry: AppliedEntry): CommandResult {
    const stored = this.#state.topics.queue(topicId, queueId);
    if (stored === undefined) return refused('QUEUE_NOT_FOUND');
    if (this.#state.hasMembers(group)) return refused('GROUP_MODE_CONFLICT');
    // A leader that lost its term proposed from a cursor that has moved since.
    if (this.cursor(group, topicId, queueId, from) !== from || count < 1 || from + count > stored.nextOffset) return refused('FENCED');
    let queue = this.queue(group, topicId, queueId);
    if (this.#checkpoints >= StateLimits.maxPopCheckpoints || (queue?.checkpoints.size ?? 0) >= StateLimits.maxPopCheckpointsPerQueue)
      return refused('TOO_MANY');
    if (queue === undefined) {
      if (this.#queues >= StateLimits.maxPopQueues) return refused('TOO_MANY');
      const refusal = this.#state.setOffset(group, topicId, queueId, from);
      if (refusal !== null) return refused(refusal);
      queue = this.#add(new PopQueue(group, topicId, queueId, from));
    }
    queue.cursor = from + count;
    this.#put(queue, new Checkpoint(entry.index, from, count, entry.logTimeMs + invisibleMs, 0));
    return DONE;
  }

  #revive({ group, topicId, queueId, checkpoint: id, upTo, invisibleMs }: PopRevive, entry: AppliedEntry): CommandResult {
    const queue = this.queue(group, topicId, queueId);
    const checkpoint = queue?.checkpoints.get(id);
    if (queue === undefined || checkpoint === undefined || checkpoint.invisibleUntilMs > entry.logTimeMs) return refused('FENCED');
    this.#remove(queue, checkpoint);
    const minOffset = this.#state.topics.queue(topicId, queueId)?.minOffset ?? 0;
    if (checkpoint.endOffset <= minOffset) {
      // All of it was cut by retention meanwhile.
      this.#moved(queue);
      return refused('MESSAGE_NOT_FOUND');
    }
    const end = Math.min(upTo, checkpoint.endOffset);
    if (end > checkpoint.baseOffset) this.#put(queue, checkpoint.again(entry.index, end, entry.logTimeMs + invisibleMs));
    const rest = end < checkpoint.endOffset ? checkpoint.from(Math.max(end, checkpoint.baseOffset)) : null;
    if (rest !== null && rest.left > 0) this.#put(queue, rest);
    return DONE;
  }

  #ackAll(receipts: readonly PopReceipt[]): number[] {
    const touched = new Set<PopQueue>();
    const errors = receipts.map(([group, topicId, queueId, id, offset]) => {
      const queue = this.queue(group, topicId, queueId);
      const checkpoint = queue?.checkpoints.get(id);
      // Delivered again meanwhile, or done before: to the one who asks it is the same, the receipt is not good any more.
      if (queue === undefined || checkpoint === undefined || !checkpoint.contains(offset)) return ERRORS.RECEIPT_EXPIRED.number;
      // Done, or gone on under a receipt of its own: confirmed now, it could come again all the same.
      if (!checkpoint.ack(offset)) return ERRORS.RECEIPT_EXPIRED.number;
      if (checkpoint.left === 0) this.#remove(queue, checkpoint);
      touched.add(queue);
      return 0;
    });
    for (const queue of touched) this.#moved(queue);
    return errors;
  }

  #change({ receipt, invisibleMs }: PopChange, entry: AppliedEntry): CommandResult {
    const [group, topicId, queueId, id, offset] = receipt;
    const queue = this.queue(group, topicId, queueId);
    const checkpoint = queue?.checkpoints.get(id);
    if (queue === undefined || checkpoint === undefined || !checkpoint.contains(offset) || checkpoint.isAcked(offset))
      return refused('RECEIPT_EXPIRED');
    if (checkpoint.left > 1 && queue.checkpoints.size >= StateLimits.maxPopCheckpointsPerQueue) return refused('TOO_MANY');
    checkpoint.ack(offset);
    if (checkpoint.left === 0) this.#remove(queue, checkpoint);
    this.#put(queue, new Checkpoint(entry.index, offset, 1, entry.logTimeMs + invisibleMs, checkpoint.attempts));
    return DONE;
  }

  #bury({ group, topicId, queueId, checkpoint: id }: PopBury, entry: AppliedEntry, placed: PlacedRows): CommandResult {
    const queue = this.queue(group, topicId, queueId);
    const checkpoint = queue?.checkpoints.get(id);
    if (queue === undefined || checkpoint === undefined || checkpoint.invisibleUntilMs > entry.logTimeMs) return refused('FENCED');
    const dead = this.#state.topics.internal(dlqTopicOf(group), 1);
    let buried = 0;
    placed.rows.forEach((row, i) => {
      // Acknowledged between the leader's look and this entry.
      if (checkpoint.isAcked(row.originOffset) && row.originTopicId === topicId) return;
      this.#state.placeRow({ ...row, topicId: dead.id, queueId: 0 }, placed.rowPosition(i), entry.logTimeMs);
      buried++;
    });
    this.#remove(queue, checkpoint);
    this.#moved(queue);
    return { error: 0, results: [buried] };
  }

  /** An operator moved the group: what is invisible is forgotten, receipts for it are not good any more. */
  reset(group: string, topicId: number, queueId: number, offset: number): void {
    const queue = this.queue(group, topicId, queueId);
    if (queue === undefined) return;
    for (const checkpoint of [...queue.checkpoints.values()]) this.#remove(queue, checkpoint);
    queue.cursor = offset;
  }

  topicDropped(topic: TopicState): void {
    for (const [group, queues] of this.#byGroup) {
      for (const [key, queue] of queues) {
        if (topicIdOf(key) !== topic.id) continue;
        this.#checkpoints -= queue.checkpoints.size;
        queues.delete(key);
        this.#queues--;
      }
      if (queues.size === 0) this.#byGroup.delete(group);
    }
  }

  /** By group and queue. */
  all(): PopQueue[] {
    const groups = [...this.#byGroup].sort(([a], [b]) => (a < b ? -1 : 1));
    return groups.flatMap(([, queues]) => [...queues].sort(([a], [b]) => a - b).map(([, queue]) => queue));
  }

  pack(): unknown {
    return this.all().map((queue) => queue.pack());
  }

  unpack(packed: unknown): void {
    for (const one of packed as PackedPopQueue[]) {
      const queue = this.#add(PopQueue.unpack(one));
      this.#checkpoints += queue.checkpoints.size;
    }
  }

  clear(): void {
    this.#byGroup.clear();
    this.#queues = 0;
    this.#checkpoints = 0;
  }

  #add(queue: PopQueue): PopQueue {
    const key = queueKey(queue.topicId, queue.queueId);
    const queues = this.#byGroup.get(queue.group);
    if (queues === undefined) this.#byGroup.set(queue.group, new Map([[key, queue]]));
    else queues.set(key, queue);
    this.#queues++;
    return queue;
  }

  #put(queue: PopQueue, checkpoint: Checkpoint): void {
    queue.checkpoints.set(checkpoint.id, checkpoint);
    this.#checkpoints++;
  }

  #remove(queue: PopQueue, checkpoint: Checkpoint): void {
    if (queue.checkpoints.delete(checkpoint.id)) this.#checkpoints--;
  }

  #moved(queue: PopQueue): void {
    // Its group exists since the first take; the offset is kept for it there already.
    this.#state.setOffset(queue.group, queue.topicId, queue.queueId, queue.doneOffset());
  }
}
