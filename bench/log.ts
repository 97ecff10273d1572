/**
 * Durable write groups per second of the CommitLog alone, on a real file system: `node bench/log.ts [directory]`.
 * A group is closed as soon as the one before it is handed to the writer, with so many bytes waiting at most: the writes find their size.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeU32 } from '../src/base/bytes.ts';
import { crc32 } from '../src/base/crc.ts';
import type { Clock, Timer } from '../src/io/clock.ts';
import { NodeDisk } from '../src/io/node/disk.ts';
import { CommitLog } from '../src/log/commit-log.ts';

const RUN_MS = 2000;
const WAITING_BYTES = 4 * 1024 * 1024;

const clock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer: (delayMs, callback) => setTimeout(callback, delayMs) as Timer,
  clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout),
  defer: (callback) => void setImmediate(callback),
};

async function run(root: string, groupBytes: number, waitingGroups: number): Promise<void> {
  const directory = mkdtempSync(join(root, 'ledgermq-bench-'));
  const disk = new NodeDisk({ root: directory });
  let wake: () => void = () => undefined;
  const log = await CommitLog.open({
    disk,
    clock,
    directory: 'commitlog',
    clusterHash: 1,
    reserveBytes: 0,
    handlers: { onDurable: () => wake(), onPoisoned: (error) => Promise.reject(error) },
  });
  const body = new Uint8Array(groupBytes - 128 - 64).fill(7);
  const checksum = crc32(body.subarray(4));
  writeU32(body, 0, checksum);
  const put = (): boolean => {
    if (typeof log.append(3, 1, 1, checksum, body, 1, clock.wallMs()) !== 'number') return false;
    log.closeGroup();
    log.takeClosed();
    return true;
  };
  const openedMs = clock.monotonicMs();
  put();
  await new Promise<void>((resolve) => {
    wake = resolve;
  });
  const firstMs = clock.monotonicMs() - openedMs;
  const startMs = clock.monotonicMs();
  const startIndex = log.durableIndex;
  while (clock.monotonicMs() - startMs < RUN_MS) {
    while (log.lastIndex - log.durableIndex < waitingGroups && put());
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
  const seconds = (clock.monotonicMs() - startMs) / 1000;
  const groups = log.durableIndex - startIndex;
  await log.close();
  rmSync(directory, { recursive: true, force: true });
  const result = {
    groupKB: groupBytes / 1024,
    waitingGroups,
    mode: await disk.durableMode(root),
    groupsPerSecond: Math.round(groups / seconds),
    mbPerSecond: Math.round((groups * groupBytes) / seconds / 1e6),
    firstGroupMs: Math.round(firstMs),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

const root = process.argv[2] ?? tmpdir();
for (const groupKB of [4, 64, 256, 1024]) {
  await run(root, groupKB * 1024, 1);
  await run(root, groupKB * 1024, Math.max(2, Math.floor(WAITING_BYTES / (groupKB * 1024))));
}
