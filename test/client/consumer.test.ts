import { describe, expect, test } from 'vitest';
import type { Consumer } from '../../src/client/consumer.ts';
import type { LedgerClient } from '../../src/client/ledger-client.ts';
import type { ConsumerOptions } from '../../src/client/options.ts';
import { type Assignment, type GroupJoinRequest, Op } from '../../src/protocol/requests.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';

function assignment(
  epoch: number,
  queues: readonly { queueId: number; committedOffset: number; epoch?: number }[],
  revoking: number[] = [],
): Assignment {
  return {
    group: 'cg',
    member: 'test@1',
    epoch,
    queues: queues.map(({ queueId, committedOffset, epoch: own = 1 }) => ({ topic: 't', queueId, committedOffset, epoch: own })),
    revoking: revoking.map((queueId) => ({ topic: 't', queueId })),
  };
}

interface Setup {
  readonly group: ScriptedGroup;
  readonly client: LedgerClient;
  produce(bodies: readonly string[], queueId?: number): Promise<void>;
  consumer(options: Partial<ConsumerOptions>): Promise<Consumer>;
}
async function setup(first: Assignment, queues = 1): Promise<Setup> {
  const group = new ScriptedGroup();
  group.queues = queues;
  group.assignment = first;
  const client = group.client();
  const producer = client.producer();
  return {
    group,
    client,
    async produce(bodies, queueId = 0) {
      for (const body of bodies) void producer.send({ topic: 't', body, queue: { topic: 't', brokerName: 'g', queueId } });
      await group.clock.run(50);
    },
    async consumer(options) {
      const consumer = client.consumer({ group: 'cg', topics: ['t'], consumeFromWhere: 'first', ...options });
      const started = consumer.start();
      await group.clock.run(100);
      await started;
      return consumer;
    },
  };
}
const numbered = (count: number, from = 0): string[] => Array.from({ length: count }, (_, i) => `m${from + i}`);

