import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, test } from 'vitest';
import { consumerSettings } from '../../src/client/consumer-settings.ts';
import type { FailedMessages, FailureSeams } from '../../src/client/failed-messages.ts';
import { HandlerRunner } from '../../src/client/handler-runner.ts';
import { HANDLER_DURATION_BUCKETS_MS } from '../../src/client/handler-timings.ts';
import { ReceivedBatch } from '../../src/client/message.ts';
import type { ConsumerOptions } from '../../src/client/options.ts';
import { ProcessQueue } from '../../src/client/process-queue.ts';
import type { ConsumeContext, SlowHandler } from '../../src/client/types.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

const queueAt = (queueId: number) => ({ topic: 't', brokerName: 'g', queueId });
const BATCH = 1_000;

interface Bench {
  readonly clock: ManualClock;
  readonly runner: HandlerRunner;
  readonly errors: unknown[];
  queue(queueId: number, count: number, epoch?: number): ProcessQueue;
  /** Gives a queue more, from where it is. */
  feed(queue: ProcessQueue, count: number): void;
}

/** The runner alone: queues are filled and time passes by hand. */
function bench(options: Partial<ConsumerOptions>, seams: Partial<FailureSeams> = {}): Bench {
  const clock = new ManualClock();
  const errors: unknown[] = [];
  const settings = consumerSettings({ group: 'cg', topics: ['t'], onError: (error) => void errors.push(error), ...options });
  const io = { clock, random: new SeededRandom() } as never;
  const runner = new HandlerRunner(io, settings, { finished: () => {} }, { sendBack: null, onAttemptsExhausted: null, ...seams });
  const feed = (queue: ProcessQueue, count: number): void => {
    for (let left = count; left > 0; left -= BATCH) {
      queue.add(new ReceivedBatch(makeBatch({ count: Math.min(left, BATCH) }), queue.queue, Math.max(0, queue.nextOffset), 1));
    }
    runner.offer(queue);
  };
  return {
    clock,
    runner,
    errors,
    feed,
    queue(queueId, count, epoch = 1) {
      const queue = new ProcessQueue(queueAt(queueId), null, epoch, 0);
      feed(queue, count);
      return queue;
    },
  };
}
const dense = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);

