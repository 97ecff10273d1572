import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cli } from '../cli/run.ts';
import { numbered, TestCluster, until } from './test-cluster.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');
const Exit = { done: 0, failed: 1, usage: 2, unreachable: 3, timedOut: 4 } as const;
const MESSAGE_ID = expect.stringMatching(/^[0-9A-F]{32}$/);

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

const lines = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('command line', () => {
  test('F42 topic create, update, list, describe, delete', async () => {
    expect(await cluster.json('topic', 'create', 'orders', '--queues', '2')).toMatchObject({
      topic: 'orders',
      queues: 2,
      perm: 'rw',
      messageType: 'normal',
    });
    expect(await cluster.json('topic', 'update', 'orders', '--queues', '3', '--perm', 'r')).toMatchObject({ queues: 3, perm: 'r' });
    expect(await cluster.json('topic', 'update', 'orders', '--perm', 'rw')).toMatchObject({ queues: 3, perm: 'rw' });
    expect(await cluster.json('topic', 'list')).toMatchObject({
      topics: expect.arrayContaining([expect.objectContaining({ topic: 'orders', queues: 3, messages: 0 })]),
    });
    expect(await cluster.json('topic', 'describe', 'orders')).toMatchObject({
      topic: 'orders',
      placement: [{ brokerName: 'a', queues: 3 }],
      queues: [0, 1, 2].map((queueId) => ({ queueId, minOffset: 0, maxOffset: 0 })),
    });
    await cluster.json('topic', 'create', 'passing');
    expect(await cluster.json('topic', 'delete', 'passing')).toEqual({
      topic: 'passing',
      deleted: true,
      groups: [{ brokerName: 'a', error: null }],
    });
    expect((await cluster.cli('topic', 'describe', 'passing')).exit).toBe(Exit.failed);
    expect((await cluster.cli('topic', 'create', 'orders', '--queues', '9')).exit).toBe(Exit.failed);
    const table = await cluster.cli('topic', 'list');
    expect(table.stdout).toMatch(/^TOPIC +QUEUES/);
    expect(table.stdout).toContain('orders');
  });

  test('F42 send, consume, message get, group list, describe, lag, reset-offset', async () => {
    await cluster.json('topic', 'create', 'sales', '--queues', '1');
    const sent = await cluster.json(
      'send',
      'sales',
      '--body',
      'hello',
      '--tag',
      'T',
      '--key',
      'k1',
      '--key',
      'k2',
      '--order-key',
      'customer',
    );
    expect(sent).toMatchObject({ msgId: MESSAGE_ID, queueId: 0, offset: 0 });
    const many = await cli(
      ['send', 'sales', '--json', '--endpoint', cluster.local.endpoints[0] as string],
      {},
      `${numbered(9, 1).join('\n')}\n`,
    );
    expect(many.exit).toBe(Exit.done);
    expect(lines(many.stdout)).toEqual(numbered(9, 1).map((_, at) => expect.objectContaining({ msgId: MESSAGE_ID, offset: at + 1 })));

    const shown = {
      msgId: sent['msgId'],
      topic: 'sales',
      queueId: 0,
      offset: 0,
      tag: 'T',
      keys: ['k1', 'k2'],
      orderKey: 'customer',
      body: 'hello',
    };
    expect(await cluster.json('message', 'get', sent['msgId'] as string)).toMatchObject(shown);
    expect(await cluster.json('message', 'get', '--topic', 'sales', '--queue', '0', '--offset', '0')).toMatchObject(shown);
    expect((await cluster.cli('message', 'get', '--topic', 'sales', '--offset', '99')).exit).toBe(Exit.failed);

    const consumed = await cluster.cli('consume', 'sales', '--group', 'desk', '--from', 'first', '--max', '4', '--timeout', '30', '--json');
    expect(consumed.exit, consumed.stderr).toBe(Exit.done);
    expect(lines(consumed.stdout)).toEqual(
      ['hello', ...numbered(3, 1)].map((body, offset) => expect.objectContaining({ body, offset, topic: 'sales' })),
    );
    expect(await cluster.json('group', 'list')).toMatchObject({
      groups: expect.arrayContaining([expect.objectContaining({ group: 'desk', members: 0, lag: 6 })]),
    });
    expect(await cluster.json('group', 'lag', 'desk')).toMatchObject({ group: 'desk', lag: 6 });
    expect(await cluster.json('group', 'describe', 'desk')).toMatchObject({
      group: 'desk',
      members: [],
      queues: [{ topic: 'sales', queueId: 0, committedOffset: 4, maxOffset: 10, lag: 6 }],
    });
    expect(await cluster.json('group', 'reset-offset', 'desk', '--topic', 'sales', '--queue', '0', '--offset', '8')).toEqual({
      group: 'desk',
      topic: 'sales',
      queues: [{ brokerName: 'a', queueId: 0, previous: 4, offset: 8 }],
    });
    const rest = await cluster.cli('consume', 'sales', '--group', 'desk', '--max', '2', '--timeout', '30');
    expect(rest.stdout).toBe('m8\nm9\n');
    expect((await cluster.cli('group', 'lag', 'nobody')).exit).toBe(Exit.failed);
  });

  test('F42 cluster status, raft status and transfer, verify', async () => {
    const leader = await cluster.local.waitLeader();
    const status = await cluster.json('cluster', 'status');
    expect(status).toMatchObject({ clusterId: 'local', groups: [{ brokerName: 'a', leader }] });
    const [group] = status['groups'] as { term: number; replicas: Record<string, unknown>[] }[];
    expect(group?.replicas.map(({ replicaId, role }) => [replicaId, role])).toEqual(
      [1, 2, 3].map((id) => [id, id === leader ? 'leader' : 'follower']),
    );
    const target = (leader % 3) + 1;
    expect(await cluster.json('raft', 'transfer', '--to', String(target))).toMatchObject({ brokerName: 'a', leader: target });
    expect(await cluster.local.waitLeader()).toBe(target);
    const raft = (await cluster.json('raft', 'status'))['replicas'] as Record<string, unknown>[];
    expect(raft.map(({ reachable }) => reachable)).toEqual([true, true, true]);
    expect(raft.every(({ term }) => Number(term) > (group?.term ?? 0))).toBe(true);
    const verified = await cluster.json('verify');
    expect(verified).toMatchObject({ identical: true, groups: [{ brokerName: 'a', replicaIds: [1, 2, 3], difference: null }] });

    const other = (target % 3) + 1;
    await cluster.local.kill(other);
    expect((await cluster.json('raft', 'status'))['replicas']).toContainEqual(
      expect.objectContaining({ replicaId: other, reachable: false }),
    );
    expect((await cluster.cli('verify', '--timeout', '1')).exit).toBe(Exit.unreachable);
    await cluster.local.restart(other);
  }, 60_000);

  test('F42 exit codes: wrong usage, not reachable, timed out', async () => {
    expect((await cluster.cli('send')).exit).toBe(Exit.usage);
    expect((await cluster.cli('topic', 'create', 't', '--queues', 'many')).exit).toBe(Exit.usage);
    expect((await cli(['send', 't', '--body', 'x', '--endpoint', 'http://127.0.0.1'])).exit).toBe(Exit.usage);
    expect((await cli(['cluster', 'status', '--endpoint', 'ws://127.0.0.1:1'])).exit).toBe(Exit.unreachable);
    expect((await cli(['send', 't', '--body', 'x', '--endpoint', 'ws://127.0.0.1:1'])).exit).toBe(Exit.unreachable);
    await cluster.json('topic', 'create', 'idle', '--queues', '1');
    expect((await cluster.cli('consume', 'idle', '--group', 'idle', '--max', '1', '--timeout', '0.2')).exit).toBe(Exit.timedOut);
    expect((await cluster.cli('consume', 'idle', '--group', 'idle', '--timeout', '0.2')).exit).toBe(Exit.done);
    expect((await cluster.cli('send', 'no-such-topic', '--body', 'x')).exit).toBe(Exit.failed);
  });

  test('F42 bench produce, consume and e2e print the stated document', async () => {
    const shape = {
      peer: 'ledgermq',
      mode: expect.any(String),
      msg_bytes: 64,
      msgs_per_s: expect.any(Number),
      mb_per_s: expect.any(Number),
      p50_ms: expect.any(Number),
      p99_ms: expect.any(Number),
      max_ms: expect.any(Number),
      errors: 0,
      seconds: expect.any(Number),
    };
    for (const mode of ['sync', 'async', 'batch']) {
      const args = ['--topic', 'bench', '--size', '64', '--seconds', '0.5', '--warmup', '0.1', '--mode', mode, '--concurrency', '8'];
      const result = await cluster.json('bench', 'produce', ...args);
      expect(result).toEqual({ ...shape, mode: expect.stringContaining(mode) });
      expect(result['msgs_per_s']).toBeGreaterThan(0);
    }
    expect(await cluster.json('bench', 'consume', '--topic', 'bench', '--group', 'bench', '--size', '64')).toMatchObject({
      ...shape,
      msg_bytes: expect.any(Number),
    });
    expect(
      await cluster.json('bench', 'e2e', '--topic', 'bench-e2e', '--size', '64', '--seconds', '0.5', '--warmup', '0.1', '--rate', '500'),
    ).toMatchObject(shape);
  }, 60_000);

  test('F42 bench produce makes a cluster of several broker groups of its own, and leaves nothing of it', async () => {
    const parent = mkdtempSync(join(tmpdir(), 'ledgermq-bench-'));
    try {
      const small = ['--size', '64', '--queues', '1', '--seconds', '0.5', '--warmup', '0.1', '--concurrency', '8'];
      const ran = await cli(['bench', 'produce', '--groups', '2', '--dir', parent, '--json', ...small]);
      expect(ran.stderr).toContain('starting 6 replicas in');
      expect(ran.exit).toBe(Exit.done);
      expect(JSON.parse(ran.stdout)).toMatchObject({ mode: 'async-8', errors: 0 });
      expect(readdirSync(parent)).toEqual([]);
    } finally {
      rmSync(parent, { recursive: true, force: true });
    }
  }, 60_000);

  test('F42 a consume whose cluster went away ends with exit code 3 or 4, and so does its process', async () => {
    const own = await TestCluster.start();
    try {
      await own.createTopic('gone');
      await own.json('send', 'gone', '--body', 'only one');
      const args = [
        MAIN,
        'consume',
        'gone',
        '--group',
        'g',
        '--from',
        'first',
        '--timeout',
        '2',
        '--endpoint',
        own.local.endpoints.join(','),
      ];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] });
      let output = '';
      child.stdout.on('data', (chunk) => {
        output += chunk;
      });
      const exited = once(child, 'exit');
      await until('the message is printed', () => output === 'only one\n');
      await own.local.kill();
      const [code, signal] = await Promise.race([exited, until('it ends', () => child.exitCode !== null, 20_000).then(() => exited)]);
      expect(signal).toBeNull();
      expect([Exit.unreachable, Exit.timedOut]).toContain(code);
    } finally {
      await own.stop();
    }
  }, 60_000);
});
