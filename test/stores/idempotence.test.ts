import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { idempotent, idempotentInTransaction, type LedgerClient, PostgresMarks, RedisMarks } from '../../src/index.ts';
import { TestCluster, until } from '../e2e/test-cluster.ts';
import { PostgresServer } from './postgres-server.ts';
import { RedisServer } from './redis-server.ts';

/** F26 with the stores themselves: a Redis and a PostgreSQL server, and three replicas. */
let cluster: TestCluster;
let client: LedgerClient;
let redisServer: RedisServer;
let redis: Redis;
let postgres: PostgresServer;
let pool: pg.Pool;
let children: ChildProcess[] = [];

beforeAll(async () => {
  [cluster, redisServer, postgres] = await Promise.all([TestCluster.start(), RedisServer.start(), PostgresServer.start()]);
  client = cluster.client();
  redis = new Redis(redisServer.path);
  pool = new pg.Pool({ host: postgres.host, user: 'postgres' });
  await pool.query('CREATE TABLE effects (consumer_group text NOT NULL, msg_id text NOT NULL)');
  await Promise.all([1, 2, 3].map(() => new PostgresMarks(() => pool.connect()).createTable()));
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
});
afterAll(async () => {
  redis.disconnect();
  await pool.end();
  await Promise.all([cluster.stop(), redisServer.stop(), postgres.stop()]);
});

async function effects(group: string): Promise<number> {
  const { rows } = await pool.query<{ count: string }>('SELECT count(*) FROM effects WHERE consumer_group = $1', [group]);
  return Number(rows[0]?.count);
}

async function sendOne(topic: string): Promise<string> {
  await cluster.createTopic(topic);
  return (await client.producer().send({ topic, body: 'pay' })).msgId;
}

