import { assert } from '../base/assert.ts';
import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import type { OpenFiles } from './open-files.ts';

/** "LMQI". */
const MAGIC = 0x49514d4c;
const VERSION = 1;
const HEADER_BYTES = 72;
const Header = {
  magic: 0,
  version: 4,
  startPosition: 8,
  coveredPosition: 16,
  beginTimeMs: 24,
  endTimeMs: 32,
  itemCount: 40,
  slots: 44,
  capacity: 48,
  sealed: 52,
  syncedPosition: 56,
  syncedItems: 64,
  checksum: 68,
} as const;

const ITEM_BYTES = 24;
const Item = { hash: 0, position: 4, timeDeltaMs: 12, previous: 16, checksum: 20 } as const;
/** Items are read back in blocks of this many when a file is loaded. */
const LOAD_ITEMS = 8192;
/** And in blocks of this many when a walk goes on in the middle of a chain. */
const SCAN_ITEMS = 512;
const FIRST_ITEMS = 64;
const MAX_TIME_DELTA_MS = 0xffff_ffff;

/** An index file that is not what was written; it is rebuilt from the CommitLog. */
export class DamagedIndexError extends Error {
  override name = 'DamagedIndexError';
}

function itemIsWhole(bytes: Uint8Array, at: number): boolean {
  return readU32(bytes, at + Item.checksum) === shortCrc32(bytes, at, at + Item.checksum);
}

export interface IndexFileSizes {
  /** Heads of chains; a power of two is not needed. */
  readonly slots: number;
  /** Items per file. */
  readonly capacity: number;
}

export interface Found {
  readonly position: number;
  readonly logTimeMs: number;
}

export interface Walked {
  readonly steps: number;
  /** Steps ran out: what was not looked at is of entries before this position. null: the chain ended, or was left. */
  readonly restBefore: number | null;
}

/**
 * One file of the index, RocketMQ's idea: slots hold the newest item of a chain, items point to the one before.
 * Layout: header 72 B │ items 24 B each, in log order │ slots 4 B each (written once, when the file is full).
 * Until then the slots are in memory, and made anew from the items at start; of the items only the unflushed are in memory.
 */
export class IndexFile {
  readonly path: string;
  readonly sizes: IndexFileSizes;
  /** This file covers the log from here to the next file's start. */
  readonly startPosition: number;
  beginTimeMs = 0;
  endTimeMs = 0;
  itemCount = 0;
  /** Everything in the log before it was indexed here or in an older file, and flushed. */
  coveredPosition: number;
  /** coveredPosition at the last sync: items of entries before it survive the machine, later ones perhaps not. */
  #syncedPosition: number;
  /** Items that survive. */
  #syncedItems = 0;
  readonly #files: OpenFiles;
  /** null when they are on disk: the file is full and sealed. */
  #slots: Uint32Array | null;
  #flushedItems = 0;
  #pending: Uint8Array = new Uint8Array(0);

  private constructor(files: OpenFiles, path: string, sizes: IndexFileSizes, startPosition: number, slots: Uint32Array | null) {
    this.#files = files;
    this.path = path;
    this.sizes = sizes;
    this.startPosition = startPosition;
    this.coveredPosition = startPosition;
    this.#syncedPosition = startPosition;
    this.#slots = slots;
  }

  static make(files: OpenFiles, path: string, sizes: IndexFileSizes, startPosition: number): IndexFile {
    return new IndexFile(files, path, sizes, startPosition, new Uint32Array(sizes.slots));
  }

