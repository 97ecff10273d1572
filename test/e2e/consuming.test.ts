import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Consumer, LedgerClient, MessageQueue, PullResult } from '../../src/index.ts';
import { dense, numbered, TestCluster, texts, until } from './test-cluster.ts';

/** F07, ms; three times these on a loaded machine. */
const OWNERLESS_MS = { leave: 1_000, closed: 8_000, frozen: 15_000 } as const;
const SLACK = 3;

let cluster: TestCluster;
let client: LedgerClient;
beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(() => cluster.stop());

/** Sends `count` numbered messages round robin to all queues. */
async function sendTo(queues: readonly MessageQueue[], count: number): Promise<void> {
  const producer = client.producer();
  const { topic } = queues[0] as MessageQueue;
  await Promise.all(numbered(count).map((body, at) => producer.send({ topic, body, queue: queues[at % queues.length] as MessageQueue })));
  await producer.close();
}

describe('consumer groups', () => {
  test('F06 many groups on one topic, each with its own offsets, over sessions of the same client', async () => {
    const queues = await cluster.createTopic('f06', 2);
    await sendTo(queues, 100);
    const first: string[] = [];
    const one = client.consumer({
      group: 'f06-1',
      topics: ['f06'],
      consumeFromWhere: 'first',
      handler: (message) => void first.push(message.text()),
    });
    await one.start();
    await until('group 1 has all', () => first.length === 100);
    await until('and has committed', async () => (await client.admin().lag('f06-1')) === 0);
    await one.close();

    await sendTo(queues, 10);
    const puller = client.pullConsumer();
    expect(await puller.committed('f06-1', queues[0] as MessageQueue)).toBe(50);
    expect(await puller.committed('f06-2', queues[0] as MessageQueue)).toBeNull();
    const second: string[] = [];
    const two = client.consumer({
      group: 'f06-2',
      topics: ['f06'],
      consumeFromWhere: 'first',
      handler: (message) => void second.push(message.text()),
    });
    await two.start();
    await until('group 2 has all', () => second.length === 110);
    expect(first).toHaveLength(100);
    expect(await client.admin().lag('f06-1')).toBe(10);
    // Goes on where it was, not at the first and not at the last.
    const again = client.consumer({
      group: 'f06-1',
      topics: ['f06'],
      consumeFromWhere: 'last',
      handler: (message) => void first.push(message.text()),
    });
    await again.start();
    await until('group 1 has the rest', () => first.length === 110);
    await Promise.all([two.close(), again.close()]);
    expect((await client.admin().groups()).map(({ group }) => group)).toEqual(expect.arrayContaining(['f06-1', 'f06-2']));
  });

  test('F18 clustering: each message goes to exactly one member of the group', async () => {
    const queues = await cluster.createTopic('f18', 4);
    const seen: Map<string, string[]> = new Map();
    const members: Consumer[] = [];
    for (let at = 0; at < 2; at++) {
      const mine: string[] = [];
      const member = cluster.client().consumer({
        group: 'f18',
        topics: ['f18'],
        consumeFromWhere: 'first',
        handler: (message) => void mine.push(`${message.queueId}/${message.offset}`),
      });
      members.push(member);
      await member.start();
      seen.set(member.member, mine);
    }
    await until('two queues each', () => members.every(({ assignment }) => assignment.length === 2));
    const owned = members.flatMap(({ assignment }) => assignment.map(({ queueId }) => queueId));
    expect(owned.toSorted((left, right) => left - right)).toEqual([0, 1, 2, 3]);
    await sendTo(queues, 400);
    const all = (): string[] => [...seen.values()].flat();
    await until('all are handled', () => all().length >= 400);
    await until('and committed', async () => (await client.admin().lag('f18')) === 0);
    expect(new Set(all()).size).toBe(400);
    expect(all()).toHaveLength(400);
    for (const mine of seen.values()) expect(mine).toHaveLength(200);
    await Promise.all(members.map((member) => member.close()));
  });
});

interface Member {
  readonly child: ChildProcess;
  readonly handled: { queueId: number; offset: number; atMs: number }[];
  closed: boolean;
}

