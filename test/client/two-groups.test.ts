import { describe, expect, test } from 'vitest';
import type { ProducerOptions } from '../../src/client/options.ts';
import type { Message } from '../../src/client/types.ts';
import { ERRORS, type LedgerError } from '../../src/protocol/errors.ts';
import { Op, type SendRequest, type SendResponse } from '../../src/protocol/requests.ts';
import { producerTo } from '../support/fake-router.ts';
import { ManualClock } from '../support/manual-clock.ts';

type Verdict = keyof typeof ERRORS | 'stored' | 'silent';

/** The leader of one group: answers each part alike, as the test says. */
class FakeLeader {
  readonly ready = true;
  readonly hello = { sendWindowBytes: 1 << 24 };
  readonly sent: SendRequest[] = [];
  posted = 0;
  bufferedBytes = 0;
  verdict: Verdict = 'stored';
  readonly #held: ((verdict: Exclude<Verdict, 'silent'>) => void)[] = [];

  request(op: number, body: SendRequest, _deadlineMs: number, answer: (error: null, body: SendResponse) => void): void {
    expect(op).toBe(Op.send);
    this.sent.push(body);
    this.#held.push((verdict) => {
      const error = verdict === 'stored' ? 0 : ERRORS[verdict].number;
      answer(null, { results: body.parts.map(() => ({ error, baseOffset: error === 0 ? 0 : -1, logTimeMs: 1 })) });
    });
    if (this.verdict !== 'silent') this.answerHeld(this.verdict);
  }
  answerHeld(verdict: Exclude<Verdict, 'silent'>): void {
    for (const answer of this.#held.splice(0)) answer(verdict);
  }
  post(): boolean {
    this.posted += 1;
    return true;
  }
}

function world(options: ProducerOptions = {}, isGone = false) {
  const clock = new ManualClock();
  const leaders = new Map([
    ['a', new FakeLeader()],
    ['b', new FakeLeader()],
  ]);
  const producer = producerTo(clock, leaders, { isGone: () => Promise.resolve(isGone) }, options);
  const [a, b] = [...leaders.values()] as [FakeLeader, FakeLeader];
  return { clock, producer, a, b };
}

/** @returns how many timers were set since; too many of them end the test */
function countTimers(clock: ManualClock): () => number {
  let timers = 0;
  const set = clock.setTimer.bind(clock);
  clock.setTimer = (delayMs, callback) => {
    timers += 1;
    if (timers > 1_000) throw new Error('a busy loop');
    return set(delayMs, callback);
  };
  return () => timers;
}