  /** Reads the header and, of a file that is not full, the items. @throws DamagedIndexError */
  static async load(files: OpenFiles, path: string): Promise<IndexFile> {
    const header = new Uint8Array(HEADER_BYTES);
    await files.read(path, header, 0);
    if (readU32(header, Header.checksum) !== shortCrc32(header, 0, Header.checksum)) throw new DamagedIndexError(`${path}: header`);
    if (readU32(header, Header.magic) !== MAGIC || readU32(header, Header.version) !== VERSION) {
      throw new DamagedIndexError(`${path}: another format`);
    }
    const sizes = { slots: readU32(header, Header.slots), capacity: readU32(header, Header.capacity) };
    const isSealed = readU32(header, Header.sealed) === 1;
    const startPosition = readU53(header, Header.startPosition);
    const loaded = new IndexFile(files, path, sizes, startPosition, isSealed ? null : new Uint32Array(sizes.slots));
    loaded.beginTimeMs = readU53(header, Header.beginTimeMs);
    loaded.endTimeMs = readU53(header, Header.endTimeMs);
    loaded.itemCount = readU32(header, Header.itemCount);
    loaded.#flushedItems = loaded.itemCount;
    loaded.coveredPosition = readU53(header, Header.coveredPosition);
    loaded.#syncedPosition = readU53(header, Header.syncedPosition);
    loaded.#syncedItems = readU32(header, Header.syncedItems);
    if (!isSealed) await loaded.#loadItems();
    return loaded;
  }

  get isFull(): boolean {
    return this.#slots === null || this.itemCount >= this.sizes.capacity;
  }

  get isSealed(): boolean {
    return this.#slots === null;
  }

  get unflushedItems(): number {
    return this.itemCount - this.#flushedItems;
  }

  /** Has this file a place for an item of that time? */
  accepts(logTimeMs: number): boolean {
    return !this.isFull && (this.itemCount === 0 || logTimeMs - this.beginTimeMs <= MAX_TIME_DELTA_MS);
  }

