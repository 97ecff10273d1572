import type { Clock } from '../../src/io/clock.ts';
import { type Disk, DiskError, type DiskFile, type OpenOptions } from '../../src/io/disk.ts';
import type { Random } from '../../src/io/random.ts';

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;
const NEVER = new Promise<never>(() => undefined);

export interface DiskOperation {
  readonly operation: 'open' | 'read' | 'write' | 'sync' | 'truncate' | 'rename' | 'remove' | 'syncDirectory' | 'mkdir';
  readonly path: string;
  readonly position: number;
  readonly sizeBytes: number;
  readonly bytes: Uint8Array | null;
  readonly durable: boolean;
}

export interface MemoryDiskOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Time until an operation completes, drawn for each. Default 0. */
  readonly latencyMs?: (operation: DiskOperation) => number;
  readonly capacityBytes?: number;
}

/** Sparse bytes: pages of zeros are not kept. */
class Pages {
  readonly #pages: Map<number, Uint8Array>;
  constructor(from?: Pages) {
    this.#pages = new Map(from === undefined ? [] : [...from.#pages].map(([at, page]) => [at, page.slice()]));
  }
  write(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.length; ) {
      const number = Math.floor((position + done) / PAGE_BYTES);
      const within = (position + done) % PAGE_BYTES;
      const part = bytes.subarray(done, done + PAGE_BYTES - within);
      const page = this.#pages.get(number);
      if (page !== undefined) page.set(part, within);
      else if (!isZero(part)) {
        const fresh = new Uint8Array(PAGE_BYTES);
        fresh.set(part, within);
        this.#pages.set(number, fresh);
      }
      done += part.length;
    }
  }
  read(into: Uint8Array, position: number): void {
    for (let done = 0; done < into.length; ) {
      const within = (position + done) % PAGE_BYTES;
      const size = Math.min(PAGE_BYTES - within, into.length - done);
      const page = this.#pages.get(Math.floor((position + done) / PAGE_BYTES));
      if (page === undefined) into.fill(0, done, done + size);
      else into.set(page.subarray(within, within + size), done);
      done += size;
    }
  }
  cut(sizeBytes: number): void {
    for (const number of this.#pages.keys()) if (number * PAGE_BYTES >= sizeBytes) this.#pages.delete(number);
    this.#pages.get(Math.floor(sizeBytes / PAGE_BYTES))?.fill(0, sizeBytes % PAGE_BYTES);
  }
}

interface Change {
  /** null: a truncation to `position`. */
  readonly bytes: Uint8Array | null;
  readonly position: number;
}

interface State {
  pages: Pages;
  sizeBytes: number;
}

class Inode {
  /** What reads see: the page cache. */
  cached: State = { pages: new Pages(), sizeBytes: 0 };
  stable: State = { pages: new Pages(), sizeBytes: 0 };
  /** Completed, not synced: a power failure may lose any sector of them. */
  unsynced: Change[] = [];
  /** Not completed. */
  flying = new Set<Change>();
}

function apply(state: State, change: Change): void {
  if (change.bytes === null) {
    state.pages.cut(change.position);
    state.sizeBytes = change.position;
  } else {
    state.pages.write(change.bytes, change.position);
    state.sizeBytes = Math.max(state.sizeBytes, change.position + change.bytes.length);
  }
}

/**
 * Files in memory with the failures of real ones. Deterministic: every choice is drawn from `random`, every completion comes from `clock`.
 * A power failure keeps what was synced, any sectors (512 B) of what was not, and a prefix of unsynced directory changes.
 */
export class MemoryDisk implements Disk {
  readonly #options: MemoryDiskOptions;
  #names = new Map<string, Inode>();
  #stableNames = new Map<string, Inode>();
  #directoryChanges: { readonly directory: string; change(names: Map<string, Inode>): void }[] = [];
  #boots = 1;
  /** Operations of an earlier life never complete. */
  #life = 0;
  capacityBytes: number;
  /** Looks at each operation as it starts; an errno name makes it fail. */
  fault: (operation: DiskOperation) => string | null = () => null;
  /** Which writes maxFlyingWrites counts. */
  countsAsFlying: (bytes: Uint8Array) => boolean = () => true;
  /** Writes that were in flight at once, at most. */
  maxFlyingWrites = 0;
  #flyingWrites = 0;

  constructor(options: MemoryDiskOptions) {
    this.#options = options;
    this.capacityBytes = options.capacityBytes ?? Number.MAX_SAFE_INTEGER;
  }

