import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { HardStateCorrupt } from '../../src/log/errors.ts';
import { decodeHardState, encodeHardState, HardStateFile, type StoredHardState } from '../../src/log/hard-state.ts';
import { newDisk } from './support.ts';

const PATH = '/data/raft/hard-state';

function stateOf(term: number, votedFor = 1): StoredHardState {
  return { term, votedFor, durableEndPosition: term * 4096, voteFloor: 0, opaque: new Uint8Array([term & 255, 2, 3]) };
}

describe('hard state', () => {
  test('version 1 is pinned by its golden file', () => {
    const golden = readFileSync(new URL('golden/hard-state-v1.bin', import.meta.url));
    const slot = new Uint8Array(4096);
    const state = { term: 7, votedFor: 3, durableEndPosition: 123 * 4096, voteFloor: 99, opaque: new Uint8Array([1, 2, 3]) };
    encodeHardState(state, 42, slot);
    expect(Buffer.compare(slot, golden)).toBe(0);
    expect(decodeHardState(new Uint8Array(golden))).toEqual({ sequence: 42, opaqueIsWhole: true, state });
  });

  test('FAULTS 4 whatever the crash, what a save resolved for is there: the newest or a newer one', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.array(fc.integer({ min: 0, max: 8 }), { maxLength: 8 }),
        async (seed, rounds) => {
          const world = newDisk(seed);
          let term = 0;
          let saved = 0;
          for (const turns of rounds) {
            const file = await HardStateFile.open(world.disk, '/data/raft');
            const found = file.load()?.term ?? 0;
            expect(found).toBeGreaterThanOrEqual(saved);
            expect(found).toBeLessThanOrEqual(term);
            term = found;
            saved = found;
            for (let i = 0; i < 3; i++) {
              const mine = ++term;
              file.save(stateOf(mine)).then(
                () => {
                  saved = Math.max(saved, mine);
                },
                () => undefined,
              );
            }
            for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => world.clock.setTimer(0, resolve));
            world.disk.crash();
          }
        },
      ),
      { numRuns: 60, seed: 3 },
    );
  });

  test('saves that arrive during a write share the next one, and resolve when it is durable', async () => {
    const world = newDisk();
    const file = await HardStateFile.open(world.disk, '/data/raft');
    let writes = 0;
    world.disk.fault = (operation) => {
      if (operation.operation === 'write') writes++;
      return null;
    };
    await Promise.all([1, 2, 3, 4].map((term) => file.save(stateOf(term))));
    expect(writes).toBe(2);
    world.disk.crash(() => false);
    expect((await HardStateFile.open(world.disk, '/data/raft')).load()).toEqual(stateOf(4));
  });

  test('FAULTS 2 a failed save is final: later ones are refused without a write', async () => {
    const world = newDisk();
    const file = await HardStateFile.open(world.disk, '/data/raft');
    await file.save(stateOf(1));
    world.disk.fault = (operation) => (operation.operation === 'write' ? 'EIO' : null);
    await expect(file.save(stateOf(2))).rejects.toThrow('hard state');
    world.disk.fault = () => null;
    await expect(file.save(stateOf(3))).rejects.toThrow('hard state');
    expect(file.load()).toEqual(stateOf(1));
  });

  test('FAULTS 4 damage to term or vote is refused, never answered with an older vote', async () => {
    const world = newDisk();
    const file = await HardStateFile.open(world.disk, '/data/raft');
    await file.save(stateOf(1));
    await file.save(stateOf(2));
    await file.save(stateOf(3));
    await file.close();
    for (const at of [0, 16, 24, 40, 300, 511, 4096 + 16, 4096 + 511]) {
      const old = world.disk.peek(PATH, at, 1);
      world.disk.poke(PATH, at, new Uint8Array([(old[0] as number) ^ 4]));
      await expect(HardStateFile.open(world.disk, '/data/raft')).rejects.toThrow(HardStateCorrupt);
      world.disk.poke(PATH, at, old);
    }
    for (const slot of [0, 1]) {
      const old = world.disk.peek(PATH, slot * 4096, 4096);
      world.disk.poke(PATH, slot * 4096, new Uint8Array(4096));
      await expect(HardStateFile.open(world.disk, '/data/raft')).rejects.toThrow(HardStateCorrupt);
      world.disk.poke(PATH, slot * 4096, old);
    }
    expect((await HardStateFile.open(world.disk, '/data/raft')).load()).toEqual(stateOf(3));
    world.disk.cut(PATH, 4096);
    await expect(HardStateFile.open(world.disk, '/data/raft')).rejects.toThrow(HardStateCorrupt);
  });
});
