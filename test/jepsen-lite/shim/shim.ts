import { execFile } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HostsUnavailable } from '../../support/net-hosts.ts';

const CONTROL_BYTES = 4096;
const ARENA_BYTES = 32 * 1024 * 1024;
const COUNTERS_AT = 16;

/** As in shim.c. */
export const ShimMode = { failSync: 1, failWrite: 2, shortWrite: 4, tear: 8, record: 16 } as const;

const COUNTERS = [
  'failedSyncs',
  'failedWrites',
  'shortWrites',
  'tornWrites',
  'failedRenames',
  'failedTruncates',
  'writes',
  'syncs',
  'renames',
  'truncates',
  'records',
  'evicted',
  'skipped',
] as const;
export type ShimCounts = Readonly<Record<(typeof COUNTERS)[number], number>>;

const SOURCES = ['shim.c', 'records.c'].map((name) => join(import.meta.dirname, name));

const run = promisify(execFile);

/** @returns path of the library. @throws HostsUnavailable without a compiler, Error with its words */
export async function compileShim(directory: string): Promise<string> {
  const library = join(directory, 'shim.so');
  await compile(['-shared', '-fPIC', '-o', library, ...SOURCES, '-ldl', '-lpthread']);
  return library;
}

/** @throws HostsUnavailable without a compiler, Error with its words */
export async function compile(args: readonly string[]): Promise<void> {
  try {
    await run('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', ...args]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new HostsUnavailable('no `gcc`: install gcc and libc6-dev');
    throw error;
  }
}

/** The disk faults of one replica: what its processes are struck with, and how often they were. */
export class Shim {
  readonly env: Readonly<Record<string, string>>;
  readonly arenaPath: string;
  readonly #controlPath: string;
  readonly #control: number;
  #mode: number = ShimMode.record;

  /**
   * @param directory for its two files: not on `volume`, which may be full
   * @param volume mount point of the file system that is struck
   */
  constructor(directory: string, name: string, library: string, volume: string) {
    this.#controlPath = join(directory, `${name}.control`);
    this.arenaPath = join(directory, `${name}.arena`);
    writeFileSync(this.#controlPath, Buffer.alloc(CONTROL_BYTES));
    // Written out: a hole could not be filled when there is no memory left, and the process would die of it.
    writeFileSync(this.arenaPath, Buffer.alloc(ARENA_BYTES));
    this.#control = openSync(this.#controlPath, 'r+');
    this.env = { LD_PRELOAD: library, CHAOS_CONTROL: this.#controlPath, CHAOS_ARENA: this.arenaPath, CHAOS_VOLUME: volume };
    this.set(0);
  }

  /** From now on, for the process that runs and those that follow. @param oneIn strikes one call in so many */
  set(mode: number, oneIn = 1, seed = 1): void {
    this.#mode = mode | ShimMode.record;
    const words = new Uint32Array([this.#mode, oneIn, seed]);
    writeSync(this.#control, new Uint8Array(words.buffer), 0, words.byteLength, 0);
  }

  /** Over all processes so far. */
  counts(): ShimCounts {
    const bytes = readFileSync(this.#controlPath);
    return Object.fromEntries(COUNTERS.map((name, at) => [name, Number(bytes.readBigUInt64LE(COUNTERS_AT + 8 * at))])) as ShimCounts;
  }

  close(): void {
    closeSync(this.#control);
    for (const path of [this.#controlPath, this.arenaPath]) rmSync(path, { force: true });
  }
}
