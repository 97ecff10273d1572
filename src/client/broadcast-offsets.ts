import type { Timer } from '../io/clock.ts';
import type { ClientCore } from './client-core.ts';
import type { OffsetKeeper } from './offset-committer.ts';
import type { OffsetOwner, OffsetStore, StoredOffset, StoredQueue } from './offset-store.ts';
import type { ProcessQueue } from './process-queue.ts';

export interface BroadcastOffsetsOptions {
  readonly owner: OffsetOwner;
  /** null: kept nowhere; a restarted member begins where consumeFromWhere says. */
  readonly store: OffsetStore | null;
  readonly intervalMs: number;
  readonly onError: (error: unknown) => void;
}

/** How far a member of a broadcasting group came: saved every interval and at the end, when it changed (F18). */
export class BroadcastOffsets implements OffsetKeeper {
  readonly #core: ClientCore;
  readonly #options: BroadcastOffsetsOptions;
  readonly #queues: ReadonlyMap<string, ProcessQueue>;
  #timer: Timer | null = null;
  #busy: Promise<void> | null = null;

  constructor(core: ClientCore, options: BroadcastOffsetsOptions, queues: ReadonlyMap<string, ProcessQueue>) {
    this.#core = core;
    this.#options = options;
    this.#queues = queues;
  }

  /** @returns where this member was in the queue; −1 = never there */
  async load(queue: ProcessQueue): Promise<number> {
    const { store, owner } = this.#options;
    if (store === null) return -1;
    return (await store.load(owner, [this.#stored(queue)]))[0] ?? -1;
  }

  start(): void {
    if (this.#options.store === null) return;
    this.#timer = this.#core.io.clock.setTimer(this.#options.intervalMs, () => {
      this.#busy ??= this.#save().finally(() => {
        this.#busy = null;
      });
      this.start();
    });
  }

  async close(timeoutMs: number): Promise<void> {
    if (this.#timer !== null) this.#core.io.clock.clearTimer(this.#timer);
    const { clock } = this.#core.io;
    const deadlineAt = clock.monotonicMs() + timeoutMs;
    if (this.#busy !== null) await this.#core.within(this.#busy, timeoutMs);
    await this.#core.within(this.#save(), Math.max(1, deadlineAt - clock.monotonicMs()));
  }

  async #save(): Promise<void> {
    const { store, owner, onError } = this.#options;
    const changed: StoredOffset[] = [];
    const queues: ProcessQueue[] = [];
    for (const queue of this.#queues.values()) {
      const offset = queue.doneOffset;
      if (offset < 0 || offset === queue.committedOffset) continue;
      changed.push({ ...this.#stored(queue), offset });
      queues.push(queue);
    }
    if (store === null || changed.length === 0) return;
    try {
      await store.save(owner, changed);
    } catch (error) {
      // They stay changed and go with the next round.
      onError(error);
      return;
    }
    queues.forEach((queue, i) => {
      queue.committedOffset = (changed[i] as StoredOffset).offset;
    });
  }

  /** The epoch of a queue that nobody owns is its topic's number. */
  #stored({ queue: { topic, brokerName, queueId }, epoch }: ProcessQueue): StoredQueue {
    return { topic, brokerName, queueId, topicId: epoch };
  }
}