describe('rebalance', () => {
  const running = new Set<ChildProcess>();
  afterAll(() => {
    for (const child of running) child.kill('SIGKILL');
  });

  function member(group: string, topic: string): Member {
    const args = [join(import.meta.dirname, 'group-member.ts'), cluster.local.endpoints.join(','), group, topic];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(child);
    child.once('exit', () => running.delete(child));
    const found: Member = { child, handled: [], closed: false };
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const said = JSON.parse(line) as { queueId: number; offset: number; closed?: true };
      if (said.closed) found.closed = true;
      else found.handled.push({ queueId: said.queueId, offset: said.offset, atMs: performance.now() });
    });
    return found;
  }

  for (const [how, signal] of [
    ['leave', 'SIGTERM'],
    ['closed', 'SIGKILL'],
    ['frozen', 'SIGSTOP'],
  ] as const) {
    test(`F07 rebalance, sticky: never two owners; a member that goes (${how}) leaves its queues without one for a bounded time`, async () => {
      const topic = `f07-${how}`;
      const queues = await cluster.createTopic(topic, 4);
      const members = [member(topic, topic), member(topic, topic)] as const;
      const [goes, stays] = members;
      const owners = async (): Promise<Map<number, string>> => {
        const [description] = await client.admin().describeGroup(topic);
        return new Map(description?.queues.filter(({ owner }) => owner !== '').map(({ queueId, owner }) => [queueId, owner]) ?? []);
      };
      await until('two queues each', async () => {
        const all = [...(await owners().catch(() => new Map())).values()];
        return all.length === 4 && new Set(all).size === 2 && all.filter((owner) => owner === all[0]).length === 2;
      });
      const producer = client.producer();
      let sent = 0;
      let sending = true;
      const load = (async () => {
        while (sending) {
          await Promise.all(queues.map((queue) => producer.send({ topic, body: `${sent}`, queue })));
          sent++;
        }
      })();
      await until('both work', () => members.every(({ handled }) => new Set(handled.map(({ queueId }) => queueId)).size >= 2));
      const moving = new Set(goes.handled.slice(-100).map(({ queueId }) => queueId));
      const keeping = new Set(queues.map(({ queueId }) => queueId).filter((queueId) => !moving.has(queueId)));
      expect([...keeping].every((queueId) => stays.handled.some((one) => one.queueId === queueId))).toBe(true);
      const goneMs = performance.now();
      goes.child.kill(signal);
      await until(
        'its queues are handled elsewhere',
        () => [...moving].every((queueId) => stays.handled.some((one) => one.queueId === queueId && one.atMs > goneMs)),
        OWNERLESS_MS[how] * SLACK,
      );
      const takenMs = [...moving].map(
        (queueId) => stays.handled.find((one) => one.queueId === queueId && one.atMs > goneMs)?.atMs as number,
      );
      const ownerlessMs = Math.max(...takenMs) - goneMs;
      console.log(`rebalance (${how}): queues without an owner for ${ownerlessMs.toFixed(0)} ms (aim ${OWNERLESS_MS[how]})`);
      if (how === 'frozen') goes.child.kill('SIGCONT');
      sending = false;
      await load;
      await until('all is committed', async () => (await client.admin().lag(topic)) === 0, 30_000);
      if (how === 'leave') await until('it has left', () => goes.closed);
      const handled = members.flatMap((one) => one.handled);
      for (const { queueId } of queues) {
        const offsets = handled.filter((one) => one.queueId === queueId).map(({ offset }) => offset);
        expect(new Set(offsets).size).toBe(sent);
        // Among members that live, a queue moves with its final offset: nothing is repeated.
        if (how === 'leave' || keeping.has(queueId)) expect(offsets.length).toBe(sent);
        // One owner at a time: each member handled one stretch without a gap, but for what was repeated.
        const mine = stays.handled.filter((one) => one.queueId === queueId).map(({ offset }) => offset);
        const least = mine[0] as number;
        if (how !== 'frozen') expect(mine).toEqual(dense(sent - least, least));
      }
      for (const { child } of members) child.kill('SIGTERM');
      await Promise.all(
        members.filter(({ child }) => child.exitCode === null && child.signalCode === null).map(({ child }) => once(child, 'exit')),
      );
    }, 90_000);
  }
});

