import type { MessageQueue } from './message-queue.ts';

/** Whose offsets: one member of a broadcasting group, by a name that it keeps over restarts. */
export interface OffsetOwner {
  readonly group: string;
  readonly instanceName: string;
}

/** A queue of one topic: a topic that is made again under its old name is another one, with other offsets. */
export interface StoredQueue extends MessageQueue {
  readonly topicId: number;
}

export interface StoredOffset extends StoredQueue {
  /** Of the next message to be consumed. */
  readonly offset: number;
}

/** Where a member of a broadcasting group keeps how far it came (F18). One member at a time uses a name. */
export interface OffsetStore {
  /** @returns one offset per queue, −1 = none. A rejection is told to onError and asked again: nothing is read meanwhile. */
  load(owner: OffsetOwner, queues: readonly StoredQueue[]): Promise<readonly number[]>;
  /** Keeps these; what it has of other queues stays. Never called again before it settled. */
  save(owner: OffsetOwner, offsets: readonly StoredOffset[]): Promise<void>;
}
