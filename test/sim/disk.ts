import { type Disk, DiskError, type DiskFile, type OpenOptions } from '../../src/io/disk.ts';
import { Inode, Names, parentOf, SECTOR_BYTES } from './disk-image.ts';
import type { Prng } from './prng.ts';
import type { Death, SimProcess } from './process.ts';
import { EventKind, type SimScheduler } from './scheduler.ts';

/** Faults of one disk; the fault schedule changes them while the run goes on. */
export interface DiskFaults {
  /** Mean of a durable write or sync, ms. */
  latencyMs: number;
  /** Nothing completes before this time, µs. */
  frozenUntilUs: number;
  /** Probability that a write, sync, truncate or rename fails with EIO. */
  errorRate: number;
  /** No more bytes may be allocated: ENOSPC. */
  full: boolean;
}

/** Told about bytes that became durable: the probe that checks that nothing is acknowledged before. */
export interface DiskWatcher {
  durable(disk: SimDisk, path: string, bytes: Uint8Array, position: number): void;
  crashed(disk: SimDisk): void;
}

interface InFlight {
  readonly inode: Inode;
  readonly bytes: Uint8Array;
  readonly position: number;
}

const BLOCK_BYTES = 4096;
const BYTES_PER_MS = 500_000;

/** The disk of one machine. It outlives its processes. */
export class SimDisk {
  readonly name: string;
  readonly #scheduler: SimScheduler;
  readonly #prng: Prng;
  readonly #names = new Names();
  readonly #inFlight = new Set<InFlight>();
  readonly #directories = new Set<string>(['/']);
  readonly faults: DiskFaults = { latencyMs: 0.3, frozenUntilUs: 0, errorRate: 0, full: false };
  readonly capacityBytes: number;
  watcher: DiskWatcher | null = null;
  #boots = 1;

  constructor(name: string, scheduler: SimScheduler, capacityBytes = 4 * 1024 ** 3) {
    this.name = name;
    this.#scheduler = scheduler;
    this.#prng = scheduler.prng.fork();
    this.capacityBytes = capacityBytes;
  }

  /** The disk as one life of a process sees it: its calls end with it. */
  mount(owner: SimProcess): Disk {
    return new MountedDisk(this, owner, owner.life);
  }