describe('push consumer', () => {
  test('F22 the retry queue is read from its first message on, wherever a new group starts in its topics', async () => {
    const queues = ['%RETRY%cg', 't'].map((topic, queueId) => ({ topic, queueId, committedOffset: -1, epoch: 1 }));
    const { group, produce, consumer } = await setup({ ...assignment(1, []), queues }, 2);
    await produce(numbered(3), 0);
    await produce(numbered(3), 1);
    const seen: string[] = [];
    await consumer({ consumeFromWhere: 'last', handler: ({ queue, offset }) => void seen.push(`${queue.topic}@${offset}`) });
    await group.clock.run(500);
    expect(seen).toEqual(['%RETRY%cg@0', '%RETRY%cg@1', '%RETRY%cg@2']);
  });

  test('F16 a listener gets every message in order; offsets are committed', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: -1 }]));
    const seen: string[] = [];
    await consumer({ handler: (message) => void seen.push(message.text()) });
    await produce(numbered(50));
    await produce(numbered(50, 50));
    await group.clock.run(500);
    expect(seen).toEqual(numbered(100));
    expect(group.committed.get(0)).toBe(100);
  });

  test('F17 an idle queue is one held pull, not a loop', async () => {
    const { group, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    await consumer({ handler: () => {} });
    await group.clock.run(10_000);
    expect(group.requests.filter(({ op }) => op === Op.pull)).toHaveLength(1);
  });

  test('F21 nothing is committed before the handler is done', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const done: (() => void)[] = [];
    await consumer({ handler: () => new Promise<void>((resolve) => done.push(resolve)), concurrency: 3 });
    await produce(numbered(5));
    await group.clock.run(1_000);
    expect(done).toHaveLength(3);
    expect(group.committed.get(0)).toBeUndefined();
    done[1]?.();
    await group.clock.run(1_000);
    expect(group.committed.get(0)).toBeUndefined();
    done[0]?.();
    await group.clock.run(1_000);
    expect(group.committed.get(0)).toBe(2);
  });

  test('F21 for await acknowledges when the loop comes back, and not a message it was left on', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const iterated = await consumer({});
    await produce(numbered(3));
    const seen: string[] = [];
    const loop = (async () => {
      for await (const message of iterated) {
        seen.push(message.text());
        if (seen.length === 3) break;
      }
    })();
    await group.clock.run(500);
    await loop;
    await group.clock.run(500);
    expect(seen).toEqual(numbered(3));
    expect(group.committed.get(0)).toBe(2);
  });

  test('a failed handler is called again with the same message; its offset stays', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const attempts: number[] = [];
    const seen: string[] = [];
    await consumer({
      handler: (message, context) => {
        if (message.offset === 1) {
          attempts.push(context.reconsumeTimes);
          if (attempts.length < 3) throw new Error('not yet');
        }
        seen.push(message.text());
      },
    });
    await produce(numbered(4));
    expect(seen).toEqual(['m0', 'm2', 'm3']);
    expect(group.committed.get(0) ?? 0).toBeLessThanOrEqual(1);
    await group.clock.run(10_000);
    expect(attempts).toEqual([0, 1, 2]);
    expect(seen).toEqual(['m0', 'm2', 'm3', 'm1']);
    expect(group.committed.get(0)).toBe(4);
  });

  test('F16 prefetch stops at its bounds and goes on when messages are done', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const done: (() => void)[] = [];
    const made = await consumer({
      handler: () => new Promise<void>((resolve) => done.push(resolve)),
      concurrency: 1,
      prefetchMessagesPerQueue: 10,
      pullBatchSize: 5,
    });
    for (let i = 0; i < 40; i++) await produce([`m${i}`]);
    expect(made.heldMessages).toBe(10);
    for (let i = 0; i < 40; i++) {
      done[i]?.();
      await group.clock.run(20);
    }
    expect(done).toHaveLength(40);
    expect(made.heldMessages).toBe(0);
  });

  test('F16 a rate cap holds within 10 %, and nothing is lost', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    let seen = 0;
    await produce(numbered(3_000));
    await consumer({ handler: () => void seen++, maxMessagesPerSecond: 500 });
    const before = seen;
    await group.clock.run(4_000);
    expect(seen - before).toBeGreaterThanOrEqual(1_800);
    expect(seen - before).toBeLessThanOrEqual(2_200);
    await group.clock.run(4_000);
    expect(seen).toBe(3_000);
  });

  test('F20 a batch handler gets up to consumeMessageBatchMaxSize', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const sizes: number[] = [];
    await produce(numbered(10));
    await consumer({ batchHandler: (messages) => void sizes.push(messages.length), consumerMessageBatchMaxSize: 4 });
    await group.clock.run(200);
    expect(sizes).toEqual([4, 4, 2]);
  });

  test('F06 a revoked queue is released with its final offset once its handler is done; nothing new starts', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const done: (() => void)[] = [];
    const made = await consumer({ handler: () => new Promise<void>((resolve) => done.push(resolve)), concurrency: 1 });
    await produce(numbered(5));
    group.assign(assignment(2, [{ queueId: 0, committedOffset: 0 }], [0]));
    await group.clock.run(500);
    const releases = (): unknown[] => group.requests.filter(({ op }) => op === Op.groupRelease).map(({ body }) => body);
    expect(releases()).toEqual([]);
    done[0]?.();
    await group.clock.run(500);
    expect(releases()).toEqual([{ group: 'cg', member: made.member, queues: [{ topic: 't', queueId: 0, epoch: 1, offset: 1 }] }]);
    expect(done).toHaveLength(1);
    expect(made.assignment).toEqual([]);
    expect(made.heldMessages).toBe(0);
  });

  test('F06 an older assignment does not undo a newer one', async () => {
    const { group, consumer } = await setup(assignment(5, [{ queueId: 0, committedOffset: 0 }]), 2);
    const made = await consumer({ handler: () => {} });
    group.assign(assignment(4, [{ queueId: 1, committedOffset: 0 }]));
    await group.clock.run(100);
    expect(made.assignment.map(({ queueId }) => queueId)).toEqual([0]);
    group.assign(assignment(6, [{ queueId: 1, committedOffset: 0, epoch: 6 }]));
    await group.clock.run(100);
    expect(made.assignment.map(({ queueId }) => queueId)).toEqual([1]);
  });

  test.each([
    ['native', {}, 10_000, 3_000],
    ["RocketMQ's", { sessionTimeoutMs: 120_000, heartbeatIntervalMs: 30_000 }, 120_000, 30_000],
  ])('F06 %s session times: the join says them, heartbeats keep them', async (_whose, options, sessionTimeoutMs, heartbeatMs) => {
    const { group, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    await consumer({ handler: () => {}, ...options });
    await group.clock.run(5 * heartbeatMs + 1_000);
    const joins = group.requests.filter(({ op }) => op === Op.groupJoin).map(({ body }) => body as GroupJoinRequest);
    expect(joins.map((join) => join.sessionTimeoutMs)).toEqual([sessionTimeoutMs]);
    const beats = group.requests.filter(({ op }) => op === Op.groupHeartbeat).map(({ atMs }) => atMs);
    expect(beats).toHaveLength(5);
    for (let i = 1; i < beats.length; i++) expect(Math.abs((beats[i] as number) - (beats[i - 1] as number) - heartbeatMs)).toBeLessThan(50);
  });

  test('F37 a new leader: the member joins it, nothing is delivered twice, commits go on', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const seen: string[] = [];
    await consumer({ handler: (message) => void seen.push(message.text()) });
    await produce(numbered(20));
    group.kill(1);
    await group.clock.run(300);
    group.elect(2);
    await group.clock.run(3_000);
    await produce(numbered(20, 20));
    await group.clock.run(3_000);
    expect(seen).toEqual(numbered(40));
    expect(group.committed.get(0)).toBe(40);
  });

  test('F06 refused ownership drops what no handler has started, and goes on after the next join', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const seen: string[] = [];
    await consumer({ handler: (message) => void seen.push(message.text()) });
    const joins = (): number => group.requests.filter(({ op }) => op === Op.groupJoin).length;
    const before = joins();
    group.refusePulls = 'NOT_OWNER';
    await produce(numbered(3));
    await group.clock.run(2_000);
    expect(joins()).toBeGreaterThan(before);
    group.refusePulls = null;
    await produce(numbered(3, 3));
    await group.clock.run(3_000);
    expect(seen).toEqual(numbered(6));
  });

  test('F21 close() waits for the handler, commits what is done and leaves', async () => {
    const { group, produce, consumer } = await setup(assignment(1, [{ queueId: 0, committedOffset: 0 }]));
    const done: (() => void)[] = [];
    const made = await consumer({ handler: () => new Promise<void>((resolve) => done.push(resolve)), concurrency: 1 });
    await produce(numbered(3));
    const closed = made.close();
    await group.clock.run(100);
    expect(group.requests.some(({ op }) => op === Op.groupLeave)).toBe(false);
    done[0]?.();
    await group.clock.run(100);
    await closed;
    expect(group.committed.get(0)).toBe(1);
    expect(group.requests.at(-1)?.op).toBe(Op.groupLeave);
  });

  test('F16 ordered: one handler at a time for a queue', async () => {
    const { group, produce, consumer } = await setup(
      assignment(
        1,
        [0, 1].map((queueId) => ({ queueId, committedOffset: 0 })),
      ),
      2,
    );
    const running: number[] = [];
    let most = 0;
    const done: (() => void)[] = [];
    await consumer({
      ordered: true,
      handler: async ({ queueId }) => {
        running.push(queueId);
        most = Math.max(most, running.length);
        expect(new Set(running).size).toBe(running.length);
        await new Promise<void>((resolve) => done.push(resolve));
        running.splice(running.indexOf(queueId), 1);
      },
    });
    await produce(numbered(5), 0);
    await produce(numbered(5), 1);
    for (let i = 0; i < 10; i++) {
      done[i]?.();
      await group.clock.run(20);
    }
    expect(most).toBe(2);
    expect(group.committed.size).toBeGreaterThan(0);
  });
});

describe('pull consumer', () => {
  test('F16 pulls at an offset and says where to go on', async () => {
    const { group, client, produce } = await setup(assignment(1, []));
    await produce(numbered(10));
    const puller = client.pullConsumer();
    const queue = { topic: 't', brokerName: 'g', queueId: 0 };
    const pulled = puller.pull(queue, 4);
    const range = puller.range(queue);
    await group.clock.run(50);
    expect((await pulled).messages.map((message) => message.text())).toEqual(numbered(6, 4));
    expect((await pulled).nextOffset).toBe(10);
    expect((await range).maxOffset).toBe(10);
  });
});
