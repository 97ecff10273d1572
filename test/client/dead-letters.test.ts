import { describe, expect, test } from 'vitest';
import type { ClientCore } from '../../src/client/client-core.ts';
import { DeadLetters } from '../../src/client/dead-letters.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { Op } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { SeededRandom } from '../support/scripted-broker.ts';

const HIGH = '0102030405060708';
const idOf = (low: number): string => HIGH + low.toString(16).toUpperCase().padStart(16, '0');

/** Broker groups with dead letters of these ids, from `from` on: what lay before was cut. Three to a pull. */
function lettersAt(groups: Readonly<Record<string, { readonly from: number; readonly ids: readonly number[] }>>): DeadLetters {
  const askLeader = async (brokerName: string, op: number, request: { offset: number; from: number; to: number }) => {
    const group = groups[brokerName];
    if (group === undefined || group.ids.length === 0) throw new LedgerError('TOPIC_NOT_FOUND');
    const { from, ids } = group;
    const end = from + ids.length;
    if (op === Op.queueRange) return { body: { minOffset: from, maxOffset: end, timeOffset: from } };
    if (op === Op.deadLetterMarks) return { body: { marks: [{ offset: from, replays: 2, lastReplayMs: 9 }] } };
    const offset = Math.max(request.offset, from);
    const raws = ids.slice(offset - from, offset - from + 3).map((idLow) => makeBatch({ idLow }));
    const batches = raws.map((raw, i) => ({
      baseOffset: offset + i,
      logTimeMs: 1_000 + offset + i,
      position: 0,
      sizeBytes: raw.length,
      reference: { messageIndex: 0, attempts: 4, originTopic: 'orders', originQueueId: 1, originOffset: 70 + i },
    }));
    return {
      body: { minOffset: from, maxOffset: end, nextOffset: offset + raws.length, batches },
      raw: new Uint8Array(Buffer.concat(raws)),
    };
  };
  const router = { findBrokers: async () => Object.keys(groups).map((brokerName) => ({ brokerName })) };
  return new DeadLetters({ io: { random: new SeededRandom() }, router, askLeader } as unknown as ClientCore, 'g');
}
const LETTERS = { b: { from: 0, ids: [20, 21] }, a: { from: 5, ids: [10, 11, 12, 13, 14] }, c: { from: 0, ids: [] } };

describe('F23 dead letters of all broker groups', () => {
  test('by broker group and offset, page by page, each once', async () => {
    const deadLetters = lettersAt(LETTERS);
    const seen: string[] = [];
    const sizes: number[] = [];
    for (let next = (await deadLetters.list({ limit: 0 })).next; next !== null; ) {
      const page = await deadLetters.list({ from: next, limit: 3 });
      seen.push(...page.letters.map(({ brokerName, offset }) => `${brokerName}:${offset}`));
      sizes.push(page.letters.length);
      next = page.next;
    }
    expect(seen).toEqual(['a:5', 'a:6', 'a:7', 'a:8', 'a:9', 'b:0', 'b:1']);
    expect(sizes).toEqual([3, 3, 1]);
  });

  test('with what is known of each; a filter leaves out, and the next page begins at the next that it wants', async () => {
    const deadLetters = lettersAt(LETTERS);
    const { letters, next } = await deadLetters.list({ limit: 1, filter: ({ msgId }) => [idOf(10), idOf(21)].includes(msgId) });
    const origin = { topic: 'orders', brokerName: 'a', queueId: 1, offset: 70 };
    expect(letters).toMatchObject([
      { msgId: idOf(10), brokerName: 'a', offset: 5, attempts: 4, deadTimeMs: 1_005, replays: 2, lastReplayMs: 9, origin },
    ]);
    expect(next).toEqual({ brokerName: 'b', offset: 1 });
  });

  test('one by its place or its id; a message that died twice is the later one', async () => {
    const deadLetters = lettersAt({ a: { from: 0, ids: [7, 8] }, b: { from: 0, ids: [1, 1, 7] } });
    expect(await deadLetters.get(idOf(7))).toMatchObject({ brokerName: 'b', offset: 2 });
    expect(await deadLetters.get({ brokerName: 'a', offset: 1 })).toMatchObject({ msgId: idOf(8) });
    await expect(deadLetters.get(idOf(99))).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
    await expect(lettersAt({ a: { from: 0, ids: [] } }).get(idOf(7))).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
    expect(await lettersAt({ a: { from: 0, ids: [] } }).list()).toEqual({ letters: [], next: null });
  });

  test('of a place that was cut meanwhile there is no letter, not another one', async () => {
    await expect(lettersAt(LETTERS).get({ brokerName: 'a', offset: 2 })).rejects.toMatchObject({ code: 'MESSAGE_NOT_FOUND' });
  });
});
