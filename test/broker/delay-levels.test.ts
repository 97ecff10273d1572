import { describe, expect, test } from 'vitest';
import { parseDelayLevels } from '../../src/base/delay-table.ts';
import { SCHEDULE_TOPIC } from '../../src/broker/delay-levels.ts';
import { ENTRY_HEADER_BYTES } from '../../src/log/layout.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { BrokerHarness } from '../support/fake-broker.ts';
import { delayed, TimerHarness } from './timer-harness.ts';

describe('delay levels', () => {
  test('F13 the table is RocketMQ’s; one that says nothing sensible is none', () => {
    expect(parseDelayLevels('1s 5s 2h')).toEqual([1_000, 5_000, 7_200_000]);
    for (const text of ['', '1', '0s', '1s  5s', '41d', '1s ', 'x']) expect(parseDelayLevels(text)).toBeNull();
  });

  test('F13 a message of level 3 is in its queue after 10 s, not before, and once', async () => {
    const timers = new TimerHarness();
    expect(timers.send({ level: 3 }, { count: 3 })).toEqual([0, -1]);
    expect(timers.delivered()).toBe(0);
    await timers.pass(9_999);
    expect(timers.delivered()).toBe(0);
    await timers.pass(1);
    expect(timers.delivered()).toBe(3);
    const [batch] = timers.pulled();
    expect(batch).toMatchObject({ baseOffset: 0, logTimeMs: timers.now });
    expect(batch).not.toHaveProperty('reference');
    await timers.pass(3_600_000, 60_000);
    expect(timers.delivered()).toBe(3);
  });

  test('F13 it is stored once: what is pulled are the bytes that were sent, where they were laid', async () => {
    const timers = new TimerHarness();
    const sent = delayed({ level: 1 }, { count: 2, idLow: 77 });
    timers.broker.sent(timers.session, 'T', 1, sent);
    const position = timers.broker.replica.positions.at(-1) as number;
    await timers.pass(1_000);
    const [batch] = timers.pulled(1);
    expect(batch?.position).toBe(position + ENTRY_HEADER_BYTES);
    expect(Buffer.from([...timers.session.raws.values()].at(-1) as Uint8Array)).toEqual(Buffer.from(sent));
  });

  test('F13 level 0 does not exist on the wire, above 18 is 18', async () => {
    const timers = new TimerHarness();
    timers.send({ level: 99 });
    await timers.pass(2 * 3_600_000 - 1);
    expect(timers.delivered()).toBe(0);
    await timers.pass(1);
    expect(timers.delivered()).toBe(1);
    expect(timers.broker.sent(timers.session, 'T', 0, delayed({ level: 0 }))).toEqual([ERRORS.CORRUPT_BATCH.number, -1]);
  });

  test('F13 levels are queues of SCHEDULE_TOPIC_XXXX, which nobody else sees or makes', () => {
    const timers = new TimerHarness();
    timers.send({ level: 2 });
    const topic = timers.broker.machine.topics.named(SCHEDULE_TOPIC);
    expect(topic?.queues.map(({ nextOffset }) => nextOffset).slice(0, 3)).toEqual([0, 1, 0]);
    expect(topic?.queues).toHaveLength(18);
    expect(timers.broker.machine.topics.public().map(({ name }) => name)).toEqual(['T']);
    expect(timers.broker.sent(timers.session, SCHEDULE_TOPIC, 0, delayed({ level: 1 }))[0]).toBe(ERRORS.NO_PERMISSION.number);
  });

  test('F13 order within a level is kept, entries hold many messages, the deadline is one', async () => {
    const timers = new TimerHarness();
    const batches = 3_000;
    for (let i = 0; i < batches; i++) timers.send({ level: 1 }, { idLow: i });
    const before = timers.broker.replica.positions.length;
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(batches);
    expect(timers.broker.replica.positions.length - before).toBeLessThan(5);
    const positions = timers.pulled(0, batches - 512).map(({ position }) => position);
    expect(positions.length).toBeGreaterThan(100);
    expect(positions).toEqual(positions.toSorted((a, b) => a - b));
  });

  test('F13 a new leader goes on where the last one was; what an old one proposed twice does nothing', async () => {
    const timers = new TimerHarness();
    const { replica } = timers.broker;
    timers.send({ level: 1 });
    replica.passTime(1_000);
    timers.broker.clock.advance(1_000);
    await new Promise(setImmediate);
    // The entry is laid and not committed when leadership goes; the next leader finds it in its log, and sees the level due, too.
    expect(timers.delivered()).toBe(0);
    const laid = replica.positions.length;
    replica.follow(5);
    replica.lead(6);
    replica.settle();
    await timers.settle();
    expect(timers.delivered()).toBe(1);
    const entry = replica.entry(laid);
    replica.propose(entry.type, 0, 0, 0, entry.body.slice());
    replica.settle();
    expect(timers.delivered()).toBe(1);
  });

  test('F13 an entry whose log time is before the due time delivers nothing: it is proposed again later', async () => {
    const timers = new TimerHarness();
    timers.send({ level: 1 });
    const { type: _, ...due } = {
      type: 0,
      from: 0,
      to: 1,
      position: timers.broker.replica.positions.at(-1) as number,
      cancelled: [],
      released: [0, 1],
    };
    timers.command({ type: 'delayLevelDue', level: 1, dueMs: timers.now + 1_000, ...due });
    expect(timers.delivered()).toBe(0);
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(1);
  });

  test('F13 a topic that was deleted takes its delayed messages along, also when it is made again', async () => {
    const timers = new TimerHarness();
    timers.send({ level: 1 });
    timers.command({ type: 'topicDelete', name: 'T' });
    timers.command({ type: 'topicCreate', name: 'T', queues: 2, perm: 6, messageType: 'normal', replication: 2 });
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(0);
    expect(timers.broker.machine.timers.droppedMessages).toBe(1);
    timers.send({ level: 1 });
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(1);
  });

  test('F13 a table of other delays: pending messages follow it, also when it is shorter', async () => {
    const timers = new TimerHarness();
    timers.send({ level: 3 });
    timers.send({ level: 18 });
    timers.command({ type: 'delayLevelsSet', delaysMs: [50, 60, 70] });
    await timers.pass(69);
    expect(timers.delivered()).toBe(0);
    await timers.pass(1);
    expect(timers.delivered()).toBe(2);
    timers.command({ type: 'delayLevelsSet', delaysMs: [] });
    expect(timers.broker.machine.timers.levels.delaysMs).toEqual([50, 60, 70]);
  });

  test('F13 below the feature level that knows it a delay is refused with a code of its own', () => {
    const broker = BrokerHarness.ready();
    expect(broker.sent(broker.session(), 'T', 0, delayed({ level: 1 }))).toEqual([ERRORS.FEATURE_LEVEL.number, -1]);
  });

  test('F10 F13 a delayed batch that is sent again is stored once', async () => {
    const timers = new TimerHarness();
    const again = { producerId: 7, epoch: 0, sequence: 0, idLow: 5 };
    expect(timers.send({ level: 1 }, again)).toEqual([0, -1]);
    expect(timers.send({ level: 1 }, again)).toEqual([0, -1]);
    await timers.pass(1_000);
    expect(timers.delivered()).toBe(1);
  });

  test('F13 cold: what is not in memory any more is read from the files', async () => {
    const timers = new TimerHarness();
    for (let i = 0; i < 300; i++) timers.send({ level: 1 }, { bodyBytes: i % 7 === 0 ? 20_000 : 100 });
    timers.broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    await timers.pass(1_000);
    await timers.settle();
    expect(timers.delivered()).toBe(300);
    expect(timers.broker.replica.coldReads).toBeLessThan(100);
  });
});
