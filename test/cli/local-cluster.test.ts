import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ClusterEvent, LocalCluster } from '../../src/cli/local-cluster.ts';
import { blockIsFree, freeBasePort, httpGet, PORT_STRIDE } from '../../src/cli/local-ports.ts';

describe('local cluster', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'ledgermq-local-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test('a replica that ends at once fails the start with its own words; nothing is left running', async () => {
    const events: ClusterEvent[] = [];
    const start = LocalCluster.start({ dir, settings: { electionTimeoutMs: 50 }, onEvent: (event) => events.push(event) });
    await expect(start).rejects.toThrow(/replica a-\d ended:[\s\S]*more than a third of electionTimeoutMs/);
    const pids = events.flatMap((event) => (event.event === 'started' ? [event.pid] : []));
    expect(pids).toHaveLength(3);
    for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow();
    const codes = events.flatMap((event) => (event.event === 'exited' ? [event.code ?? event.signal] : []));
    expect(codes).toHaveLength(3);
    expect(codes).toContain(2);
  });

  test('a base port in use is said before anything is started', async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = holder.address() as { port: number };
      await expect(LocalCluster.start({ dir, basePort: port })).rejects.toThrow('in use');
      expect(await blockIsFree('127.0.0.1', port, 1)).toBe(false);
    } finally {
      holder.close();
    }
  });

  test('a group has 1, 3 or 5 replicas', async () => {
    await expect(LocalCluster.start({ dir, replicas: 2 })).rejects.toThrow('1, 3 or 5');
  });

  test('free blocks are whole, and nobody answers there', async () => {
    const base = await freeBasePort('127.0.0.1', 3);
    expect(base % PORT_STRIDE).toBe(0);
    expect(await httpGet(`http://127.0.0.1:${base}/`, 1000)).toBeNull();
  });
});
