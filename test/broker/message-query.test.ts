import { describe, expect, test } from 'vitest';
import type { MessageQueryRequest, MessageQueryResponse, QueryCursor } from '../../src/protocol/query-requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import type { FakeSession } from '../support/fake-session.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function ask(
  broker: BrokerHarness,
  session: FakeSession,
  request: Partial<MessageQueryRequest>,
): Promise<[MessageQueryResponse, Uint8Array]> {
  const id = broker.request(session, Op.messageQuery, {
    topic: 'T',
    key: 'k',
    fromTimeMs: 0,
    toTimeMs: Number.MAX_SAFE_INTEGER,
    max: 100,
    ...request,
  });
  for (let i = 0; i < 50 && !session.answers.has(id); i++) await tick();
  return [session.answers.get(id) as MessageQueryResponse, session.raws.get(id) as Uint8Array];
}

const placesOf = ({ found }: MessageQueryResponse): string[] =>
  found.flatMap(({ queueId, baseOffset, messageIndexes }) => messageIndexes.map((index) => `${queueId}/${baseOffset + index}`));

async function pages(broker: BrokerHarness, session: FakeSession, request: Partial<MessageQueryRequest>): Promise<string[][]> {
  const all: string[][] = [];
  let before: QueryCursor | undefined;
  do {
    const [answer] = await ask(broker, session, { ...request, ...(before === undefined ? {} : { before }) });
    all.push(placesOf(answer));
    before = answer.next ?? undefined;
    expect(all.length).toBeLessThan(100);
  } while (before !== undefined);
  return all;
}

describe('F30 search by key', () => {
  test.each([false, true])('F30 messages with a key, newest first, over the queues of the topic (cold: %s)', async (cold) => {
    const broker = BrokerHarness.ready({ T: 2, U: 1 });
    const session = broker.session();
    const first = makeBatch({ keys: [['k'], ['other'], ['x', 'k']], idLow: 1 });
    const second = makeBatch({ keys: [[], ['k']], idLow: 10 });
    broker.sent(session, 'T', 0, first);
    broker.sent(session, 'T', 1, makeBatch({ keys: [['other']], idLow: 5 }));
    broker.sent(session, 'U', 0, makeBatch({ keys: [['k']], idLow: 6 }));
    broker.sent(session, 'T', 1, second);
    if (cold) broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    const [answer, raw] = await ask(broker, session, {});
    expect(placesOf(answer)).toEqual(['1/2', '0/2', '0/0']);
    expect(answer.next).toBeNull();
    // The stored bytes, whole.
    expect(Buffer.compare(raw, Buffer.concat([second, first]))).toBe(0);
    expect((await ask(broker, session, { key: 'nothing' }))[0]).toEqual({ found: [], next: null });
    expect((await ask(broker, session, { topic: 'nope' }))[0]).toBe('TOPIC_NOT_FOUND');
    expect((await ask(broker, session, { key: 'two words' }))[0]).toBe('BAD_NAME');
  });

  test('F30 keys of one hash are told apart by their text', async () => {
    const broker = BrokerHarness.ready({ T: 1 });
    const session = broker.session();
    // Both have the CRC-32 4ddb0c25.
    broker.sent(session, 'T', 0, makeBatch({ keys: [['plumless'], ['buckeroo']] }));
    expect(placesOf((await ask(broker, session, { key: 'plumless' }))[0])).toEqual(['0/0']);
    expect(placesOf((await ask(broker, session, { key: 'buckeroo' }))[0])).toEqual(['0/1']);
  });

  test('F30 a range of log time, both ends included', async () => {
    const broker = BrokerHarness.ready({ T: 1 });
    const session = broker.session();
    const times: number[] = [];
    for (let i = 0; i < 6; i++) {
      broker.sent(session, 'T', 0, makeBatch({ keys: [['k']], idLow: i }));
      times.push(broker.machine.logTimeMs);
      broker.replica.passTime(100);
    }
    expect(new Set(times).size).toBe(6);
    const [answer] = await ask(broker, session, { fromTimeMs: times[1] as number, toTimeMs: times[3] as number });
    expect(placesOf(answer)).toEqual(['0/3', '0/2', '0/1']);
  });

  test('F30 pages: each bound ends one with the place to go on; together they are everything, once', async () => {
    const limits = { maxQueryMessages: 5, maxQueryEntries: 2, maxPullBytes: 1_500 };
    const broker = BrokerHarness.ready({ T: 3 }, limits);
    const session = broker.session();
    const expected: string[] = [];
    for (let i = 0; i < 12; i++) {
      const count = 1 + (i % 4);
      const keys = Array.from({ length: count }, (_, at) => (at % 2 === 0 ? ['k'] : ['other']));
      const [, baseOffset] = broker.sent(session, 'T', i % 3, makeBatch({ keys, idLow: 10 * i, bodyBytes: 100 })) as number[];
      for (let at = 0; at < count; at += 2) expected.unshift(`${i % 3}/${(baseOffset as number) + at}`);
    }
    for (const max of [1, 2, 3, 100]) {
      const all = await pages(broker, session, { max });
      expect(all.flat()).toEqual(expected);
      for (const page of all) expect(page.length).toBeLessThanOrEqual(Math.min(max, 5));
      expect(all.length).toBeGreaterThan(2);
    }
  });

  test('F30 what was stored once and sent twice is found once', async () => {
    const broker = BrokerHarness.ready({ T: 1 });
    const session = broker.session();
    const batch = makeBatch({ producerId: 7, keys: [['k']] });
    broker.sent(session, 'T', 0, batch);
    broker.sent(session, 'T', 0, batch);
    broker.ids.putKeys(
      1,
      broker.ids.keys.map(({ hash }) => hash),
      broker.replica.positions.at(-1) as number,
      broker.machine.logTimeMs,
    );
    expect(placesOf((await ask(broker, session, {}))[0])).toEqual(['0/0']);
  });

  test('F30 damage is said, never taken for "there is none"', async () => {
    const broker = BrokerHarness.ready({ T: 1 });
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ keys: [['k']] }));
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    const position = broker.replica.positions.at(-1) as number;
    const flip = (at: number): void => {
      broker.replica.log[position + at] = (broker.replica.log[position + at] as number) ^ 1;
    };
    // In the header: its size, its position; in the batch.
    for (const at of [4, 7, 17, 80]) {
      flip(at);
      expect((await ask(broker, session, {}))[0]).toBe('REPAIRING');
      flip(at);
    }
    expect(placesOf((await ask(broker, session, {}))[0])).toEqual(['0/0']);
  });

  test('F30 searches at once are bounded; one that ended makes room', async () => {
    const broker = BrokerHarness.ready({ T: 1 }, { maxQueries: 2 });
    const session = broker.session();
    const request = { topic: 'T', key: 'k', fromTimeMs: 0, toTimeMs: 1, max: 1 };
    const ids = [1, 2, 3].map(() => broker.request(session, Op.messageQuery, request));
    for (let i = 0; i < 5; i++) await tick();
    expect(ids.map((id) => typeof session.answers.get(id))).toEqual(['object', 'object', 'string']);
    expect(session.answers.get(ids[2] as number)).toBe('TOO_MANY');
    expect((await ask(broker, session, {}))[0]).toEqual({ found: [], next: null });
  });
});
