import { expect, test } from 'vitest';
import type { SimReplica } from './broker-group.ts';
import { DerivedRot } from './derived-rot.ts';
import { Prng } from './prng.ts';
import { toyWorld } from './toy.ts';

const PATH = '/data/index/00000000000000000000';

/**
 * Simulation seed 30393: a bit of a count was flipped; the file was built anew, and the count grew to what the flip had made of it. Seed 30350:
 * a replica that had been removed, and was still running, found its damaged file.
 */
test('a flip is certainly there while nothing around it has changed, possibly while its byte is the same; another disk has none', async () => {
  const world = toyWorld(1);
  const machine = world.process('r1');
  machine.start(
    (io) =>
      void (async () => {
        await io.disk.mkdir('/data/index');
        const file = await io.disk.open(PATH, { access: 'readwrite', create: true });
        await file.write(new Uint8Array(400), 0);
      })(),
  );
  await world.scheduler.run(10_000_000);
  const rot = new DerivedRot(new Prng(1));
  const { disk } = machine;
  expect([rot.possible(disk), rot.certain(disk)]).toEqual([null, null]);
  const said = rot.strike({ process: machine } as SimReplica) as string;
  // With this seed it is a flip, not a sector.
  expect(said).toContain('flipped');
  const at = Number(/\+(\d+),/.exec(said)?.[1]);
  const there = `${PATH}+${at}`;
  const damaged = disk.visibleBytes(PATH) as Uint8Array;
  const write = (position: number, value: number): boolean => disk.damage(PATH, position, (bytes) => bytes.fill(value), 1);
  const found = (): (string | null)[] => [rot.possible(disk), rot.certain(disk)];
  expect(rot.possible(world.process('r2').disk)).toBe(null);
  expect(found()).toEqual([there, there]);
  write(at + 1, 9);
  expect(found()).toEqual([there, null]);
  write(at + 1, 0);
  write(at, 0);
  expect(found()).toEqual([null, null]);
  write(at, damaged[at] as number);
  expect(found()).toEqual([there, there]);
});
