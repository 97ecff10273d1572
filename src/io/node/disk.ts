import * as fs from 'node:fs';
import { dirname, resolve } from 'node:path';
import { assert } from '../../base/assert.ts';
import { alignUp } from '../../base/bytes.ts';
import { type Disk, DiskError, type DiskFile, type OpenOptions } from '../disk.ts';

/** Unit of direct writes; every file system that has them accepts it. */
const ALIGNMENT_BYTES = 4096;
/** Each WebAssembly.Memory reserves gigabytes of address space (not of memory), so there are few of them and each is carved up. */
const POOL_CHUNK_BYTES = 128 * 1024 * 1024;
const WASM_PAGE_BYTES = 65536;

/** How a durable write becomes durable in a directory, best first. */
export type DurableMode = 'direct' | 'dsync' | 'fdatasync';

const { O_CREAT, O_DIRECT, O_DSYNC, O_RDONLY, O_RDWR } = fs.constants;
const FLAGS: Record<DurableMode, number> = { direct: (O_DIRECT ?? 0) | (O_DSYNC ?? 0), dsync: O_DSYNC ?? 0, fdatasync: 0 };

function diskError(error: NodeJS.ErrnoException, operation: string, path: string): DiskError {
  return new DiskError(error.code ?? 'EUNKNOWN', operation, path, { cause: error });
}

/** Wraps one callback call; a promise per file operation costs nothing beside the operation itself. */
function call<T>(
  operation: string,
  path: string,
  start: (done: (error: NodeJS.ErrnoException | null, value: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null ? resolve(value) : reject(diskError(error, operation, path))));
  });
}

function act(operation: string, path: string, start: (done: (error: NodeJS.ErrnoException | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error === null ? resolve() : reject(diskError(error, operation, path))));
  });
}

class NodeDiskFile implements DiskFile {
  readonly path: string;
  readonly alignmentBytes: number;
  readonly #fd: number;
  /** A direct descriptor asks for alignment of reads too, and skips the page cache: reads have a descriptor of their own. */
  readonly #readFd: number;
  readonly #syncEachWrite: boolean;

  constructor(path: string, fd: number, readFd: number, mode: DurableMode | null) {
    this.path = path;
    this.#fd = fd;
    this.#readFd = readFd;
    this.#syncEachWrite = mode === 'fdatasync';
    this.alignmentBytes = mode === 'direct' ? ALIGNMENT_BYTES : 1;
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    // tmpfs takes direct writes without asking for alignment: checked here, so that a fault shows everywhere.
    assert(
      this.alignmentBytes === 1 || (bytes.byteOffset | bytes.length | position) % this.alignmentBytes === 0,
      `write not aligned: ${bytes.byteOffset} ${bytes.length} ${position}`,
    );
    return new Promise((resolve, reject) => this.#writeFrom(bytes, 0, position, resolve, reject));
  }

  #writeFrom(bytes: Uint8Array, done: number, position: number, resolve: () => void, reject: (error: DiskError) => void): void {
    fs.write(this.#fd, bytes, done, bytes.length - done, position + done, (error, written) => {
      if (error !== null) {
        reject(diskError(error, 'write', this.path));
        return;
      }
      const total = done + written;
      if (total < bytes.length) {
        // A full disk gives a short write without an error (FAULTS 3); the next attempt names it. Direct writes go on at a whole block.
        const next = total - (total % this.alignmentBytes);
        if (next === done) reject(new DiskError('EIO', 'short write', this.path));
        else this.#writeFrom(bytes, next, position, resolve, reject);
      } else if (this.#syncEachWrite) {
        this.sync().then(resolve, reject);
      } else {
        resolve();
      }
    });
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let total = 0;
    while (total < into.length) {
      const from = total;
      const got = await call<number>('read', this.path, (done) =>
        fs.read(this.#readFd, into, from, into.length - from, position + from, done),
      );
      if (got === 0) break;
      total += got;
    }
    return total;
  }

