import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LedgerClient, MessageQueue, ReceivedMessage } from '../../src/index.ts';
import { dense, drain, MIB, TestCluster, texts, until } from './test-cluster.ts';

const SEGMENT_BYTES = 16 * MIB;
const SEGMENT_HEADER_BYTES = 4096;
const RETENTION_BYTES = 48 * MIB;
const BODY_BYTES = 256 * 1024;
/** The leader looks for segments to cut every 10 s. */
const CUT_TIMEOUT_MS = 40_000;
const SHIFT_MS = 2 * 3_600_000;
/** Longer than it takes until the log is cut. */
const DELAY_MS = 45_000;
/** Of log time, which stands a little beside the machine's clock. */
const CLOCK_TOLERANCE_MS = 500;

let cluster: TestCluster;
let client: LedgerClient;
let queue: MessageQueue;
let small: MessageQueue;
beforeAll(async () => {
  cluster = await TestCluster.start({
    segmentBytes: SEGMENT_BYTES,
    hotTailBytes: 8 * MIB,
    snapshotIntervalBytes: 16 * MIB,
    retentionBytes: RETENTION_BYTES,
    retentionHours: 1,
  });
  client = cluster.client();
  [queue] = (await cluster.createTopic('big')) as [MessageQueue];
  [small] = (await cluster.createTopic('small')) as [MessageQueue];
});
afterAll(() => cluster.stop());

let sent = 0;
/** Sends large messages, numbered over the whole file: message n of the queue has offset n. */
async function fill(megabytes: number): Promise<void> {
  // What is written is as large as it looks.
  const producer = client.producer({ compressType: 'none' });
  const count = (megabytes * MIB) / BODY_BYTES;
  const bodies = dense(count, sent).map((number) => `${number}:`.padEnd(BODY_BYTES, 'x'));
  const results = await Promise.all(bodies.map((body) => producer.send({ topic: 'big', body })));
  expect(results.map(({ offset }) => offset)).toEqual(dense(count, sent));
  sent += count;
  await producer.close();
}

let smallSent = 0;
async function sendSmall(body: string): Promise<void> {
  expect(await client.producer().send({ topic: 'small', body })).toMatchObject({ offset: smallSent++ });
}

const numberOf = (message: ReceivedMessage): number => Number(message.text().split(':', 1)[0]);
const placesOf = (messages: readonly ReceivedMessage[]): unknown[] =>
  messages.map((message) => [message.offset, message.msgId, message.storeTimeMs, numberOf(message), message.body.length]);
async function follower(): Promise<number> {
  const leader = await cluster.local.waitLeader();
  return [1, 2, 3].find((replicaId) => replicaId !== leader) as number;
}

