import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeRow } from '../../src/broker/delivery.ts';
import { BatchFlag } from '../../src/protocol/record-batch.ts';
import { type Delay, TimerHarness } from './timer-harness.ts';

const LEVEL_MS = [1_000, 5_000, 10_000];

const anyDelay: fc.Arbitrary<Delay> = fc.oneof(
  fc.record({ level: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ delayMs: fc.integer({ min: 1, max: 12_000 }) }),
  fc.record({ delayMs: fc.integer({ min: 3_000_000, max: 8_000_000 }) }),
);
const anyStep = fc.oneof(
  { weight: 6, arbitrary: fc.record({ what: fc.constant('send' as const), delay: anyDelay, count: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 4_000 }) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('pass' as const), ms: fc.constantFrom(600_000, 3_600_000) }) },
  // Something is laid and not committed: time passes, and then another leader has it or not.
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant('leader' as const), ms: fc.integer({ min: 0, max: 3_000 }), keeps: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('save' as const) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('restart' as const), cold: fc.boolean() }) },
);
type Step = typeof anyStep extends fc.Arbitrary<infer T> ? T : never;

interface Expected {
  readonly dueMs: number;
  readonly count: number;
}

class Run {
  readonly timers = new TimerHarness({ T: 1 }, undefined, { maxNearTimers: 16 });
  readonly expected = new Map<number, Expected>();
  #term = 100;
  #saved: { readonly bytes: Uint8Array; readonly index: number } | null = null;
  #idLow = 0;

  async take(step: Step): Promise<void> {
    const { replica, machine, queues } = this.timers.broker;
    switch (step.what) {
      case 'send': {
        this.timers.send(step.delay, { count: step.count, idLow: this.#idLow });
        this.#idLow += step.count;
        const entry = replica.entry(replica.positions.length);
        const delayMs = 'level' in step.delay ? (LEVEL_MS[step.delay.level - 1] as number) : (step.delay as { delayMs: number }).delayMs;
        expect(entry.body[10]).toBe(BatchFlag.noSequence | ('level' in step.delay ? BatchFlag.delayLevel : BatchFlag.delayMs));
        this.expected.set(entry.position, { dueMs: entry.logTimeMs + delayMs, count: step.count });
        return;
      }
      case 'pass':
        return this.timers.pass(step.ms);
      case 'leader': {
        replica.passTime(step.ms);
        this.timers.broker.clock.advance(step.ms);
        await new Promise(setImmediate);
        replica.follow(++this.#term);
        if (!step.keeps && replica.positions.length > replica.appliedIndex()) replica.truncateFrom(replica.appliedIndex() + 1);
        replica.leadReady(++this.#term);
        return this.timers.settle();
      }
      case 'save':
        this.#saved = { bytes: machine.snapshot(), index: replica.appliedIndex() };
        return;
      case 'restart': {
        if (this.#saved === null) return;
        const { bytes, index } = this.#saved;
        const before = machine.digest();
        replica.follow(++this.#term);
        queues.truncateFrom(replica.positions[index] ?? Number.POSITIVE_INFINITY);
        expect(machine.restore(bytes)).toBe(true);
        replica.replay(machine, index + 1, replica.appliedIndex());
        expect(machine.digest()).toBe(before);
        if (step.cold) replica.hotFrom = Number.POSITIVE_INFINITY;
        replica.leadReady(++this.#term);
        await this.timers.settle();
        replica.hotFrom = 0;
      }
    }
  }

  /** Each placed once, none early; with `all`, everything that is due is placed. */
  check(all: boolean): void {
    const { replica, queues } = this.timers.broker;
    const placed = new Map<number, number>();
    for (const { position: rowPosition, logTimeMs } of queues.queue('T', 1, 0).rows) {
      const row = decodeRow(replica.log, rowPosition);
      const expected = this.expected.get(row?.position ?? -1);
      expect(expected).toBeDefined();
      expect(logTimeMs).toBeGreaterThanOrEqual(expected?.dueMs as number);
      placed.set(row?.position as number, (placed.get(row?.position as number) ?? 0) + 1);
    }
    for (const times of placed.values()) expect(times).toBe(1);
    if (!all) return;
    const due = [...this.expected].filter(([, { dueMs }]) => dueMs <= this.timers.now).map(([position]) => position);
    expect(due.filter((position) => !placed.has(position))).toEqual([]);
  }
}

describe('timers', () => {
  test('F13 random delays, leaders that change with entries on their way, restarts from any state: each is delivered once, none early, none left', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { maxLength: 40 }), async (steps) => {
        const run = new Run();
        run.timers.command({ type: 'delayLevelsSet', delaysMs: LEVEL_MS });
        for (const step of steps) {
          await run.take(step);
          run.check(false);
        }
        await run.timers.pass(20_000, 500);
        run.check(true);
        await run.timers.pass(9_000_000, 1_000_000);
        run.check(true);
        expect(run.timers.broker.machine.timers.references.pack()).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});
