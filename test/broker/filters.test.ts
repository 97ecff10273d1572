import { describe, expect, test } from 'vitest';
import { batchMatches, SqlFilters } from '../../src/broker/batch-filter.ts';
import type { PropertyList } from '../../src/protocol/properties.ts';
import { BATCH_HEADER_BYTES } from '../../src/protocol/record-batch.ts';
import type { PullRequest, PullResponse } from '../../src/protocol/requests.ts';
import { SqlFilter } from '../../src/protocol/sql-filter/sql-filter.ts';
import { tagHash } from '../../src/protocol/tag-hash.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import type { FakeSession } from '../support/fake-session.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const amount = (value: number): PropertyList => [['amount', String(value)]];

interface Pulled {
  readonly bases: readonly number[];
  readonly nextOffset: number;
  readonly bytes: number;
}

async function pulled(broker: BrokerHarness, session: FakeSession, request: Partial<PullRequest>): Promise<Pulled> {
  const id = broker.pull(session, request);
  await tick();
  const { batches, nextOffset } = session.answers.get(id) as PullResponse;
  const bytes = session.raws.get(id)?.length ?? 0;
  expect(bytes).toBe(batches.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  return { bases: batches.map(({ baseOffset }) => baseOffset), nextOffset, bytes };
}

describe('filtered pulls', () => {
  test('F24 batches without a match are not sent, mixed ones travel whole, hot and cold', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const batches = [[1, 2], [500], [3, 700, 4], [5]].map((values) => makeBatch({ properties: values.map(amount), bodyBytes: 1_000 }));
    for (const batch of batches) broker.sent(session, 'T', 0, batch);
    const expected = { bases: [2, 3], nextOffset: 7, bytes: (batches[1] as Uint8Array).length + (batches[2] as Uint8Array).length };
    expect(await pulled(broker, session, { filter: 'amount > 100' })).toEqual(expected);
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    expect(await pulled(broker, session, { filter: 'amount > 100' })).toEqual(expected);
    expect(broker.replica.coldReads).toBe(1);
    // Neither side may rely on the other's answer: nothing matches, nothing is sent, and the reader moves on.
    expect(await pulled(broker, session, { filter: 'amount > 1000' })).toEqual({ bases: [], nextOffset: 7, bytes: 0 });
    const out = 2 * (batches[0] as Uint8Array).length + 2 * (batches[3] as Uint8Array).length;
    const none = batches.reduce((sum, batch) => sum + batch.length, 0);
    expect(broker.filteredBytes).toBe(out + none);
  });

  test('F24 tags and an expression hold of one message, not of two of a batch', () => {
    const batch = makeBatch({ tags: ['A', 'B'], properties: [amount(1), amount(500)] });
    const wants = (tag: string, text: string): boolean => batchMatches(batch, 0, { tagHashes: [tagHash(tag)], sql: new SqlFilter(text) });
    expect(wants('A', 'amount > 100')).toBe(false);
    expect(wants('B', 'amount > 100')).toBe(true);
    expect(wants('A', "TAGS = 'A'")).toBe(true);
  });

  test('F24 F17 a pull whose expression nothing matches is held, and woken for good by a match alone', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ properties: [amount(1)] }));
    const held = broker.pull(session, { filter: 'amount > 100', waitMs: 30_000 });
    broker.sent(session, 'T', 0, makeBatch({ properties: [amount(2)] }));
    expect(session.answers.has(held)).toBe(false);
    broker.sent(session, 'T', 0, makeBatch({ properties: [amount(200)] }));
    expect((session.answers.get(held) as PullResponse).batches.map(({ baseOffset }) => baseOffset)).toEqual([2]);
    const late = broker.pull(session, { filter: 'amount > 100', waitMs: 30_000, offset: 3 });
    broker.sent(session, 'T', 0, makeBatch({ properties: [amount(3)] }));
    broker.clock.advance(30_000);
    expect(session.answers.get(late)).toMatchObject({ nextOffset: 4, batches: [] });
  });

  test('F24 an expression that does not parse is refused with its place, and harms nothing else', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ properties: [amount(1)] }));
    const id = broker.pull(session, { filter: 'amount >' });
    expect(session.answers.get(id)).toBe('BAD_FILTER');
    expect(session.details.get(id)).toContain('character 9 of "amount >"');
    expect((await pulled(broker, session, { filter: 'amount < 9' })).bases).toEqual([0]);
  });

  test('I8 F24 one pull tests so much and no more, and the next one goes on from there', async () => {
    const perMessage = 32 + 4 + 12;
    const broker = BrokerHarness.ready({ T: 4 }, { maxFilterWorkBytes: 10 * perMessage });
    const session = broker.session();
    for (let i = 0; i < 30; i++) broker.sent(session, 'T', 0, makeBatch({ properties: [amount(i)] }));
    const offsets: number[] = [];
    for (let offset = 0; offset < 30; ) {
      const { nextOffset, bases } = await pulled(broker, session, { filter: 'amount = 29', offset });
      if (bases.length > 0) expect(bases).toEqual([29]);
      offsets.push(nextOffset);
      offset = nextOffset;
    }
    expect(offsets.length).toBeGreaterThan(2);
    expect(offsets.length).toBeLessThan(6);
    // What lies in the files costs its size: it is not known before it was read.
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    expect((await pulled(broker, session, { filter: 'amount = 29' })).nextOffset).toBeLessThan(10);
  });

  test('I8 F24 an expression is compiled once; beyond the bound the one not asked for longest goes', () => {
    const filters = new SqlFilters(2);
    const a = filters.get('a');
    filters.get('b');
    expect(filters.get('a')).toBe(a);
    filters.get('c');
    expect(filters.size).toBe(2);
    expect(filters.get('a')).toBe(a);
    expect(() => filters.get('a =')).toThrow(/BAD_FILTER/);
    expect(filters.size).toBe(2);
  });

  test('F24 properties that are malformed are passed over, not a broker that fails', () => {
    const batch = makeBatch({ properties: [amount(500)] });
    batch[BATCH_HEADER_BYTES + 32] = 0xff;
    expect(batchMatches(batch, 0, { tagHashes: [], sql: new SqlFilter('amount = 500') })).toBe(false);
    expect(batchMatches(batch, 0, { tagHashes: [], sql: new SqlFilter('amount IS NULL') })).toBe(true);
  });
});