  /** Killed: the page cache stays, writes in flight are torn. Power loss: everything unsynced is lost or torn, too. */
  crash(death: Death): void {
    for (const { inode, bytes, position } of this.#inFlight) inode.tear(bytes, position, this.#prng);
    this.#inFlight.clear();
    if (death === 'power') {
      this.#names.lose(this.#prng);
      this.#boots++;
    }
    this.watcher?.crashed(this);
  }

  /** As after a power loss that takes everything that may be lost. null: no such file then. */
  durableBytes(path: string): Uint8Array | null {
    return this.#names.durable(path)?.durable.toBytes() ?? null;
  }

  readDurable(path: string, position: number, sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(sizeBytes);
    const read = this.#names.visible.get(path)?.durable.read(bytes, position) ?? 0;
    return bytes.subarray(0, read);
  }

  /** Would the file be found under this name after a power loss? */
  nameIsDurable(path: string): boolean {
    return this.#names.durable(path) !== undefined && this.#names.durable(path) === this.#names.visible.get(path);
  }

  visibleBytes(path: string): Uint8Array | null {
    return this.#names.visible.get(path)?.visible.toBytes() ?? null;
  }

  /** @returns 0 when there is no such file */
  visibleSize(path: string): number {
    return this.#names.visible.get(path)?.visible.sizeBytes ?? 0;
  }

  /** A part of a file as readers see it: fewer bytes at its end. */
  peek(path: string, position: number, sizeBytes: number): Uint8Array {
    const bytes = new Uint8Array(Math.max(0, Math.min(sizeBytes, this.visibleSize(path) - position)));
    this.#names.visible.get(path)?.visible.read(bytes, position);
    return bytes;
  }

  exists(path: string): boolean {
    return this.#names.visible.has(path);
  }

  /** Paths of all files under `directory`, sorted. */
  paths(directory: string): string[] {
    return [...this.#names.visible.keys()].filter((path) => path.startsWith(`${directory}/`)).sort((a, b) => (a < b ? -1 : 1));
  }

  /** Bit rot: changes bytes that lie on the platter, behind everybody's back. */
  damage(path: string, position: number, change: (bytes: Uint8Array) => void, sizeBytes = SECTOR_BYTES): boolean {
    const inode = this.#names.visible.get(path);
    if (inode === undefined) return false;
    for (const image of [inode.visible, inode.durable]) {
      const bytes = new Uint8Array(Math.min(sizeBytes, Math.max(0, image.sizeBytes - position)));
      image.read(bytes, position);
      change(bytes);
      image.write(bytes, position);
    }
    return true;
  }

  /** A latent sector error: reads of it fail until it is written again. */
  spoilSector(path: string, position: number): void {
    this.#names.visible.get(path)?.spoilSector(Math.floor(position / SECTOR_BYTES));
  }

  /** Bytes as they lie on the platter, and whether they can be read; null when the file is not there or shorter. */
  platter(path: string, position: number, sizeBytes: number): { readonly bytes: Uint8Array; readonly readable: boolean } | null {
    const inode = this.#names.visible.get(path);
    if (inode === undefined) return null;
    const bytes = new Uint8Array(sizeBytes);
    if (inode.durable.read(bytes, position) < sizeBytes) return null;
    return { bytes, readable: inode.readable(position, sizeBytes) };
  }

  /** false: the sector of that byte cannot be read. */
  isReadable(path: string, position: number): boolean {
    return this.#names.visible.get(path)?.readable(position, 1) ?? true;
  }

  /** The file loses its end, behind everybody's back. */
  shorten(path: string, sizeBytes: number): void {
    const inode = this.#names.visible.get(path);
    inode?.visible.truncate(sizeBytes);
    inode?.durable.truncate(sizeBytes);
  }

  // ---- what a mounted disk calls -----------------------------------------------------------------------------------

  get names(): Names {
    return this.#names;
  }

  get directories(): Set<string> {
    return this.#directories;
  }

  get bootId(): string {
    return `${this.name}-boot-${this.#boots}`;
  }

  usedBytes(): number {
    let used = 0;
    for (const inode of this.#names.visible.values()) used += inode.visible.sizeBytes;
    return used;
  }

  /** @returns ms until an operation on `sizeBytes` completes */
  #delayMs(sizeBytes: number, durable: boolean): number {
    const base = durable ? this.faults.latencyMs : 0.02;
    const frozenMs = Math.max(0, (this.faults.frozenUntilUs - this.#scheduler.nowUs) / 1000);
    return frozenMs + base * (0.5 + this.#prng.exponential(0.5)) + sizeBytes / BYTES_PER_MS;
  }

  /** Runs `act` when the simulated operation completes; an exception of it rejects. */
  operate<T>(owner: SimProcess, sizeBytes: number, durable: boolean, act: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#scheduler.schedule(owner, this.#delayMs(sizeBytes, durable) * 1000, EventKind.disk, () => {
        if (this.faults.frozenUntilUs > this.#scheduler.nowUs) {
          this.operate(owner, sizeBytes, durable, act).then(resolve, reject);
          return;
        }
        try {
          resolve(act());
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }

  write(owner: SimProcess, path: string, inode: Inode, bytes: Uint8Array, position: number, durable: boolean): Promise<void> {
    const inFlight: InFlight = { inode, bytes, position };
    this.#inFlight.add(inFlight);
    return this.operate(owner, bytes.length, durable, () => {
      this.#inFlight.delete(inFlight);
      try {
        this.#refuse('write', path);
      } catch (error) {
        // What a failed write left behind is anybody's guess.
        inode.tear(bytes, position, this.#prng);
        throw error;
      }
      const grows = position + bytes.length - inode.visible.sizeBytes;
      if (grows > 0 && (this.faults.full || this.usedBytes() + grows > this.capacityBytes)) throw new DiskError('ENOSPC', 'write', path);
      this.#scheduler.trace.mixBytes(bytes);
      if (durable) {
        inode.writeDurable(bytes, position);
        this.watcher?.durable(this, path, bytes, position);
      } else inode.writeBuffered(bytes, position);
    });
  }

  sync(owner: SimProcess, path: string, inode: Inode): Promise<void> {
    const covered = inode.pendingCount;
    return this.operate(owner, 0, true, () => {
      this.#refuse('fdatasync', path);
      inode.sync(covered);
    });
  }

  /** Throws EIO at the configured rate. */
  #refuse(operation: string, path: string): void {
    if (this.faults.errorRate > 0 && this.#prng.chance(this.faults.errorRate)) {
      this.#scheduler.say(this.name, `disk: EIO from ${operation} ${path}`);
      throw new DiskError('EIO', operation, path);
    }
  }

  change<T>(owner: SimProcess, operation: string, path: string, act: () => T): Promise<T> {
    return this.operate(owner, 0, false, () => {
      this.#refuse(operation, path);
      return act();
    });
  }

  syncDirectory(owner: SimProcess, path: string): Promise<void> {
    return this.operate(owner, 0, true, () => {
      this.#refuse('fsync', path);
      this.#names.sync(path);
    });
  }
}

const normal = (path: string): string => {
  const trimmed = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
  return trimmed.startsWith('/') ? trimmed : `/${trimmed.replace(/^\.\//, '')}`;
};

class MountedDisk implements Disk {
  readonly #disk: SimDisk;
  readonly #owner: SimProcess;
  readonly #life: number;

  constructor(disk: SimDisk, owner: SimProcess, life: number) {
    this.#disk = disk;
    this.#owner = owner;
    this.#life = life;
  }

  /** A call out of a life that has ended goes nowhere, like everything else of it. */
  #dead<T>(): Promise<T> | null {
    return this.#owner.life === this.#life ? null : new Promise<T>(() => {});
  }

  open(path: string, options: OpenOptions): Promise<DiskFile> {
    const name = normal(path);
    return (
      this.#dead<DiskFile>() ??
      this.#disk.operate<DiskFile>(this.#owner, 0, false, () => {
        let inode = this.#disk.names.visible.get(name);
        if (inode === undefined) {
          if (options.create !== true) throw new DiskError('ENOENT', 'open', path);
          if (!this.#disk.directories.has(parentOf(name))) throw new DiskError('ENOENT', 'open', path);
          if (this.#disk.faults.full) throw new DiskError('ENOSPC', 'open', path);
          inode = new Inode();
          this.#disk.names.create(name, inode);
        }
        return new SimFile(this.#disk, this.#owner, this.#life, name, inode, options);
      })
    );
  }

  mkdir(path: string): Promise<void> {
    return (
      this.#dead<void>() ??
      this.#disk.change(this.#owner, 'mkdir', path, () => {
        for (let at = normal(path); at !== '/'; at = parentOf(at)) this.#disk.directories.add(at);
      })
    );
  }

  list(path: string): Promise<string[]> {
    const prefix = normal(path) === '/' ? '/' : `${normal(path)}/`;
    return (
      this.#dead<string[]>() ??
      this.#disk.operate(this.#owner, 0, false, () => {
        const names = new Set<string>();
        for (const known of [...this.#disk.names.visible.keys(), ...this.#disk.directories]) {
          if (known.startsWith(prefix) && known.length > prefix.length) names.add(known.slice(prefix.length).split('/')[0] as string);
        }
        return [...names].sort();
      })
    );
  }

  exists(path: string): Promise<boolean> {
    const name = normal(path);
    return (
      this.#dead<boolean>() ??
      this.#disk.operate(this.#owner, 0, false, () => this.#disk.names.visible.has(name) || this.#disk.directories.has(name))
    );
  }

  rename(from: string, to: string): Promise<void> {
    return (
      this.#dead<void>() ??
      this.#disk.change(this.#owner, 'rename', from, () => {
        const [source, target] = [normal(from), normal(to)];
        // A directory whose own rename a power loss undid is known by its files alone.
        const isThere = this.#disk.directories.has(source) || this.#disk.names.visible.has(source) || this.#disk.paths(source).length > 0;
        if (!isThere) throw new DiskError('ENOENT', 'rename', from);
        for (const directory of [...this.#disk.directories]) {
          if (directory === source || directory.startsWith(`${source}/`)) {
            this.#disk.directories.delete(directory);
            this.#disk.directories.add(target + directory.slice(source.length));
          }
        }
        this.#disk.names.rename(source, target);
      })
    );
  }

  remove(path: string): Promise<void> {
    return (
      this.#dead<void>() ??
      this.#disk.change(this.#owner, 'remove', path, () => {
        const name = normal(path);
        this.#disk.names.remove(name);
        for (const directory of [...this.#disk.directories]) {
          if (directory === name || directory.startsWith(`${name}/`)) this.#disk.directories.delete(directory);
        }
      })
    );
  }

  syncDirectory(path: string): Promise<void> {
    return this.#dead<void>() ?? this.#disk.syncDirectory(this.#owner, normal(path));
  }

  space(): Promise<{ freeBytes: number; totalBytes: number }> {
    return (
      this.#dead<{ freeBytes: number; totalBytes: number }>() ??
      this.#disk.operate(this.#owner, 0, false, () => {
        const totalBytes = this.#disk.capacityBytes;
        return { freeBytes: this.#disk.faults.full ? 0 : Math.max(0, totalBytes - this.#disk.usedBytes()), totalBytes };
      })
    );
  }

