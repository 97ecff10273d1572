import type { Disk } from '../io/disk.ts';
import { type QueueOwner, StoredConsumeQueue } from './consume-queue.ts';
import { DamagedQueueError, QueueFiles } from './consume-queue-files.ts';
import type { ConsumeQueue } from './consume-queue-types.ts';
import { FileWork } from './file-work.ts';
import { OpenFiles } from './open-files.ts';

export interface ConsumeQueuesOptions {
  readonly disk: Disk;
  /** DIR/consumequeue. */
  readonly directory: string;
  /** A unit file turned out to be damaged while it was read: the index is to be rebuilt (restart). Called at each such read. */
  readonly onDamage: (topic: string, queueId: number, cause: Error) => void;
  /** Units per file: whole files are removed when the log's start passes them. */
  readonly unitsPerFile?: number;
  /** Units of one queue kept in memory after they were flushed; older ones are read from the files. */
  readonly hotUnits?: number;
  /** Idle file handles. */
  readonly maxOpenFiles?: number;
}

/** 2.6 MB. */
const UNITS_PER_FILE = 65_536;
/** 20 KB a queue at most. */
const HOT_UNITS = 512;
const MAX_OPEN_FILES = 256;
/** Queues that are written or loaded at the same time. */
const PARALLEL = 8;

/**
 * All ConsumeQueues of a replica (F29). Derived from the CommitLog: appended to at apply, flushed behind the log, rebuilt by
 * replaying it.
 *
 * Start: open() → restore a state snapshot → truncateFrom(its position) → queue().restore() for each queue of the state →
 * dropUnclaimed() → replay from the snapshot's position. When a restore() says false: the same with an older snapshot; the
 * one at the log's start always works (pass minOffset = nextOffset there: nothing before it is retained).
 * Before a snapshot at position P is saved: flush(P), then sync(), so that no snapshot outlives the units that it relies on.
 */
export class ConsumeQueues {
  readonly #options: ConsumeQueuesOptions;
  readonly #unitsPerFile: number;
  readonly #files: OpenFiles;
  readonly #owner: QueueOwner;
  readonly #queues = new Map<string, StoredConsumeQueue>();
  /** Found on disk, not asked for yet. */
  readonly #unclaimed = new Set<StoredConsumeQueue>();
  readonly #dirty = new Set<StoredConsumeQueue>();
  readonly #unsynced = new Set<StoredConsumeQueue>();
  /** Everything that changes files goes one after the other. */
  readonly #work = new FileWork();

