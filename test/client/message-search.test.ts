import { describe, expect, test } from 'vitest';
import { findMessage, type GroupPort, type MessageQueryResult, queryMessages } from '../../src/client/message-search.ts';
import { type ErrorCode, LedgerError } from '../../src/protocol/errors.ts';
import type { MessageQueryRequest, MessageQueryResponse } from '../../src/protocol/query-requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';

interface Stored {
  readonly position: number;
  readonly logTimeMs: number;
  readonly count: number;
}

/** Broker groups that hold messages with the key, `perPage` of them in an answer at most; or a code: what they refuse with. */
function port(groups: Record<string, readonly Stored[] | ErrorCode>, perPage = 1_000): GroupPort {
  const answer = (brokerName: string, { max, before }: MessageQueryRequest): { body: MessageQueryResponse; raw: Uint8Array } => {
    const held = groups[brokerName] as readonly Stored[] | ErrorCode;
    if (typeof held === 'string') throw new LedgerError(held);
    const limit = Math.min(max, perPage);
    const found: MessageQueryResponse['found'][number][] = [];
    const batches: Uint8Array[] = [];
    let messages = 0;
    let next: MessageQueryResponse['next'] = null;
    for (const { position, logTimeMs, count } of held.toReversed()) {
      const below = before === undefined || position < before.position ? count : position === before.position ? before.messageIndex : 0;
      const indexes = Array.from({ length: below }, (_, i) => below - 1 - i);
      if (indexes.length === 0) continue;
      if (messages === limit) {
        next = { position, messageIndex: below };
        break;
      }
      const taken = indexes.slice(0, limit - messages);
      const batch = makeBatch({ keys: Array.from({ length: count }, () => ['k']) });
      found.push({ queueId: 0, baseOffset: position, logTimeMs, position, sizeBytes: batch.length, messageIndexes: taken });
      batches.push(batch);
      messages += taken.length;
      if (taken.length < indexes.length) {
        next = { position, messageIndex: taken.at(-1) as number };
        break;
      }
    }
    return { body: { found, next }, raw: Buffer.concat(batches) };
  };
  return {
    brokerNames: () => Promise.resolve(Object.keys(groups)),
    askLeader: async (brokerName, op, body) => {
      expect(op).toBe(Op.messageQuery);
      return answer(brokerName, body as MessageQueryRequest) as never;
    },
  };
}

const A = [
  { position: 100, logTimeMs: 10, count: 2 },
  { position: 200, logTimeMs: 30, count: 3 },
  { position: 300, logTimeMs: 50, count: 1 },
];
const B = [
  { position: 100, logTimeMs: 20, count: 1 },
  { position: 150, logTimeMs: 60, count: 2 },
];
const ALL = ['b151', 'b150', 'a300', 'a202', 'a201', 'a200', 'b100', 'a101', 'a100'];

const placesOf = ({ messages }: MessageQueryResult): string[] => messages.map(({ brokerName, offset }) => `${brokerName}${offset}`);
const sorted = (places: readonly string[]): string[] => places.toSorted((a, b) => (a < b ? -1 : 1));
const statuses = ({ groups }: MessageQueryResult): Record<string, string> =>
  Object.fromEntries(groups.map(({ brokerName, status }) => [brokerName, status]));
const query = (groups: GroupPort, more: { max?: number; cursor?: string } = {}): Promise<MessageQueryResult> =>
  queryMessages(groups, { topic: 't', key: 'k', ...more }, 1_000);