describe('storage', () => {
  test('F28 CommitLog: segment files named by 20 digits, append-only, byte-identical on every replica', async () => {
    await sendSmall('one');
    await fill(20);
    const firstEnd = await cluster.settled();
    const before = cluster.logHash(1, 0, firstEnd);
    await fill(20);
    const end = await cluster.settled();
    for (const replicaId of [1, 2, 3]) {
      const names = cluster.segments(replicaId);
      expect(names.length).toBeGreaterThanOrEqual(3);
      for (const [at, name] of names.entries()) expect(name).toBe(String(at * SEGMENT_BYTES).padStart(20, '0'));
      expect(cluster.logHash(replicaId, 0, firstEnd)).toBe(before);
    }
    const whole = cluster.logHash(1, 0, end);
    expect(cluster.logHash(2, 0, end)).toBe(whole);
    expect(cluster.logHash(3, 0, end)).toBe(whole);
    // Written once: the log holds what was sent and little besides.
    expect(end).toBeGreaterThan(sent * BODY_BYTES);
    expect(end).toBeLessThan(sent * BODY_BYTES * 1.05 + 3 * MIB);
    expect(await cluster.json('verify')).toMatchObject({ identical: true });
  }, 60_000);

  test('F29 ConsumeQueue: deleted at a stopped replica, rebuilt from the CommitLog, with the same answers', async () => {
    // Each test stands alone: -t runs one of them.
    if (sent === 0) await fill(20);
    const victim = await follower();
    const before = [placesOf(await drain(client, queue)), placesOf(await drain(client, small))];
    expect(before[0]).toHaveLength(sent);
    await cluster.local.stopReplica(victim);
    rmSync(join(cluster.local.replica(victim).dataDir, 'consumequeue'), { recursive: true });
    await cluster.local.restart(victim);
    await cluster.lead(victim);
    expect([placesOf(await drain(client, queue)), placesOf(await drain(client, small))]).toEqual(before);
    const last = (await drain(client, queue, sent - 1))[0] as ReceivedMessage;
    expect(numberOf(await client.admin().message(last.msgId))).toBe(sent - 1);
    await sendSmall('two');
  }, 60_000);

  test('F36 acknowledged messages survive kill -9 of all three replicas at once', async () => {
    const [crashed] = (await cluster.createTopic('crashed')) as [MessageQueue];
    const producer = client.producer();
    const acknowledged = new Map<number, string>();
    let number = 0;
    let running = true;
    const sends: Promise<void>[] = [];
    const load = (async () => {
      while (running) {
        const body = `n${number++}`;
        const sending = producer.send({ topic: 'crashed', body }).then(({ offset }) => {
          acknowledged.set(offset as number, body);
        });
        sends.push(sending.catch(() => undefined));
        if (number % 20 === 0) await sends.at(-20);
      }
    })();
    await until('some sends are acknowledged', () => acknowledged.size >= 500);
    await Promise.all([1, 2, 3].map((replicaId) => cluster.local.kill(replicaId)));
    const before = new Map(acknowledged);
    running = false;
    await Promise.all([1, 2, 3].map((replicaId) => cluster.local.restart(replicaId)));
    await load;
    await Promise.all(sends);
    const stored = await drain(client, crashed);
    expect(stored.map(({ offset }) => offset)).toEqual(dense(stored.length));
    for (const [offset, body] of before) expect(stored[offset]?.text()).toBe(body);
    expect(texts(stored)).toEqual(dense(number).map((at) => `n${at}`));
    expect(await cluster.json('verify')).toMatchObject({ identical: true });
  }, 90_000);

  test('F34 F35 retention by size, and a follower behind the log start that gets snapshot and segments', async () => {
    if (sent === 0) await fill(20);
    await sendSmall('early');
    const behind = await follower();
    await cluster.local.kill(behind);
    const endThen = Math.max(...cluster.segments(behind).map(Number)) + SEGMENT_BYTES;
    await fill(80);
    const leader = await cluster.local.waitLeader();
    let startPosition = 0;
    let endPosition = 0;
    await until(
      'the log starts behind what the follower has, and is as small as it should be',
      async () => {
        ({ startPosition, endPosition } = (await cluster.status(leader)) as { startPosition: number; endPosition: number });
        return startPosition >= endThen && endPosition - startPosition <= RETENTION_BYTES;
      },
      CUT_TIMEOUT_MS,
    );
    // Behind the header of a whole segment.
    expect(startPosition % SEGMENT_BYTES).toBe(SEGMENT_HEADER_BYTES);
    expect(endPosition - startPosition).toBeGreaterThan(RETENTION_BYTES - SEGMENT_BYTES);
    const firstSegment = String(startPosition - SEGMENT_HEADER_BYTES).padStart(20, '0');
    await until('cut segments are deleted', () => cluster.segments(leader)[0] === firstSegment);

    const range = await client.pullConsumer().range(queue);
    expect(range.minOffset).toBeGreaterThan(0);
    expect(range.maxOffset).toBe(sent);
    const kept = await drain(client, queue);
    expect(kept.map(numberOf)).toEqual(dense(sent - range.minOffset, range.minOffset));
    // RocketMQ's "offset moved": nothing, and where to go on.
    expect(await client.pullConsumer().pull(queue, 0)).toMatchObject({
      messages: [],
      nextOffset: range.minOffset,
      minOffset: range.minOffset,
    });
    await expect(client.pullConsumer().pull(queue, sent + 1)).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
    await expect(client.admin().message({ ...queue, offset: 0 })).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
    // A queue that lost everything keeps its place.
    expect(await client.pullConsumer().range(small)).toMatchObject({ minOffset: smallSent, maxOffset: smallSent });
    await sendSmall('three');

    await cluster.local.restart(behind);
    await cluster.settled();
    expect((await cluster.status(behind))['startPosition']).toBe(startPosition);
    expect(cluster.segments(behind)).toEqual(cluster.segments(leader));
    const hash = cluster.logHash(leader, startPosition, endPosition);
    expect(cluster.logHash(behind, startPosition, endPosition)).toBe(hash);
    expect(await cluster.json('verify')).toMatchObject({ identical: true });
    await cluster.lead(behind);
    expect(placesOf(await drain(client, queue))).toEqual(placesOf(kept));
    expect(texts(await drain(client, small))).toEqual(['three']);
  }, 120_000);

  test('F34 F13 the log is cut past a message that waits, and the message is delivered once, when it is due, by another leader', async () => {
    const leader = await cluster.local.waitLeader();
    const { endPosition } = (await cluster.status(leader)) as { endPosition: number };
    const dueMs = Date.now() + DELAY_MS;
    const { msgId } = await client.producer().send({ topic: 'small', body: 'later', delayMs: DELAY_MS });
    await fill(80);
    await until(
      'the log starts behind it',
      async () => ((await cluster.status(leader))['startPosition'] ?? 0) > endPosition + SEGMENT_BYTES,
      CUT_TIMEOUT_MS,
    );
    expect(await cluster.json('message', 'get', msgId)).toMatchObject({ body: 'later' });
    await cluster.local.kill(leader);
    const minOffset = (await client.pullConsumer().range(small)).minOffset;
    await until('it is delivered', async () => (await client.pullConsumer().range(small)).maxOffset > minOffset, 2 * DELAY_MS);
    await cluster.local.restart(leader);
    await cluster.settled();
    const messages = await drain(client, small);
    expect(messages.map((message) => [message.msgId, message.text()])).toEqual([[msgId, 'later']]);
    expect((messages[0] as ReceivedMessage).storeTimeMs).toBeGreaterThanOrEqual(dueMs - CLOCK_TOLERANCE_MS);
    smallSent++;
    expect(await cluster.json('verify')).toMatchObject({ identical: true });
  }, 180_000);

  test('F34 a topic that is kept for longer: cut past it, twice, and read by offset, time and id at another leader', async () => {
    const [shelf] = (await cluster.createTopic('shelved')) as [MessageQueue];
    expect(await cluster.json('retention', 'set', 'shelved', '--hours', '24', '--max-bytes', '1000000')).toMatchObject({ failed: [] });
    const results = await Promise.all(dense(20).map((n) => client.producer().send({ topic: 'shelved', body: `kept ${n}` })));
    const stored = await drain(client, shelf);
    const leader = await cluster.local.waitLeader();
    for (let cuts = 0; cuts < 2; cuts++) {
      const { endPosition } = (await cluster.status(leader)) as { endPosition: number };
      await fill(80);
      await until(
        'the log starts behind it',
        async () => ((await cluster.status(leader))['startPosition'] ?? 0) > endPosition,
        CUT_TIMEOUT_MS,
      );
    }
    await cluster.local.kill(leader);
    await cluster.local.waitLeader();
    const kept = await drain(client, shelf);
    const asStored = (messages: readonly ReceivedMessage[]) => messages.map((m) => [m.offset, m.msgId, m.storeTimeMs, m.text()]);
    expect(asStored(kept)).toEqual(asStored(stored));
    expect(await client.pullConsumer().range(shelf)).toMatchObject({ minOffset: 0, maxOffset: 20 });
    expect(await cluster.json('message', 'get', results[7]?.msgId ?? '')).toMatchObject({ body: 'kept 7' });
    await cluster.local.restart(leader);
    await cluster.settled();
    expect(await cluster.json('verify')).toMatchObject({ identical: true });
    expect((await client.admin().retentions()).retentions).toMatchObject([{ name: 'shelved', keptMessages: 20 }]);
    // From then on it goes as everything else does.
    expect(await cluster.json('retention', 'remove', 'shelved')).toMatchObject({ failed: [] });
    await fill(80);
    await until('it is gone', async () => (await client.pullConsumer().range(shelf)).minOffset === 20, CUT_TIMEOUT_MS);
    expect((await client.admin().retentions()).retentions).toEqual([]);
    await cluster.settled();
  }, 240_000);

  test('F34 retention by time: segments older than the bound go, at all replicas alike', async () => {
    if (sent === 0) await fill(40);
    const before = await client.pullConsumer().range(queue);
    const startBefore = (await cluster.status(1))['startPosition'] as number;
    await Promise.all([1, 2, 3].map((replicaId) => cluster.local.stopReplica(replicaId)));
    const { NODE_OPTIONS } = process.env;
    process.env['NODE_OPTIONS'] = `--import=${join(import.meta.dirname, 'shifted-clock.ts')}`;
    process.env['LEDGERMQ_TEST_SHIFT_MS'] = String(SHIFT_MS);
    try {
      await Promise.all([1, 2, 3].map((replicaId) => cluster.local.restart(replicaId)));
    } finally {
      if (NODE_OPTIONS === undefined) delete process.env['NODE_OPTIONS'];
      else process.env['NODE_OPTIONS'] = NODE_OPTIONS;
      delete process.env['LEDGERMQ_TEST_SHIFT_MS'];
    }
    await sendSmall('four');
    await until(
      'every replica has cut its log',
      async () => {
        const all = await Promise.all([1, 2, 3].map((replicaId) => cluster.status(replicaId)));
        return all.every(({ startPosition }) => (startPosition as number) > startBefore && startPosition === all[0]?.['startPosition']);
      },
      CUT_TIMEOUT_MS,
    );
    const after = await client.pullConsumer().range(queue);
    expect(after.minOffset).toBeGreaterThan(before.minOffset);
    expect(after.maxOffset).toBe(sent);
    expect((await drain(client, queue)).map(numberOf)).toEqual(dense(sent - after.minOffset, after.minOffset));
    expect(texts(await drain(client, small)).at(-1)).toBe('four');
    // Only the segment that is being written is left.
    const leader = await cluster.local.waitLeader();
    const { startPosition, endPosition } = (await cluster.status(leader)) as { startPosition: number; endPosition: number };
    expect(endPosition - startPosition).toBeLessThanOrEqual(SEGMENT_BYTES);
  }, 90_000);
});
