import { Checkpoint } from './checkpoints.ts';

/** What one group has popped of one queue. */
export class PopQueue {
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  /** Offset of the first message that was never popped. */
  cursor: number;
  /** By id, in the order in which they were made. */
  readonly checkpoints = new Map<number, Checkpoint>();

  constructor(group: string, topicId: number, queueId: number, cursor: number) {
    this.group = group;
    this.topicId = topicId;
    this.queueId = queueId;
    this.cursor = cursor;
  }

  /** All messages below are done: acknowledged, dead, or cut by retention. */
  doneOffset(): number {
    let done = this.cursor;
    for (const checkpoint of this.checkpoints.values()) done = Math.min(done, checkpoint.firstLeft());
    return done;
  }

  /** The one that has been visible again for longest. @param skip ids that are being delivered again already */
  expired(logTimeMs: number, skip: ReadonlySet<number>): Checkpoint | null {
    let oldest: Checkpoint | null = null;
    for (const checkpoint of this.checkpoints.values()) {
      if (checkpoint.invisibleUntilMs > logTimeMs || skip.has(checkpoint.id)) continue;
      if (oldest === null || checkpoint.invisibleUntilMs < oldest.invisibleUntilMs) oldest = checkpoint;
    }
    return oldest;
  }

  /** In order, a queue's messages come again before anything behind them: the first one, once it is visible again. */
  firstIfExpired(logTimeMs: number, skip: ReadonlySet<number>): Checkpoint | null {
    let first: Checkpoint | null = null;
    for (const checkpoint of this.checkpoints.values()) if (first === null || checkpoint.baseOffset < first.baseOffset) first = checkpoint;
    return first !== null && first.invisibleUntilMs <= logTimeMs && !skip.has(first.id) ? first : null;
  }

  /** Log time at which something becomes visible again; Infinity: nothing is invisible. */
  nextVisibleMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { invisibleUntilMs } of this.checkpoints.values()) next = Math.min(next, invisibleUntilMs);
    return next;
  }

  pack(): PackedPopQueue {
    const checkpoints = [...this.checkpoints.values()].map(
      ({ id, baseOffset, count, invisibleUntilMs, attempts, ackedWords }) =>
        [id, baseOffset, count, invisibleUntilMs, attempts, ackedWords] as const,
    );
    return [this.group, this.topicId, this.queueId, this.cursor, checkpoints];
  }

  static unpack([group, topicId, queueId, cursor, checkpoints]: PackedPopQueue): PopQueue {
    const queue = new PopQueue(group, topicId, queueId, cursor);
    for (const [id, baseOffset, count, invisibleUntilMs, attempts, acked] of checkpoints)
      queue.checkpoints.set(id, new Checkpoint(id, baseOffset, count, invisibleUntilMs, attempts, acked));
    return queue;
  }
}

type PackedCheckpoint = readonly [
  id: number,
  baseOffset: number,
  count: number,
  invisibleUntilMs: number,
  attempts: number,
  acked: readonly number[],
];
export type PackedPopQueue = readonly [
  group: string,
  topicId: number,
  queueId: number,
  cursor: number,
  checkpoints: readonly PackedCheckpoint[],
];
