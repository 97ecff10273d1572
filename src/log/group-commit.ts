import type { Clock, Timer } from '../io/clock.ts';
import type { GroupMeta } from '../raft/types.ts';
import { LARGEST_GROUP_BYTES } from './group-codec.ts';
import type { HotChunk } from './hot-tail.ts';
import type { LogCounts } from './log-counts.ts';
import type { SegmentStore } from './segment-store.ts';
import type { FlushMode } from './types.ts';

/** One disk write at most, unless a single group is larger: so much can be torn (I4). */
export const MAX_WRITE_BYTES = 4 * 1024 * 1024;
/** Behind this distance from the last proven durable byte nothing of the last write can lie. */
export const LAST_WRITE_BYTES = Math.max(MAX_WRITE_BYTES, LARGEST_GROUP_BYTES);

interface PendingWrite {
  readonly meta: GroupMeta;
  readonly chunk: HotChunk;
  readonly offset: number;
}

export interface GroupCommitOptions {
  readonly store: SegmentStore;
  readonly clock: Clock;
  readonly flush: FlushMode;
  readonly asyncFlushMs: number;
  readonly counts: LogCounts;
  /** Behind the last byte in the files. */
  readonly writtenEnd: number;
  onDurable(group: GroupMeta): void;
  onError(error: Error): void;
}

/**
 * Writes closed groups in order, one disk write in flight at most: what is closed meanwhile goes out as the next one, so that the size of the
 * writes finds itself. The queue is bounded by the hot tail that the groups lie in.
 */
export class GroupCommit {
  /** Behind the last byte that any write, finished or in flight, put into the files: so far a truncation must zero. */
  writtenEnd: number;
  /** Proven to be on stable storage up to here. */
  syncedEnd: number;
  /** Behind the last finished write that is still part of the log. */
  #finishedEnd: number;
  readonly #options: GroupCommitOptions;
  #pending: PendingWrite[] = [];
  /** Groups that the write in flight covers and that are still part of the log. */
  #flying: PendingWrite[] = [];
  #isWriting = false;
  #holds = 0;
  #failed = false;
  #idle: (() => void)[] = [];
  #syncTimer: Timer | null = null;
  #syncing: Promise<void> | null = null;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.writtenEnd = options.writtenEnd;
    this.syncedEnd = options.writtenEnd;
    this.#finishedEnd = options.writtenEnd;
  }

  enqueue(meta: GroupMeta, chunk: HotChunk, offset: number): void {
    this.#pending.push({ meta, chunk, offset });
  }

  /** Starts the next write when none is in flight. */
  pump(): void {
    const first = this.#pending[0];
    if (this.#isWriting || this.#holds > 0 || this.#failed || first === undefined) return;
    const { store } = this.#options;
    const { position } = first.meta;
    let sizeBytes = first.meta.sizeBytes;
    // Not allocated yet: the store calls again when it is.
    if (!store.isFilled(position, sizeBytes)) return;
    let count = 1;
    for (; count < this.#pending.length; count++) {
      const next = this.#pending[count] as PendingWrite;
      const total = sizeBytes + next.meta.sizeBytes;
      const adjacent =
        next.chunk === first.chunk && next.offset === first.offset + sizeBytes && next.meta.position === position + sizeBytes;
      if (!adjacent || total > MAX_WRITE_BYTES || !store.isFilled(position, total)) break;
      sizeBytes = total;
    }
    this.#isWriting = true;
    this.#flying = this.#pending.splice(0, count);
    this.writtenEnd = Math.max(this.writtenEnd, position + sizeBytes);
    const { chunk, offset } = first;
    // A truncation forgets groups while the disk still reads their memory.
    chunk.retain();
    const { clock, counts } = this.#options;
    const startedMs = clock.monotonicMs();
    store.append(chunk.bytes.subarray(offset, offset + sizeBytes), position).then(
      () => {
        counts.wrote(sizeBytes, count, clock.monotonicMs() - startedMs);
        this.#written(chunk);
      },
      (error: unknown) => this.#fail(error as Error, chunk),
    );
  }

  /** No write starts until as many resume() calls. */
  hold(): void {
    this.#holds++;
  }

  resume(): void {
    this.#holds--;
    this.pump();
  }

  /** Forgets the groups from `index` on, which lie from `position` on; the write in flight ends, but they are not reported. */
  dropFrom(index: number, position: number): void {
    this.#finishedEnd = Math.min(this.#finishedEnd, position);
    this.#pending = this.#pending.filter((write) => write.meta.firstIndex < index);
    this.#flying = this.#flying.filter((write) => write.meta.firstIndex < index);
  }

  /** Resolves when neither a write nor a sync is under way. */
  async whenIdle(): Promise<void> {
    await this.#whenWritten();
    await this.#syncing;
  }

  /** Nothing is reported durable any more. */
  fail(): void {
    this.#failed = true;
    if (this.#syncTimer !== null) this.#options.clock.clearTimer(this.#syncTimer);
    this.#syncTimer = null;
  }

  /** Writes what is pending, as far as there is allocated room for it, and syncs. */
  async drain(): Promise<void> {
    for (;;) {
      this.pump();
      if (!this.#isWriting) break;
      await this.#whenWritten();
    }
    if (this.#syncTimer !== null) this.#options.clock.clearTimer(this.#syncTimer);
    this.#syncTimer = null;
    await this.#syncing;
    if (!this.#failed) await this.#sync();
  }

  #written(chunk: HotChunk): void {
    chunk.release();
    this.#isWriting = false;
    if (!this.#failed) {
      const last = this.#flying.at(-1);
      this.#flying = [];
      if (last !== undefined) this.#finishedEnd = last.meta.position + last.meta.sizeBytes;
      if (this.#options.flush === 'async') this.#syncSoon();
      else this.syncedEnd = this.#finishedEnd;
      // The next write first: the disk works while the acknowledgements are sent.
      this.pump();
      if (last !== undefined) this.#options.onDurable(last.meta);
    }
    this.#wakeIdle();
  }

  #fail(error: Error, chunk: HotChunk): void {
    chunk.release();
    this.#isWriting = false;
    this.fail();
    this.#options.onError(error);
    this.#wakeIdle();
  }

  /** Asynchronous flush: two syncs begin asyncFlushMs apart, or one directly after the other when they take longer. */
  #syncSoon(): void {
    if (this.#syncTimer !== null) return;
    const due = (): void => {
      this.#syncTimer = null;
      this.#syncing = (this.#syncing ?? Promise.resolve()).then(() => this.#sync());
    };
    this.#syncTimer = this.#options.clock.setTimer(this.#options.asyncFlushMs, due);
  }

  async #sync(): Promise<void> {
    try {
      if (this.#failed) return;
      const end = this.#finishedEnd;
      await this.#options.store.syncDirty();
      // A truncation meanwhile has shortened the log.
      this.syncedEnd = Math.min(end, this.#finishedEnd);
    } catch (error) {
      this.fail();
      this.#options.onError(error as Error);
    }
  }

  #whenWritten(): Promise<void> {
    if (!this.#isWriting) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #wakeIdle(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const wake of idle) wake();
  }
}
