/**
 * Found by a simulation seed (88 with the delay workload): a replica whose peers compared a slice of its log with theirs ended with
 * LogCorrupt, though the damage (a file that was cut short) had been mended a moment before.
 *
 * Mechanism: older groups are known by sparse marks, so a read walks from group to group. Where a file has lost its end the walk takes the
 * end for that of the segment and goes on in the next one, where no group of the right index begins. That was reported as damage and
 * mended, and the read was made again: at the same wrong place, until it was given up.
 *
 * Prevented: after a repair the walk begins anew.
 */
import { expect, test } from 'vitest';
import { appendDurable, bodyOf, FIRST_SEGMENT, newDisk, openLog, SMALL_SEGMENT_BYTES } from '../log/support.ts';

test('issue 6: a read that walked past the lost end of a file goes on when the file is mended', async () => {
  const world = newDisk();
  const outlineDirectory = '/data/outline';
  const opened = await openLog(world);
  let last = 0;
  while (opened.log.endPosition < 3 * SMALL_SEGMENT_BYTES) last = await appendDurable(opened, last + 1, 100_000);
  const verifyFrom = await opened.log.boundaryAt(last - 1);
  const lostFrom = opened.log.groupAt(4)?.position ?? 0;
  await opened.log.close();
  await (await openLog(world, { verifyFrom, outlineDirectory })).log.close();
  const { log } = await openLog(world, { verifyFrom, outlineDirectory });
  expect(log.groupAt(4)?.position).not.toBe(lostFrom);

  const whole = world.disk.peek(FIRST_SEGMENT);
  world.disk.cut(FIRST_SEGMENT, lostFrom);
  const damages: string[] = [];
  log.onDamage = async (damage) => {
    damages.push(damage.message);
    if (damages.length > 3) throw damage;
    world.disk.poke(FIRST_SEGMENT, 0, whole);
  };
  const bodies: Uint8Array[] = [];
  await log.visitCold(6, 6, ({ body }) => bodies.push(body.slice()));
  expect(bodies).toEqual([bodyOf(6, 100_000).body]);
  expect(damages).toEqual([expect.stringContaining('no group begins with index 4')]);
});
