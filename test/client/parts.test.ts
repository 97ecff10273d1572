import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backoffMs } from '../../src/client/backoff.ts';
import { LatencyTracker } from '../../src/client/latency-tracker.ts';
import { OutBatch, PendingMessage } from '../../src/client/out-batch.ts';
import { configuredQueues, parseTagFilter, selectByOrderingKeyHash } from '../../src/client/selector.ts';
import { SendQueue } from '../../src/client/send-queue.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

describe('backoff', () => {
  test('F10 grows by its factor to the cap; full jitter stays below it', () => {
    const options = { baseMs: 1_000, factor: 2, capMs: 16_000, jitter: false };
    const random = new SeededRandom();
    expect([0, 1, 2, 3, 4, 5].map((attempt) => backoffMs(options, attempt, random))).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 16_000]);
    const jittered = Array.from({ length: 1_000 }, () => backoffMs({ ...options, jitter: true }, 2, random));
    expect(Math.max(...jittered)).toBeLessThan(4_000);
    expect(Math.min(...jittered)).toBeLessThan(400);
    expect(Math.max(...jittered)).toBeGreaterThan(3_600);
  });
});

describe('selectors', () => {
  const route = {
    topic: 't',
    topicId: 1,
    version: 1,
    perm: 6,
    messageType: 'normal' as const,
    placement: [
      { brokerName: 'b', queues: 2 },
      { brokerName: 'a', queues: 3 },
    ],
  };

  test('F12 keys hash over the configured queues of all groups, in the same order at every client', () => {
    const queues = configuredQueues(route);
    expect(queues.map(({ brokerName, queueId }) => `${brokerName}${queueId}`)).toEqual(['a0', 'a1', 'a2', 'b0', 'b1']);
    // Java: "JFK".hashCode() = 74·31² + 70·31 + 75 = 73359, and 73359 mod 5 = 4.
    expect(selectByOrderingKeyHash(queues, { topic: 't', body: '', orderingKey: 'JFK' }, undefined)).toEqual(queues[4]);
  });

  test('F12 every key has a queue, always the same', () => {
    const queues = configuredQueues(route);
    fc.assert(
      fc.property(fc.string(), (orderingKey) => {
        const chosen = selectByOrderingKeyHash(queues, { topic: 't', body: '', orderingKey }, undefined);
        expect(queues).toContain(chosen);
        expect(selectByOrderingKeyHash(queues, { topic: 't', body: '', orderingKey }, undefined)).toBe(chosen);
      }),
    );
  });

  test('tag expressions', () => {
    expect(parseTagFilter('*')).toBeNull();
    expect(parseTagFilter(undefined)).toBeNull();
    expect([...(parseTagFilter(' A ||B ')?.tags ?? [])]).toEqual(['A', 'B']);
    for (const bad of ['A ||', '|| A', 'A | B', 'A || *']) expect(() => parseTagFilter(bad)).toThrow('BAD_REQUEST');
  });
});

describe('latency fault tolerance', () => {
  test('F05 a slow broker is left out by the table, a fast answer brings it back', async () => {
    const clock = new ManualClock();
    const tracker = new LatencyTracker(clock);
    tracker.answered('slow', 600);
    tracker.answered('fast', 10);
    tracker.failed('broken');
    expect(['slow', 'fast', 'broken', 'new'].map((name) => tracker.admits(name))).toEqual([false, true, false, true]);
    await clock.run(2_000);
    expect(['slow', 'broken'].map((name) => tracker.admits(name))).toEqual([true, false]);
    tracker.answered('broken', 5);
    expect(tracker.admits('broken')).toBe(true);
  });
});

/** A broker's duplicate table for one queue: the model that a sequence must satisfy. */
class SequenceModel {
  epoch = -1;
  next = 0;
  readonly stored: string[] = [];
  readonly #seen = new Set<string>();

  offer(batch: OutBatch): 'stored' | 'OUT_OF_SEQUENCE' | 'FENCED' {
    const name = `${batch.epoch}/${batch.firstSequence}`;
    if (batch.epoch < this.epoch) return 'FENCED';
    if (batch.epoch > this.epoch) {
      if (batch.firstSequence !== 0) return 'OUT_OF_SEQUENCE';
      this.epoch = batch.epoch;
      this.next = 0;
    }
    if (this.#seen.has(name)) return 'stored';
    if (batch.firstSequence !== this.next) return 'OUT_OF_SEQUENCE';
    this.#seen.add(name);
    this.next += batch.count;
    for (const { body } of batch.messages) this.stored.push(Buffer.from(body).toString());
    return 'stored';
  }
}

function batchOf(text: string): OutBatch {
  const batch = new OutBatch(0, 1, { whole: true, oneWay: false, movable: false, keyed: false, deferral: null });
  batch.add(new PendingMessage(Buffer.from(text), 0, undefined, undefined, undefined, undefined));
  return batch;
}

describe('sequences', () => {
  test('F10 F12 whatever is lost, refused or given up: nothing is stored twice or out of order, what was acknowledged is stored', () => {
    const steps = fc.array(fc.constantFrom('answer', 'answer', 'answer', 'loseRequest', 'loseAnswer', 'refuse', 'expire', 'add'), {
      maxLength: 80,
    });
    fc.assert(
      fc.property(steps, (script) => {
        const model = new SequenceModel();
        const outcomes = new Map<string, string>();
        const nameOf = (batch: OutBatch): string => Buffer.from((batch.messages[0] as PendingMessage).body).toString();
        const queue = new SendQueue({ topic: 't', brokerName: 'g', queueId: 0 }, 8, {
          settled: (_queue, batch, error) => outcomes.set(nameOf(batch), error === null ? 'stored' : error.code),
        });
        let added = 0;
        const add = (): void => {
          queue.pending.push(batchOf(String(added++).padStart(4, '0')));
        };
        for (let i = 0; i < 10; i++) add();
        for (const step of [...script, ...Array.from({ length: 300 }, () => 'answer')]) {
          if (step === 'add') add();
          if (step === 'expire') {
            const head = queue.pending[0];
            if (head !== undefined) {
              const unknown = head.inDoubt || head.attempt !== null;
              queue.drop(head, new LedgerError(unknown ? 'OUTCOME_UNKNOWN' : 'RETRIES_EXHAUSTED'));
            }
            continue;
          }
          const batch = queue.next();
          if (batch === null) continue;
          if (step === 'loseRequest') {
            queue.unanswered(batch, new LedgerError('CONNECTION_LOST'), true);
            continue;
          }
          if (step === 'refuse') {
            queue.drop(batch, new LedgerError(batch.inDoubt ? 'OUTCOME_UNKNOWN' : 'MESSAGE_TOO_LARGE'));
            continue;
          }
          const verdict = model.offer(batch);
          if (step === 'loseAnswer') queue.unanswered(batch, new LedgerError('CONNECTION_LOST'), true);
          else if (verdict === 'stored') queue.stored(batch, 0);
          else queue.sequenceRefused(batch, new LedgerError(verdict));
        }
        expect(queue.pending).toEqual([]);
        expect(model.stored).toEqual([...new Set(model.stored)].sort());
        for (const [name, outcome] of outcomes) {
          if (outcome === 'stored') expect(model.stored).toContain(name);
          else if (outcome !== 'OUTCOME_UNKNOWN') expect(model.stored).not.toContain(name);
        }
      }),
      { numRuns: 500 },
    );
  });
});