  bootId(): Promise<string> {
    return this.#dead<string>() ?? this.#disk.operate(this.#owner, 0, false, () => this.#disk.bootId);
  }

  allocateAligned(sizeBytes: number): Uint8Array {
    return new Uint8Array(sizeBytes);
  }
}

class SimFile implements DiskFile {
  readonly path: string;
  readonly alignmentBytes: number;
  readonly #disk: SimDisk;
  readonly #owner: SimProcess;
  readonly #life: number;
  readonly #inode: Inode;
  readonly #durable: boolean;
  readonly #writable: boolean;
  #open = true;

  constructor(disk: SimDisk, owner: SimProcess, life: number, path: string, inode: Inode, options: OpenOptions) {
    this.path = path;
    this.#disk = disk;
    this.#owner = owner;
    this.#life = life;
    this.#inode = inode;
    this.#durable = options.durable === true;
    this.#writable = options.access === 'readwrite';
    this.alignmentBytes = this.#durable ? BLOCK_BYTES : 1;
  }

  /** What the real interface would refuse is refused here, loudly. */
  #check<T>(operation: string, writes: boolean): Promise<T> | null {
    if (this.#owner.life !== this.#life) return new Promise<T>(() => {});
    if (!this.#open) return Promise.reject(new DiskError('EBADF', operation, this.path));
    if (writes && !this.#writable) return Promise.reject(new DiskError('EBADF', operation, this.path));
    return null;
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    if (this.#durable && (bytes.length % BLOCK_BYTES !== 0 || position % BLOCK_BYTES !== 0)) {
      return Promise.reject(new DiskError('EINVAL', 'write', this.path));
    }
    return this.#check<void>('write', true) ?? this.#disk.write(this.#owner, this.path, this.#inode, bytes, position, this.#durable);
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return (
      this.#check<number>('read', false) ??
      this.#disk.operate(this.#owner, into.length, false, () => {
        if (!this.#inode.readable(position, into.length)) throw new DiskError('EIO', 'read', this.path);
        return this.#inode.visible.read(into, position);
      })
    );
  }

  sync(): Promise<void> {
    return this.#check<void>('fdatasync', false) ?? this.#disk.sync(this.#owner, this.path, this.#inode);
  }

  truncate(sizeBytes: number): Promise<void> {
    return (
      this.#check<void>('truncate', true) ?? this.#disk.change(this.#owner, 'truncate', this.path, () => this.#inode.truncate(sizeBytes))
    );
  }

  sizeBytes(): Promise<number> {
    return this.#check<number>('stat', false) ?? this.#disk.operate(this.#owner, 0, false, () => this.#inode.visible.sizeBytes);
  }

  close(): Promise<void> {
    this.#open = false;
    return this.#check<void>('close', false)?.catch(() => {}) ?? Promise.resolve();
  }
}
