import { closeSync, openSync, readdirSync, readSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueue } from '../../src/index.ts';
import { dense, drain, MIB, TestCluster, until } from './test-cluster.ts';

const SEGMENT_BYTES = 16 * MIB;
const HEADER_BYTES = 4096;
const BODY_BYTES = 128 * 1024;

let cluster: TestCluster;
let client: LedgerClient;
let queue: MessageQueue;
beforeAll(async () => {
  cluster = await TestCluster.start({
    segmentBytes: SEGMENT_BYTES,
    hotTailBytes: 8 * MIB,
    snapshotIntervalBytes: 16 * MIB,
    scrubBytesPerSecond: 256 * MIB,
    catchUpBytesPerSecond: 1024 * MIB,
  });
  client = cluster.client();
  [queue] = (await cluster.createTopic('big')) as [MessageQueue];
});
afterAll(() => cluster.stop());

let sent = 0;
async function fill(megabytes: number): Promise<void> {
  // What is written is as large as it looks.
  const producer = client.producer({ compressType: 'none' });
  const bodies = dense((megabytes * MIB) / BODY_BYTES, sent).map((number) => `${number}:`.padEnd(BODY_BYTES, `${number % 10}`));
  await Promise.all(bodies.map((body) => producer.send({ topic: 'big', body })));
  sent += bodies.length;
  await producer.close();
}

const pathOf = (replicaId: number, segment: string): string => join(cluster.local.replica(replicaId).dataDir, 'commitlog', segment);

function damage(replicaId: number, segment: string, offset: number, change: (bytes: Uint8Array) => void, sizeBytes = 1): void {
  const file = openSync(pathOf(replicaId, segment), 'r+');
  const bytes = new Uint8Array(sizeBytes);
  readSync(file, bytes, 0, sizeBytes, offset);
  change(bytes);
  writeSync(file, bytes, 0, sizeBytes, offset);
  closeSync(file);
}
const flip = (bytes: Uint8Array): void => {
  bytes[0] = (bytes[0] as number) ^ 0x10;
};

/** Small messages one after the other until it is stopped: how long each took, and that each was acknowledged. */

function load(): { stop(): Promise<number[]> } {
  const producer = client.producer({ compressType: 'none' });
  const times: number[] = [];
  let running = true;
  const work = (async () => {
    while (running) {
      const startedMs = performance.now();
      await producer.send({ topic: 'big', body: `${sent++}:` });
      times.push(performance.now() - startedMs);
    }
  })();
  return {
    stop: async () => {
      running = false;
      await work;
      await producer.close();
      return times.sort((a, b) => a - b);
    },
  };
}

const p99 = (sorted: readonly number[]): string => (sorted[Math.floor(sorted.length * 0.99)] ?? 0).toFixed(1);

/** Pulls from the replica with the damage, while it is there: what it serves is right, or it says that it repairs. */
async function pullFrom(replicaId: number): Promise<number> {
  await cluster.lead(replicaId);
  const puller = client.pullConsumer();
  let refused = 0;
  for (let offset = 0; offset < 500; ) {
    try {
      const pulled = await puller.pull(queue, offset);
      for (const message of pulled.messages) {
        const number = Number(message.text().split(':', 1)[0]);
        expect(number).toBe(message.offset);
        expect(message.text()).toBe(`${number}:`.padEnd(BODY_BYTES, `${number % 10}`));
      }
      offset = pulled.nextOffset;
    } catch (error) {
      expect(error).toMatchObject({ code: 'REPAIRING' });
      refused++;
    }
  }
  return refused;
}

async function everythingIsThere(): Promise<void> {
  const stored = await drain(client, queue);
  expect(stored.length).toBe(sent);
  expect(stored.map((message) => Number(message.text().split(':', 1)[0]))).toEqual(dense(sent));
  for (const message of stored) {
    const number = Number(message.text().split(':', 1)[0]);
    if (message.body.length > 100) expect(message.text()).toBe(`${number}:`.padEnd(BODY_BYTES, `${number % 10}`));
  }
}

async function identical(): Promise<void> {
  const end = await cluster.settled();
  const hash = cluster.logHash(1, 0, end);
  expect(cluster.logHash(2, 0, end)).toBe(hash);
  expect(cluster.logHash(3, 0, end)).toBe(hash);
  expect(await cluster.json('verify')).toMatchObject({ identical: true });
}

