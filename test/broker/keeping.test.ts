import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import type { KeptQueue } from '../../src/broker/kept-queue.ts';
import type { Assignment, PullResponse, RetentionListResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { DAY, FilledLog, HOUR, idOf, SEGMENT } from './filled-log.ts';

/** A leader whose log keeps 72 hours, and T longer. */
class LongerLog extends FilledLog {
  keepFor(days: number, maxBytes = 1_000_000, name = 'T'): void {
    this.command({ type: 'retentionSet', name, retentionMs: days * DAY, maxBytes });
  }

  store(low: number, queueId = 0, count = 1, bodyBytes = 300): void {
    this.broker.sent(this.session, 'T', queueId, makeBatch({ idLow: low, count, bodyBytes }));
  }

  queue(queueId = 0, topic = 'T') {
    const queue = this.broker.machine.topics.named(topic)?.queues[queueId];
    if (queue === undefined) throw new Error('no such queue');
    return queue;
  }

  /** Ids of the batches of T that a consumer is shown, from the first retained offset on, and where each begins. */
  async shown(queueId = 0, topic = 'T'): Promise<{ body: number; offset: number; logTimeMs: number }[]> {
    const found: { body: number; offset: number; logTimeMs: number }[] = [];
    let offset = this.queue(queueId, topic).minOffset;
    for (;;) {
      const id = this.broker.pull(this.session, { topic, queueId, offset });
      await this.settle();
      const { batches, nextOffset } = this.session.answers.get(id) as PullResponse;
      if (batches.length === 0) return found;
      const raw = this.session.raws.get(id) as Uint8Array;
      let at = 0;
      for (const { sizeBytes, baseOffset, logTimeMs } of batches) {
        at += sizeBytes;
        found.push({ body: raw[at - 1] as number, offset: baseOffset, logTimeMs });
      }
      offset = nextOffset;
    }
  }

  async use(): Promise<RetentionListResponse['retentions']> {
    return ((await this.ask(Op.retentionList, {})) as RetentionListResponse).retentions;
  }
}

describe('a topic’s longer retention (F34)', () => {
  test('F34 what the log does not keep any more is there until the topic’s own time, under its offsets and times', async () => {
    const log = new LongerLog();
    log.keepFor(20);
    const stored: { body: number; offset: number; logTimeMs: number }[] = [];
    for (let day = 1; day <= 18; day++) {
      stored.push({ body: day, offset: 2 * stored.length, logTimeMs: log.now });
      log.store(day - 1, 0, 2);
      await log.fill(1);
    }
    expect(log.start).toBeGreaterThan(20 * SEGMENT);
    expect(await log.shown()).toEqual(stored);
    expect(log.queue()).toMatchObject({ minOffset: 0, nextOffset: 36 });
    log.expectTheSameElsewhere();
    // Not longer than that; and what is newer goes on without a gap.
    await log.fill(6);
    const left = await log.shown();
    expect(left).toEqual(stored.slice(stored.length - left.length));
    expect(left[0]?.logTimeMs).toBeGreaterThan(log.now - 25 * DAY);
    expect(left.length).toBeLessThan(stored.length);
    log.expectTheSameElsewhere();
    await log.fill(24);
    expect(await log.shown()).toEqual([]);
    expect(log.queue()).toMatchObject({ kept: null, minOffset: 36 });
    expect(log.broker.machine.kept.size).toBe(0);
    log.expectTheSameElsewhere();
  });

  test('F34 of what is over the quota the oldest goes, over all queues of the topic', async () => {
    const log = new LongerLog();
    log.keepFor(100, 4_000);
    for (let day = 0; day < 20; day++) {
      log.store(day + 1, day % 2);
      await log.fill(1);
    }
    const [{ keptBytes, keptMessages }] = (await log.use()) as [RetentionListResponse['retentions'][number]];
    expect(keptBytes).toBeLessThanOrEqual(4_000);
    expect(keptBytes).toBeGreaterThan(3_000);
    const all = [...(await log.shown(0)), ...(await log.shown(1))].sort((x, y) => x.logTimeMs - y.logTimeMs).map(({ body }) => body);
    // The newest without a gap.
    expect(all).toEqual(Array.from({ length: all.length }, (_, i) => 20 - all.length + i + 1));
    expect(all.length).toBeGreaterThan(keptMessages);
    log.expectTheSameElsewhere();
  });

  test('F34 other topics are cut as ever; a topic that is kept no longer is cut, too, and one that is deleted goes at once', async () => {
    const log = new LongerLog();
    log.keepFor(50);
    for (let day = 1; day <= 6; day++) {
      log.store(day);
      await log.fill(2);
    }
    expect(log.queue(0, 'U').minOffset).toBeGreaterThan(20);
    expect(log.queue().minOffset).toBe(0);
    log.command({ type: 'retentionRemove', name: 'T' });
    await log.fill(2);
    expect(log.queue().minOffset).toBeGreaterThan(3);
    expect(log.broker.machine.kept.size).toBe(0);
    log.keepFor(50);
    log.store(7);
    await log.fill(6);
    expect(log.queue().minOffset).toBe(log.queue().nextOffset - 1);
    expect(log.broker.machine.kept.size).toBe(1);
    log.command({ type: 'topicDelete', name: 'T' });
    expect(log.broker.machine.kept.size).toBe(0);
    expect(await log.use()).toEqual([]);
    log.expectTheSameElsewhere();
  });

  test('F34 F30 a kept message is found by place, id and time, as it was stored', async () => {
    const log = new LongerLog();
    log.keepFor(40);
    log.store(10, 1, 3);
    const storedMs = log.now;
    await log.fill(8);
    log.store(20, 1);
    await log.fill(12);
    expect(log.start).toBeGreaterThan(16 * SEGMENT);
    const place = { topic: 'T', queueId: 1, baseOffset: 0, messageIndex: 1, logTimeMs: storedMs };
    expect(await log.ask(Op.messageGet, { id: '', topic: 'T', queueId: 1, offset: 1 })).toMatchObject(place);
    expect(await log.ask(Op.messageGet, { id: idOf(11), topic: '', queueId: 0, offset: 0 })).toMatchObject(place);
    const range = async (timeMs: number): Promise<unknown> => log.ask(Op.queueRange, { topic: 'T', queueId: 1, timeMs });
    expect(await range(0)).toEqual({ minOffset: 0, maxOffset: 4, timeOffset: 0 });
    expect(await range(storedMs + 1)).toEqual({ minOffset: 0, maxOffset: 4, timeOffset: 3 });
    const lag = await log.ask(Op.messageGet, { id: idOf(20), topic: '', queueId: 0, offset: 0 });
    expect(lag).toMatchObject({ baseOffset: 3, messageIndex: 0 });
  });

  test('F34 F23 dead letters are kept for longer, with their origin and their marks, and can be replayed', async () => {
    const log = new LongerLog();
    log.keepFor(60, 100_000, '%DLQ%*');
    log.broker.sent(log.session, 'T', 0, makeBatch({ idLow: 3, count: 3, bodyBytes: 400 }));
    const join = { group: 'g', member: 'a@1', topics: ['T'], strategy: 'sticky', sessionTimeoutMs: 10_000, retries: true };
    const { queues } = (await log.ask(Op.groupJoin, join)) as Assignment;
    const epoch = queues.find(({ topic, queueId }) => topic === 'T' && queueId === 0)?.epoch;
    const messages = [0, 2].map((offset) => ({ offset, delayLevel: -1, delayMs: 0, attempts: 1 }));
    expect(
      await log.ask(Op.sendBack, { group: 'g', member: 'a@1', topic: 'T', queueId: 0, epoch, maxReconsumeTimes: 16, messages }),
    ).toEqual({
      errors: [0, 0],
    });
    const deadMs = log.now;
    await log.fill(9);
    expect(await log.ask(Op.deadLetterMark, { group: 'g', offsets: [1] })).toMatchObject({ errors: [0] });
    await log.fill(30);
    expect(log.start).toBeGreaterThan(60 * SEGMENT);
    expect(log.queue(0, '%DLQ%g')).toMatchObject({ minOffset: 0, nextOffset: 2 });
    const origin = { attempts: 1, originTopic: 'T', originQueueId: 0 };
    expect(log.queue().minOffset).toBe(3);
    const id = log.broker.pull(log.session, { topic: '%DLQ%g', queueId: 0, offset: 0 });
    await log.settle();
    const { batches } = log.session.answers.get(id) as PullResponse;
    expect(batches.map(({ reference, logTimeMs }) => ({ reference, logTimeMs }))).toEqual([
      { reference: { ...origin, messageIndex: 0, originOffset: 0 }, logTimeMs: deadMs },
      { reference: { ...origin, messageIndex: 2, originOffset: 2 }, logTimeMs: deadMs },
    ]);
    expect(await log.ask(Op.deadLetterMarks, { group: 'g', from: 0, to: 2 })).toMatchObject({
      marks: [{ offset: 1, replays: 1 }],
    });
    log.expectTheSameElsewhere();
  });

  test('F34 FAULTS 3 on a full disk nothing is kept that could go', async () => {
    const log = new LongerLog();
    log.keepFor(50);
    for (let day = 1; day <= 4; day++) log.store(day);
    await log.fill(8);
    expect(log.queue().minOffset).toBe(0);
    log.broker.replica.full = true;
    await log.fill(14);
    expect(log.queue().minOffset).toBe(4);
    expect(log.start).toBeGreaterThan(20 * SEGMENT);
    log.expectTheSameElsewhere();
  });

  test('F34 below the level that every replica can read there is no longer retention', async () => {
    const log = new LongerLog(FEATURE_LEVELS.carrying);
    expect(await log.ask(Op.retentionSet, { name: 'T', retentionMs: DAY, maxBytes: 1 })).toBe('FEATURE_LEVEL');
    log.command({ type: 'featureLevelRaise', level: FEATURE_LEVELS.keeping });
    expect(await log.ask(Op.retentionSet, { name: 'T', retentionMs: DAY, maxBytes: 1 })).toEqual({});
    expect(await log.use()).toEqual([{ name: 'T', retentionMs: DAY, maxBytes: 1, keptBytes: 0, keptMessages: 0 }]);
    expect(await log.ask(Op.retentionRemove, { name: 'T' })).toEqual({});
    expect(await log.use()).toEqual([]);
    for (const bad of [{ name: 'no spaces' }, { name: '' }, { retentionMs: 0 }, { retentionMs: 1.5 }, { maxBytes: 0 }])
      expect(await log.ask(Op.retentionSet, { name: 'T', retentionMs: HOUR, maxBytes: 1, ...bad })).toBe('BAD_REQUEST');
  });

  test('F34 whenever leadership is lost, what is kept has no gap, no message twice, and each its own bytes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom('store' as const, 'remove' as const, 'set' as const)), {
          minLength: 1,
          maxLength: 12,
        }),
        async (steps) => {
          const log = new LongerLog();
          const { machine } = log.broker;
          const stored: number[] = [];
          const store = (): void => {
            stored.push(stored.length + 1);
            log.store(stored.length, 0, 1, 200);
          };
          log.keepFor(30);
          let everRemoved = false;
          for (let day = 0; day < 4; day++) {
            store();
            store();
            await log.fill(1);
          }
          for (const step of steps) {
            if (step === 'store') store();
            else if (step === 'set') log.keepFor(30);
            else if (step === 'remove') {
              log.command({ type: 'retentionRemove', name: 'T' });
              everRemoved = true;
            } else {
              await log.loseLeadershipAfter(step, 5_000 + stored.length);
            }
          }
          await log.fill(5);
          log.expectTheSameElsewhere();
          const { minOffset, nextOffset, kept } = log.queue();
          expect(nextOffset).toBe(stored.length);
          if (!everRemoved) expect(minOffset).toBe(0);
          expect((await log.shown()).map(({ body, offset }) => [body, offset])).toEqual(
            stored.slice(minOffset).map((body, i) => [body, minOffset + i]),
          );
          expect(machine.kept.size).toBe((kept as KeptQueue | null)?.units.length ?? 0);
        },
      ),
      { numRuns: 60 },
    );
  }, 120_000);
});