describe('two broker groups', () => {
  test('F05 F12 a refused message moves to another group, one that a selector placed by its argument does not', async () => {
    const { clock, producer, a, b } = world({ messageQueueSelector: (queues) => queues[0] as never });
    a.verdict = 'BUSY';
    b.verdict = 'stored';
    const free = producer.send({ topic: 't', body: 'free' });
    await clock.run(100);
    expect((await free).brokerName).toBe('b');
    const before = b.sent.length;
    const placed = producer.send({ topic: 't', body: 'placed' }, { key: 1 });
    await clock.run(100);
    expect(b.sent).toHaveLength(before);
    a.verdict = 'stored';
    await clock.run(2_000);
    expect((await placed).brokerName).toBe('a');
  });

  test.each(['TOPIC_NOT_FOUND', 'QUEUE_NOT_FOUND'] as const)(
    'F48 a group hears of its new queues after the clients (%s): what is sent there waits or goes elsewhere, and is not refused',
    async (verdict) => {
      const { clock, producer, a, b } = world({ messageQueueSelector: (queues) => queues[1] as never, deliveryTimeoutMs: 10_000 });
      b.verdict = verdict;
      const aimed = [
        producer.send({ topic: 't', body: 'placed' }, { key: 1 }),
        producer.send({ topic: 't', body: 'named', queue: { topic: 't', brokerName: 'b', queueId: 0 } }),
      ];
      const free = [1, 2, 3].map((i) => producer.send({ topic: 't', body: `free ${i}` }));
      const timers = countTimers(clock);
      await clock.run(2_000);
      expect(new Set((await Promise.all(free)).map(({ brokerName }) => brokerName))).toEqual(new Set(['a']));
      expect(a.sent.length).toBeGreaterThan(0);
      expect(timers()).toBeLessThan(30);
      b.verdict = 'stored';
      await clock.run(1_000);
      expect((await Promise.all(aimed)).map(({ brokerName }) => brokerName)).toEqual(['b', 'b']);
    },
  );

  test('F48 a topic that no group has any more is said at once', async () => {
    const { clock, producer, a, b } = world({ deliveryTimeoutMs: 10_000 }, true);
    a.verdict = 'TOPIC_NOT_FOUND';
    b.verdict = 'TOPIC_NOT_FOUND';
    const codes: string[] = [];
    producer.send({ topic: 't', body: 'free' }).catch((error: LedgerError) => codes.push(error.code));
    producer.send({ topic: 't', body: 'keyed', orderingKey: 'k' }).catch((error: LedgerError) => codes.push(error.code));
    await clock.run(100);
    expect(codes).toEqual(['TOPIC_NOT_FOUND', 'TOPIC_NOT_FOUND']);
  });

  test('F10 the deadline of a message that moved behind younger ones is kept, and is no busy loop', async () => {
    const { clock, producer, a, b } = world({ deliveryTimeoutMs: 1_000 });
    a.verdict = 'silent';
    b.verdict = 'silent';
    const codes: string[] = [];
    const send = (body: string, message: Partial<Message> = {}): void => {
      producer.send({ topic: 't', body, ...message }).catch((error: LedgerError) => codes.push(`${body} ${error.code}`));
    };
    send('old1');
    await clock.run(1);
    send('old2');
    await clock.run(500);
    b.answerHeld('stored');
    send('young', { queue: { topic: 't', brokerName: 'b', queueId: 0 } });
    await clock.run(10);
    // The other one goes from a to b, behind the young one.
    a.answerHeld('BUSY');
    const timers = countTimers(clock);
    await clock.run(600);
    expect(codes.map((line) => line.slice(0, 3))).toEqual(['old']);
    expect(timers()).toBeLessThan(20);
  });

  test('F11 what has lingered behind a full window waits for an answer, and is no busy loop', async () => {
    const { clock, producer, a } = world({ lingerMs: 20, maxInFlightBatchesPerQueue: 1 });
    a.verdict = 'silent';
    const queue = { topic: 't', brokerName: 'a', queueId: 0 };
    const sends = [producer.send({ topic: 't', body: 'first', queue })];
    await clock.run(30);
    expect(a.sent).toHaveLength(1);
    sends.push(producer.send({ topic: 't', body: 'second', queue }));
    const timers = countTimers(clock);
    await clock.run(500);
    expect(timers()).toBeLessThan(20);
    a.answerHeld('stored');
    a.verdict = 'stored';
    await clock.run(10);
    await Promise.all(sends);
    expect(a.sent).toHaveLength(2);
  });

  test('F09 one-way messages wait when the socket takes nothing, then are refused with BUSY', async () => {
    const { clock, producer, a, b } = world({ maxBufferedMessages: 10 });
    producer.sendOneWay({ topic: 't', body: 'first' });
    await clock.run(1);
    a.bufferedBytes = 1 << 26;
    b.bufferedBytes = 1 << 26;
    for (let i = 0; i < 10; i++) producer.sendOneWay({ topic: 't', body: `m${i}` });
    await clock.run(100);
    expect(a.posted + b.posted).toBe(1);
    expect(() => producer.sendOneWay({ topic: 't', body: 'more' })).toThrow('BUSY');
    a.bufferedBytes = 0;
    b.bufferedBytes = 0;
    await clock.run(100);
    expect(a.posted + b.posted).toBeGreaterThan(1);
    expect(producer.bufferedBytes).toBe(0);
  });
});
