import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import type { Assignment } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { DAY, FilledLog, HOUR, idOf, SEGMENT } from './filled-log.ts';
import type { Delay } from './timer-harness.ts';

describe('what is still needed is carried to the log’s head (F34)', () => {
  test('F34 below the level that every replica can read, the log is held as before', async () => {
    const timers = new FilledLog(FEATURE_LEVELS.messaging);
    timers.send({ delayMs: 20 * DAY });
    await timers.fill(10);
    expect(timers.start).toBe(0);
    expect(timers.broker.broker.gauges.heldBytes).toBeGreaterThan(SEGMENT);
    expect(timers.broker.broker.gauges.carriedBytes).toBe(0);
  });

  for (const [kind, delay] of [
    ['a time', { delayMs: 20 * DAY }],
    ['an absolute time', { deliverAt: 1_700_000_000_000 + 20 * DAY }],
    ['a level', { level: 4 }],
  ] as const) {
    test(`F34 F13 what waits for ${kind} holds nothing, and is delivered once, on time, as it was sent`, async () => {
      const timers = new FilledLog();
      const delays = [1_000, 2_000, 3_000, 20 * DAY];
      if ('level' in delay) timers.command({ type: 'delayLevelsSet', delaysMs: delays });
      const begun = timers.now;
      for (let low = 1; low <= 5; low++) timers.send(delay, { idLow: low, bodyBytes: 500 }, low % 2);
      const last = timers.broker.replica.positions.at(-1) as number;
      for (let day = 0; day < 19; day++) {
        await timers.fill(1);
        expect(timers.delivered() + timers.delivered(1)).toBe(0);
        expect(timers.broker.replica.endPosition() - timers.start).toBeLessThan(24 * SEGMENT);
      }
      expect(timers.start).toBeGreaterThan(last);
      timers.expectTheSameElsewhere();
      await timers.pass(begun + 20 * DAY - 1 - timers.now);
      expect(timers.delivered() + timers.delivered(1)).toBe(0);
      await timers.pass(10_000, 1_000);
      expect([timers.delivered(), timers.delivered(1)]).toEqual([2, 3]);
      expect(await timers.bodies(0)).toEqual([2, 4]);
      expect(await timers.bodies(1)).toEqual([1, 3, 5]);
      expect(timers.broker.machine.timers.references.pack()).toEqual([]);
      expect(timers.broker.machine.timers.wheel.pending).toBe(0);
      expect(timers.broker.counted['enqueued T']).toBe(5);
      timers.expectTheSameElsewhere();
    });
  }

  test('F34 F14 a half message is carried: its transaction ends as ever', async () => {
    const timers = new FilledLog();
    timers.command({ type: 'setSetting', name: 'transactionTimeoutMs', value: 72 * HOUR });
    const half = (low: number): unknown[] =>
      timers.broker.sent(timers.session, 'T', 0, makeBatch({ half: 'payments', idLow: low, producerId: low, immunity: '259200' }));
    const transactions = [1, 2, 3].map((low) => half(low)[1] as number);
    // Cut by size, before they are asked for.
    timers.command({ type: 'setSetting', name: 'retentionBytes', value: 3 * SEGMENT });
    for (let i = 0; i < 12; i++) timers.broker.sent(timers.session, 'U', 0, makeBatch({ bodyBytes: 8_000, idLow: 900 + i }));
    await timers.pass(30_000, 10_000);
    expect(timers.start).toBeGreaterThan(transactions[2] as number);
    timers.expectTheSameElsewhere();
    const end = (at: number, outcome: string) =>
      timers.ask(Op.transactionEnd, {
        transaction: transactions[at],
        messageId: idOf(at + 1),
        producerGroup: 'payments',
        outcome,
        source: 'producer',
      });
    expect(await end(1, 'commit')).toMatchObject({ offset: 0 });
    expect(await end(0, 'rollback')).toMatchObject({ offset: -1 });
    expect(await end(2, 'commit')).toMatchObject({ offset: 1 });
    expect(await timers.bodies()).toEqual([2, 3]);
  });

  test('F34 a delivery is retained from when it was made, though its bytes are older, and is read by place, id and pull', async () => {
    const timers = new FilledLog();
    timers.send({ delayMs: 2 * DAY }, { idLow: 7, bodyBytes: 600, count: 2 });
    const stored = timers.broker.replica.positions.at(-1) as number;
    const storedMs = timers.now;
    await timers.fill(3);
    expect(timers.delivered()).toBe(2);
    // By time alone the log would begin behind both at once. A bound in bytes that its age exceeds does not wait for that.
    timers.command({ type: 'setSetting', name: 'retentionBytes', value: 7 * SEGMENT });
    await timers.pass(20_000, 10_000);
    expect(timers.start).toBeGreaterThan(stored);
    timers.command({ type: 'setSetting', name: 'retentionBytes', value: 0 });
    expect(timers.broker.machine.carried.size).toBe(1);
    expect(timers.pulled()[0]?.position).toBe(stored + 64);
    expect(await timers.bodies()).toEqual([8]);
    const byId = await timers.ask(Op.messageGet, { id: idOf(8), topic: '', queueId: 0, offset: 0 });
    expect(byId).toMatchObject({ topic: 'T', queueId: 0, baseOffset: 0, messageIndex: 1, position: stored + 64, logTimeMs: storedMs });
    expect(await timers.ask(Op.messageGet, { id: '', topic: 'T', queueId: 0, offset: 1 })).toEqual(byId);
    timers.expectTheSameElsewhere();
    await timers.fill(6);
    // The delivery itself is too old now; what was carried for it goes with the segments that it lies in.
    expect(timers.pulled()).toEqual([]);
    await timers.fill(8);
    expect(timers.broker.machine.carried.size).toBe(0);
    timers.expectTheSameElsewhere();
  });

  test('F34 by time the log begins behind what a retained delivery refers to, and nothing is copied; queues begin where retention says', async () => {
    const timers = new FilledLog();
    for (let day = 0; day < 14; day++) {
      timers.send({ delayMs: 1.5 * DAY }, { idLow: day, bodyBytes: 3_000 });
      await timers.fill(1);
      expect(timers.broker.replica.endPosition() - timers.start).toBeLessThan(40 * SEGMENT);
    }
    expect(timers.start).toBeGreaterThan(20 * SEGMENT);
    expect(timers.broker.broker.gauges.carriedBytes).toBe(0);
    const { minOffset, nextOffset } = timers.broker.machine.topics.queue(1, 0) as { minOffset: number; nextOffset: number };
    // Of three days, one a day, and those of the segment that begins before.
    expect(nextOffset - minOffset).toBeGreaterThanOrEqual(3);
    expect(nextOffset - minOffset).toBeLessThanOrEqual(4);
    expect((await timers.bodies(0, 'T', minOffset)).length).toBe(nextOffset - minOffset);
    expect(timers.pulled(0, 0)).toEqual([]);
    timers.expectTheSameElsewhere();
  });

  test('F34 F22 a message that is to be delivered again later is there then, with its first origin', async () => {
    const timers = new FilledLog();
    timers.broker.sent(timers.session, 'T', 0, makeBatch({ idLow: 3, count: 3, bodyBytes: 400 }));
    const join = { group: 'g', member: 'a@1', topics: ['T'], strategy: 'sticky', sessionTimeoutMs: 10_000, retries: true };
    const { queues } = (await timers.ask(Op.groupJoin, join)) as Assignment;
    const epoch = queues.find(({ topic, queueId }) => topic === 'T' && queueId === 0)?.epoch;
    const messages = [0, 2].map((offset) => ({ offset, delayLevel: 0, delayMs: 15 * DAY, attempts: 1 }));
    const back = { group: 'g', member: 'a@1', topic: 'T', queueId: 0, epoch, maxReconsumeTimes: 16, messages };
    expect(await timers.ask(Op.sendBack, back)).toEqual({ errors: [0, 0] });
    await timers.fill(14);
    expect(timers.start).toBeGreaterThan(8 * SEGMENT);
    expect(timers.delivered(0, '%RETRY%g')).toBe(0);
    timers.expectTheSameElsewhere();
    await timers.fill(2);
    expect(timers.delivered(0, '%RETRY%g')).toBe(2);
    expect(await timers.bodies(0, '%RETRY%g')).toEqual([5, 5]);
    const origin = { attempts: 1, originTopic: 'T', originQueueId: 0 };
    const references = timers.pulled(0, 0, '%RETRY%g').map(({ reference }) => reference);
    expect(references).toEqual([
      { ...origin, messageIndex: 0, originOffset: 0 },
      { ...origin, messageIndex: 2, originOffset: 2 },
    ]);
    // One copy for both.
    expect(timers.broker.machine.carried.size).toBe(1);
    await timers.fill(20);
    expect(timers.broker.machine.carried.size).toBe(0);
    expect(timers.broker.machine.timers.references.pack()).toEqual([]);
  });

  test('F13 what was carried is found and cancelled like any other; what was cancelled stays so', async () => {
    const timers = new FilledLog();
    for (let low = 10; low <= 50; low += 10) timers.send({ delayMs: 20 * DAY }, { idLow: low, count: 3, bodyBytes: 300 });
    const due = timers.now + 20 * DAY;
    expect(await timers.ask(Op.delayCancel, { id: idOf(11), topic: 'T' })).toEqual({});
    expect(await timers.ask(Op.delayCancel, { id: idOf(20), topic: 'T' })).toEqual({});
    await timers.fill(9);
    expect(timers.start).toBeGreaterThan(SEGMENT);
    expect(await timers.ask(Op.messageGet, { id: idOf(31), topic: '', queueId: 0, offset: 0 })).toMatchObject({ pendingUntilMs: due });
    expect(await timers.ask(Op.messageGet, { id: idOf(11), topic: '', queueId: 0, offset: 0 })).toBe('MESSAGE_NOT_FOUND');
    expect(await timers.ask(Op.delayCancel, { id: idOf(32), topic: 'T' })).toEqual({});
    expect(await timers.ask(Op.delayCancel, { id: idOf(22), topic: 'T' })).toEqual({});
    await timers.fill(9);
    for (const low of [50, 51, 52]) expect(await timers.ask(Op.delayCancel, { id: idOf(low), topic: 'T' })).toEqual({});
    await timers.fill(3);
    expect(timers.delivered()).toBe(15 - 7);
    expect(timers.pulled().map(({ reference }) => reference?.messageIndex)).toEqual([0, 2, 1, 0, 1, undefined]);
    expect(timers.broker.machine.timers.cancelled.messages).toBe(0);
    expect(timers.broker.machine.timers.references.pack()).toEqual([]);
  });

  test('F34 a log that is mostly what waits is held: carrying it would give nothing back', async () => {
    const timers = new FilledLog();
    for (let low = 0; low < 12; low++) timers.send({ delayMs: 30 * DAY }, { idLow: low, bodyBytes: 5_000 });
    await timers.pass(4 * DAY, DAY);
    expect(timers.broker.broker.gauges.carriedBytes).toBe(0);
    // With enough beside it, it is worth it.
    await timers.fill(8);
    expect(timers.broker.broker.gauges.carriedBytes).toBeGreaterThan(12 * 5_000);
    expect(timers.start).toBeGreaterThan(4 * SEGMENT);
  });

  test('F34 FAULTS 3 on a full disk one segment goes after the other, and nothing is copied that would take more than the reserve has', async () => {
    const timers = new FilledLog();
    for (let low = 0; low < 2; low++) timers.send({ delayMs: 30 * DAY }, { idLow: low, bodyBytes: 5_000 });
    timers.send({ delayMs: 30 * DAY }, { idLow: 9, bodyBytes: 100 }, 1);
    timers.broker.replica.full = true;
    for (let i = 0; i < 20; i++) timers.broker.sent(timers.session, 'U', 0, makeBatch({ bodyBytes: 8_000, idLow: 700 + i }));
    await timers.pass(6 * DAY, DAY);
    expect([timers.start, timers.broker.broker.gauges.carriedBytes]).toEqual([0, 0]);
    timers.command({ type: 'topicDelete', name: 'T' });
    timers.broker.replica.full = false;
    await timers.pass(60_000, 10_000);
    expect(timers.start).toBeGreaterThan(8 * SEGMENT);
    timers.send({ delayMs: 30 * DAY }, { idLow: 10, bodyBytes: 100 }, 0, 'U');
    timers.broker.replica.full = true;
    for (let i = 0; i < 20; i++) timers.broker.sent(timers.session, 'U', 0, makeBatch({ bodyBytes: 8_000, idLow: 800 + i }));
    const ahead: number[] = [];
    for (let day = 0; day < 8; day++) {
      const before = timers.broker.machine.segments.starts.map(({ position }) => position);
      await timers.pass(DAY);
      ahead.push(before.indexOf(timers.start));
    }
    // −1: not at all, 0: the next one.
    expect(new Set(ahead)).toEqual(new Set([-1, 0]));
  });

  test('F34 whenever leadership is lost, and whatever comes in between, nothing is lost and nothing twice', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constantFrom('short' as const, 'cancel' as const, 'half' as const)), {
          minLength: 1,
          maxLength: 12,
        }),
        async (steps) => {
          const timers = new FilledLog();
          let low = 0;
          const expected = new Set<number>();
          const send = (delay: Delay): void => {
            low++;
            expected.add(low);
            timers.send(delay, { idLow: low, bodyBytes: 200 });
          };
          for (let i = 0; i < 6; i++) send({ delayMs: 12 * DAY + i });
          send({ delayMs: 2 * DAY });
          await timers.fill(3);
          for (const step of steps) {
            if (step === 'short') send({ delayMs: 1_000 });
            else if (step === 'half') {
              low++;
              timers.broker.sent(timers.session, 'T', 1, makeBatch({ half: 'p', idLow: low, producerId: low }));
            } else if (step === 'cancel') {
              if ((await timers.ask(Op.delayCancel, { id: idOf(1), topic: 'T' })) !== 'NOT_LEADER') expected.delete(1);
            } else {
              await timers.loseLeadershipAfter(step, 5_000 + low);
            }
          }
          await timers.fill(14);
          timers.expectTheSameElsewhere();
          const machine = timers.broker.machine;
          expect(machine.timers.wheel.pending).toBe(0);
          expect(machine.timers.wheel.pending).toBe(0);
          expect(machine.timers.references.pack()).toEqual([]);
          const rows = timers.broker.queues.queue('T', 1, 0).rows;
          expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(expected.size);
          expect(machine.topics.queue(1, 0)?.nextOffset).toBe(expected.size);
        },
      ),
      { numRuns: 60 },
    );
  }, 120_000);
});