describe('delivery', () => {
  test('F16 explicit pull, push by listener and by for await; prefetch is bounded', async () => {
    const [queue] = (await cluster.createTopic('f16')) as [MessageQueue];
    await sendTo([queue], 1_000);
    const pulled = await client.pullConsumer().pull(queue, 990);
    expect(texts(pulled.messages)).toEqual(numbered(10, 990));
    expect(pulled).toMatchObject({ nextOffset: 1_000, minOffset: 0, maxOffset: 1_000 });

    const iterated: string[] = [];
    const loop = client.consumer({ group: 'f16-loop', topics: ['f16'], consumeFromWhere: 'first' });
    for await (const message of loop) {
      iterated.push(message.text());
      if (iterated.length === 1_000) break;
    }
    await loop.close();
    expect(iterated).toEqual(numbered(1_000));
    // Leaving the loop does not acknowledge the message at hand.
    expect(await client.pullConsumer().committed('f16-loop', queue)).toBe(999);

    const large = (await cluster.createTopic('f16-large')) as [MessageQueue];
    const producer = client.producer({ maxBatchMessages: 10 });
    for (const body of numbered(500)) void producer.send({ topic: 'f16-large', body, queue: large[0] });
    await producer.close();
    let release: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const seen: string[] = [];
    const bounded = client.consumer({
      group: 'f16-bounded',
      topics: ['f16-large'],
      consumeFromWhere: 'first',
      concurrency: 1,
      pullBatchSize: 10,
      prefetchMessagesPerQueue: 50,
      handler: async (message) => {
        await released;
        seen.push(message.text());
      },
    });
    await bounded.start();
    await until('prefetched to the bound', () => bounded.heldMessages >= 50);
    // Whatever pull were still on its way would be answered before this one.
    await client.pullConsumer().pull(large[0], 0);
    expect(bounded.heldMessages).toBeLessThanOrEqual(60);
    release();
    await until('all handled', () => seen.length === 500);
    expect(seen).toEqual(numbered(500));
    await bounded.close();
  });

  test('F16 a rate cap drains a burst at the cap ± 10 %, and loses none', async () => {
    const perSecond = 4_000;
    const burst = 16_000;
    const [queue] = (await cluster.createTopic('f16-rate')) as [MessageQueue];
    await sendTo([queue], burst);
    const seen: number[] = [];
    const consumer = client.consumer({
      group: 'f16-rate',
      topics: ['f16-rate'],
      consumeFromWhere: 'first',
      maxMessagesPerSecond: perSecond,
      handler: ({ offset }) => void seen.push(offset),
    });
    await consumer.start();
    await until('the first ones', () => seen.length > 0);
    const [startMs, startCount] = [performance.now(), seen.length];
    await until('drained', () => seen.length >= burst);
    const rate = (burst - startCount) / ((performance.now() - startMs) / 1_000);
    console.log(`rate cap ${perSecond}/s: ${rate.toFixed(0)}/s`);
    expect(rate).toBeGreaterThan(perSecond * 0.9);
    expect(rate).toBeLessThan(perSecond * 1.1);
    expect(seen).toEqual(dense(burst));
    await consumer.close();
  });

  test('F17 with 10,000 held pulls one send wakes exactly its waiters; an empty one is held for its time', async () => {
    const queues = await cluster.createTopic('f17', 100);
    const other = (await cluster.createTopic('f17-other')) as [MessageQueue];
    const leader = await cluster.local.waitLeader();
    const clients = [cluster.client(), cluster.client()] as const;
    for (const one of clients) await one.pullConsumer().range(other[0]);
    const woken: { queueId: number; result: PullResult }[] = [];
    const held = queues.flatMap((queue) =>
      dense(100).map((number) =>
        (clients[number % 2] as LedgerClient)
          .pullConsumer()
          .pull(queue, 0, { waitMs: 30_000 })
          .then((result) => void woken.push({ queueId: queue.queueId, result })),
      ),
    );
    expect(held).toHaveLength(10_000);
    await until('10,000 pulls wait', async () => (await cluster.metric(leader, 'ledgermq_gateway_waiters')) === 10_000);
    const producer = client.producer();
    await producer.send({ topic: 'f17-other', body: 'of another topic' });
    const sent = await producer.send({ topic: 'f17', body: 'wake', queue: queues[42] as MessageQueue });
    expect(sent.offset).toBe(0);
    await until('its 100 waiters are answered', () => woken.length >= 100);
    expect(await cluster.metric(leader, 'ledgermq_gateway_waiters')).toBe(9_900);
    expect(new Set(woken.map(({ queueId }) => queueId))).toEqual(new Set([42]));
    for (const { result } of woken) expect(texts(result.messages)).toEqual(['wake']);
    const startMs = performance.now();
    const empty = await client.pullConsumer().pull(other[0], 1, { waitMs: 700 });
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(690);
    expect(empty).toMatchObject({ messages: [], nextOffset: 1 });
    // The others are answered when their queues get something: none was lost on the way.
    await Promise.all(queues.map((queue) => producer.send({ topic: 'f17', body: 'wake', queue })));
    await Promise.all(held);
    expect(woken).toHaveLength(10_000);
  }, 60_000);

  test('F21 acknowledge after the work: nothing is committed while the handler runs, all of it when it is done', async () => {
    const [queue] = (await cluster.createTopic('f21')) as [MessageQueue];
    await sendTo([queue], 10);
    const puller = client.pullConsumer();
    const working: (() => void)[] = [];
    const consumer = client.consumer({
      group: 'f21',
      topics: ['f21'],
      consumeFromWhere: 'first',
      concurrency: 4,
      commitIntervalMs: 10,
      handler: () => new Promise<void>((resolve) => working.push(resolve)),
    });
    await consumer.start();
    await until('four handlers run', () => working.length === 4);
    working[2]?.();
    await until('a fifth runs', () => working.length === 5);
    working[1]?.();
    await until('a sixth runs', () => working.length === 6);
    // Several rounds of commits later nothing has moved: message 0 is not done.
    const rounds = client.consumer({ group: 'f21-clock', topics: ['f21'], consumeFromWhere: 'first', handler: () => {} });
    await rounds.start();
    await until('another group has committed', async () => (await puller.committed('f21-clock', queue)) === 10);
    expect((await puller.committed('f21', queue)) ?? 0).toBe(0);
    working[0]?.();
    await until('0, 1 and 2 are committed', async () => (await puller.committed('f21', queue)) === 3);
    await until('a seventh runs', () => working.length === 7);
    for (let at = 3; at < 10; at++) {
      await until('it runs', () => working.length > at);
      working[at]?.();
    }
    await until('all are committed', async () => (await puller.committed('f21', queue)) === 10);
    await Promise.all([consumer.close(), rounds.close()]);
  });
});