describe('verify', () => {
  test('F42 FAULTS 8 verify names what it found damaged, and finds it identical afterwards', async () => {
    const quiet = await TestCluster.start({ segmentBytes: SEGMENT_BYTES, hotTailBytes: 8 * MIB, scrubBytesPerSecond: 0 });
    try {
      await quiet.createTopic('t');
      const producer = quiet.client().producer({ compressType: 'none' });
      for (let i = 0; i < 6; i++) {
        await Promise.all(dense(64, i * 64).map((n) => producer.send({ topic: 't', body: `${n}:`.padEnd(BODY_BYTES, 'v') })));
      }
      await quiet.settled();
      expect(await quiet.json('verify')).toMatchObject({ identical: true, groups: [{ damages: [] }] });
      const path = join(quiet.local.replica(2).dataDir, 'commitlog', quiet.segments(2)[0] as string);
      const file = openSync(path, 'r+');
      writeSync(file, new Uint8Array([0xff, 0xfe, 0xfd]), 0, 3, 3 * MIB);
      closeSync(file);
      const ran = await quiet.cli('verify', '--json');
      expect(ran.exit).toBe(1);
      const [group] = (JSON.parse(ran.stdout) as { groups: { damages: { replicaId: number; position: number }[] }[] }).groups;
      expect(group?.damages).toMatchObject([{ replicaId: 2 }]);
      expect(group?.damages[0]?.position).toBeLessThanOrEqual(3 * MIB);
      expect(group?.damages[0]?.position).toBeGreaterThan(2 * MIB - 4096);
      expect(await quiet.json('verify')).toMatchObject({ identical: true, groups: [{ damages: [] }] });
      expect(quiet.logHash(2, 0, SEGMENT_BYTES)).toBe(quiet.logHash(1, 0, SEGMENT_BYTES));
    } finally {
      await quiet.stop();
    }
  }, 60_000);
});

describe('repair', () => {
  test('FAULTS 5 bits flipped and ranges zeroed in committed segments of each replica by turns, under load: nothing lost, nothing wrong served, repaired', async () => {
    await fill(64);
    await cluster.settled();
    const quiet = load();
    await until('some are sent', async () => sent > 600);
    const before = await quiet.stop();
    for (const replicaId of [1, 2, 3]) {
      const sending = load();
      const [first, second, third] = cluster.segments(replicaId) as [string, string, string];
      const repairedBefore = (await cluster.metric(replicaId, 'ledgermq_log_repaired_bytes_total')) ?? 0;
      const secondsBefore = (await cluster.metric(replicaId, 'ledgermq_log_repair_seconds_total')) ?? 0;
      for (let offset = HEADER_BYTES + 100; offset < SEGMENT_BYTES - MIB; offset += 3 * MIB + 12_345)
        damage(replicaId, first, offset, flip);
      damage(replicaId, second, HEADER_BYTES, (bytes) => bytes.fill(0), 12 * MIB);
      // An old write in the place of a newer one: whole in itself.
      const misdirected = new Uint8Array(2 * MIB);
      const source = openSync(pathOf(replicaId, third), 'r');
      readSync(source, misdirected, 0, misdirected.length, HEADER_BYTES);
      closeSync(source);
      damage(replicaId, third, 6 * MIB, (bytes) => bytes.set(misdirected), misdirected.length);
      await pullFrom(replicaId);
      await until(
        `replica ${replicaId} has repaired its log`,
        () => [first, second, third].every((name) => sameAsOthers(replicaId, name)),
        60_000,
      );
      const times = await sending.stop();
      const bytes = ((await cluster.metric(replicaId, 'ledgermq_log_repaired_bytes_total')) ?? 0) - repairedBefore;
      const seconds = ((await cluster.metric(replicaId, 'ledgermq_log_repair_seconds_total')) ?? 0) - secondsBefore;
      console.log(
        `replica ${replicaId}: ${(bytes / MIB).toFixed(1)} MiB repaired at ${(bytes / 1e6 / seconds).toFixed(0)} MB/s; ` +
          `producers' p99 ${p99(times)} ms, ${p99(before)} ms without repair`,
      );
      expect(bytes).toBeGreaterThan(12 * MIB);
    }
    await everythingIsThere();
    await identical();
  }, 180_000);

  test('FAULTS 5 a stopped replica loses a segment file, the end of another, a header and the state at its head: it comes back, repairs, and then counts', async () => {
    const victim = 2;
    await cluster.local.stopReplica(victim);
    const [first, second, third, fourth] = cluster.segments(victim) as [string, string, string, string];
    damage(victim, first, 8, flip);
    damage(victim, first, 5 * MIB, flip);
    rmSync(pathOf(victim, second));
    truncateSync(pathOf(victim, third), 9 * MIB + 4096);
    damage(victim, fourth, HEADER_BYTES + 20, flip);
    const snapshots = join(cluster.local.replica(victim).dataDir, 'snapshot');
    for (const name of readdirSync(snapshots)) {
      const file = openSync(join(snapshots, name), 'r+');
      writeSync(file, new Uint8Array([1, 2, 3, 4]), 0, 4, 80);
      closeSync(file);
    }
    await cluster.local.restart(victim);
    await until('the files are what they were', () => [first, second, third, fourth].every((name) => sameAsOthers(victim, name)), 60_000);
    await cluster.lead(victim);
    await everythingIsThere();
    await identical();
  }, 120_000);
});

function sameAsOthers(replicaId: number, segment: string): boolean {
  const other = replicaId === 1 ? 2 : 1;
  const from = Number(segment);
  return cluster.logHash(replicaId, from, from + SEGMENT_BYTES) === cluster.logHash(other, from, from + SEGMENT_BYTES);
}
