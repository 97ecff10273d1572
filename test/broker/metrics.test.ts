import { describe, expect, test } from 'vitest';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import { TransactionBroker } from '../support/transaction-broker.ts';
import { TimerHarness } from './timer-harness.ts';

const SEGMENT = 64 * 1024;
const DAY = 86_400_000;

describe('what the broker tells its metrics', () => {
  test('F39 timers: what begins to wait and what got its place, by topic; a follower counts neither', async () => {
    const timers = new TimerHarness({ T: 1, U: 1 });
    timers.send({ level: 1 }, { count: 3 });
    timers.send({ delayMs: 5_000 }, { count: 2 }, 0, 'U');
    timers.send({ deliverAt: timers.now }, { count: 7 });
    expect(timers.broker.counted).toEqual({ 'enqueued T': 3, 'enqueued U': 2 });
    await timers.pass(1_000);
    expect(timers.broker.counted).toEqual({ 'enqueued T': 3, 'enqueued U': 2, 'dequeued T': 3 });
    await timers.pass(4_000);
    expect(timers.broker.counted).toEqual({ 'enqueued T': 3, 'enqueued U': 2, 'dequeued T': 3, 'dequeued U': 2 });
    const { replica } = timers.broker;
    timers.send({ level: 1 });
    replica.passTime(1_000);
    timers.broker.clock.advance(1_000);
    await new Promise(setImmediate);
    // The entry that delivers it is laid, and the leader deposed before it is applied.
    replica.follow(5);
    replica.settle();
    expect(timers.delivered(0, 'T')).toBe(11);
    expect(timers.broker.counted['dequeued T']).toBe(3);
  });

  test('F39 timers: when the first of what waits is due, over levels and times; nothing waits, nothing is due', async () => {
    const timers = new TimerHarness();
    const nextDueMs = (): number => timers.broker.broker.gauges.nextDueMs;
    const { now } = timers;
    expect(nextDueMs()).toBe(-1);
    timers.send({ level: 3 });
    await timers.settle();
    expect(nextDueMs()).toBe(now + 10_000);
    timers.send({ delayMs: 4_000 });
    await timers.settle();
    expect(nextDueMs()).toBe(now + 4_000);
    await timers.pass(4_000);
    expect(nextDueMs()).toBe(now + 10_000);
    await timers.pass(6_000);
    expect(nextDueMs()).toBe(-1);
  });

  test('F39 transactions that nobody ended are counted when they are rolled back', () => {
    const broker = new TransactionBroker({}, { transactionCheckMax: 1, transactionCheckIntervalMs: 1_000, transactionTimeoutMs: 1_000 });
    broker.half();
    broker.half();
    broker.end(broker.half(), 'rollback');
    broker.pass(1_000);
    expect(broker.harness.counted['discarded']).toBeUndefined();
    broker.pass(60_000);
    broker.pass(60_000);
    expect(broker.harness.counted['discarded']).toBe(2);
  });

  test('F34 F39 bytes that retention would remove and may not, because something that waits refers to them', async () => {
    const timers = new TimerHarness({ T: 1 }, SEGMENT);
    const { broker } = timers;
    const held = (): number => broker.broker.gauges.heldBytes;
    const fill = (): void => {
      for (let i = 0; i < 10; i++) broker.sent(timers.session, 'T', 0, makeBatch({ bodyBytes: 14_000 }));
    };
    fill();
    const before = Math.floor(broker.machine.endPosition / SEGMENT) * SEGMENT;
    timers.send({ delayMs: 2 * DAY });
    fill();
    timers.command({ type: 'setSetting', name: 'retentionMs', value: 1 });
    await timers.pass(60_000);
    const newest = Math.floor(broker.machine.endPosition / SEGMENT) * SEGMENT;
    expect(broker.machine.startPosition()).toBe(before);
    expect(held()).toBe(newest - before);
    await timers.pass(2 * DAY, DAY);
    await timers.pass(60_000);
    // Delivered by reference: the row keeps the bytes as long as its own segment, which is the one that is written.
    expect(held()).toBe(newest - before);
    fill();
    await timers.pass(60_000);
    await timers.pass(60_000);
    expect(held()).toBe(0);
    broker.replica.follow(9);
    expect(held()).toBe(0);
  });

  test('I6 the digest at the last minute of log time: two replicas that are at different entries show the same', () => {
    const ahead = BrokerHarness.ready({ T: 1 });
    const session = ahead.session();
    const send = (): unknown => ahead.sent(session, 'T', 0, makeBatch());
    ahead.replica.passTime(60_000);
    send();
    const first = ahead.machine.digestCheckpoint;
    const behind = ahead.machine.snapshot();
    ahead.replica.passTime(60_000);
    const index = ahead.machine.appliedIndex;
    const digest = ahead.machine.digest();
    send();
    send();
    expect(first?.index).toBeLessThan(index);
    expect(ahead.machine.digestCheckpoint).toEqual({ index, digest });
    // What another state had come to says nothing of this one.
    ahead.machine.restore(behind);
    expect(ahead.machine.digestCheckpoint).toBeNull();
  });
});