/** Processes one after another on the same message: the first one dies at a step, the next one does what is left. */
async function crash(kind: 'redis' | 'postgres', dieAt: string): Promise<{ effects: number; said: string; msgId: string }> {
  const name = `f26-${kind}-${dieAt}`;
  const msgId = await sendOne(name);
  const start = (step: string): ChildProcess => {
    const args = [cluster.local.endpoints.join(','), name, name, postgres.host, kind, step, redisServer.path];
    const child = spawn(process.execPath, [join(import.meta.dirname, 'member.ts'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    return child;
  };
  const [, signal] = (await once(start(dieAt), 'exit')) as [number | null, string | null];
  expect(signal).toBe('SIGKILL');
  const next = start('never');
  const [said] = (await once(createInterface({ input: next.stdout as NodeJS.ReadableStream }), 'line')) as [string];
  await until('the offset has moved', async () => (await client.admin().lag(name)) === 0);
  return { effects: await effects(name), said, msgId };
}

/** A consumer that is given the same messages twice, by a reset of its group's offset. */
async function twice(
  topic: string,
  group: string,
  handler: Parameters<typeof idempotent>[1],
  between: () => Promise<unknown>,
): Promise<void> {
  for (let round = 0; round < 2; round++) {
    let done = 0;
    const consumer = client.consumer({
      group,
      topics: [topic],
      consumeFromWhere: 'first',
      handler: async (message, context) => {
        await handler(message, context);
        done += 1;
      },
    });
    await consumer.start();
    await until('the message is done', () => done === 1);
    await consumer.close();
    if (round === 0) {
      await between();
      await cluster.json('group', 'reset-offset', group, '--topic', topic, '--to', 'first');
    }
  }
}

describe('F26 Redis: SET NX with an expiry', () => {
  const KEY = (group: string, msgId: string): string => `ledgermq:once:${group}/${msgId}`;

  test('delivered twice is handled once; with its key expired or lost it is handled twice', async () => {
    const msgId = await sendOne('f26-redis');
    const handled = { kept: 0, expired: 0, lost: 0 };
    const handlers = (group: keyof typeof handled, retainMs: number) =>
      idempotent({ store: new RedisMarks(redis), retainMs, leaseMs: 1_000 }, (message) => {
        expect(message.msgId).toBe(msgId);
        handled[group] += 1;
      });
    await twice('f26-redis', 'kept', handlers('kept', 60_000), async () => {
      expect(await redis.get(KEY('kept', msgId))).toBe('done');
      expect(await redis.pttl(KEY('kept', msgId))).toBeGreaterThan(50_000);
    });
    await twice('f26-redis', 'expired', handlers('expired', 1_001), () =>
      until('expired', async () => (await redis.exists(KEY('expired', msgId))) === 0),
    );
    await twice('f26-redis', 'lost', handlers('lost', 60_000), () => redis.flushall());
    expect(handled).toEqual({ kept: 1, expired: 2, lost: 2 });
  });

  test('claims: one of many, by its owner alone renewed and released, ended by its lease', async () => {
    const store = new RedisMarks(redis);
    const claims = await Promise.all(['a', 'b', 'c', 'd'].map((owner) => store.claim('cg/k', owner, 60_000)));
    expect(claims.sort()).toEqual(['busy', 'busy', 'busy', 'claimed']);
    await redis.del('ledgermq:once:cg/k');
    expect(await store.claim('cg/k', 'a', 60_000)).toBe('claimed');
    // The same command a second time: the answer to the first one got lost with its connection.
    expect(await store.claim('cg/k', 'a', 60_000)).toBe('claimed');
    await store.release('cg/k', 'b');
    expect(await store.renew('cg/k', 'b', 1)).toBe(false);
    expect(await store.claim('cg/k', 'b', 60_000)).toBe('busy');
    expect(await store.renew('cg/k', 'a', 20)).toBe(true);
    await until('the lease has ended', async () => (await store.claim('cg/k', 'b', 60_000)) === 'claimed');
    expect(await store.renew('cg/k', 'a', 60_000)).toBe(false);
    await store.complete('cg/k', 60_000);
    await store.release('cg/k', 'b');
    expect(await store.claim('cg/k', 'c', 60_000)).toBe('done');
  });

  test('kill -9 before the work: done once, by the next; after the work and before the mark: done twice; after the mark: once', async () => {
    const [claimed, worked, marked] = await Promise.all([crash('redis', 'claimed'), crash('redis', 'worked'), crash('redis', 'marked')]);
    expect([claimed.effects, worked.effects, marked.effects]).toEqual([1, 2, 1]);
    expect([claimed.said, worked.said, marked.said]).toEqual([claimed.msgId, worked.msgId, `=${marked.msgId}`]);
  });
});

describe('F26 PostgreSQL: a unique key in the transaction of the work', () => {
  test('kill -9 at every step: done once', async () => {
    const [claimed, worked, marked] = await Promise.all([
      crash('postgres', 'claimed'),
      crash('postgres', 'worked'),
      crash('postgres', 'marked'),
    ]);
    expect([claimed.effects, worked.effects, marked.effects]).toEqual([1, 1, 1]);
    expect([claimed.said, worked.said, marked.said]).toEqual([claimed.msgId, worked.msgId, `=${marked.msgId}`]);
  });

  test('delivered twice is done once, through the broker and at the same time', async () => {
    const msgId = await sendOne('f26-postgres');
    const store = new PostgresMarks(() => pool.connect());
    const handler = idempotentInTransaction({ store }, async (message, tx) => {
      await tx.query('INSERT INTO effects VALUES ($1, $2)', ['f26-postgres', message.msgId]);
    });
    await twice('f26-postgres', 'f26-postgres', handler, () => Promise.resolve());
    expect(await effects('f26-postgres')).toBe(1);
    // The second one waits at the unique key: it goes on when the first has failed.
    const began = Promise.withResolvers<void>();
    const fail = Promise.withResolvers<void>();
    const first = store.once('cg', 'at once', async () => {
      began.resolve();
      await fail.promise;
      throw new Error('not now');
    });
    await began.promise;
    let ran = 0;
    const others = [1, 2, 3].map(() =>
      store.once('cg', 'at once', async () => {
        ran += 1;
      }),
    );
    await until('they wait', async () => {
      const { rows } = await pool.query<{ count: string }>("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
      return Number(rows[0]?.count) === 3;
    });
    expect(ran).toBe(0);
    fail.resolve();
    await expect(first).rejects.toThrow('not now');
    expect((await Promise.all(others)).sort()).toEqual([false, false, true]);
    expect(ran).toBe(1);
    expect(await store.once('another group', 'at once', () => Promise.resolve())).toBe(true);
    expect(msgId).toHaveLength(32);
  });

  test('what failed leaves no mark: a throw, a swallowed error, a lost connection; the pool gets no open transaction back', async () => {
    const one = new pg.Pool({ host: postgres.host, user: 'postgres', max: 1 });
    one.on('error', () => undefined);
    const store = new PostgresMarks(() => one.connect());
    await expect(store.once('cg', 'failing', () => Promise.reject(new Error('not now')))).rejects.toThrow('not now');
    // PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, and no error.
    const swallowed = store.once('cg', 'failing', async (tx) => {
      await tx.query('INSERT INTO effects VALUES ($1, $2)', ['failing', 'x']);
      await tx.query('SELECT 1 / 0').catch(() => undefined);
    });
    await expect(swallowed).rejects.toThrow('rolled back');
    const cut = store.once('cg', 'failing', async (tx) => {
      await tx.query('INSERT INTO effects VALUES ($1, $2)', ['failing', 'y']);
      tx.on('error', () => undefined);
      await tx.query('SELECT pg_terminate_backend(pg_backend_pid())');
    });
    await expect(cut).rejects.toThrow();
    expect(await effects('failing')).toBe(0);
    expect(await store.once('cg', 'failing', () => Promise.resolve())).toBe(true);
    expect(await store.once('cg', 'failing', () => Promise.resolve())).toBe(false);
    const { rows } = await one.query<{ own: string }>('SELECT pg_current_xact_id_if_assigned()::text AS own');
    expect(rows[0]?.own).toBeNull();
    await one.end();
  });

  test('marks are kept until they are pruned, by their age', async () => {
    const store = new PostgresMarks(() => pool.connect(), { table: 'public.other_marks' });
    await store.createTable();
    await store.once('cg', 'old', (tx) => tx.query("UPDATE other_marks SET done_at = now() - interval '100 s'").then(() => undefined));
    await store.once('cg', 'new', () => Promise.resolve());
    expect(await store.prune(101_000)).toBe(0);
    expect(await store.prune(99_000)).toBe(1);
    expect(await store.once('cg', 'old', () => Promise.resolve())).toBe(true);
    expect(await store.once('cg', 'new', () => Promise.resolve())).toBe(false);
  });
});