  sync(): Promise<void> {
    return act('fdatasync', this.path, (done) => fs.fdatasync(this.#fd, done));
  }

  truncate(sizeBytes: number): Promise<void> {
    return act('ftruncate', this.path, (done) => fs.ftruncate(this.#fd, sizeBytes, done));
  }

  async sizeBytes(): Promise<number> {
    return (await call<fs.Stats>('fstat', this.path, (done) => fs.fstat(this.#fd, done))).size;
  }

  async close(): Promise<void> {
    if (this.#readFd !== this.#fd) await act('close', this.path, (done) => fs.close(this.#readFd, done));
    await act('close', this.path, (done) => fs.close(this.#fd, done));
  }
}

/** The one thing asked of it here; the compiler's libraries have it only together with the whole of the DOM. */
declare const WebAssembly: {
  readonly Memory: new (pages: { readonly initial: number; readonly maximum: number }) => { readonly buffer: ArrayBuffer };
};

let pool: { bytes: Uint8Array; usedBytes: number } | null = null;

/** WebAssembly memory begins on a page boundary, which no other memory of JavaScript promises. */
function allocateFromPool(sizeBytes: number): Uint8Array {
  const size = alignUp(sizeBytes, ALIGNMENT_BYTES);
  if (pool === null || pool.usedBytes + size > pool.bytes.length) {
    const pages = Math.ceil(Math.max(size, POOL_CHUNK_BYTES) / WASM_PAGE_BYTES);
    // Never grown: growing detaches the views that are out already.
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    pool = { bytes: new Uint8Array(memory.buffer), usedBytes: 0 };
  }
  const at = pool.usedBytes;
  pool.usedBytes += size;
  return pool.bytes.subarray(at, at + sizeBytes);
}

export interface NodeDiskOptions {
  /** Relative paths are below it. Default: the working directory. */
  readonly root?: string;
  /** Instead of detecting it: tests of the fallbacks. */
  readonly durableMode?: DurableMode;
}

/** Files of the operating system. */
export class NodeDisk implements Disk {
  readonly #root: string;
  readonly #forcedMode: DurableMode | undefined;
  readonly #modes = new Map<string, Promise<DurableMode>>();
  #probes = 0;

  constructor(options: NodeDiskOptions = {}) {
    this.#root = resolve(options.root ?? '.');
    this.#forcedMode = options.durableMode;
  }

  async open(path: string, options: OpenOptions): Promise<DiskFile> {
    const full = this.#resolve(path);
    const mode = options.durable === true ? await this.durableMode(dirname(full)) : null;
    const access = options.access === 'read' ? O_RDONLY : O_RDWR;
    const flags = access | (options.create === true ? O_CREAT : 0) | (mode === null ? 0 : FLAGS[mode]);
    const fd = await call<number>('open', full, (done) => fs.open(full, flags, 0o644, done));
    if (mode !== 'direct') return new NodeDiskFile(full, fd, fd, mode);
    try {
      const readFd = await call<number>('open', full, (done) => fs.open(full, O_RDONLY, done));
      return new NodeDiskFile(full, fd, readFd, mode);
    } catch (error) {
      await act('close', full, (done) => fs.close(fd, done));
      throw error;
    }
  }

  /** Found by an open and an aligned write, once per directory: file systems refuse at one or the other. */
  durableMode(directory: string): Promise<DurableMode> {
    if (this.#forcedMode !== undefined) return Promise.resolve(this.#forcedMode);
    const full = this.#resolve(directory);
    let mode = this.#modes.get(full);
    if (mode === undefined) {
      mode = this.#detect(full);
      this.#modes.set(full, mode);
      mode.catch(() => this.#modes.delete(full));
    }
    return mode;
  }

  async #detect(directory: string): Promise<DurableMode> {
    if (O_DSYNC === undefined) return 'fdatasync';
    if (O_DIRECT !== undefined && (await this.#probe(directory, 'direct'))) return 'direct';
    return (await this.#probe(directory, 'dsync')) ? 'dsync' : 'fdatasync';
  }

  async #probe(directory: string, mode: DurableMode): Promise<boolean> {
    const path = `${directory}/.probe-${process.pid}-${this.#probes++}`;
    const block = allocateFromPool(ALIGNMENT_BYTES);
    try {
      const fd = await call<number>('open', path, (done) => fs.open(path, O_RDWR | O_CREAT | FLAGS[mode], 0o644, done));
      try {
        await call<number>('write', path, (done) => fs.write(fd, block, 0, block.length, 0, done));
      } finally {
        await act('close', path, (done) => fs.close(fd, done));
      }
      return true;
    } catch (error) {
      if (error instanceof DiskError && (error.code === 'EINVAL' || error.code === 'EOPNOTSUPP' || error.code === 'ENOTSUP')) return false;
      // A full disk says nothing about the mode: opening succeeded, and the write that counts will say ENOSPC itself.
      if (error instanceof DiskError && error.code === 'ENOSPC' && error.operation === 'write') return true;
      throw error;
    } finally {
      await act('unlink', path, (done) => fs.rm(path, { force: true }, done));
    }
  }

  async mkdir(path: string): Promise<void> {
    const full = this.#resolve(path);
    // `created` is the topmost directory that was made: everything from its parent down to `full` has a new name to keep.
    const created = await call<string | undefined>('mkdir', full, (done) => fs.mkdir(full, { recursive: true }, done));
    if (created === undefined) return;
    for (let directory = full; ; directory = dirname(directory)) {
      await this.syncDirectory(dirname(directory));
      if (directory === created || directory === dirname(directory)) return;
    }
  }

  async list(path: string): Promise<string[]> {
    const full = this.#resolve(path);
    try {
      return (await call<string[]>('readdir', full, (done) => fs.readdir(full, done))).sort((a, b) => (a < b ? -1 : 1));
    } catch (error) {
      if (error instanceof DiskError && error.code === 'ENOENT') return [];
      throw error;
    }
  }

  async exists(path: string): Promise<boolean> {
    const full = this.#resolve(path);
    try {
      await call<fs.Stats>('stat', full, (done) => fs.stat(full, done));
      return true;
    } catch (error) {
      if (error instanceof DiskError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return false;
      throw error;
    }
  }

  rename(from: string, to: string): Promise<void> {
    const source = this.#resolve(from);
    return act('rename', source, (done) => fs.rename(source, this.#resolve(to), done));
  }

  remove(path: string): Promise<void> {
    const full = this.#resolve(path);
    return act('rm', full, (done) => fs.rm(full, { recursive: true, force: true }, done));
  }

  async syncDirectory(path: string): Promise<void> {
    const full = this.#resolve(path);
    const fd = await call<number>('open', full, (done) => fs.open(full, O_RDONLY, done));
    try {
      await act('fsync', full, (done) => fs.fsync(fd, done));
    } finally {
      await act('close', full, (done) => fs.close(fd, done));
    }
  }

  async space(path: string): Promise<{ freeBytes: number; totalBytes: number }> {
    const full = this.#resolve(path);
    const stats = await call<fs.StatsFs>('statfs', full, (done) => fs.statfs(full, done));
    return { freeBytes: stats.bavail * stats.bsize, totalBytes: stats.blocks * stats.bsize };
  }

  async bootId(): Promise<string> {
    const path = '/proc/sys/kernel/random/boot_id';
    return (await call<string>('read', path, (done) => fs.readFile(path, 'utf8', done))).trim();
  }

  allocateAligned(sizeBytes: number): Uint8Array {
    return allocateFromPool(sizeBytes);
  }

  #resolve(path: string): string {
    return resolve(this.#root, path);
  }
}
