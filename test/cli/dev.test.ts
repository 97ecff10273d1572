import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LocalCluster } from '../../src/cli/local-cluster.ts';
import { cli } from './run.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe('dev', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'ledgermq-dev-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));

  const start = async (): Promise<{ child: ChildProcess; ready: Record<string, unknown>; pids: number[] }> => {
    const child = spawn(process.execPath, [MAIN, 'dev', '--json', '--base-port', '0', '--dir', dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line')) as [string];
    const ready = JSON.parse(line) as Record<string, unknown>;
    return { child, ready, pids: ready['pids'] as number[] };
  };

  test('F42 command line: dev says when it is ready, and a SIGINT that comes twice stops everything cleanly', async () => {
    const { child, ready, pids } = await start();
    expect(ready).toMatchObject({ event: 'ready', endpoints: [expect.any(String), expect.any(String), expect.any(String)] });
    expect(ready['admin']).toHaveLength(3);
    child.kill('SIGINT');
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([0, null]);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test('F42 command line: dev --json says that a replica ended, and that it is started again', async () => {
    const child = spawn(process.execPath, [MAIN, 'dev', '--json', '--base-port', '0', '--dir', dir], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
    const next = async (): Promise<Record<string, unknown>> => JSON.parse((await lines.next()).value as string);
    const { pids } = (await next()) as { pids: number[] };
    process.kill(pids[1] as number, 'SIGKILL');
    expect(await next()).toMatchObject({ event: 'exited', replicaId: 2, expected: false, signal: 'SIGKILL' });
    const started = await next();
    expect(started).toMatchObject({ event: 'started', replicaId: 2, again: true });
    expect(pids).not.toContain(started['pid']);
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  test('replicas end by themselves when their parent was killed with -9', async () => {
    const { child, pids } = await start();
    child.kill('SIGKILL');
    await once(child, 'exit');
    await expect.poll(() => pids.filter(isAlive), { timeout: 30_000 }).toEqual([]);
  });

  test('F42 command line: a killed leader is replaced, comes back, and verify finds all identical', async () => {
    await using cluster = await LocalCluster.start({ dir });
    const endpoint = cluster.endpoints.join(',');
    const ask = async (...args: string[]): Promise<unknown> => {
      const ran = await cli([...args, '--json', '--endpoint', endpoint]);
      expect(ran.exit, ran.stderr).toBe(0);
      return JSON.parse(ran.stdout);
    };
    const misnamed = await cli(['topic', 'create', 'no good', '--endpoint', endpoint]);
    expect(misnamed.stderr).toBe('ledgermq: BAD_NAME: the topic name "no good" has characters other than letters, digits, % | - _\n');
    expect(misnamed.exit).toBe(2);
    const missing = await cli(['consume', 'none', '--group', 'g', '--max', '1', '--timeout', '3', '--endpoint', endpoint]);
    expect(missing.stderr).toBe('ledgermq: TOPIC_NOT_FOUND: no topic "none"; trying on\ntimed out: 0 of 1 messages received\n');
    expect(missing.exit).toBe(4);
    await ask('topic', 'create', 'orders', '--queues', '1');
    expect(await ask('send', 'orders', '--body', 'before')).toMatchObject({ queueId: 0, offset: 0 });
    const first = await cluster.waitLeader();
    await cluster.kill(first);
    const second = await cluster.waitLeader();
    expect(second).not.toBe(first);
    expect(await ask('send', 'orders', '--body', 'after')).toMatchObject({ queueId: 0, offset: 1 });
    await cluster.restart(first);
    expect(await ask('verify')).toMatchObject({ identical: true });
    expect(await ask('consume', 'orders', '--group', 'g', '--from', 'first', '--max', '1', '--timeout', '30')).toMatchObject({
      body: 'before',
    });
    expect(await ask('consume', 'orders', '--group', 'g', '--max', '1', '--timeout', '30')).toMatchObject({ body: 'after' });
  });
});
