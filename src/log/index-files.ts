import { assert } from '../base/assert.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import type { Disk } from '../io/disk.ts';
import { LedgerError } from '../protocol/errors.ts';
import { Batch, batchCount, batchIdLow } from '../protocol/record-batch.ts';
import { FileWork } from './file-work.ts';
import { DamagedIndexError, type Found, IndexFile, type IndexFileSizes } from './index-file.ts';
import { OpenFiles } from './open-files.ts';

export interface IndexFilesOptions {
  readonly disk: Disk;
  /** DIR/index. */
  readonly directory: string;
  /** An index file turned out to be damaged while it was read: the index is to be rebuilt (restart). */
  readonly onDamage: (cause: Error) => void;
  readonly sizes?: IndexFileSizes;
  readonly maxOpenFiles?: number;
  /** Items that one search looks at; default MAX_STEPS. */
  readonly maxSteps?: number;
}

export interface IndexRange {
  /** Log time, both included. */
  readonly fromTimeMs: number;
  readonly toTimeMs: number;
  /** Entries before this position only. */
  readonly beforePosition: number;
  readonly max: number;
}

export interface IndexHits {
  /** Newest first. */
  readonly positions: readonly number[];
  /** Entries before this position were not looked at; null: all were. */
  readonly restBefore: number | null;
}

/** 1 MB of slots (in memory for the current file), 25 MB of items. */
const DEFAULT_SIZES: IndexFileSizes = { slots: 262_144, capacity: 1_048_576 };
const MAX_OPEN_FILES = 16;
/** Items that one search looks at: a chain of millions of equal keys must not keep the disk busy. More than one entry can have (protocol/batch-keys.ts). */
const MAX_STEPS = 100_000;
/** Messages whose ids share an item: one client's consecutive ids. */
export const ID_BLOCK = 64;

/** Index hash of a block of message ids. @param at where the 8 raw bytes of the high half lie */
export function messageIdHash(bytes: Uint8Array, at: number, block: number): number {
  return mix(shortCrc32(bytes, at, at + 8) ^ Math.imul(block >>> 0, 0x9e3779b1) ^ Math.floor(block / 2 ** 32));
}

/** Index hash of a message key. @param key keyHash() of the key */
export function keyIndexHash(topicId: number, key: number): number {
  return mix(Math.imul(topicId, 0x9e3779b1) ^ key);
}

/** Index hash of what refers to an entry. @param position of its header, below 2^53 */
export function referenceHash(position: number): number {
  return mix(position ^ Math.imul(Math.floor(position / 2 ** 32), 0x9e3779b1));
}

/** MurmurHash3's finaliser: neighbouring blocks and topic ids spread over all slots. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The index of a replica (F30): 32-bit hash → positions of entries. Hashes collide: the caller looks into the entry.
 * Derived from the CommitLog like the ConsumeQueues, with the same order of calls at start and before a snapshot.
 */
export class IndexFiles {
  readonly #options: IndexFilesOptions;
  readonly #sizes: IndexFileSizes;
  readonly #files: OpenFiles;
  /** Oldest first; the last one takes items. */
  #list: IndexFile[] = [];
  /** Where the next file starts when there is none. */
  #startPosition = 0;
  readonly #unsynced = new Set<IndexFile>();
  readonly #work = new FileWork();
  readonly #maxSteps: number;
  #lastPosition = -1;

  private constructor(options: IndexFilesOptions) {
    this.#options = options;
    this.#sizes = options.sizes ?? DEFAULT_SIZES;
    this.#maxSteps = options.maxSteps ?? MAX_STEPS;
    this.#files = new OpenFiles(options.disk, options.maxOpenFiles ?? MAX_OPEN_FILES);
  }

