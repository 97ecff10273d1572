/**
 * Found by reading, after a simulation seed had looked like it: a pull from a replica that had just got its state from the leader
 * would have skipped messages, and nothing would have said that any were missing.
 *
 * Mechanism: a replica behind the log's start gets the state at the leader's log start. That state still counts messages that lie
 * before it, because the cut that took them is an entry behind it. Until that entry was applied, a pull below found the first unit
 * that there was, however far on.
 *
 * Prevented: a unit that does not begin where the pull is, or before, is a hole, and is answered with NOT_READY. Once the cut is applied the
 * pull is an ordinary one below the minimum.
 */
import { expect, test } from 'vitest';
import type { PullResponse } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

test('issue 3: a hole before a cut that is not applied yet is not skipped', async () => {
  const broker = BrokerHarness.ready();
  const session = broker.session();
  for (let i = 0; i < 4; i++) broker.sent(session, 'T', 0, makeBatch({ count: 10, idLow: i }));
  const { rows } = broker.queues.queue('T', 1, 0);
  rows.splice(0, 2);
  const early = broker.pull(session, { offset: 5 });
  await new Promise((resolve) => setImmediate(resolve));
  expect(session.answers.get(early)).toBe('NOT_READY');
  const there = broker.pull(session, { offset: 25 });
  expect((session.answers.get(there) as PullResponse).batches.map(({ baseOffset }) => baseOffset)).toEqual([20, 30]);
});