  /** Power failure. Whoever used the disk before gets no more answers. `keepSector`: default a fair coin for each. */
  crash(keepSector: () => boolean = () => (this.#options.random.u32() & 1) === 1): void {
    this.#endLife();
    this.#boots++;
    const kept = this.#directoryChanges.length === 0 ? 0 : this.#options.random.u32() % (this.#directoryChanges.length + 1);
    for (const { change } of this.#directoryChanges.slice(0, kept)) change(this.#stableNames);
    this.#directoryChanges = [];
    this.#names = new Map(this.#stableNames);
    for (const inode of new Set(this.#names.values())) {
      for (const change of [...inode.unsynced, ...inode.flying]) tear(inode.stable, change, keepSector);
      inode.unsynced = [];
      inode.flying.clear();
      inode.cached = { pages: new Pages(inode.stable.pages), sizeBytes: inode.stable.sizeBytes };
    }
  }

  /** The process dies, the machine goes on: what was written stays in the page cache, synced or not. */
  kill(keepSector: () => boolean = () => (this.#options.random.u32() & 1) === 1): void {
    this.#endLife();
    for (const inode of new Set(this.#names.values())) {
      for (const change of inode.flying) {
        const before = { pages: new Pages(inode.cached.pages), sizeBytes: inode.cached.sizeBytes };
        tear(inode.cached, change, keepSector);
        inode.unsynced.push(difference(before, inode.cached, change));
      }
      inode.flying.clear();
    }
  }

  #endLife(): void {
    this.#life++;
    this.#flyingWrites = 0;
  }

  /** Bytes as they would be read now. */
  peek(path: string, position = 0, sizeBytes?: number): Uint8Array {
    const { cached } = this.#inode(path);
    const bytes = new Uint8Array(sizeBytes ?? cached.sizeBytes - position);
    cached.pages.read(bytes, position);
    return bytes;
  }

  /** Damages: changes bytes on the medium, behind everybody's back. */
  poke(path: string, position: number, bytes: Uint8Array): void {
    const inode = this.#inode(path);
    for (const state of [inode.cached, inode.stable]) apply(state, { bytes: new Uint8Array(bytes), position });
  }

  /** A restored or cut file. */
  cut(path: string, sizeBytes: number): void {
    const inode = this.#inode(path);
    for (const state of [inode.cached, inode.stable]) apply(state, { bytes: null, position: sizeBytes });
  }

  /** Every file with its bytes: to see that nothing was touched. */
  dump(): Map<string, Uint8Array> {
    return new Map([...this.#names.keys()].sort().map((path) => [path, this.peek(path)]));
  }

  async open(path: string, options: OpenOptions): Promise<DiskFile> {
    await this.#do('open', path);
    let inode = this.#names.get(path);
    if (inode === undefined) {
      if (options.create !== true) throw new DiskError('ENOENT', 'open', path);
      inode = new Inode();
      const created = inode;
      this.#changeDirectory(path, (names) => names.set(path, created));
    }
    return this.#file(path, inode, options);
  }

  async mkdir(path: string): Promise<void> {
    await this.#do('mkdir', path);
  }

  async list(path: string): Promise<string[]> {
    await this.#do('open', path);
    const inside = [...this.#names.keys()].filter((name) => name.startsWith(`${path}/`)).map((name) => name.slice(path.length + 1));
    return [...new Set(inside.map((name) => name.split('/')[0] as string))].sort((a, b) => (a < b ? -1 : 1));
  }

  async exists(path: string): Promise<boolean> {
    await this.#do('open', path);
    return this.#names.has(path) || [...this.#names.keys()].some((name) => name.startsWith(`${path}/`));
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#do('rename', from);
    const inode = this.#inode(from);
    this.#changeDirectory(to, (names) => {
      names.delete(from);
      names.set(to, inode);
    });
  }

  async remove(path: string): Promise<void> {
    await this.#do('remove', path);
    const gone = [...this.#names.keys()].filter((name) => name === path || name.startsWith(`${path}/`));
    for (const name of gone) this.#changeDirectory(name, (names) => names.delete(name));
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#do('syncDirectory', path);
    const mine = this.#directoryChanges.filter(({ directory }) => directory === path);
    for (const { change } of mine) change(this.#stableNames);
    this.#directoryChanges = this.#directoryChanges.filter(({ directory }) => directory !== path);
  }

  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    return { freeBytes: Math.max(0, this.capacityBytes - this.#usedBytes()), totalBytes: this.capacityBytes };
  }

  async bootId(): Promise<string> {
    return `boot-${this.#boots}`;
  }

  allocateAligned(sizeBytes: number): Uint8Array {
    return new Uint8Array(sizeBytes);
  }

  #file(path: string, inode: Inode, options: OpenOptions): DiskFile {
    const durable = options.durable === true;
    return {
      path,
      alignmentBytes: durable ? PAGE_BYTES : 1,
      write: (bytes, position) => this.#write(path, inode, durable, bytes, position),
      read: async (into, position) => {
        await this.#do('read', path, position, into.length);
        const size = Math.max(0, Math.min(into.length, inode.cached.sizeBytes - position));
        inode.cached.pages.read(into.subarray(0, size), position);
        return size;
      },
      sync: async () => {
        const covered = inode.unsynced.length;
        try {
          await this.#do('sync', path);
        } catch (error) {
          // A failed fsync marks the pages clean: no later one writes them (FAULTS 2).
          inode.unsynced = [];
          throw error;
        }
        for (const change of inode.unsynced.splice(0, covered)) apply(inode.stable, change);
      },
      truncate: async (sizeBytes) => {
        await this.#do('truncate', path, sizeBytes);
        const change = { bytes: null, position: sizeBytes };
        apply(inode.cached, change);
        inode.unsynced.push(change);
      },
      sizeBytes: async () => {
        await this.#do('read', path);
        return inode.cached.sizeBytes;
      },
      close: () => this.#do('open', path),
    };
  }

  async #write(path: string, inode: Inode, durable: boolean, bytes: Uint8Array, position: number): Promise<void> {
    if (durable && (bytes.length % PAGE_BYTES !== 0 || position % PAGE_BYTES !== 0)) throw new DiskError('EINVAL', 'write', path);
    const grows = position + bytes.length - inode.cached.sizeBytes;
    const life = this.#life;
    const change = { bytes: new Uint8Array(bytes), position };
    inode.flying.add(change);
    const counted = this.countsAsFlying(bytes);
    if (counted) this.maxFlyingWrites = Math.max(this.maxFlyingWrites, ++this.#flyingWrites);
    try {
      await this.#do('write', path, position, bytes.length, bytes, durable);
    } catch (error) {
      tear(inode.cached, change, () => (this.#options.random.u32() & 1) === 1);
      throw error;
    } finally {
      if (counted && life === this.#life) this.#flyingWrites--;
      inode.flying.delete(change);
    }
    if (grows > 0 && this.#usedBytes() + grows > this.capacityBytes) throw new DiskError('ENOSPC', 'write', path);
    // The caller promised not to change the bytes meanwhile.
    if (Buffer.compare(change.bytes, bytes) !== 0) throw new Error(`bytes changed during a write of ${path} at ${position}`);
    apply(inode.cached, change);
    if (!durable) {
      inode.unsynced.push(change);
      return;
    }
    // A synced write brings the size of the file with it, so the truncations before it too.
    for (const earlier of inode.unsynced) if (earlier.bytes === null) apply(inode.stable, earlier);
    inode.unsynced = inode.unsynced.filter((earlier) => earlier.bytes !== null);
    apply(inode.stable, change);
  }

  /** Takes its time, then fails when a fault says so. Never ends when the machine went down meanwhile. */
  async #do(
    operation: DiskOperation['operation'],
    path: string,
    position = 0,
    sizeBytes = 0,
    bytes: Uint8Array | null = null,
    durable = false,
  ): Promise<void> {
    const life = this.#life;
    const what = { operation, path, position, sizeBytes, bytes, durable };
    const code = this.fault(what);
    await new Promise<void>((resolve) => this.#options.clock.setTimer(this.#options.latencyMs?.(what) ?? 0, resolve));
    if (life !== this.#life) await NEVER;
    if (code !== null) throw new DiskError(code, operation, path);
  }

  #changeDirectory(path: string, change: (names: Map<string, Inode>) => void): void {
    change(this.#names);
    this.#directoryChanges.push({ directory: path.slice(0, path.lastIndexOf('/')), change });
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw new DiskError('ENOENT', 'open', path);
    return inode;
  }

  #usedBytes(): number {
    let total = 0;
    for (const inode of new Set(this.#names.values())) total += inode.cached.sizeBytes;
    return total;
  }
}

const ZEROS = new Uint8Array(PAGE_BYTES);

function isZero(part: Uint8Array): boolean {
  return Buffer.compare(part, ZEROS.subarray(0, part.length)) === 0;
}

/** Applies any sectors of an unfinished change. A file that was to grow has grown once one of them arrived. */
function tear(state: State, change: Change, keepSector: () => boolean): void {
  if (change.bytes === null) {
    if (keepSector()) apply(state, change);
    return;
  }
  for (let at = 0; at < change.bytes.length; at += SECTOR_BYTES) {
    if (keepSector()) apply(state, { bytes: change.bytes.subarray(at, at + SECTOR_BYTES), position: change.position + at });
  }
}

/** What of `change` arrived in `after`. */
function difference(before: State, after: State, change: Change): Change {
  if (change.bytes === null) return { bytes: null, position: Math.min(before.sizeBytes, after.sizeBytes) };
  const size = Math.max(0, Math.min(change.bytes.length, after.sizeBytes - change.position));
  const bytes = new Uint8Array(size);
  after.pages.read(bytes, change.position);
  return { bytes, position: change.position };
}
