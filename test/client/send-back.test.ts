import { describe, expect, test } from 'vitest';
import type { ClientCore } from '../../src/client/client-core.ts';
import { consumerSettings } from '../../src/client/consumer-settings.ts';
import { ReceivedBatch, type ReceivedMessage } from '../../src/client/message.ts';
import type { ConsumerOptions } from '../../src/client/options.ts';
import { SendBack } from '../../src/client/send-back.ts';
import { ERRORS, type ErrorCode, LedgerError } from '../../src/protocol/errors.ts';
import type { SendBackRequest } from '../../src/protocol/retry-requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

const QUEUE = { topic: 't', brokerName: 'g', queueId: 0 };

function bench(options: Partial<ConsumerOptions>, answer: (request: SendBackRequest) => readonly number[] | ErrorCode, epoch = 7) {
  const asked: SendBackRequest[] = [];
  const errors: unknown[] = [];
  let refused = 0;
  const core = {
    io: { random: new SeededRandom() },
    askLeader: async (_brokerName: string, _op: number, request: SendBackRequest) => {
      asked.push(request);
      const given = answer(request);
      if (typeof given === 'string') throw new LedgerError(given);
      return { body: { errors: given } };
    },
  } as unknown as ClientCore;
  const settings = consumerSettings({ group: 'cg', topics: ['t'], onError: (error) => void errors.push(error), ...options });
  const events = { epochOf: () => epoch, ownershipRefused: () => void refused++ };
  return { back: new SendBack(core, settings, 'm@1', events), asked, errors, refused: () => refused };
}

/** Each failed so often. */
function failed(times: readonly number[]) {
  const batch = new ReceivedBatch(makeBatch({ count: times.length }), QUEUE, 0, 1);
  const messages = times.map((attempts, offset): ReceivedMessage => {
    const message = batch.at(offset);
    message.reconsumeTimes = attempts;
    return message;
  });
  return { queue: QUEUE, messages, attempts: Math.max(...times), delayLevel: 0, error: null };
}
const taken = async (result: ReturnType<SendBack['retry']>): Promise<number[]> => (await result).map(({ offset }) => offset);
const allDone = ({ messages }: SendBackRequest): number[] => messages.map(() => 0);

describe('F22 what is said to the broker', () => {
  test('by levels: the broker counts; as the handler asked; a dead letter', async () => {
    const { back, asked } = bench({ maxReconsumeTimes: 3 }, allDone);
    expect(await taken(back.retry(failed([1, 2])))).toEqual([0, 1]);
    await back.retry({ ...failed([1]), delayLevel: 5 });
    await back.bury(failed([9]));
    expect(asked[0]).toEqual({
      group: 'cg',
      member: 'm@1',
      topic: 't',
      queueId: 0,
      epoch: 7,
      maxReconsumeTimes: 3,
      messages: [
        { offset: 0, delayLevel: 0, delayMs: 0, attempts: 1 },
        { offset: 1, delayLevel: 0, delayMs: 0, attempts: 2 },
      ],
    });
    expect(asked[1]?.messages).toEqual([{ offset: 0, delayLevel: 5, delayMs: 0, attempts: 1 }]);
    expect(asked[2]?.messages).toEqual([{ offset: 0, delayLevel: -1, delayMs: 0, attempts: 9 }]);
  });

  test('F22 exponential: 1, 2, 4, 8, 16 s; with full jitter anything up to that, but never nothing', async () => {
    const plain = bench({ reconsumeBackoff: 'exponential', reconsumeBackoffJitter: false }, allDone);
    await plain.back.retry(failed([1, 2, 3, 4, 5, 6]));
    expect(plain.asked[0]?.messages.map(({ delayMs }) => delayMs)).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 16_000]);
    const jittered = bench({ reconsumeBackoff: 'exponential', reconsumeBackoffBaseMs: 2 }, allDone);
    await jittered.back.retry(failed(Array.from({ length: 200 }, () => 2)));
    const drawn = new Set(jittered.asked[0]?.messages.map(({ delayMs }) => delayMs));
    expect([...drawn].sort((a, b) => a - b)).toEqual([1, 2, 3, 4]);
  });

  test('in parts of 1,024', async () => {
    const { back, asked } = bench({}, allDone);
    expect(await taken(back.retry(failed(Array.from({ length: 2_500 }, () => 1))))).toHaveLength(2_500);
    expect(asked.map(({ messages }) => messages.length)).toEqual([1_024, 1_024, 452]);
  });
});

describe('F22 what the broker says', () => {
  test('of each message for itself: one that is gone is nobody’s any more, one that found no room stays here', async () => {
    const { back, errors } = bench({}, () => [0, ERRORS.TOO_MANY.number, ERRORS.MESSAGE_NOT_FOUND.number]);
    expect(await taken(back.retry(failed([1, 1, 1])))).toEqual([0, 2]);
    expect(errors).toMatchObject([{ code: 'TOO_MANY' }, { code: 'MESSAGE_NOT_FOUND' }]);
  });

  test.each([
    ['FEATURE_LEVEL', 0, 0],
    ['UNKNOWN_OPERATION', 0, 0],
    ['NOT_OWNER', 0, 1],
    ['FENCED', 0, 1],
    ['DEADLINE_EXCEEDED', 1, 0],
  ] as const)('%s: all stay here', async (code, told, refusals) => {
    const { back, errors, refused } = bench({}, () => code);
    expect(await taken(back.retry(failed([1, 1])))).toEqual([]);
    expect(errors).toHaveLength(told);
    expect(refused()).toBe(refusals);
  });

  test('nothing is said of a queue that is another’s by now', async () => {
    const { back, asked } = bench({}, allDone, -1);
    expect(await taken(back.retry(failed([1])))).toEqual([]);
    expect(asked).toEqual([]);
  });
});
