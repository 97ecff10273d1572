import { describe, expect, test } from 'vitest';
import { MAX_CANCELLABLE_MESSAGES } from '../../src/broker/limits.ts';
import { Op } from '../../src/protocol/requests.ts';
import { TimerHarness } from './timer-harness.ts';

const HIGH = '0102030405060708';
const idOf = (low: number): string => HIGH + low.toString(16).toUpperCase().padStart(16, '0');

async function asked(timers: TimerHarness, op: typeof Op.delayCancel | typeof Op.messageGet | typeof Op.delayList, body: unknown) {
  const id = timers.broker.request(timers.session, op, body as never);
  await timers.settle();
  return timers.session.answers.get(id);
}
const cancel = (timers: TimerHarness, low: number, topic = 'T') => asked(timers, Op.delayCancel, { id: idOf(low), topic });
const get = (timers: TimerHarness, low: number) => asked(timers, Op.messageGet, { id: idOf(low), topic: '', queueId: 0, offset: 0 });

describe('a delayed message is cancelled', () => {
  for (const [kind, delay] of [
    ['level', { level: 1 }],
    ['time', { delayMs: 1_000 }],
  ] as const) {
    test(`F13 by ${kind}: it is never delivered, those around it are, also those of its own batch`, async () => {
      const timers = new TimerHarness();
      timers.send(delay, { idLow: 10, count: 1 });
      timers.send(delay, { idLow: 20, count: 3 });
      timers.send(delay, { idLow: 30, count: 2 });
      timers.send(delay, { idLow: 40, count: 1 });
      for (const low of [21, 30, 31, 40]) expect(await cancel(timers, low)).toEqual({});
      // Again is fine.
      expect(await cancel(timers, 21)).toEqual({});
      expect(timers.broker.machine.timers.cancelled.messages).toBe(4);
      await timers.pass(1_000);
      expect(timers.delivered()).toBe(3);
      expect(timers.pulled().map(({ reference }) => reference?.messageIndex)).toEqual([undefined, 0, 2]);
      expect(timers.broker.machine.timers.cancelled.messages).toBe(0);
      expect(timers.broker.machine.timers.references.pack()).toEqual([]);
    });

    test(`F13 by ${kind}: one that is in its queue says so, one that nobody knows says that`, async () => {
      const timers = new TimerHarness();
      timers.send(delay, { idLow: 10 });
      await timers.pass(1_000);
      expect(await cancel(timers, 10)).toBe('ALREADY_DELIVERED');
      expect(await cancel(timers, 11)).toBe('MESSAGE_NOT_FOUND');
      expect(await cancel(timers, 10, 'other')).toBe('TOPIC_NOT_FOUND');
      expect(timers.delivered()).toBe(1);
    });

    test(`F13 by ${kind}: cancelled while its delivery is on its way, it is one or the other`, async () => {
      const timers = new TimerHarness();
      const { replica, clock } = timers.broker;
      timers.send(delay, { idLow: 10, count: 2 });
      const request = timers.broker.request(timers.session, Op.delayCancel, { id: idOf(10), topic: 'T' });
      // The cancellation is proposed and not applied when the leader sees the batch due.
      await new Promise(setImmediate);
      replica.passTime(1_000);
      clock.advance(1_000);
      await new Promise(setImmediate);
      await timers.settle();
      await timers.pass(1_000, 100);
      expect(timers.session.answers.get(request)).toEqual({});
      expect(timers.delivered()).toBe(1);
      expect(timers.pulled()[0]?.reference?.messageIndex).toBe(1);
    });
  }

  test('F13 what is not delayed, or not any more, cannot be cancelled; the first cancellation of a message of a huge batch is refused', async () => {
    const timers = new TimerHarness();
    timers.send({ deliverAt: 1 }, { idLow: 10 });
    expect(await cancel(timers, 10)).toBe('ALREADY_DELIVERED');
    timers.send({ level: 1 }, { idLow: 1_000, count: MAX_CANCELLABLE_MESSAGES + 1 });
    expect(await cancel(timers, 1_000)).toBe('BAD_REQUEST');
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(2 + MAX_CANCELLABLE_MESSAGES);
  });

  test('F13 cancelled messages of many batches that are due at once, each of them in pieces', async () => {
    const timers = new TimerHarness();
    const count = MAX_CANCELLABLE_MESSAGES;
    for (let i = 0; i < 6; i++) {
      timers.send({ delayMs: 1_000 - i }, { idLow: 10_000 * i, count });
      expect(await cancel(timers, 10_000 * i + i)).toEqual({});
    }
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(6 * (count - 1));
  });

  test('F13 F30 a message that waits is found by its id, and says until when; a cancelled one is not', async () => {
    const timers = new TimerHarness();
    timers.send({ level: 3 }, { idLow: 10 });
    timers.send({ delayMs: 1_234 }, { idLow: 20, count: 2 });
    expect(await get(timers, 10)).toMatchObject({ topic: 'T', pendingUntilMs: timers.now + 10_000 });
    expect(await get(timers, 21)).toMatchObject({ messageIndex: 1, pendingUntilMs: timers.now + 1_234 });
    await cancel(timers, 21);
    expect(await get(timers, 21)).toBe('MESSAGE_NOT_FOUND');
    await timers.pass(10_000, 500);
    const found = await get(timers, 10);
    expect(found).toMatchObject({ topic: 'T', baseOffset: 1 });
    expect(found).not.toHaveProperty('pendingUntilMs');
  });

  test('F13 what waits is listed', async () => {
    const timers = new TimerHarness();
    const { now } = timers;
    timers.send({ level: 2 }, { count: 4 });
    timers.send({ delayMs: 60_000 });
    timers.send({ delayMs: 5 * 3_600_000 });
    const listed = (await asked(timers, Op.delayList, { maxBuckets: 1 })) as {
      levels: unknown[];
      buckets: { fromMs: number; toMs: number }[];
    };
    expect(listed).toMatchObject({ timers: 2, bucketCount: 2, nearTimers: 2, nextDueMs: now + 60_000, cancelledMessages: 0 });
    expect(listed.levels.slice(0, 2)).toEqual([
      { level: 1, delayMs: 1_000, pending: 0, nextDueMs: -1 },
      { level: 2, delayMs: 5_000, pending: 4, nextDueMs: now + 5_000 },
    ]);
    expect(listed.levels).toHaveLength(18);
    expect(listed.buckets).toHaveLength(1);
    expect(listed.buckets[0]?.fromMs).toBeLessThanOrEqual(now + 60_000);
    expect(listed.buckets[0]?.toMs).toBeGreaterThan(now + 60_000);
  });
});