describe('F19 orderly handlers', () => {
  test('one at a time for a queue, the rest at the same time; the fencing token is the epoch of the ownership', async () => {
    const running: string[] = [];
    let most = 0;
    const ends: (() => void)[] = [];
    const seen: string[] = [];
    const { clock, queue } = bench({
      ordered: true,
      handler: async ({ queueId, offset }, { fencingToken }) => {
        running.push(`${queueId}`);
        expect(running.filter((id) => id === `${queueId}`)).toHaveLength(1);
        most = Math.max(most, running.length);
        seen.push(`${queueId}/${offset}@${fencingToken}`);
        await new Promise<void>((resolve) => ends.push(resolve));
        running.splice(running.indexOf(`${queueId}`), 1);
      },
    });
    for (const queueId of [0, 1, 2]) queue(queueId, 3, 70 + queueId);
    for (let i = 0; i < 9; i++) {
      await clock.run(1);
      ends[i]?.();
    }
    await clock.run(10);
    expect(most).toBe(3);
    for (const queueId of [0, 1, 2]) {
      expect(seen.filter((line) => line.startsWith(`${queueId}/`))).toEqual(
        dense(3).map((offset) => `${queueId}/${offset}@${70 + queueId}`),
      );
    }
  });

  test('a failure suspends its queue and no other; the same message comes again after suspendCurrentQueueTimeMillis, without end', async () => {
    const seen: string[] = [];
    const at: number[] = [];
    const { clock, queue, errors } = bench({
      ordered: true,
      suspendCurrentQueueTimeMillis: 2_000,
      handler: ({ queueId, offset }, { reconsumeTimes }) => {
        if (queueId === 0 && offset === 1) {
          at.push(clock.monotonicMs());
          if (reconsumeTimes < 40) throw new Error(`attempt ${reconsumeTimes}`);
        }
        seen.push(`${queueId}/${offset}`);
      },
    });
    const first = queue(0, 3);
    queue(1, 3);
    await clock.run(1_000);
    expect(new Set(seen)).toEqual(new Set(['0/0', '1/0', '1/1', '1/2']));
    expect(first.doneOffset).toBe(1);
    await clock.run(100_000);
    expect(seen.slice(4)).toEqual(['0/1', '0/2']);
    expect(errors).toHaveLength(40);
    expect(at).toHaveLength(41);
    for (let i = 1; i < at.length; i++) expect((at[i] as number) - (at[i - 1] as number)).toBe(2_000);
    expect(first.doneOffset).toBe(3);
  });

  test('a handler may say how long, within 10 ms and 30 s', async () => {
    const wanted = [5, 300, 3_600_000];
    const at: number[] = [];
    const { clock, queue } = bench({
      ordered: true,
      handler: (_message, context) => {
        at.push(clock.monotonicMs());
        const suspendMs = wanted[context.reconsumeTimes];
        if (suspendMs === undefined) return;
        context.suspendCurrentQueueTimeMillis = suspendMs;
        throw new Error('again');
      },
    });
    queue(0, 1);
    await clock.run(60_000);
    expect(at.slice(1).map((ms, i) => ms - (at[i] as number))).toEqual([10, 300, 30_000]);
    expect(() => bench({ ordered: true, suspendCurrentQueueTimeMillis: 9 })).toThrow(LedgerError);
    expect(() => bench({ ordered: true, suspendCurrentQueueTimeMillis: 30_001 })).toThrow(LedgerError);
  });

  test('after maxReconsumeTimes, or at once when the handler says so, the message is given away; not taken, it is tried again in place', async () => {
    const given: FailedMessages[] = [];
    const attempts = new Map<number, number>();
    let takes = false;
    const { clock, queue } = bench(
      {
        ordered: true,
        maxReconsumeTimes: 2,
        handler: ({ offset }, context) => {
          attempts.set(offset, (attempts.get(offset) ?? 0) + 1);
          if (offset === 0) throw new Error('never');
          if (offset === 2) {
            context.delayLevelWhenNextConsume = -1;
            throw new Error('hopeless');
          }
        },
      },
      {
        onAttemptsExhausted: async (failed) => {
          given.push(failed);
          return takes ? failed.messages : [];
        },
      },
    );
    const only = queue(0, 4);
    await clock.run(3_500);
    // 0 s, 1 s, 2 s: exhausted; not taken: 3 s, and so on.
    expect(attempts.get(0)).toBe(4);
    expect(given.map((failed) => failed.attempts)).toEqual([3, 4]);
    expect(only.doneOffset).toBe(0);
    takes = true;
    await clock.run(1_000);
    expect(given.at(-1)).toMatchObject({ attempts: 1, delayLevel: -1, queue: queueAt(0) });
    expect(given.at(-1)?.messages.map(({ offset }) => offset)).toEqual([2]);
    expect([...attempts]).toEqual([
      [0, 5],
      [1, 1],
      [2, 1],
      [3, 1],
    ]);
    expect(only.doneOffset).toBe(4);
  });
});

