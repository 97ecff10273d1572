import { describe, expect, test } from 'vitest';
import { type BrokerConfig, resolveConfig } from '../../src/config.ts';
import { Server } from '../../src/server.ts';
import { type ToyWorld, toyWorld } from '../sim/toy.ts';

const MIB = 1024 * 1024;

function configOf(replicaId: number, ids: readonly number[], flush: 'sync' | 'async' = 'sync'): BrokerConfig {
  return resolveConfig({
    flags: {
      replicaId,
      host: `r${replicaId}`,
      port: 7460,
      replicas: ids.map((id) => ({ replicaId: id, host: `r${id}`, port: 7460 })),
      dataDir: '/data',
      segmentBytes: 16 * MIB,
      hotTailBytes: 16 * MIB,
      flush,
      logLevel: 'silent',
    },
  });
}

type Machine = ReturnType<ToyWorld['process']>;

/** Replicas as processes of one simulated world. */
function group(seed: number) {
  const world = toyWorld(seed);
  const machines = new Map<number, Machine>();
  const machine = (id: number): Machine => {
    const known = machines.get(id) ?? world.process(`r${id}`);
    machines.set(id, known);
    return known;
  };
  let nowUs = 0;
  const run = async (ms: number): Promise<void> => {
    nowUs += ms * 1000;
    await world.scheduler.run(nowUs);
  };
  const start = (config: BrokerConfig): { server: Server | null; refused: string; events: string[] } => {
    const started: { server: Server | null; refused: string; events: string[] } = { server: null, refused: '', events: [] };
    machine(config.replicaId).start((io) => {
      started.server = new Server(config, io, {
        hotTail: { chunkBytes: 8 * MIB, maxChunks: 3 },
        onEvent: (name) => started.events.push(name),
      });
      started.server.start().catch((error: unknown) => {
        started.refused = String(error);
      });
    });
    return started;
  };
  return { machine, run, start };
}

describe('server of one replica', () => {
  test('three replicas form a group, elect one leader, and do so again after a clean stop of all', async () => {
    const { machine, run, start } = group(1);
    for (let life = 0; life < 2; life++) {
      const servers = [1, 2, 3].map((id) => start(configOf(id, [1, 2, 3])));
      await run(6000);
      const roles = servers.map(({ server }) => server?.replica?.status().role);
      expect(roles.filter((role) => role === 'leader').length).toBe(1);
      for (const { server } of servers) void server?.stop();
      await run(2000);
      for (const { server } of servers) expect(server?.state).toBe('stopped');
      for (const id of [1, 2, 3]) machine(id).kill('power');
    }
  });

  test('a stop in the middle of the start ends it: it never comes to life again', async () => {
    for (const afterMs of [0, 1, 2, 5, 10, 20, 50]) {
      const { run, start } = group(2);
      const one = start(configOf(1, [1]));
      await run(afterMs);
      void one.server?.stop();
      await run(3000);
      expect(one.refused).toBe('');
      expect(one.server?.state).toBe('stopped');
      expect(one.events.at(-1)).toBe('stopped');
    }
  });

  test('I5 a formed group does not change by its configuration: one of three does not start as a group of one', async () => {
    const { machine, run, start } = group(3);
    for (const id of [1, 2, 3]) start(configOf(id, [1, 2, 3]));
    await run(4000);
    machine(1).kill('kill');
    const alone = start(configOf(1, [1]));
    await run(3000);
    expect(alone.refused).toMatch(/the group was formed by replicas 1, 2, 3, configured are 1/);
    expect(alone.server?.replica).toBeNull();
  });

  test('I5 asynchronous flush: after a restart of the machine the replica is refused, after one of the process it goes on', async () => {
    const { machine, run, start } = group(4);
    start(configOf(1, [1], 'async'));
    await run(3000);
    machine(1).kill('kill');
    const again = start(configOf(1, [1], 'async'));
    await run(3000);
    expect(again.server?.replica?.status().role).toBe('leader');
    machine(1).kill('power');
    const third = start(configOf(1, [1], 'async'));
    await run(3000);
    expect(third.refused).toMatch(/flushed asynchronously/);
  });
});
