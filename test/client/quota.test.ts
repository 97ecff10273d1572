import { describe, expect, test } from 'vitest';
import type { ProducerOptions } from '../../src/client/options.ts';
import { ERRORS, type LedgerError } from '../../src/protocol/errors.ts';
import type { SendRequest, SendResponse } from '../../src/protocol/requests.ts';
import { producerTo } from '../support/fake-router.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** A leader that takes `perSecond` messages a second, and says how long to wait. */
class MeteredLeader {
  readonly ready = true;
  readonly hello = { sendWindowBytes: 1 << 24 };
  readonly bufferedBytes = 0;
  readonly #clock: ManualClock;
  readonly #perSecond: number;
  #freeAtMs = 0;
  stored = 0;
  refusedFrames = 0;
  frames = 0;
  batches = 0;

  constructor(clock: ManualClock, perSecond: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
  }

  request(_op: number, body: SendRequest, _deadlineMs: number, answer: (error: null, body: SendResponse) => void): void {
    this.frames++;
    this.batches += body.parts.length;
    const nowMs = this.#clock.monotonicMs();
    const results = body.parts.map(() => {
      if (nowMs < this.#freeAtMs) return { error: ERRORS.QUOTA_EXCEEDED.number, baseOffset: -1, logTimeMs: this.#freeAtMs - nowMs };
      this.#freeAtMs = nowMs + 1_000 / this.#perSecond;
      this.stored++;
      return { error: 0, baseOffset: this.stored - 1, logTimeMs: 1 };
    });
    if (results.some(({ error }) => error !== 0)) this.refusedFrames++;
    this.#clock.setTimer(1, () => answer(null, { results }));
  }
}

function world(perSecond: number, options: ProducerOptions = {}) {
  const clock = new ManualClock();
  const metered = new MeteredLeader(clock, perSecond);
  const other = new MeteredLeader(clock, 1_000);
  const leaders = new Map([
    ['a', metered],
    ['b', other],
  ]);
  const producer = producerTo(clock, leaders, { suspect: () => expect.fail('a quota is no wrong route') }, options);
  const queue = { topic: 't', brokerName: 'a', queueId: 0 };
  return { clock, producer, metered, other, queue };
}

describe('F44 a producer above its quota', () => {
  test('F44 waits as long as it is told and goes on in order; no retry is used up, nothing goes to another broker group', async () => {
    const { clock, producer, metered, other, queue } = world(10, { retryTimesWhenSendFailed: 0, maxBatchMessages: 1 });
    const offsets: (number | null)[] = [];
    const all = Array.from({ length: 30 }, (_, i) =>
      producer.send({ topic: 't', body: `m${i}`, queue }).then(({ offset }) => offsets.push(offset)),
    );
    await clock.run(2_000);
    // A tenth of a second each, some jitter.
    expect(metered.stored).toBeGreaterThanOrEqual(15);
    expect(metered.stored).toBeLessThanOrEqual(21);
    await clock.run(3_000);
    await Promise.all(all);
    expect(offsets).toEqual(Array.from({ length: 30 }, (_, i) => i));
    expect(other.frames).toBe(0);
  });

  test('F44 it asks with one batch at a time: what is refused was sent for nothing', async () => {
    const { clock, producer, metered, queue } = world(10, { maxBatchMessages: 1, maxInFlightBatchesPerQueue: 8 });
    const all = Array.from({ length: 40 }, () => producer.send({ topic: 't', body: 'x', queue }));
    await clock.run(8_000);
    await Promise.all(all);
    // One is refused, at most, for each that is stored; the first window, before it knew, besides.
    expect(metered.batches).toBeLessThanOrEqual(2 * 40 + 8);
  });

  test('F44 at the delivery deadline it is told why, and that nothing was stored', async () => {
    const { clock, producer, queue } = world(0.1, { deliveryTimeoutMs: 2_000 });
    const first = producer.send({ topic: 't', body: 'first', queue });
    await clock.run(10);
    await first;
    const failure = producer.send({ topic: 't', body: 'late', queue }).catch((error: unknown) => error);
    await clock.run(3_000);
    const error = (await failure) as LedgerError;
    expect(error.code).toBe('RETRIES_EXHAUSTED');
    expect(error.causes.map(({ code }) => code)).toContain('QUOTA_EXCEEDED');
    expect(error.causes[0]?.retryAfterMs).toBeGreaterThan(9_000);
    expect(error.causes[0]?.retry).toBe('same');
  });
});
