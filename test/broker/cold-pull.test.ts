import { expect, test } from 'vitest';
import type { PullResponse } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

const SEGMENT_BYTES = 256 * 1024;

test('F33 a cold pull over the end of a segment: a read ends there, and what is behind it is read by itself', async () => {
  const broker = BrokerHarness.ready({ T: 1 }, {}, SEGMENT_BYTES);
  const session = broker.session();
  const batches = Array.from({ length: 40 }, (_, i) => makeBatch({ idLow: i, bodyBytes: 10_000 }));
  for (const batch of batches) broker.sent(session, 'T', 0, batch);
  const rows = broker.queues.queue('T', 1, 0).rows;
  const segments = new Set(rows.map(({ position }) => Math.floor(position / SEGMENT_BYTES)));
  expect(segments.size).toBe(2);

  broker.replica.hotFrom = Number.POSITIVE_INFINITY;
  const found: Uint8Array[] = [];
  for (let offset = 0; offset < batches.length; ) {
    const id = broker.pull(session, { offset });
    await new Promise((resolve) => setImmediate(resolve));
    const answer = session.answers.get(id) as PullResponse;
    expect(answer.nextOffset).toBeGreaterThan(offset);
    found.push(session.raws.get(id) as Uint8Array);
    offset = answer.nextOffset;
  }
  expect(Buffer.compare(Buffer.concat(found), Buffer.concat(batches))).toBe(0);
  // Both segments in one answer: two reads of the files, or the pull had to be cut there.
  expect(found).toHaveLength(1);
  expect(broker.replica.coldReads).toBe(2);
});
