import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import type { Command } from '../../src/broker/commands.ts';
import { encodeCommand } from '../../src/broker/commands.ts';
import { cutPosition, type DiskWatermark, watermarkBytes } from '../../src/broker/retention.ts';
import { EntryType } from '../../src/replica/types.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

const SEGMENT = 64 * 1024;
const HOUR = 3_600_000;

function command(broker: BrokerHarness, value: Command): void {
  const body = encodeCommand(value);
  broker.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
  broker.replica.commit();
}

/** Queue 0 is written all along, queue 1 only at the beginning, an hour and a segment a step. */
function filled(diskWatermark?: DiskWatermark): BrokerHarness {
  const broker = BrokerHarness.ready({ T: 2 }, {}, SEGMENT, diskWatermark === undefined ? {} : { diskWatermark });
  const session = broker.session();
  broker.sent(session, 'T', 1, makeBatch({ count: 5 }));
  for (let segment = 0; segment < 6; segment++) {
    for (let i = 0; i < 4; i++) broker.sent(session, 'T', 0, makeBatch({ bodyBytes: 14_000 }));
    broker.replica.passTime(HOUR);
  }
  return broker;
}

describe('retention', () => {
  test('F34 where to cut: whole segments by age and by size, never the one being written', () => {
    const starts = [1, 2, 3].map((n) => ({ position: 100 * n, logTimeMs: 10 * n, offsets: [] }));
    expect(cutPosition(0, starts, 350, 100, 0, 0)).toBeNull();
    expect(cutPosition(0, starts, 350, 61, 50, 0)).toBe(100);
    expect(cutPosition(0, starts, 350, 1_000, 50, 0)).toBe(300);
    expect(cutPosition(0, starts, 350, 100, 0, 350)).toBeNull();
    expect(cutPosition(0, starts, 350, 100, 0, 349)).toBe(100);
    expect(cutPosition(0, starts, 350, 100, 0, 1)).toBe(300);
    expect(cutPosition(200, starts.slice(2), 350, 100, 0, 150)).toBeNull();
  });

  test('F34 leaders that come and go within seconds cut the log all the same', () => {
    const broker = filled();
    command(broker, { type: 'setSetting', name: 'retentionBytes', value: 2 * SEGMENT });
    for (let term = 10; term < 16; term += 2) {
      broker.replica.follow(term);
      broker.replica.leadReady(term + 1);
      broker.clock.advance(2_000);
      broker.replica.settle();
    }
    expect(broker.machine.startPosition()).toBeGreaterThan(SEGMENT);
  });

  test('F34 by the disk’s use: as many of the oldest segments as are above the watermark, whole, and nothing below it', async () => {
    expect(watermarkBytes(1_000, 30, 100, 75)).toBe(0);
    expect(watermarkBytes(1_000, 20, 100, 75)).toBe(995);
    expect(watermarkBytes(3, 0, 100, 75)).toBe(1);
    let freeBytes = 300_000;
    let failing = false;
    const space = async (): Promise<{ freeBytes: number; totalBytes: number }> => {
      if (failing) throw new Error('EIO');
      return { freeBytes, totalBytes: 1_000_000 };
    };
    const broker = filled({ percent: 75, space });
    const check = async (): Promise<number> => {
      broker.clock.advance(10_000);
      await new Promise((resolve) => setImmediate(resolve));
      broker.replica.settle();
      return broker.machine.startPosition();
    };
    expect(await check()).toBe(0);
    failing = true;
    freeBytes = 0;
    expect(await check()).toBe(0);
    failing = false;
    // 100,000 bytes too many: two segments of 64 KiB.
    freeBytes = 150_000;
    expect(await check()).toBe(2 * SEGMENT);
    freeBytes = 250_000;
    expect(await check()).toBe(2 * SEGMENT);
    // More than all of it: the segment that is written stays.
    freeBytes = 0;
    expect(await check()).toBe(Math.floor(broker.replica.endPosition() / SEGMENT) * SEGMENT);
  });

  test('F34 by time: the leader cuts, minimum offsets are those of the first retained batches', () => {
    const broker = filled();
    command(broker, { type: 'setSetting', name: 'retentionMs', value: 3 * HOUR });
    broker.clock.advance(10_000);
    broker.replica.settle();
    const start = broker.machine.startPosition();
    expect(start).toBeGreaterThan(0);
    expect(start % SEGMENT).toBe(0);
    const rows = broker.queues.queue('T', 1, 0).rows;
    const first = rows.find(({ position }) => position >= start);
    expect(broker.machine.topics.queue(1, 0)?.minOffset).toBe(first?.baseOffset);
    expect(broker.queues.queue('T', 1, 0).minOffset).toBe(first?.baseOffset);
    // All of queue 1 is gone: its minimum is its end, not 0.
    expect(broker.machine.topics.queue(1, 1)?.minOffset).toBe(5);
    // Nothing younger than the retention went.
    const gone = rows.filter(({ position }) => position < start);
    for (const { logTimeMs } of gone) expect(logTimeMs + 3 * HOUR).toBeLessThan(broker.replica.logTimeMs());
    expect(broker.ids.start).toBe(start);
  });

  test('F34 by size, and again later: a pull below the start goes on at the minimum', () => {
    const broker = filled();
    command(broker, { type: 'setSetting', name: 'retentionBytes', value: 3 * SEGMENT });
    broker.clock.advance(10_000);
    broker.replica.settle();
    const start = broker.machine.startPosition();
    expect(broker.machine.endPosition - start).toBeLessThanOrEqual(3 * SEGMENT);
    expect(broker.machine.endPosition - start).toBeGreaterThan(SEGMENT);
    const entries = broker.replica.positions.length;
    broker.clock.advance(10_000);
    expect(broker.replica.positions.length).toBe(entries);
    const session = broker.session();
    const { minOffset = -1 } = broker.machine.topics.queue(1, 0) ?? {};
    expect(session.answers.get(broker.pull(session, { offset: 1 }))).toEqual({
      minOffset,
      maxOffset: 24,
      nextOffset: minOffset,
      batches: [],
    });
  });

  test('F34 a follower proposes nothing; a cut that is not a segment start does nothing', () => {
    const broker = filled();
    command(broker, { type: 'setSetting', name: 'retentionBytes', value: SEGMENT });
    command(broker, { type: 'cut', position: SEGMENT + 1 });
    expect(broker.machine.startPosition()).toBe(0);
    broker.replica.follow(2);
    const entries = broker.replica.positions.length;
    broker.clock.advance(60_000);
    expect(broker.replica.positions.length).toBe(entries);
  });

  test('F34 a new leader brings the settings in the log in line with its configuration, once', () => {
    const broker = new BrokerHarness({}, SEGMENT, { retentionMs: 5 * HOUR });
    broker.replica.lead(1);
    expect(broker.machine.setting('retentionMs')).toBe(72 * HOUR);
    broker.replica.settle();
    expect(broker.machine.setting('retentionMs')).toBe(5 * HOUR);
    const entries = broker.replica.positions.length;
    broker.replica.follow(2);
    broker.replica.lead(3);
    broker.replica.settle();
    expect(broker.replica.positions.length).toBe(entries + 1);
  });
});
