import type { ReceivedBatch, ReceivedMessage } from './message.ts';
import { type MessageFilter, wanted } from './message-filter.ts';
import type { MessageQueue } from './message-queue.ts';
import type { ConsumeContext } from './types.ts';

/**
 * A queue in the hands of this consumer: messages prefetched, messages given to handlers, and the offset below which all
 * are done. Only that offset is ever committed, so a message is acknowledged after the work and never before (F21).
 */
export class ProcessQueue {
  readonly queue: MessageQueue;
  readonly filter: MessageFilter | null;
  readonly #abort = new AbortController();
  /** Epoch at which this member became the owner. */
  epoch: number;
  /** revoking: no new handler starts. lost: another member may own it. */
  state: 'active' | 'revoking' | 'lost' = 'active';
  /** The broker was told that it may give the queue away. */
  released = false;
  /** Where the next pull goes; −1 until the start is known. */
  nextOffset: number;
  /** Last offset that the broker acknowledged as committed; −1 = none. */
  committedOffset: number;
  /** Of the last handler call that is over, to be used again. */
  spareContext: ConsumeContext | null = null;
  #ready: ReceivedMessage[] = [];
  #readyHead = 0;
  /** Given to handlers, in offset order; done ones leave from the head. */
  #started: ReceivedMessage[] = [];
  #startedHead = 0;
  #bytes = 0;
  #drained: (() => void)[] = [];

  constructor(queue: MessageQueue, filter: MessageFilter | null, epoch: number, committedOffset: number) {
    this.queue = queue;
    this.filter = filter;
    this.epoch = epoch;
    this.nextOffset = committedOffset;
    this.committedOffset = committedOffset;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }
  get readyCount(): number {
    return this.#ready.length - this.#readyHead;
  }
  get startedCount(): number {
    return this.#started.length - this.#startedHead;
  }
  /** Prefetched and not yet done. */
  get heldMessages(): number {
    return this.readyCount + this.startedCount;
  }
  get heldBytes(): number {
    return this.#bytes;
  }

  /** Everything below is done; −1 when the start is not known yet. */
  get doneOffset(): number {
    const started = this.#started[this.#startedHead];
    return started !== undefined ? started.offset : this.#resumeOffset();
  }

  /** Takes in what a pull brought: drops what was not asked for or is already here. @returns messages added */
  add(batch: ReceivedBatch): number {
    const messages: ReceivedMessage[] = [];
    // A pull in the middle of a batch gets the whole batch.
    for (let offset = Math.max(batch.baseOffset, this.nextOffset); offset < batch.endOffset; offset++) {
      const message = wanted(batch, offset, this.filter);
      if (message !== null) messages.push(message);
    }
    // All of it or, when a malformed message throws, nothing: it is pulled again as a whole.
    for (const message of messages) {
      this.#ready.push(message);
      this.#bytes += message.sizeBytes;
    }
    this.nextOffset = Math.max(this.nextOffset, batch.endOffset);
    return messages.length;
  }

  /** The next messages for a handler; they stay this queue's until finished. */
  take(maxMessages: number): ReceivedMessage[] {
    const messages = this.#ready.slice(this.#readyHead, this.#readyHead + maxMessages);
    this.#readyHead += messages.length;
    for (const message of messages) this.#started.push(message);
    this.#compact();
    return messages;
  }

  takeOne(): ReceivedMessage | null {
    const message = this.#ready[this.#readyHead];
    if (message === undefined) return null;
    this.#readyHead += 1;
    this.#started.push(message);
    this.#compact();
    return message;
  }

  finish(message: ReceivedMessage): void {
    message.handled = true;
    this.#bytes -= message.sizeBytes;
    while (this.#startedHead < this.#started.length && (this.#started[this.#startedHead] as ReceivedMessage).handled)
      this.#startedHead += 1;
    this.#compact();
    if (this.startedCount === 0) for (const resolve of this.#drained.splice(0)) resolve();
  }

  /** Resolves when no handler has a message of this queue, or the queue is lost. */
  async idle(): Promise<void> {
    if (this.startedCount > 0 && this.state !== 'lost') await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  /** Gives back what no handler has started; it would be pulled again from there. */
  clearReady(): void {
    this.nextOffset = this.#resumeOffset();
    for (let i = this.#readyHead; i < this.#ready.length; i++) this.#bytes -= (this.#ready[i] as ReceivedMessage).sizeBytes;
    this.#ready = [];
    this.#readyHead = 0;
  }

  /** The queue is another member's now: handlers are told, and nobody waits for them any more. */
  lose(): void {
    this.state = 'lost';
    this.clearReady();
    this.#abort.abort();
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  #resumeOffset(): number {
    const ready = this.#ready[this.#readyHead];
    return ready !== undefined ? ready.offset : this.nextOffset;
  }

  /** Heads move; the arrays are cut when at least half is behind them, so each message is copied at most once on average. */
  #compact(): void {
    if (this.#readyHead * 2 > this.#ready.length && this.#readyHead > 32) {
      this.#ready = this.#ready.slice(this.#readyHead);
      this.#readyHead = 0;
    }
    if (this.#startedHead * 2 > this.#started.length && this.#startedHead > 32) {
      this.#started = this.#started.slice(this.#startedHead);
      this.#startedHead = 0;
    }
  }
}
