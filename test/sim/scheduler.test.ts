import { describe, expect, test } from 'vitest';
import type { Io } from '../../src/io/io.ts';
import { EventKind, SimScheduler } from './scheduler.ts';
import { echoClient, echoRegister, TOY_FILE, type ToyWorld, toyWorld } from './toy.ts';

async function runToy(seed: number, disturb: (world: ToyWorld) => void = () => {}): Promise<{ hash: string; echoes: number[] }> {
  const world = toyWorld(seed);
  const server = world.process('r1');
  const client = world.process('c1');
  const echoes: number[] = [];
  server.start((io) => void echoRegister(io));
  client.start((io) => echoClient(io, 'r1', (value) => echoes.push(value)));
  disturb(world);
  await world.scheduler.run(2_000_000);
  return { hash: world.scheduler.trace.hash(), echoes };
}

describe('scheduler', () => {
  test('events run by time, then by the order in which they were made', async () => {
    const scheduler = new SimScheduler(1);
    const seen: string[] = [];
    for (const [delay, name] of [
      [20, 'c'],
      [10, 'a'],
      [20, 'd'],
      [10, 'b'],
      [0, 'first'],
    ] as const) {
      scheduler.schedule(null, delay, EventKind.world, () => seen.push(name));
    }
    await scheduler.run(1000);
    expect(seen).toEqual(['first', 'a', 'b', 'c', 'd']);
    expect(scheduler.nowUs).toBe(1000);
  });

  test('all microtasks run between two events', async () => {
    const scheduler = new SimScheduler(1);
    const seen: string[] = [];
    scheduler.schedule(null, 1, EventKind.world, () => {
      void (async () => {
        for (let hop = 0; hop < 50; hop++) await null;
        seen.push('after 50 hops');
      })();
    });
    scheduler.schedule(null, 1, EventKind.world, () => seen.push('next event'));
    await scheduler.run(10);
    expect(seen).toEqual(['after 50 hops', 'next event']);
  });

  test('the same seed gives the same trace, another seed another', async () => {
    const [first, again, other] = [await runToy(7), await runToy(7), await runToy(8)];
    expect(first.echoes.length).toBeGreaterThan(50);
    expect(again).toEqual(first);
    expect(other.hash).not.toBe(first.hash);
  });

  test('an unhandled rejection inside a process ends the run', async () => {
    const scheduler = new SimScheduler(1);
    scheduler.schedule(null, 1, EventKind.world, () => void Promise.reject(new Error('nobody listens')));
    await expect(scheduler.run(10)).rejects.toThrow('nobody listens');
  });
});

describe('process', () => {
  test('a paused process runs nothing and catches up in order', async () => {
    const world = toyWorld(3);
    const one = world.process('r1');
    const seen: number[] = [];
    one.start((io) => {
      const cleared = io.clock.setTimer(4, () => seen.push(4));
      for (const ms of [1, 2, 3]) io.clock.setTimer(ms, () => seen.push(ms));
      io.clock.setTimer(3.5, () => io.clock.clearTimer(cleared));
    });
    world.scheduler.schedule(null, 1500, EventKind.world, () => one.pause());
    world.scheduler.schedule(null, 9000, EventKind.world, () => {
      expect(seen).toEqual([1]);
      one.resume();
    });
    await world.scheduler.run(20_000);
    expect(seen).toEqual([1, 2, 3]);
  });

  test('a killed process runs nothing any more, its next life starts clean', async () => {
    const world = toyWorld(3);
    const one = world.process('r1');
    const seen: string[] = [];
    const main = (name: string) => (io: Io) => {
      const tick = (): void => {
        seen.push(name);
        io.clock.setTimer(1, tick);
      };
      tick();
    };
    one.start(main('old'));
    world.scheduler.schedule(null, 5000, EventKind.world, () => one.kill('kill'));
    world.scheduler.schedule(null, 10_000, EventKind.world, () => one.start(main('new')));
    await world.scheduler.run(12_500);
    expect(seen.filter((name) => name === 'old').length).toBeLessThanOrEqual(6);
    expect(seen.lastIndexOf('old')).toBeLessThan(seen.indexOf('new'));
  });

  test('what was echoed is on the disk after any death', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const world = toyWorld(seed);
      const server = world.process('r1');
      let echoed = 0;
      server.start((io) => void echoRegister(io));
      world.process('c1').start((io) =>
        echoClient(io, 'r1', (value) => {
          echoed = value;
        }),
      );
      for (let at = 1; at <= 5; at++) {
        world.scheduler.schedule(null, at * 300_000, EventKind.fault, () => {
          server.kill(world.scheduler.prng.chance(0.5) ? 'kill' : 'power');
          const words = new Uint32Array((server.disk.visibleBytes(TOY_FILE) ?? new Uint8Array(0)).slice().buffer);
          expect([...words].filter((word) => word === echoed).length).toBeGreaterThan(0);
          server.start((io) => void echoRegister(io));
        });
      }
      await world.scheduler.run(2_000_000);
      expect(echoed).toBeGreaterThan(50);
    }
  });
});
