import { describe, expect, test } from 'vitest';
import type { SendRequest, SendResponse } from '../../src/protocol/requests.ts';
import { producerTo } from '../support/fake-router.ts';
import { ManualClock } from '../support/manual-clock.ts';

const EVERY_MS = 5;

/** The leader of one broker group, which answers after a while. */
class Leader {
  readonly ready = true;
  readonly hello = { sendWindowBytes: 1 << 24 };
  readonly bufferedBytes = 0;
  readonly #clock: ManualClock;
  latencyMs = 2;
  /** When messages were sent to it. */
  readonly sentAtMs: number[] = [];

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  request(_op: number, body: SendRequest, _deadlineMs: number, answer: (error: null, body: SendResponse) => void): void {
    for (const _ of body.parts) this.sentAtMs.push(this.#clock.monotonicMs());
    const results = body.parts.map(() => ({ error: 0, baseOffset: 0, logTimeMs: 1 }));
    this.#clock.setTimer(this.latencyMs, () => answer(null, { results }));
  }

  sentIn(fromMs: number, toMs: number): number {
    return this.sentAtMs.filter((atMs) => atMs >= fromMs && atMs < toMs).length;
  }
}

function world(brokerNames: readonly string[]) {
  const clock = new ManualClock();
  const leaders = new Map(brokerNames.map((brokerName) => [brokerName, new Leader(clock)]));
  const producer = producerTo(clock, leaders, { queues: 4 });
  /** An unkeyed message each EVERY_MS. @returns when it ended */
  const sendFor = async (ms: number): Promise<number> => {
    for (let sentMs = 0; sentMs < ms; sentMs += EVERY_MS) {
      producer.send({ topic: 't', body: 'x' }).catch(() => expect.fail('refused'));
      await clock.run(EVERY_MS);
    }
    return clock.monotonicMs();
  };
  return { clock, leaders, sendFor };
}

describe('F05 latency fault tolerance', () => {
  test.each([2, 3])(
    'F05 a leader of %i made 600 ms slower: nine of ten unkeyed sends go elsewhere within 2 s, and come back within 30 s of healing',
    async (count) => {
      const { leaders, sendFor } = world(['a', 'b', 'c'].slice(0, count));
      const all = [...leaders.values()];
      const [slow] = all as [Leader];
      const share = (fromMs: number, toMs: number): number =>
        slow.sentIn(fromMs, toMs) / all.reduce((sum, leader) => sum + leader.sentIn(fromMs, toMs), 0);
      const healthyMs = await sendFor(1_000);
      expect(share(0, healthyMs)).toBeGreaterThan(0.8 / count);

      slow.latencyMs = 602;
      const slowFromMs = healthyMs;
      const slowToMs = await sendFor(20_000);
      expect(share(slowFromMs + 2_000, slowToMs)).toBeLessThan(0.1);
      // In each second of them, not only on the whole: a trial is one batch, not a burst.
      for (let at = slowFromMs + 2_000; at < slowToMs; at += 1_000) expect(share(at, at + 1_000)).toBeLessThan(0.1);

      slow.latencyMs = 2;
      const healedMs = slowToMs;
      const endMs = await sendFor(10_000);
      let backMs = healedMs;
      while (backMs < endMs && share(backMs, backMs + 500) < 0.8 / count) backMs += 100;
      expect(backMs - healedMs).toBeLessThan(30_000);
      expect(share(endMs - 3_000, endMs)).toBeGreaterThan(0.8 / count);
    },
  );

  test('F05 a leader that does not answer at all is tried by one batch at a time', async () => {
    const { leaders, sendFor } = world(['a', 'b']);
    const [silent] = [...leaders.values()] as [Leader];
    await sendFor(500);
    silent.latencyMs = 1e9;
    const fromMs = await sendFor(10_000);
    // The first sends are unanswered until their time-out; then it is avoided.
    await sendFor(20_000);
    expect(silent.sentIn(fromMs + 1_000, fromMs + 20_000)).toBeLessThan(0.1 * (19_000 / EVERY_MS));
  });
});
