import { describe, expect, test } from 'vitest';
import type { Io } from '../../src/io/io.ts';
import type { FrameConnection, StreamConnection } from '../../src/io/net.ts';
import type { SimProcess } from './process.ts';
import { EventKind } from './scheduler.ts';
import { type ToyWorld, toyWorld } from './toy.ts';

const filled = (value: number, sizeBytes: number): Uint8Array => new Uint8Array(sizeBytes).fill(value);

async function onDisk(seed: number, main: (io: Io, world: ToyWorld, machine: SimProcess) => Promise<void>): Promise<SimProcess> {
  const world = toyWorld(seed);
  const process = world.process('r1');
  process.start((io) => void main(io, world, process).catch((error: unknown) => world.scheduler.fail(error)));
  await world.scheduler.run(10_000_000);
  return process;
}

describe('simulated disk', () => {
  test('what was synced survives a power loss; what was not may not, in any subset of its sectors', async () => {
    const outcomes = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      const process = await onDisk(seed, async (io) => {
        await io.disk.mkdir('/d');
        const file = await io.disk.open('/d/f', { access: 'readwrite', create: true });
        await file.write(filled(1, 1024), 0);
        await file.sync();
        await io.disk.syncDirectory('/d');
        await file.write(filled(2, 2048), 1024);
      });
      process.kill('power');
      const bytes = process.disk.visibleBytes('/d/f') as Uint8Array;
      expect(bytes.subarray(0, 1024).every((byte) => byte === 1)).toBe(true);
      outcomes.add([0, 1, 2, 3].map((sector) => bytes[1024 + sector * 512] ?? '-').join(''));
    }
    expect(outcomes).toContain('2222');
    expect(outcomes).toContain('----');
    expect(outcomes.size).toBeGreaterThan(4);
  });

  test('a kill keeps the page cache; a power loss after it does not', async () => {
    const lost = new Set<boolean>();
    for (let seed = 1; seed <= 20; seed++) {
      const process = await onDisk(seed, async (io) => {
        await io.disk.mkdir('/d');
        const file = await io.disk.open('/d/f', { access: 'readwrite', create: true });
        await io.disk.syncDirectory('/d');
        await file.write(filled(9, 512), 0);
      });
      process.kill('kill');
      expect(process.disk.visibleBytes('/d/f')).toEqual(filled(9, 512));
      process.disk.crash('power');
      lost.add(process.disk.visibleBytes('/d/f')?.length === 0);
    }
    expect(lost).toEqual(new Set([true, false]));
  });

  test('a durable write in flight at a crash is torn at sectors', async () => {
    const outcomes = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      const process = await onDisk(seed, async (io, world, machine) => {
        await io.disk.mkdir('/d');
        const file = await io.disk.open('/d/f', { access: 'readwrite', create: true, durable: true });
        await io.disk.syncDirectory('/d');
        await file.write(filled(1, 4096), 0);
        world.scheduler.schedule(null, 1, EventKind.fault, () => machine.kill('power'));
        await file.write(filled(2, 4096), 0);
      });
      const bytes = process.disk.visibleBytes('/d/f') as Uint8Array;
      outcomes.add([0, 1, 2, 3, 4, 5, 6, 7].map((sector) => bytes[sector * 512]).join(''));
    }
    expect(outcomes).toContain('11111111');
    expect(outcomes).toContain('22222222');
    expect([...outcomes].some((outcome) => /^12|21/.test(outcome))).toBe(true);
  });

  test('a name without a directory sync may vanish; a rename is all or nothing', async () => {
    const outcomes = new Set<string>();
    for (let seed = 1; seed <= 40; seed++) {
      const process = await onDisk(seed, async (io) => {
        await io.disk.mkdir('/d');
        const old = await io.disk.open('/d/state', { access: 'readwrite', create: true });
        await old.write(filled(1, 16), 0);
        await old.sync();
        await io.disk.syncDirectory('/d');
        const next = await io.disk.open('/d/state.tmp', { access: 'readwrite', create: true });
        await next.write(filled(2, 16), 0);
        await next.sync();
        await io.disk.rename('/d/state.tmp', '/d/state');
      });
      process.kill('power');
      outcomes.add(String(process.disk.visibleBytes('/d/state')?.[0]));
    }
    expect(outcomes).toEqual(new Set(['1', '2']));
  });

  test('EIO, ENOSPC and a freeze show as such; unaligned durable writes are refused', async () => {
    await onDisk(5, async (io, world, machine) => {
      await io.disk.mkdir('/d');
      const file = await io.disk.open('/d/f', { access: 'readwrite', create: true, durable: true });
      await expect(file.write(filled(1, 100), 0)).rejects.toMatchObject({ code: 'EINVAL' });
      const { disk } = machine;
      disk.faults.errorRate = 1;
      await expect(file.write(filled(1, 4096), 0)).rejects.toMatchObject({ code: 'EIO' });
      disk.faults.errorRate = 0;
      disk.faults.full = true;
      await expect(file.write(filled(1, 4096), 4096 * 8)).rejects.toMatchObject({ code: 'ENOSPC' });
      disk.faults.full = false;
      disk.faults.frozenUntilUs = world.scheduler.nowUs + 500_000;
      const before = io.clock.monotonicMs();
      await file.write(filled(1, 4096), 0);
      expect(io.clock.monotonicMs() - before).toBeGreaterThan(499);
    });
  });
});

