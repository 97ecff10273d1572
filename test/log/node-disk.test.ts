import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NodeDisk } from '../../src/io/node/disk.ts';
import { appendDurable, DIRECTORY, entriesOf, LeapingClock, openLog } from './support.ts';

test('F28 CommitLog on a real file system: written, left without a close, recovered, truncated, recovered', async () => {
  const root = mkdtempSync(join(tmpdir(), 'ledgermq-log-'));
  const disk = new NodeDisk({ root });
  const world = { disk, clock: new LeapingClock() };
  const options = { directory: DIRECTORY.slice(1) };
  try {
    const first = await openLog(world, options);
    for (let i = 1; i <= 8; i++) await appendDurable(first, i, 700_000);
    const second = await openLog(world, options);
    expect(second.log.lastIndex).toBe(8);
    expect(await second.log.hashRange(1, 8)).toEqual(await first.log.hashRange(1, 8));
    await second.log.truncateFrom(5);
    await appendDurable(second, 50, 1000, 2);
    await second.log.close();
    await first.log.close();
    const third = await openLog(world, { ...options, durableEndPosition: second.log.syncedPosition });
    expect((await entriesOf(third.log)).map((entry) => entry.term)).toEqual([1, 1, 1, 1, 2]);
    expect(third.log.recovery).toMatchObject({ voteFloor: 0, tornBytes: 0 });
    await third.log.close();
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