describe('F20 batches and how far they came', () => {
  test.each([
    ['returns, all is done', null, false, 0],
    ['throws, nothing is done', null, true, 5],
    ['returns with ackIndex 1: the other three come again', 1, false, 3],
    ['throws with ackIndex 1: the other three come again', 1, true, 3],
    ['returns with ackIndex −1: all come again', -1, false, 5],
    ['an ackIndex past the end is the end', 99, false, 0],
  ] as const)('%s', async (_what, ackIndex, throws, again) => {
    const calls: { offsets: number[]; reconsumeTimes: number }[] = [];
    const { clock, queue, errors } = bench({
      consumeMessageBatchMaxSize: 5,
      pullBatchSize: 32,
      batchHandler: (messages, context) => {
        calls.push({ offsets: messages.map(({ offset }) => offset), reconsumeTimes: context.reconsumeTimes });
        if (calls.length > 1) return;
        context.ackIndex = ackIndex;
        if (throws) throw new Error('half way');
      },
    });
    const only = queue(0, 5);
    await clock.run(1);
    expect(only.doneOffset).toBe(5 - again);
    await clock.run(2_000);
    expect(calls.slice(1)).toEqual(again === 0 ? [] : [{ offsets: dense(again, 5 - again), reconsumeTimes: 1 }]);
    expect(only.doneOffset).toBe(5);
    expect(errors).toHaveLength(throws ? 1 : 0);
  });

  test('what a context was told for one call does not reach the next', async () => {
    const seen: unknown[] = [];
    const { clock, queue } = bench({
      consumeMessageBatchMaxSize: 2,
      batchHandler: (_messages, context: ConsumeContext) => {
        seen.push([context.ackIndex, context.delayLevelWhenNextConsume, context.suspendCurrentQueueTimeMillis]);
        context.ackIndex = 1;
        context.delayLevelWhenNextConsume = 3;
        context.suspendCurrentQueueTimeMillis = 50;
      },
    });
    queue(0, 6);
    await clock.run(1);
    expect(seen).toEqual([
      [null, 0, null],
      [null, 0, null],
      [null, 0, null],
    ]);
  });

  test('concurrent: what failed is sent back with its attempts and the delay asked for; refused, it is handled here again', async () => {
    const given: FailedMessages[] = [];
    const handled: number[] = [];
    const { clock, queue, errors } = bench(
      {
        consumeMessageBatchMaxSize: 3,
        batchHandler: (messages, context) => {
          handled.push(...messages.map(({ offset }) => offset));
          if (messages[0]?.offset !== 0) return;
          context.ackIndex = 0;
          context.delayLevelWhenNextConsume = 4;
        },
      },
      {
        sendBack: async (failed) => {
          given.push(failed);
          if (given.length === 1) throw new LedgerError('NOT_LEADER');
          return given.length === 3 ? failed.messages : [];
        },
      },
    );
    const only = queue(0, 6);
    await clock.run(1);
    expect(given).toMatchObject([{ attempts: 1, delayLevel: 4, error: null }]);
    expect(given[0]?.messages.map(({ offset }) => offset)).toEqual([1, 2]);
    expect(errors).toMatchObject([{ code: 'NOT_LEADER' }]);
    expect(only.doneOffset).toBe(1);
    await clock.run(60_000);
    // Handled again with success: nobody asks a second time.
    expect(handled).toEqual([0, 1, 2, 3, 4, 5, 1, 2]);
    expect(given).toHaveLength(1);
    expect(only.doneOffset).toBe(6);
  });

  test('concurrent: what is safe elsewhere is done here', async () => {
    let resolve: () => void = () => {};
    const { clock, queue } = bench(
      {
        handler: ({ offset }) => {
          if (offset === 0) throw new Error('no');
        },
      },
      {
        sendBack: ({ messages }) =>
          new Promise((done) => {
            resolve = () => done(messages);
          }),
      },
    );
    const only = queue(0, 3);
    await clock.run(60_000);
    expect(only.doneOffset).toBe(0);
    resolve();
    await clock.run(1);
    expect(only.doneOffset).toBe(3);
  });

  test('a queue that is lost meanwhile sends nothing back: its next owner has the message', async () => {
    let fail: (error: Error) => void = () => {};
    let sent = 0;
    const { clock, queue } = bench(
      {
        handler: () =>
          new Promise<void>((_resolve, reject) => {
            fail = reject;
          }),
      },
      {
        sendBack: ({ messages }) => {
          sent++;
          return messages;
        },
      },
    );
    const only = queue(0, 1);
    await clock.run(1);
    only.lose();
    fail(new Error('late'));
    await clock.run(60_000);
    expect(sent).toBe(0);
  });
});

describe('F16 rate cap', () => {
  test('a burst of 100,000 is drained at the cap ± 10 %, none lost, none twice', async () => {
    const perSecond = 10_000;
    const seen: number[] = [];
    const perTick: number[] = [];
    const { clock, queue } = bench({ maxMessagesPerSecond: perSecond, handler: ({ offset }) => void seen.push(offset) });
    queue(0, 100_000);
    for (let second = 0; second < 12 && seen.length < 100_000; second++) {
      const before = seen.length;
      await clock.run(1_000);
      perTick.push(seen.length - before);
    }
    expect(seen).toEqual(dense(100_000));
    expect(perTick.length).toBeGreaterThanOrEqual(10);
    for (const count of perTick.slice(0, 9)) {
      expect(count).toBeGreaterThanOrEqual(perSecond * 0.9);
      expect(count).toBeLessThanOrEqual(perSecond * 1.1);
    }
  });

  test('batches count by their messages', async () => {
    let messages = 0;
    const { clock, queue } = bench({
      maxMessagesPerSecond: 500,
      consumeMessageBatchMaxSize: 32,
      batchHandler: (batch) => {
        messages += batch.length;
      },
    });
    queue(0, 10_000);
    await clock.run(10_000);
    expect(messages).toBeGreaterThanOrEqual(4_500);
    expect(messages).toBeLessThanOrEqual(5_500);
  });
});