/** A stream server on r1 and a client on c1; what each saw. */
interface Talk {
  readonly world: ToyWorld;
  readonly server: SimProcess;
  readonly client: SimProcess;
  readonly received: number[];
  readonly closes: string[];
  connection: StreamConnection | null;
}

function talk(seed: number): Talk {
  const world = toyWorld(seed);
  const it: Talk = { world, server: world.process('r1'), client: world.process('c1'), received: [], closes: [], connection: null };
  const listen = (io: Io): void => {
    void io.net.listenStream('', 7000, () => ({
      onData: (_connection, bytes) => it.received.push(...bytes),
      onClose: (_connection, reset) => it.closes.push(`server ${reset}`),
    }));
  };
  it.server.start(listen);
  it.client.start((io) => {
    io.clock.setTimer(1, () => {
      it.connection = io.net.dialStream('r1', 7000, {
        onData: () => {},
        onClose: (_connection, reset) => it.closes.push(`client ${reset}`),
      });
    });
  });
  return it;
}

describe('simulated network', () => {
  test('a stream keeps order and loses nothing, through cuts, loss and delay', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const it = talk(seed);
      it.world.net.links.set('c1', 'r1', { lossRate: 0.3, delayMs: 5 });
      const sent: number[] = [];
      for (let n = 0; n < 200; n++) {
        it.world.scheduler.schedule(null, 10_000 + n * 1000, EventKind.world, () => {
          sent.push(n);
          it.connection?.write(Uint8Array.of(n));
        });
      }
      it.world.scheduler.schedule(null, 50_000, EventKind.fault, () => it.world.net.links.set('c1', 'r1', { cut: true }));
      it.world.scheduler.schedule(null, 3_000_000, EventKind.fault, () => {
        expect(it.received.length).toBeLessThan(200);
        it.world.net.links.heal();
        it.world.net.nudge();
      });
      await it.world.scheduler.run(60_000_000);
      expect(it.received).toEqual(sent);
      expect(it.closes).toEqual([]);
    }
  });

  test('a kill resets the connections, a power loss leaves them half open until the machine answers again', async () => {
    const killed = talk(1);
    killed.world.scheduler.schedule(null, 10_000, EventKind.fault, () => killed.server.kill('kill'));
    await killed.world.scheduler.run(100_000);
    expect(killed.closes).toEqual(['client true']);

    const dark = talk(1);
    dark.world.scheduler.schedule(null, 10_000, EventKind.fault, () => dark.server.kill('power'));
    dark.world.scheduler.schedule(null, 20_000, EventKind.world, () => dark.connection?.write(Uint8Array.of(1)));
    await dark.world.scheduler.run(5_000_000);
    expect(dark.closes).toEqual([]);
    dark.server.start(() => {});
    await dark.world.scheduler.run(10_000_000);
    expect(dark.closes).toEqual(['client true']);
    expect(dark.received).toEqual([]);
  });

  test('a dial ends in onClose: refused at once, or given up when nobody answers', async () => {
    const world = toyWorld(1);
    const closes: string[] = [];
    world.process('r1').start(() => {});
    const dial = (io: Io, host: string): void => {
      io.net.dialStream(host, 7000, { onData: () => {}, onClose: (_connection, reset) => closes.push(`${host} ${reset}`) });
    };
    world.process('c1').start((io) => {
      dial(io, 'r1');
      dial(io, 'nowhere');
    });
    await world.scheduler.run(1_000_000);
    expect(closes).toEqual(['r1 true']);
    await world.scheduler.run(30_000_000);
    expect(closes).toEqual(['r1 true', 'nowhere false']);
  });

  test('a view kept after onData, and memory changed before onFlushed, are found out', async () => {
    const world = toyWorld(1);
    let kept: Uint8Array | null = null;
    world.process('r1').start((io) => {
      void io.net.listenStream('', 7000, () => ({
        onData: (_connection, bytes) => {
          expect(bytes[0]).toBe(99);
          kept = bytes;
        },
        onClose: () => {},
      }));
    });
    world.process('c1').start((io) => {
      io.net.dialStream('r1', 7000, {
        onOpen: (connection) => {
          const bytes = Uint8Array.of(1);
          connection.write(bytes);
          bytes[0] = 99;
        },
        onData: () => {},
        onClose: () => {},
      });
    });
    await world.scheduler.run(30_000_000);
    expect(kept).toEqual(Uint8Array.of(0xdd));
    expect(world.failures).toEqual([]);
  });

  test('frames come whole; close() sends what is queued; a frame beyond the limit ends the connection', async () => {
    const world = toyWorld(1);
    const sizes: number[] = [];
    const closes: string[] = [];
    world.process('r1').start((io) => {
      void io.net.listenFrames('', 7000, 1000, () => ({
        onFrame: (_connection: FrameConnection, frame) => sizes.push(frame.length),
        onClose: () => closes.push('server'),
      }));
    });
    const send = (io: Io, frames: number[]): void => {
      io.net.dialFrames('ws://r1:7000', 1000, {
        onOpen: (connection) => {
          for (const size of frames) connection.send(new Uint8Array(size));
          connection.close();
        },
        onFrame: () => {},
        onClose: () => closes.push('client'),
      });
    };
    world.process('c1').start((io) => {
      io.clock.setTimer(1, () => send(io, [1, 999, 1000]));
      io.clock.setTimer(100, () => send(io, [5, 1001, 6]));
    });
    await world.scheduler.run(1_000_000);
    expect(sizes).toEqual([1, 999, 1000, 5]);
    expect(closes.length).toBe(4);
  });
});