describe('F30 search over all broker groups', () => {
  test('F30 newest first over all groups; found, not found and truncated are told apart, of each group, too', async () => {
    const found = await query(port({ a: A, b: B, c: [], d: 'TOPIC_NOT_FOUND' }));
    expect(placesOf(found)).toEqual(ALL);
    expect(found).toMatchObject({ status: 'found', next: null });
    expect(statuses(found)).toEqual({ a: 'found', b: 'found', c: 'notFound', d: 'notFound' });
    expect(await query(port({ a: [], b: [] }))).toMatchObject({ status: 'notFound', messages: [], next: null });
    const page = await query(port({ a: A, b: [] }), { max: 2 });
    expect(page.status).toBe('truncated');
    expect(statuses(page)).toEqual({ a: 'truncated', b: 'notFound' });
    await expect(query(port({ a: 'TOPIC_NOT_FOUND', b: 'TOPIC_NOT_FOUND' }))).rejects.toThrow('TOPIC_NOT_FOUND');
  });

  test.each([
    [1, 1_000],
    [2, 1_000],
    [3, 2],
    [4, 1],
    [100, 1],
    [100, 2],
  ])('F30 pages of %i messages, %i from a group at a time: everything comes once', async (max, perPage) => {
    const groups = port({ a: A, b: B, c: [] }, perPage);
    const seen: string[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < 50; pages++) {
      const page = await query(groups, { max, ...(cursor === undefined ? {} : { cursor }) });
      expect(page.messages.length).toBeLessThanOrEqual(max);
      seen.push(...placesOf(page));
      cursor = page.next ?? undefined;
      if (cursor === undefined) break;
      expect(page.status).toBe('truncated');
    }
    expect(sorted(seen)).toEqual(sorted(ALL));
    // With all of each group's newest at hand the order is exact.
    if (perPage >= max) expect(seen).toEqual(ALL);
  });

  test('F30 a group that could not be asked is failed, never "not found"; the others’ messages are given', async () => {
    const some = await query(port({ a: A, b: 'NO_ROUTE', c: 'REPAIRING', d: [] }));
    expect(some.status).toBe('failed');
    expect(some.messages).toHaveLength(6);
    expect(statuses(some)).toEqual({ a: 'found', b: 'failed', c: 'failed', d: 'notFound' });
    expect(some.groups.map(({ error }) => error?.code)).toEqual([undefined, 'NO_ROUTE', 'REPAIRING', undefined]);
    expect(await query(port({ a: [], b: 'NO_ROUTE' }))).toMatchObject({ status: 'failed', messages: [] });
    // The next page asks it again.
    const held: Record<string, readonly Stored[] | ErrorCode> = { a: A, b: 'NO_ROUTE' };
    const page = await query(port(held), { max: 1 });
    held['b'] = B;
    const next = await query(port(held), { max: 100, cursor: page.next as string });
    expect(next.status).toBe('found');
    expect(sorted([...placesOf(page), ...placesOf(next)])).toEqual(sorted(ALL));
  });

  test('F30 what the caller did wrong is thrown, not blamed on a group', async () => {
    await expect(query(port({ a: 'BAD_NAME', b: A }))).rejects.toThrow('BAD_NAME');
    for (const cursor of ['xyz', Buffer.from('[[1,2,3]]').toString('base64url'), Buffer.from('[["a","b",3]]').toString('base64url')]) {
      await expect(query(port({ a: A }), { cursor })).rejects.toThrow('BAD_REQUEST');
    }
  });

  test('F30 by id: found in whichever group has it; missing only when all say so', async () => {
    const batch = makeBatch();
    const groups = (answers: Record<string, ErrorCode | 'found'>): GroupPort => ({
      brokerNames: () => Promise.resolve(Object.keys(answers)),
      askLeader: async (brokerName) => {
        const code = answers[brokerName] as ErrorCode | 'found';
        if (code !== 'found') throw new LedgerError(code);
        return { body: { topic: 't', queueId: 1, baseOffset: 7, logTimeMs: 1, position: 99, messageIndex: 0 } as never, raw: batch };
      },
    });
    const found = await findMessage(groups({ a: 'NO_ROUTE', b: 'MESSAGE_NOT_FOUND', c: 'found' }), 'id', 1);
    expect(found).toMatchObject({ position: 99, message: { brokerName: 'c', queueId: 1, offset: 7 } });
    await expect(findMessage(groups({ a: 'MESSAGE_NOT_FOUND', b: 'MESSAGE_NOT_FOUND' }), 'id', 1)).rejects.toThrow('MESSAGE_NOT_FOUND');
    await expect(findMessage(groups({ a: 'MESSAGE_NOT_FOUND', b: 'NO_ROUTE' }), 'id', 1)).rejects.toThrow('NO_ROUTE');
  });
});
