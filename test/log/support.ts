import { readU32, writeU32 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import type { Clock, Timer } from '../../src/io/clock.ts';
import type { Disk } from '../../src/io/disk.ts';
import type { Random } from '../../src/io/random.ts';
import { CommitLog } from '../../src/log/commit-log.ts';
import { LARGEST_GROUP_BYTES } from '../../src/log/group-codec.ts';
import { BLOCK_BYTES, GROUP_MAGIC } from '../../src/log/layout.ts';
import type { CommitLogHandlers, CommitLogOptions, EntryView } from '../../src/log/types.ts';
import { type DiskOperation, MemoryDisk } from '../support/memory-disk.ts';

interface PendingTimer {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Virtual time that leaps to the next timer whenever the event loop has nothing else to do. */
export class LeapingClock implements Clock {
  #nowMs = 0;
  #timers: PendingTimer[] = [];
  #order = 0;
  #armed = false;

  wallMs(): number {
    return Math.floor(this.#nowMs);
  }
  monotonicMs(): number {
    return this.#nowMs;
  }
  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, order: this.#order++, callback };
    this.#timers.push(timer);
    this.#arm();
    return timer;
  }
  clearTimer(timer: Timer): void {
    this.#timers = this.#timers.filter((other) => other !== timer);
  }
  defer(callback: () => void): void {
    setImmediate(callback);
  }
  #arm(): void {
    if (this.#armed || this.#timers.length === 0) return;
    this.#armed = true;
    setImmediate(() => {
      this.#armed = false;
      let next: PendingTimer | undefined;
      for (const timer of this.#timers) {
        if (next === undefined || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.order < next.order)) next = timer;
      }
      if (next === undefined) return;
      this.clearTimer(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
      this.#arm();
    });
  }
}

/** xorshift32 */
export function seededRandom(seed: number): Random {
  let state = (seed | 1) >>> 0;
  const u32 = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  return {
    u32,
    unit: () => u32() / 0x1_0000_0000,
    fill: (bytes) => {
      for (let i = 0; i < bytes.length; i++) bytes[i] = u32();
    },
  };
}

export function newDisk(seed = 1, capacityBytes?: number): { disk: MemoryDisk; clock: LeapingClock; random: Random } {
  const clock = new LeapingClock();
  const random = seededRandom(seed);
  return { disk: new MemoryDisk({ clock, random, ...(capacityBytes === undefined ? {} : { capacityBytes }) }), clock, random };
}

export const SMALL_SEGMENT_BYTES = BLOCK_BYTES + LARGEST_GROUP_BYTES;
export const DIRECTORY = '/data/commitlog';
export const FIRST_SEGMENT = `${DIRECTORY}/00000000000000000000`;

export interface TestLog {
  readonly log: CommitLog;
  readonly durable: { index: number; term: number }[];
  readonly errors: Error[];
  /** Resolves when everything up to `index` was reported durable, or the log is poisoned. */
  until(index: number): Promise<void>;
}

export function isGroupWrite(operation: DiskOperation): boolean {
  return operation.operation === 'write' && operation.bytes !== null && readU32(operation.bytes, 0) === GROUP_MAGIC;
}

export async function openLog(world: { disk: Disk; clock: Clock }, options: Partial<CommitLogOptions> = {}): Promise<TestLog> {
  const durable: { index: number; term: number }[] = [];
  const errors: Error[] = [];
  let waiters: { index: number; resolve(): void }[] = [];
  const handlers: CommitLogHandlers = {
    onDurable: (index, term) => {
      durable.push({ index, term });
      for (const waiter of waiters) if (waiter.index <= index) waiter.resolve();
      waiters = waiters.filter((waiter) => waiter.index > index);
    },
    onPoisoned: (error) => {
      errors.push(error);
      for (const waiter of waiters) waiter.resolve();
    },
  };
  const log = await CommitLog.open({
    disk: world.disk,
    clock: world.clock,
    directory: DIRECTORY,
    clusterHash: 7,
    handlers,
    segmentBytes: SMALL_SEGMENT_BYTES,
    hotTail: { chunkBytes: LARGEST_GROUP_BYTES, maxChunks: 3 },
    reserveBytes: 0,
    ...options,
  });
  const until = (index: number): Promise<void> =>
    log.durableIndex >= index || log.poisoned !== null ? Promise.resolve() : new Promise((resolve) => waiters.push({ index, resolve }));
  return { log, durable, errors, until };
}

/** A body of `sizeBytes` whose bytes follow from `seed` and are never zero behind the checksum. */
export function bodyOf(seed: number, sizeBytes = 100): { body: Uint8Array; checksum: number } {
  const body = new Uint8Array(sizeBytes);
  for (let i = 4; i < sizeBytes; i++) body[i] = 1 + ((seed * 31 + i * 7) % 255);
  const checksum = crc32(body.subarray(4));
  writeU32(body, 0, checksum);
  return { body, checksum };
}

export function append(log: CommitLog, seed: number, sizeBytes = 100, term = 1, logTimeMs = 1000): number | string {
  const { body, checksum } = bodyOf(seed, sizeBytes);
  return log.append(3, 5, 6, checksum, body, term, logTimeMs);
}

/** Appends one group of `count` entries and waits until it is durable. */
export async function appendDurable(test: TestLog, seed: number, sizeBytes = 100, term = 1, count = 1): Promise<number> {
  let last: number | string = 0;
  for (let i = 0; i < count; i++) last = append(test.log, seed + i, sizeBytes, term);
  if (typeof last === 'string') throw new Error(last);
  test.log.closeGroup();
  test.log.takeClosed();
  await test.until(last);
  return last;
}

/** All entries of the log, from memory or the files. */
export async function entriesOf(log: CommitLog): Promise<{ index: number; term: number; body: Uint8Array }[]> {
  const found: { index: number; term: number; body: Uint8Array }[] = [];
  const visit = (entry: EntryView): void => {
    found.push({ index: entry.index, term: entry.term, body: entry.body.slice() });
  };
  for (let next = log.firstIndex; next <= log.lastIndex; ) {
    const hot = log.visitHot(next, log.lastIndex, visit);
    next = hot >= next ? hot + 1 : (await log.visitCold(next, log.lastIndex, visit)) + 1;
  }
  return found;
}