describe('F27 concurrency and durations', () => {
  test('concurrency is changed live: more start at once, fewer end by themselves', async () => {
    let running = 0;
    const ends: (() => void)[] = [];
    const { clock, queue, runner } = bench({
      concurrency: 2,
      handler: async () => {
        running += 1;
        await new Promise<void>((resolve) => ends.push(resolve));
        running -= 1;
      },
    });
    queue(0, 100);
    await clock.run(1);
    expect(running).toBe(2);
    runner.setConcurrency(10);
    await clock.run(1);
    expect(running).toBe(10);
    runner.setConcurrency(3);
    await clock.run(1);
    expect(running).toBe(10);
    for (const end of ends.splice(0, 7)) end();
    await clock.run(1);
    expect(running).toBe(3);
    ends.shift()?.();
    await clock.run(1);
    expect(running).toBe(3);
  });

  test('durations by topic, slow calls with the id of their message, also of one that never ends', async () => {
    const slow: SlowHandler[] = [];
    const published: unknown[] = [];
    const handledNews: unknown[] = [];
    const onSlowNews = (news: unknown): void => void published.push(news);
    const onHandled = (news: unknown): void => void handledNews.push(news);
    subscribe('ledgermq.consumer.slow', onSlowNews);
    subscribe('ledgermq.consumer.handled', onHandled);
    const takesMs = [0, 40, 700, Number.POSITIVE_INFINITY, 250];
    const ids: string[] = [];
    const { clock, queue, runner } = bench({
      slowHandlerMs: 500,
      onSlowHandler: (news) => void slow.push(news),
      handler: ({ offset, msgId }) => {
        ids[offset] = msgId;
        const ms = takesMs[offset] as number;
        if (ms === 0) return;
        return new Promise<void>((resolve, reject) => {
          if (ms !== Number.POSITIVE_INFINITY) clock.setTimer(ms, () => (ms === 250 ? reject(new Error('no')) : resolve()));
        });
      },
    });
    const only = queue(0, 5);
    await clock.run(260);
    // The failed one is tried again later, and takes its time again.
    only.state = 'revoking';
    await clock.run(10_000);
    expect(slow.map(({ offset, running, messages }) => [offset, running, messages])).toEqual([
      [2, true, 1],
      [3, true, 1],
    ]);
    expect(slow.map(({ msgIds }) => msgIds)).toEqual([[ids[2]], [ids[3]]]);
    expect(slow[0]?.durationMs).toBe(500);
    expect(published).toEqual(slow);
    expect(handledNews).toHaveLength(4);
    expect(handledNews.at(-1)).toMatchObject({ group: 'cg', queue: queueAt(0), messages: 1, durationMs: 700, failed: false });
    const [statistics, ...others] = runner.statistics();
    expect(others).toEqual([]);
    expect(statistics).toMatchObject({ group: 'cg', topic: 't', count: 4, messages: 4, failures: 1, sumMs: 990, maxMs: 700 });
    const counted = Object.fromEntries((statistics?.buckets ?? []).map((count, i) => [HANDLER_DURATION_BUCKETS_MS[i] ?? 'more', count]));
    expect(counted).toEqual({ 1: 1, 3: 0, 5: 0, 10: 0, 30: 0, 100: 1, 300: 1, 1000: 1, 3000: 0, 10000: 0, more: 0 });
    unsubscribe('ledgermq.consumer.slow', onSlowNews);
    unsubscribe('ledgermq.consumer.handled', onHandled);
  });

  test('a slow handler that does not give way to the event loop is told of when it returns', async () => {
    const slow: SlowHandler[] = [];
    const { clock, queue } = bench({
      slowHandlerMs: 500,
      onSlowHandler: (news) => void slow.push(news),
      handler: () => {
        blockedMs += 600;
      },
    });
    let blockedMs = 0;
    const now = clock.monotonicMs.bind(clock);
    clock.monotonicMs = () => now() + blockedMs;
    queue(0, 1);
    await clock.run(1);
    expect(slow).toMatchObject([{ running: false, durationMs: 600 }]);
  });
});
