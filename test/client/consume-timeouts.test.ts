import { describe, expect, test } from 'vitest';
import { consumerSettings } from '../../src/client/consumer-settings.ts';
import type { FailedMessages, FailureSeams } from '../../src/client/failed-messages.ts';
import { HandlerRunner } from '../../src/client/handler-runner.ts';
import { ReceivedBatch, type ReceivedMessage } from '../../src/client/message.ts';
import { messageFilter } from '../../src/client/message-filter.ts';
import type { ConsumerOptions } from '../../src/client/options.ts';
import { ProcessQueue } from '../../src/client/process-queue.ts';
import { encodeBatch } from '../../src/protocol/record-batch-encoder.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

const PLACE = { topic: 't', brokerName: 'g', queueId: 0 };

function bench(options: Partial<ConsumerOptions>, seams: Partial<FailureSeams>, batch: Uint8Array, filter: string | null = null) {
  const clock = new ManualClock();
  const errors: unknown[] = [];
  const settings = consumerSettings({ group: 'cg', topics: ['t'], onError: (error) => void errors.push(error), ...options });
  const io = { clock, random: new SeededRandom() } as never;
  const runner = new HandlerRunner(io, settings, { finished: () => {} }, { sendBack: null, onAttemptsExhausted: null, ...seams });
  const queue = new ProcessQueue(PLACE, filter === null ? null : messageFilter(filter, undefined), 1, 0);
  queue.add(new ReceivedBatch(batch, PLACE, 0, 1));
  runner.offer(queue);
  return { clock, errors, queue, runner };
}

/** Handlers that end when the test says so. */
function held() {
  const running: { message: ReceivedMessage; end: () => void; fail: () => void }[] = [];
  const handler = (message: ReceivedMessage): Promise<void> =>
    new Promise((resolve, reject) => running.push({ message, end: resolve, fail: () => reject(new Error('late')) }));
  return { running, handler };
}

describe('F22 consume timeout', () => {
  test('what takes too long is sent back as a failed attempt and done here; its handler keeps its place until it ends, and how it ends is nobody’s', async () => {
    const { running, handler } = held();
    const given: FailedMessages[] = [];
    const sendBack: FailureSeams['sendBack'] = (failed) => {
      given.push(failed);
      return failed.messages;
    };
    const { clock, errors, queue } = bench({ handler, consumeTimeoutMs: 1_000, concurrency: 1 }, { sendBack }, makeBatch({ count: 2 }));
    await clock.run(999);
    expect(given).toHaveLength(0);
    await clock.run(1);
    expect(given).toMatchObject([{ attempts: 1, delayLevel: 0 }]);
    expect(errors).toMatchObject([{ code: 'DEADLINE_EXCEEDED' }]);
    expect(queue.doneOffset).toBe(1);
    await clock.run(500);
    expect(running).toHaveLength(1);
    running[0]?.fail();
    await clock.run(1);
    // Not a second failure of the same attempt; the next message has the place.
    expect(given).toHaveLength(1);
    expect(running).toHaveLength(2);
    running[1]?.end();
    await clock.run(1);
    expect(queue.doneOffset).toBe(2);
    expect(given).toHaveLength(1);
  });

  test('not taken, it is asked again after the same time, the handler is not begun again, and its success counts', async () => {
    const { running, handler } = held();
    const attempts: number[] = [];
    const sendBack: FailureSeams['sendBack'] = (failed) => {
      attempts.push(failed.attempts);
      return [];
    };
    const { clock, queue } = bench({ handler, consumeTimeoutMs: 1_000 }, { sendBack }, makeBatch());
    await clock.run(2_500);
    expect(attempts).toEqual([1, 1]);
    expect(running).toHaveLength(1);
    expect(queue.doneOffset).toBe(0);
    running[0]?.end();
    await clock.run(10_000);
    expect(queue.doneOffset).toBe(1);
    expect(attempts).toEqual([1, 1]);
  });

  test('a handler that ends while its message is on the way back: taken, it is done; else its own outcome counts', async () => {
    for (const taken of [true, false]) {
      const { running, handler } = held();
      let answer: () => void = () => {};
      const asked: number[] = [];
      const sendBack: FailureSeams['sendBack'] = ({ messages, attempts }) => {
        asked.push(attempts);
        return new Promise((resolve) => {
          answer = () => resolve(taken ? messages : []);
        });
      };
      const { clock, queue } = bench({ handler, consumeTimeoutMs: 1_000 }, { sendBack }, makeBatch());
      await clock.run(1_000);
      running[0]?.fail();
      await clock.run(10);
      expect(queue.doneOffset).toBe(0);
      expect(asked).toEqual([1]);
      answer();
      await clock.run(10);
      expect(queue.doneOffset).toBe(taken ? 1 : 0);
      // Its failure is the first attempt's, not a second one's.
      expect(asked).toEqual(taken ? [1] : [1, 1]);
    }
  });

  test('orderly consumers have none: a queue has one handler', async () => {
    const { running, handler } = held();
    const { clock, queue, errors } = bench(
      { handler, consumeTimeoutMs: 1_000, ordered: true },
      { sendBack: ({ messages }) => messages, onAttemptsExhausted: ({ messages }) => messages },
      makeBatch(),
    );
    await clock.run(60_000);
    expect(running).toHaveLength(1);
    expect(errors).toEqual([]);
    expect(queue.doneOffset).toBe(0);
  });
});

describe('F23 what cannot be decoded', () => {
  const sound = { body: Uint8Array.of(1), bornTimeMs: 1, tag: 'a' };
  const broken = { body: Uint8Array.of(2), bornTimeMs: 1, properties: Uint8Array.of(4, 0, 0, 1) };
  const mixed = (): Uint8Array =>
    encodeBatch([sound, broken, sound], {
      producerId: 0,
      producerEpoch: 0,
      firstSequence: 0,
      idHigh: new Uint8Array(8),
      idLow: 0,
    }).bytes.slice();

  test.each([null, 'a'])(
    'is given up at once and shown to no handler, whatever the filter (%s); the rest of its batch is handled',
    async (filter) => {
      const given: FailedMessages[] = [];
      const handled: number[][] = [];
      const sendBack: FailureSeams['sendBack'] = (failed) => {
        given.push(failed);
        return failed.messages;
      };
      const batchHandler = (messages: readonly ReceivedMessage[]): void => void handled.push(messages.map(({ offset }) => offset));
      const { clock, queue, errors } = bench({ batchHandler, consumeMessageBatchMaxSize: 8 }, { sendBack }, mixed(), filter);
      await clock.run(10);
      expect(handled).toEqual([[0, 2]]);
      expect(given).toMatchObject([{ delayLevel: -1, attempts: 1 }]);
      expect(given[0]?.messages.map(({ offset }) => offset)).toEqual([1]);
      expect(errors).toMatchObject([{ code: 'CORRUPT_BATCH' }]);
      expect(queue.doneOffset).toBe(3);
    },
  );

  test('nor does a loop meet it; while nobody takes it, its offset stays', async () => {
    let taking = false;
    const { clock, queue, runner } = bench({}, { sendBack: ({ messages }) => (taking ? messages : []) }, mixed());
    const first = (await runner.next()) as ReceivedMessage;
    runner.acknowledge(first);
    const next = (await runner.next()) as ReceivedMessage;
    expect([first.offset, next.offset]).toEqual([0, 2]);
    runner.acknowledge(next);
    await clock.run(1_000);
    expect(queue.doneOffset).toBe(1);
    taking = true;
    await clock.run(60_000);
    expect(queue.doneOffset).toBe(3);
  });
});