  put(hash: number, position: number, logTimeMs: number): void {
    const slots = this.#slots;
    assert(slots !== null && this.accepts(logTimeMs), 'an index file that is not full');
    if (this.itemCount === 0) this.beginTimeMs = logTimeMs;
    this.endTimeMs = Math.max(this.endTimeMs, logTimeMs);
    const at = this.unflushedItems * ITEM_BYTES;
    if (at + ITEM_BYTES > this.#pending.length) this.#grow();
    const bytes = this.#pending;
    const slot = hash % this.sizes.slots;
    writeU32(bytes, at + Item.hash, hash);
    writeU53(bytes, at + Item.position, position);
    writeU32(bytes, at + Item.timeDeltaMs, logTimeMs - this.beginTimeMs);
    writeU32(bytes, at + Item.previous, slots[slot] as number);
    writeU32(bytes, at + Item.checksum, shortCrc32(bytes, at, at + Item.checksum));
    this.itemCount++;
    // Item numbers count from 1: 0 ends a chain.
    slots[slot] = this.itemCount;
  }

  #grow(): void {
    const grown = new Uint8Array(Math.max(2 * this.#pending.length, FIRST_ITEMS * ITEM_BYTES));
    grown.set(this.#pending);
    this.#pending = grown;
  }

  /**
   * Writes items of entries before `durablePosition`, then the header; the slots once the file is `complete` (no further item).
   * @param coveredPosition what the header may promise
   */
  async flush(durablePosition: number, coveredPosition: number, complete: boolean): Promise<void> {
    let items = this.unflushedItems;
    while (items > 0 && readU53(this.#pending, (items - 1) * ITEM_BYTES + Item.position) >= durablePosition) items--;
    const part = this.#pending.slice(0, items * ITEM_BYTES);
    const seal = complete && this.#slots !== null && items === this.unflushedItems ? this.#slots : null;
    const flushedItems = this.#flushedItems + items;
    await this.#files.use(this.path, true, async (file) => {
      if (part.length > 0) await file.write(part, HEADER_BYTES + this.#flushedItems * ITEM_BYTES);
      if (seal !== null) {
        await file.write(new Uint8Array(seal.buffer), HEADER_BYTES + this.sizes.capacity * ITEM_BYTES);
        // A lost slot cannot be told from an empty one: the header may speak of slots only when they are stable.
        await file.sync();
        this.#syncedPosition = coveredPosition;
        this.#syncedItems = flushedItems;
      }
      await file.write(this.#encodeHeader(flushedItems, coveredPosition, seal !== null), 0);
    });
    this.#pending.copyWithin(0, part.length, this.unflushedItems * ITEM_BYTES);
    this.#flushedItems = flushedItems;
    this.coveredPosition = coveredPosition;
    if (seal !== null) {
      this.#slots = null;
      this.#pending = new Uint8Array(0);
    }
  }

  async sync(): Promise<void> {
    const covered = this.coveredPosition;
    const items = this.#flushedItems;
    await this.#files.use(this.path, false, (file) => file.sync());
    // The header says so at the next flush: until then the one on disk speaks of nothing later.
    this.#syncedPosition = covered;
    this.#syncedItems = items;
  }

  #encodeHeader(itemCount: number, coveredPosition: number, sealed: boolean): Uint8Array {
    const bytes = new Uint8Array(HEADER_BYTES);
    writeU32(bytes, Header.magic, MAGIC);
    writeU32(bytes, Header.version, VERSION);
    writeU53(bytes, Header.startPosition, this.startPosition);
    writeU53(bytes, Header.coveredPosition, coveredPosition);
    writeU53(bytes, Header.beginTimeMs, this.beginTimeMs);
    writeU53(bytes, Header.endTimeMs, this.endTimeMs);
    writeU32(bytes, Header.itemCount, itemCount);
    writeU32(bytes, Header.slots, this.sizes.slots);
    writeU32(bytes, Header.capacity, this.sizes.capacity);
    writeU32(bytes, Header.sealed, sealed ? 1 : 0);
    writeU53(bytes, Header.syncedPosition, this.#syncedPosition);
    writeU32(bytes, Header.syncedItems, this.#syncedItems);
    writeU32(bytes, Header.checksum, shortCrc32(bytes, 0, Header.checksum));
    return bytes;
  }

  /**
   * Walks the chain of `hash`, newest first, from the newest item of an entry before `beforePosition`, and calls `take` for each
   * of its items until that says false.
   * @param maxSteps items looked at, those of other hashes in the chain included
   * @throws DamagedIndexError
   */
  async walk(hash: number, maxSteps: number, take: (found: Found) => boolean, beforePosition = Number.MAX_SAFE_INTEGER): Promise<Walked> {
    const slot = hash % this.sizes.slots;
    let number = await this.#newestBefore(slot, beforePosition);
    let steps = 0;
    let position = Number.MAX_SAFE_INTEGER;
    while (number !== 0 && steps < maxSteps) {
      const item = await this.#item(number);
      const itemHash = readU32(item, Item.hash);
      const previous = readU32(item, Item.previous);
      if (itemHash % this.sizes.slots !== slot || previous >= number) throw new DamagedIndexError(`${this.path}: chain of slot ${slot}`);
      steps++;
      position = readU53(item, Item.position);
      if (itemHash === hash) {
        const logTimeMs = this.beginTimeMs + readU32(item, Item.timeDeltaMs);
        if (!take({ position, logTimeMs })) return { steps, restBefore: null };
      }
      number = previous;
    }
    return { steps, restBefore: number === 0 ? null : position + 1 };
  }

  /** Number of the newest item of a slot among those of entries before `position`; 0 = none. */
  async #newestBefore(slot: number, position: number): Promise<number> {
    if (this.itemCount === 0 || (await this.#positionOf(this.itemCount)) < position) return this.#slot(slot);
    let low = 0;
    let high = this.itemCount - 1;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((await this.#positionOf(middle + 1)) >= position) high = middle;
      else low = middle + 1;
    }
    // The chain cannot be entered in the middle by its head. Who comes back here left a long chain, so its next item is near.
    for (let end = low; end > 0; ) {
      const first = Math.max(0, end - SCAN_ITEMS);
      const items = await this.#items(first, end - first);
      for (let at = items.length - ITEM_BYTES; at >= 0; at -= ITEM_BYTES) {
        if (readU32(items, at + Item.hash) % this.sizes.slots === slot) return first + at / ITEM_BYTES + 1;
      }
      end = first;
    }
    return 0;
  }

  async #positionOf(number: number): Promise<number> {
    return readU53(await this.#item(number), Item.position);
  }

  /** Items, from `first` counted from 0; a copy. */
  async #items(first: number, count: number): Promise<Uint8Array> {
    const flushed = Math.max(0, Math.min(count, this.#flushedItems - first));
    const from = (first + flushed - this.#flushedItems) * ITEM_BYTES;
    const unflushed = flushed === count ? null : this.#pending.slice(from, from + (count - flushed) * ITEM_BYTES);
    if (flushed === 0) return unflushed ?? new Uint8Array(0);
    const read = await this.#readItems(first, flushed);
    if (unflushed === null) return read;
    const all = new Uint8Array(count * ITEM_BYTES);
    all.set(read);
    all.set(unflushed, read.length);
    return all;
  }

  async #slot(slot: number): Promise<number> {
    if (this.#slots !== null) return this.#slots[slot] as number;
    const bytes = new Uint8Array(4);
    const at = HEADER_BYTES + this.sizes.capacity * ITEM_BYTES + slot * 4;
    const read = await this.#files.read(this.path, bytes, at);
    if (read !== 4) throw new DamagedIndexError(`${this.path}: shorter than it was`);
    return readU32(bytes, 0);
  }

  async #item(number: number): Promise<Uint8Array> {
    if (number > this.itemCount) throw new DamagedIndexError(`${this.path}: item ${number} of ${this.itemCount}`);
    return this.#items(number - 1, 1);
  }

  async #readItems(first: number, count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count * ITEM_BYTES);
    const read = await this.#files.read(this.path, bytes, HEADER_BYTES + first * ITEM_BYTES);
    if (read !== bytes.length) throw new DamagedIndexError(`${this.path}: shorter than it was`);
    for (let at = 0; at < bytes.length; at += ITEM_BYTES) {
      if (!itemIsWhole(bytes, at)) throw new DamagedIndexError(`${this.path}: item ${first + at / ITEM_BYTES + 1}`);
    }
    return bytes;
  }

  /** Of a file that is not sealed. Items that a crash of the machine took are cut; synced ones must be there. */
  async #loadItems(): Promise<void> {
    const whole = await this.#rebuildSlots(this.itemCount);
    if (whole === this.itemCount) return;
    if (whole < this.#syncedItems) throw new DamagedIndexError(`${this.path}: item ${whole + 1}`);
    this.itemCount = whole;
    this.#flushedItems = whole;
    this.coveredPosition = this.#syncedPosition;
  }

  /** Slots and end time of the first `items` items. @returns how many of them are whole: it stops at the first bad one */
  async #rebuildSlots(items: number): Promise<number> {
    const slots = new Uint32Array(this.sizes.slots);
    this.#slots = slots;
    this.endTimeMs = this.beginTimeMs;
    const block = new Uint8Array(Math.min(LOAD_ITEMS, items) * ITEM_BYTES);
    for (let first = 0; first < items; first += LOAD_ITEMS) {
      const wanted = block.subarray(0, Math.min(LOAD_ITEMS, items - first) * ITEM_BYTES);
      const read = await this.#files.read(this.path, wanted, HEADER_BYTES + first * ITEM_BYTES);
      for (let at = 0; at < wanted.length; at += ITEM_BYTES) {
        const number = first + at / ITEM_BYTES + 1;
        if (at + ITEM_BYTES > read || !itemIsWhole(wanted, at)) return number - 1;
        slots[readU32(wanted, at + Item.hash) % this.sizes.slots] = number;
        this.endTimeMs = Math.max(this.endTimeMs, this.beginTimeMs + readU32(wanted, at + Item.timeDeltaMs));
      }
    }
    return items;
  }

  /** Forgets the items of entries at and after `position`; the file takes new ones again. At start only: nothing is pending. */
  async truncateFrom(position: number): Promise<void> {
    assert(this.unflushedItems === 0, 'truncated at start only');
    let low = 0;
    let high = this.itemCount;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (readU53(await this.#readItems(middle, 1), Item.position) >= position) high = middle;
      else low = middle + 1;
    }
    if ((low < this.itemCount || this.#slots === null) && (await this.#rebuildSlots(low)) !== low) {
      throw new DamagedIndexError(`${this.path}: items before position ${position}`);
    }
    this.#syncedItems = Math.min(this.#syncedItems, low);
    this.#syncedPosition = Math.min(this.#syncedPosition, position);
    this.itemCount = low;
    this.#flushedItems = low;
    this.coveredPosition = Math.min(this.coveredPosition, position);
    // The header must not promise items that later ones will overwrite.
    await this.flush(position, this.coveredPosition, false);
  }
}
