import { describe, expect, test } from 'vitest';
import { WHEEL_TOPIC } from '../../src/broker/timer-wheel.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { delayed, TimerHarness } from './timer-harness.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describe('delivery at any time', () => {
  test('F13 at its time, not before, once; by a time or by a delay from when it was stored', async () => {
    const timers = new TimerHarness();
    expect(timers.send({ deliverAt: timers.now + 1_500 }, { count: 2 })).toEqual([0, -1]);
    expect(timers.send({ delayMs: 1_501 })).toEqual([0, -1]);
    await timers.pass(1_499);
    expect(timers.delivered()).toBe(0);
    await timers.pass(1);
    expect(timers.delivered()).toBe(2);
    await timers.pass(1);
    expect(timers.delivered()).toBe(3);
    await timers.pass(DAY, HOUR);
    expect(timers.delivered()).toBe(3);
  });

  test('F13 a time that is past is no delay: the message has its offset at once', () => {
    const timers = new TimerHarness();
    expect(timers.send({ deliverAt: timers.now })).toEqual([0, 0]);
    expect(timers.send({ deliverAt: 1 })).toEqual([0, 1]);
  });

  test('F13 40 days ahead, and not a millisecond more', async () => {
    const timers = new TimerHarness();
    expect(timers.send({ deliverAt: timers.now + 40 * DAY })).toEqual([0, -1]);
    expect(timers.send({ deliverAt: timers.now + 40 * DAY + 1 })).toEqual([ERRORS.BAD_DELAY.number, -1]);
    expect(timers.send({ delayMs: 40 * DAY + 1 })).toEqual([ERRORS.BAD_DELAY.number, -1]);
    await timers.pass(40 * DAY - HOUR, 7 * HOUR);
    expect(timers.delivered()).toBe(0);
    await timers.pass(HOUR);
    expect(timers.delivered()).toBe(1);
  });

  test('F13 in the order of their times, whatever the order of the sends; those of one time in that of the sends', async () => {
    const timers = new TimerHarness();
    const start = timers.now;
    const dues = [500, 100, 300, 100, 200, 500, 100];
    dues.forEach((due, idLow) => {
      timers.send({ deliverAt: start + due }, { idLow });
    });
    const positions = timers.broker.replica.positions.slice(-dues.length);
    await timers.pass(1_000, 50);
    const expected = dues
      .map((due, i) => ({ due, i }))
      .sort((a, b) => a.due - b.due || a.i - b.i)
      .map(({ i }) => positions[i]);
    expect(timers.pulled().map(({ position }) => position - 64)).toEqual(expected);
  });

  test('F13 what is over leaves nothing behind: its queue is the next bucket’s', async () => {
    const timers = new TimerHarness();
    const { wheel } = timers.broker.machine.timers;
    const queues = (): number => timers.broker.machine.topics.named(WHEEL_TOPIC)?.queues.length ?? 0;
    for (let round = 1; round <= 4; round++) {
      for (const hours of [0.1, 3, 7]) timers.send({ delayMs: hours * HOUR });
      expect(wheel.buckets().length).toBeLessThanOrEqual(4);
      expect(queues()).toBeLessThanOrEqual(4);
      await timers.pass(9 * HOUR, HOUR / 4);
      expect(timers.delivered()).toBe(3 * round);
      // The last one stays until the next timer: nothing else looks at it.
      expect(wheel.buckets().length).toBeLessThanOrEqual(1);
    }
  });

  test('F13 one that comes later and is due earlier wakes the leader in time', async () => {
    const timers = new TimerHarness();
    timers.send({ delayMs: 10 * HOUR });
    await timers.pass(1_000);
    timers.send({ delayMs: 200 });
    await timers.pass(200);
    expect(timers.delivered()).toBe(1);
  });

  test('F13 one that is on its way to the log while others are gathered is not jumped over', async () => {
    const timers = new TimerHarness();
    const { replica, clock } = timers.broker;
    timers.send({ delayMs: 100 });
    replica.passTime(99);
    clock.advance(99);
    // Laid, not applied: due in a millisecond, like the one that waits.
    timers.broker.send(timers.session, 'T', 0, delayed({ delayMs: 1 }, { idLow: 9 }));
    replica.passTime(1);
    clock.advance(1);
    await new Promise(setImmediate);
    await timers.settle();
    await timers.pass(10, 1);
    expect(timers.delivered()).toBe(2);
  });

  test('F13 a cursor that jumps over what its proposer did not know is refused at apply', async () => {
    const timers = new TimerHarness();
    const asOf = timers.broker.machine.appliedIndex;
    const asOfLogTimeMs = timers.now;
    timers.send({ delayMs: 1 });
    timers.broker.replica.passTime(2);
    const from = { fromDueMs: 0, fromPosition: 0, toPosition: 0, passed: [], cancelled: [], released: [] };
    timers.command({ type: 'timersDue', ...from, toDueMs: asOfLogTimeMs + 2, asOf, asOfLogTimeMs });
    expect(timers.broker.machine.timers.wheel.cursor.dueMs).toBe(0);
    await timers.pass(1);
    expect(timers.delivered()).toBe(1);
  });

  test('F13 a new leader reads them from the buckets and goes on behind what is delivered', async () => {
    const timers = new TimerHarness();
    for (let i = 0; i < 50; i++) timers.send({ delayMs: 100 * (i + 1) }, { idLow: i });
    await timers.pass(2_000, 100);
    expect(timers.delivered()).toBe(20);
    timers.broker.replica.follow(9);
    timers.broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    timers.broker.replica.passTime(1_000);
    timers.broker.clock.advance(1_000);
    timers.broker.replica.leadReady(10);
    await timers.settle();
    expect(timers.delivered()).toBe(30);
    await timers.pass(10_000, 100);
    expect(timers.delivered()).toBe(50);
  });

  test('F13 more than fit into memory: read in pieces, the first ones first', async () => {
    const timers = new TimerHarness({ T: 2 }, undefined, { maxNearTimers: 64 });
    const { replica } = timers.broker;
    const count = 1_000;
    // Every order at once: rising, falling, all over, many at one time.
    for (let i = 0; i < count; i++) timers.send({ delayMs: 1_000 + ((i * 617) % 500) * 10 }, { idLow: i });
    await timers.settle();
    replica.follow(9);
    replica.leadReady(10);
    await timers.settle();
    let last = 0;
    for (let step = 0; step < 70; step++) {
      await timers.pass(100);
      // All that is due, nothing else.
      const due = Array.from({ length: count }, (_, i) => 1_000 + ((i * 617) % 500) * 10).filter((at) => at <= (step + 1) * 100).length;
      expect(timers.delivered()).toBe(due);
      last = due;
    }
    expect(last).toBe(count);
  });

  test('F13 what was forgotten for want of memory is read again when its time comes, by the same leader', async () => {
    const timers = new TimerHarness({ T: 2 }, undefined, { maxNearTimers: 64 });
    for (let i = 0; i < 300; i++) timers.send({ delayMs: 1_000 + ((i * 617) % 300) * 10 }, { idLow: i });
    await timers.pass(5_000, 100);
    expect(timers.delivered()).toBe(300);
  });

  test('F13 an old leader’s entry that begins elsewhere than the state stands delivers nothing, whatever else it says', async () => {
    const timers = new TimerHarness();
    timers.send({ delayMs: 100 }, { idLow: 1 });
    const position = timers.broker.replica.positions.at(-1) as number;
    timers.send({ level: 1 }, { idLow: 2 });
    const later = timers.broker.replica.positions.at(-1) as number;
    await timers.pass(1_000, 100);
    expect(timers.delivered()).toBe(2);
    const origin = { attempts: 0, originTopicId: 0, originQueueId: 0, originOffset: 0, tagBloom: 0 };
    const row = { position, sizeBytes: 200, messageIndex: 0xffff_ffff, count: 1, topicId: 1, queueId: 0, ...origin };
    const nothing = { passed: [], cancelled: [], released: [] };
    const span = { fromDueMs: 0, fromPosition: 0, toDueMs: timers.now, toPosition: 1, asOf: timers.broker.machine.appliedIndex };
    timers.command({ type: 'timersDue', ...span, asOfLogTimeMs: timers.now, ...nothing }, [row]);
    const level = { level: 1, from: 0, to: 1, position: later, dueMs: timers.now, cancelled: [], released: [] };
    timers.command({ type: 'delayLevelDue', ...level }, [{ ...row, position: later }]);
    expect(timers.delivered()).toBe(2);
  });

  test('F13 rows of what was cancelled since they were gathered are refused, all of them', () => {
    const timers = new TimerHarness();
    timers.send({ level: 1 }, { idLow: 1, count: 2 });
    const position = timers.broker.replica.positions.at(-1) as number;
    timers.command({ type: 'delayCancel', position, messageIndex: 1, level: 1, dueMs: 0 });
    timers.broker.replica.passTime(1_000);
    const origin = { attempts: 0, originTopicId: 0, originQueueId: 0, originOffset: 0, tagBloom: 0 };
    const row = { position, sizeBytes: 200, messageIndex: 0xffff_ffff, count: 2, topicId: 1, queueId: 0, ...origin };
    timers.command({ type: 'delayLevelDue', level: 1, from: 0, to: 2, position, dueMs: timers.now, cancelled: [], released: [] }, [row]);
    expect(timers.delivered()).toBe(0);
    expect(timers.broker.machine.timers.levels.delivered(1)).toBe(0);
  });

  test('F13 a deleted topic: its timers are passed and counted, others are delivered', async () => {
    const timers = new TimerHarness({ T: 1, U: 1 });
    timers.send({ delayMs: 100 });
    timers.send({ delayMs: 100 }, {}, 0, 'U');
    timers.command({ type: 'topicDelete', name: 'T' });
    await timers.pass(100);
    expect(timers.delivered(0, 'U')).toBe(1);
    expect(timers.broker.machine.timers.droppedMessages).toBe(1);
    expect(timers.broker.machine.timers.wheel.pending).toBe(0);
  });

  test('F13 a damaged header keeps its timer until it is mended; nothing is skipped', async () => {
    const timers = new TimerHarness();
    const { replica } = timers.broker;
    timers.send({ delayMs: 1_000 });
    const position = replica.positions.at(-1) as number;
    replica.follow(9);
    replica.log[position + 40] = 0xee;
    replica.leadReady(10);
    await timers.pass(2_000, 100);
    expect(timers.delivered()).toBe(0);
    expect(timers.broker.damaged).toContain(position);
    replica.log[position + 40] = 1;
    await timers.pass(1_000, 100);
    expect(timers.delivered()).toBe(1);
  });

  test('F34 nothing that waits is cut, nor what a retained delivery points at: its age counts from the delivery', async () => {
    const timers = new TimerHarness({ T: 1, U: 1 }, 16_384);
    const fill = async (segments: number): Promise<void> => {
      for (let i = 0; i < 2 * segments; i++) timers.broker.sent(timers.session, 'U', 0, makeBatch({ bodyBytes: 8_000 }));
      await timers.pass(DAY);
    };
    const start = (): number => timers.broker.machine.startPosition();
    timers.send({ delayMs: 10 * DAY + 1 });
    const position = timers.broker.replica.positions.at(-1) as number;
    for (let day = 0; day < 10; day++) await fill(2);
    expect(start()).toBeLessThanOrEqual(position);
    expect(timers.delivered()).toBe(0);
    await timers.pass(1);
    expect(timers.delivered()).toBe(1);
    const rowPosition = timers.broker.replica.positions.at(-1) as number;
    // It is read as long as its delivery is retained.
    for (let day = 0; day < 2; day++) await fill(2);
    expect(start()).toBeLessThanOrEqual(position);
    expect(timers.pulled()[0]?.position).toBe(position + 64);
    for (let day = 0; day < 4; day++) await fill(2);
    expect(start()).toBeGreaterThan(rowPosition);
  });

  test('F34 references are counted by segment and end with the delivery', async () => {
    const timers = new TimerHarness({ T: 1 }, 16_384);
    for (let i = 0; i < 40; i++) timers.send({ delayMs: 1_000 + i }, { bodyBytes: 2_000, idLow: i });
    const { references } = timers.broker.machine.timers;
    const counts = references.pack();
    expect(counts.length).toBeGreaterThan(4);
    expect(counts.filter((_, i) => i % 2 === 1).reduce((sum, count) => sum + count, 0)).toBe(40);
    expect([0, 1, Number.MAX_SAFE_INTEGER].map((position) => references.referBefore(position))).toEqual([false, true, true]);
    await timers.pass(2_000, 10);
    expect(timers.delivered()).toBe(40);
    expect(references.referBefore(Number.MAX_SAFE_INTEGER)).toBe(false);
    expect(references.pack()).toEqual([]);
  });
});