  /** Damaged files, and those after them, are removed: restore() then says so. Rejects with a DiskError. */
  static async open(options: IndexFilesOptions): Promise<IndexFiles> {
    const index = new IndexFiles(options);
    await options.disk.mkdir(options.directory);
    const names = (await options.disk.list(options.directory)).filter((name) => /^\d{20}$/.test(name));
    let isWhole = true;
    for (const name of names) {
      const path = `${options.directory}/${name}`;
      const file: IndexFile | null = isWhole ? await loadOrNull(index.#files, path) : null;
      const previous: IndexFile | undefined = index.#list.at(-1);
      // A gap: the file before promises less than where this one starts.
      isWhole =
        file !== null && file.startPosition === Number(name) && (previous === undefined || previous.coveredPosition >= file.startPosition);
      if (file !== null && isWhole) index.#list.push(file);
      else await index.#removeFile(path);
    }
    return index;
  }

  /** First position that is indexed. */
  get startPosition(): number {
    return this.#list[0]?.startPosition ?? this.#startPosition;
  }

  /** Everything from startPosition to here is indexed and flushed. */
  get coveredPosition(): number {
    return this.#list.at(-1)?.coveredPosition ?? this.#startPosition;
  }

  /** Before truncateFrom(): is every entry of [logStart, position) indexed? If not: truncateFrom(an older snapshot's position), at worst the log's start, and replay. */
  covers(logStart: number, position: number): boolean {
    return logStart >= position || (this.startPosition <= logStart && this.coveredPosition >= position);
  }

  /** Items that are in memory only. The owner flushes by time or when this grows. */
  get unflushedItems(): number {
    let items = 0;
    for (const file of this.#list) items += file.unflushedItems;
    return items;
  }

  /** At apply, in log order. `position` is that of the entry's header. */
  put(hash: number, position: number, logTimeMs: number): void {
    let file: IndexFile | undefined = this.#list.at(-1);
    if (file?.accepts(logTimeMs) !== true) {
      // A new file starts where an entry does: one entry's items may end in the file before, so it begins behind that entry.
      const startPosition: number =
        file === undefined ? Math.min(this.#startPosition, position) : Math.max(position, this.#lastPosition + 1);
      assert(file === undefined || startPosition > file.startPosition, 'one entry fits into an index file');
      file = this.#make(startPosition);
    }
    file.put(hash, position, logTimeMs);
    this.#lastPosition = position;
  }

  #make(startPosition: number): IndexFile {
    const path = `${this.#options.directory}/${String(startPosition).padStart(20, '0')}`;
    const file = IndexFile.make(this.#files, path, this.#sizes, startPosition);
    this.#list.push(file);
    return file;
  }

  /** One item for each block of 64 ids that a batch touches. */
  putMessageIds(batch: Uint8Array, at: number, position: number, logTimeMs: number): void {
    const low = batchIdLow(batch, at);
    const last = Math.floor((low + batchCount(batch, at) - 1) / ID_BLOCK);
    for (let block = Math.floor(low / ID_BLOCK); block <= last; block++) {
      this.put(messageIdHash(batch, at + Batch.idHigh, block), position, logTimeMs);
    }
  }

  /**
   * Positions of entries with this hash within the range, newest first. Hashes collide, and one call looks at MAX_STEPS items at most.
   * Rejects with LedgerError INTERNAL when a file is damaged (the owner hears onDamage).
   */
  async search(hash: number, range: IndexRange): Promise<IndexHits> {
    const { fromTimeMs, toTimeMs, beforePosition, max } = range;
    const positions: number[] = [];
    let steps = 0;
    /** Start of the file that was looked at last. */
    let newer = beforePosition;
    const take = ({ position, logTimeMs }: Found): boolean => {
      if (logTimeMs < fromTimeMs) return false;
      // Several items of one entry lie side by side.
      if (logTimeMs <= toTimeMs && positions.at(-1) !== position) positions.push(position);
      return positions.length < max;
    };
    for (const file of [...this.#list].reverse()) {
      if (positions.length >= max) break;
      if (file.itemCount === 0 || file.beginTimeMs > toTimeMs || file.endTimeMs < fromTimeMs) continue;
      if (file.startPosition >= beforePosition) continue;
      if (steps >= this.#maxSteps) return { positions, restBefore: newer };
      try {
        const walked = await file.walk(hash, this.#maxSteps - steps, take, beforePosition);
        steps += walked.steps;
        // An item of the same entry that is not looked at yet says nothing new when the entry is among the positions.
        if (walked.restBefore !== null)
          return { positions, restBefore: Math.min(walked.restBefore, positions.at(-1) ?? walked.restBefore) };
        newer = file.startPosition;
      } catch (error) {
        // Cut away meanwhile: so are its entries.
        if (!this.#list.includes(file)) break;
        this.#options.onDamage(error as Error);
        throw new LedgerError('INTERNAL', `the index cannot be read: ${(error as Error).message}`);
      }
    }
    return { positions, restBefore: positions.length >= max && max > 0 ? (positions.at(-1) as number) : null };
  }

  /** All that search() finds in one call, of any position. */
  async find(hash: number, fromTimeMs: number, toTimeMs: number, max: number): Promise<readonly number[]> {
    return (await this.search(hash, { fromTimeMs, toTimeMs, beforePosition: Number.MAX_SAFE_INTEGER, max })).positions;
  }

  /** Like find(), by a message id. */
  findMessageId(id: { readonly high: Uint8Array; readonly low: number }, max: number): Promise<readonly number[]> {
    return this.find(messageIdHash(id.high, 0, Math.floor(id.low / ID_BLOCK)), 0, Number.MAX_SAFE_INTEGER, max);
  }

  /**
   * Writes items of entries before `position`, and that the log is indexed up to there: it is both durable here and applied.
   * Rejects with the DiskError of the first failed write, then always with that one; but for want of space: then the items
   * stay in memory and the next flush writes them (FAULTS 3).
   */
  flush(position: number): Promise<void> {
    return this.#work.runPoisoning(() => this.#flush(position));
  }

  async #flush(position: number): Promise<void> {
    // A log without a single message is covered, too.
    if (this.#list.length === 0 && position > this.#startPosition) this.#make(this.#startPosition);
    const files = [...this.#list];
    for (const [i, file] of files.entries()) {
      const next = files[i + 1];
      if (file.isSealed || file.startPosition > position) continue;
      const covered = Math.max(file.coveredPosition, Math.min(position, next?.startPosition ?? position));
      if (file.unflushedItems === 0 && covered === file.coveredPosition && next === undefined) continue;
      await file.flush(position, covered, next !== undefined);
      // What a failed flush left there is written again by the next one; on a full disk there may be no file at all.
      this.#unsynced.add(file);
    }
  }

  /** What is flushed is on stable storage. Rejects like flush(). */
  sync(): Promise<void> {
    return this.#work.runPoisoning(async () => {
      const unsynced = [...this.#unsynced];
      for (const file of unsynced) await file.sync();
      for (const file of unsynced) this.#unsynced.delete(file);
      if (unsynced.length > 0) await this.#options.disk.syncDirectory(this.#options.directory);
    });
  }

  /** At start, after a snapshot was restored: cuts the items of entries at and after `position`. Rejects with a DiskError. */
  truncateFrom(position: number): Promise<void> {
    return this.#work.run(async () => {
      // With a gap in front of `position` all that is left is of no use: the index begins anew there.
      const keepBefore = this.coveredPosition < position ? 0 : position;
      for (let file = this.#list.at(-1); file !== undefined && file.startPosition >= keepBefore; file = this.#list.at(-1)) {
        this.#list.pop();
        await this.#removeFile(file.path);
      }
      if (this.#list.length === 0) this.#startPosition = position;
      await this.#list.at(-1)?.truncateFrom(position);
      this.#lastPosition = position - 1;
    });
  }

  /** The log's start moved to `position`: files that end before it go. Rejects with a DiskError. */
  cutBefore(position: number): Promise<void> {
    return this.#work.run(async () => {
      for (let next = this.#list[1]; next !== undefined && next.startPosition <= position; next = this.#list[1]) {
        const file = this.#list.shift() as IndexFile;
        this.#unsynced.delete(file);
        await this.#removeFile(file.path);
      }
    });
  }

  /** Waits for work under way and closes the files. */
  close(): Promise<void> {
    return this.#work.run(() => this.#files.closeAll());
  }

  async #removeFile(path: string): Promise<void> {
    await this.#files.closeUnder(path);
    await this.#options.disk.remove(path);
  }
}

async function loadOrNull(files: OpenFiles, path: string): Promise<IndexFile | null> {
  try {
    return await IndexFile.load(files, path);
  } catch (error) {
    if (error instanceof DamagedIndexError) return null;
    throw error;
  }
}