  private constructor(options: ConsumeQueuesOptions) {
    this.#options = options;
    this.#unitsPerFile = options.unitsPerFile ?? UNITS_PER_FILE;
    this.#files = new OpenFiles(options.disk, options.maxOpenFiles ?? MAX_OPEN_FILES);
    this.#owner = {
      hotUnits: options.hotUnits ?? HOT_UNITS,
      markDirty: (queue) => this.#dirty.add(queue),
      clear: (queue) => this.#clear(queue),
      onDamage: (queue, cause) => options.onDamage(queue.topic, queue.queueId, cause),
    };
  }

  /** Reads the ends of what is there. Missing and damaged queues are empty: restore() says so. Rejects with a DiskError. */
  static async open(options: ConsumeQueuesOptions): Promise<ConsumeQueues> {
    const queues = new ConsumeQueues(options);
    await options.disk.mkdir(options.directory);
    const found: { topic: string; queueId: number }[] = [];
    for (const topic of await options.disk.list(options.directory)) {
      for (const name of await options.disk.list(`${options.directory}/${topic}`)) {
        if (/^\d{1,5}$/.test(name)) found.push({ topic, queueId: Number(name) });
      }
    }
    await inParallel(found, ({ topic, queueId }) => queues.#load(topic, queueId));
    return queues;
  }

  /** The queue; made when it is not there. One of another topic id (a topic deleted and created again) is discarded. */
  queue(topic: string, topicId: number, queueId: number): ConsumeQueue {
    const key = keyOf(topic, queueId);
    const known = this.#queues.get(key);
    if (known?.topicId === topicId) {
      this.#unclaimed.delete(known);
      return known;
    }
    if (known !== undefined) this.#remove(known);
    const made = StoredConsumeQueue.empty(this.#owner, topic, queueId, this.#newFiles(topic, topicId, queueId));
    this.#queues.set(key, made);
    return made;
  }

  /** At apply of a topic's deletion. Its files go in the background. */
  removeTopic(topic: string): void {
    for (const queue of [...this.#queues.values()]) if (queue.topic === topic) this.#remove(queue);
    this.#inBackground(() => this.#options.disk.remove(`${this.#options.directory}/${topic}`));
  }

  /** Removes queues found on disk that the restored state does not have. */
  async dropUnclaimed(): Promise<void> {
    for (const queue of [...this.#unclaimed]) this.#remove(queue);
    // And the directories of topics that nobody asked for.
    const topics = new Set([...this.#queues.values()].map((queue) => queue.topic));
    for (const name of await this.#options.disk.list(this.#options.directory)) if (!topics.has(name)) this.removeTopic(name);
    await this.#work.run(async () => undefined);
  }

  /** Cuts units at and after a log position in all queues. Rejects with a DiskError. */
  truncateFrom(position: number): Promise<void> {
    return this.#work.run(() =>
      inParallel([...this.#queues.values()], async (queue) => {
        try {
          await queue.truncateFrom(position);
        } catch (error) {
          if (!(error instanceof DamagedQueueError)) throw error;
          this.#clear(queue);
        }
      }),
    );
  }

  /** Units appended and not flushed: the owner flushes by time or when this grows. They stay in memory until then. */
  get unflushedUnits(): number {
    let units = 0;
    for (const queue of this.#dirty) units += queue.unflushedUnits;
    return units;
  }

  /**
   * Writes the units of entries that end at or before `durablePosition`, the local durable end: files never know of an entry
   * that a crash could take from the log. To the page cache only; sync() makes them stable.
   * Rejects with the DiskError of the first failed write, then always with that one; but for want of space: then the units
   * stay in memory and the next flush writes them (FAULTS 3). A full disk bounds them: the log cannot grow there either.
   */
  flush(durablePosition: number): Promise<void> {
    return this.#work.runPoisoning(() => {
      const dirty = [...this.#dirty];
      return inParallel(dirty, async (queue) => {
        const units = queue.removed ? new Uint8Array(0) : queue.takeFlushable(durablePosition);
        if (units.length > 0) {
          this.#unsynced.add(queue);
          await queue.files.write(units);
        }
        if (queue.removed || queue.unflushedUnits === 0) this.#dirty.delete(queue);
      });
    });
  }

  /** Everything flushed is on stable storage. Rejects like flush(). */
  sync(): Promise<void> {
    return this.#work.runPoisoning(async () => {
      const unsynced = [...this.#unsynced];
      await inParallel(unsynced, (queue) => (queue.removed ? Promise.resolve() : queue.files.sync()));
      for (const queue of unsynced) this.#unsynced.delete(queue);
    });
  }

  /** The log's start moved to `position`: whole files before it go. minOffset is the owner's to set. Rejects with a DiskError. */
  cutBefore(position: number): Promise<void> {
    return this.#work.run(() => inParallel([...this.#queues.values()], (queue) => queue.cutBefore(position)));
  }

  /** Waits for work under way and closes the files. Unflushed units are lost (and rebuilt at the next start). */
  close(): Promise<void> {
    return this.#work.run(() => this.#files.closeAll());
  }

  async #load(topic: string, queueId: number): Promise<void> {
    const directory = this.#directoryOf(topic, queueId);
    try {
      const files = await QueueFiles.load(this.#options.disk, this.#files, directory, this.#unitsPerFile, queueId);
      if (files !== null) {
        const queue = await StoredConsumeQueue.load(this.#owner, topic, queueId, files);
        this.#queues.set(keyOf(topic, queueId), queue);
        this.#unclaimed.add(queue);
        return;
      }
    } catch (error) {
      if (!(error instanceof DamagedQueueError)) throw error;
    }
    await this.#files.closeUnder(directory);
    await this.#options.disk.remove(directory);
  }

  #newFiles(topic: string, topicId: number, queueId: number): QueueFiles {
    return new QueueFiles(this.#options.disk, this.#files, this.#directoryOf(topic, queueId), this.#unitsPerFile, topicId, queueId);
  }

  #directoryOf(topic: string, queueId: number): string {
    return `${this.#options.directory}/${topic}/${queueId}`;
  }

  #remove(queue: StoredConsumeQueue): void {
    queue.remove();
    this.#queues.delete(keyOf(queue.topic, queue.queueId));
    this.#unclaimed.delete(queue);
    this.#inBackground(() => queue.files.removeAll());
  }

  #clear(queue: StoredConsumeQueue): void {
    const old = queue.files;
    queue.clear(this.#newFiles(queue.topic, queue.topicId, queue.queueId));
    this.#inBackground(() => old.removeAll());
  }

  /** In order behind the writes under way, so that a queue made anew under this name writes into an empty directory. */
  #inBackground(work: () => Promise<void>): void {
    // A failure is not lost: it poisons, and the next flush() rejects with it.
    this.#work.runPoisoning(work).catch(() => undefined);
  }
}

const keyOf = (topic: string, queueId: number): string => `${topic}/${queueId}`;

/** Runs `work` for all, a few at a time; the first failure stops further ones and is thrown when those under way are done. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const failures: Error[] = [];
  const lane = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const item = items[next++] as T;
      await work(item).catch((error: Error) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, lane));
  if (failures[0] !== undefined) throw failures[0];
}
