import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isLeftover, ownerPrefix } from '../support/net-hosts.ts';

const FILLER = '.filler';
const FILL_STEP_BYTES = 1024 * 1024;
const run = promisify(execFile);

/** A file system of its own, in memory. */
export class Volume {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  /** Takes all room but `leaveBytes`. @returns what is free then */
  fill(leaveBytes: number): number {
    const file = openSync(join(this.path, FILLER), 'a');
    const zeros = Buffer.alloc(FILL_STEP_BYTES);
    try {
      for (let left = this.freeBytes - leaveBytes; left > 0; left = this.freeBytes - leaveBytes) {
        if (writeSync(file, zeros, 0, Math.min(left, zeros.length)) === 0) break;
      }
    } catch (error) {
      // Somebody else took the last of it.
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      closeSync(file);
    }
    return this.freeBytes;
  }

  empty(): void {
    rmSync(join(this.path, FILLER), { force: true });
  }

  /** Everything on it is gone: another disk. */
  wipe(): void {
    for (const name of readdirSync(this.path)) rmSync(join(this.path, name), { recursive: true, force: true });
    const directory = openSync(this.path, 'r');
    fsyncSync(directory);
    closeSync(directory);
  }
}

/** The volumes of one run, below a directory whose name says whose it is. Needs root. */
export class Volumes {
  readonly directory: string;
  readonly #mounted: string[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Removes first what runs that were killed have left. */
  static async create(): Promise<Volumes> {
    await sweepVolumes();
    const directory = join(tmpdir(), `${ownerPrefix()}volumes-${randomBytes(3).toString('hex')}`);
    mkdirSync(directory);
    return new Volumes(directory);
  }

  async add(name: string, sizeBytes: number): Promise<Volume> {
    const path = join(this.directory, name);
    mkdirSync(path);
    await run('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes},mode=0755`, `chaos-${name}`, path]);
    this.#mounted.push(path);
    return new Volume(path);
  }

  /** Again is fine. */
  async destroy(): Promise<void> {
    for (const path of this.#mounted.splice(0)) await unmount(path);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

async function unmount(path: string): Promise<void> {
  // Lazily: a process that was just killed may still hold a file open.
  await run('umount', ['-l', path]);
}

/** @returns directories that were removed */
export async function sweepVolumes(): Promise<string[]> {
  const left = readdirSync(tmpdir()).filter(isLeftover);
  for (const name of left) {
    const directory = join(tmpdir(), name);
    for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
      const path = line.split(' ')[1];
      if (path?.startsWith(`${directory}/`)) await unmount(path);
    }
    rmSync(directory, { recursive: true, force: true });
  }
  return left;
}
