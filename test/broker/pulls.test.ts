import { describe, expect, test } from 'vitest';
import { ENTRY_HEADER_BYTES } from '../../src/log/layout.ts';
import type { PullResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { tagHash } from '../../src/protocol/tag-hash.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const bodyOf = (answer: unknown): PullResponse => answer as PullResponse;

describe('pulls', () => {
  test('F33 the bytes that a pull gets are the bytes that the client laid down, hot and cold', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const batches = [1, 2, 3].map((n) => makeBatch({ count: n, idLow: n * 10, bodyBytes: 100 }));
    for (const [i, batch] of batches.entries()) {
      broker.sent(session, 'T', 0, batch);
      broker.sent(session, 'T', 1, makeBatch({ idLow: 100 + i }));
    }
    const expected = Buffer.concat(batches);
    const hot = broker.pull(session, {});
    expect(broker.replica.coldReads).toBe(0);
    expect(Buffer.compare(expected, session.raws.get(hot) as Uint8Array)).toBe(0);
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    const cold = broker.pull(session, {});
    await tick();
    // Neighbours in the log are read together.
    expect(broker.replica.coldReads).toBe(1);
    expect(Buffer.compare(expected, session.raws.get(cold) as Uint8Array)).toBe(0);
    expect(session.answers.get(cold)).toEqual(session.answers.get(hot));
    const { batches: told, nextOffset, minOffset, maxOffset } = bodyOf(session.answers.get(hot));
    expect({ nextOffset, minOffset, maxOffset }).toEqual({ nextOffset: 6, minOffset: 0, maxOffset: 6 });
    expect(told.map(({ baseOffset, sizeBytes }) => [baseOffset, sizeBytes])).toEqual(
      [0, 1, 3].map((offset, i) => [offset, batches[i]?.length]),
    );
    for (const [i, { position, sizeBytes }] of told.entries()) {
      expect(Buffer.compare(broker.replica.log.subarray(position, position + sizeBytes), batches[i] as Uint8Array)).toBe(0);
    }
  });

  test('F16 bounds: bytes, messages, at least one batch; an offset inside a batch gets the whole batch', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    for (let i = 0; i < 4; i++) broker.sent(session, 'T', 0, makeBatch({ count: 10 }));
    const bases = (request: object): number[] =>
      bodyOf(session.answers.get(broker.pull(session, request))).batches.map(({ baseOffset }) => baseOffset);
    expect(bases({ maxBytes: 1 })).toEqual([0]);
    expect(bases({ maxMessages: 20 })).toEqual([0, 10]);
    expect(bases({ offset: 15, maxMessages: 25 })).toEqual([10, 20]);
    expect(bases({ offset: 30 })).toEqual([30]);
    expect(bases({ offset: 40 })).toEqual([]);
  });

  test('F16 what is hot is not looked for in the files, where it may not be yet', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    for (let i = 0; i < 4; i++) broker.sent(session, 'T', 0, makeBatch());
    broker.replica.hotFrom = broker.queues.queue('T', 1, 0).rows[2]?.position as number;
    const cold = broker.pull(session, {});
    await tick();
    expect(bodyOf(session.answers.get(cold)).nextOffset).toBe(2);
    const hot = broker.pull(session, { offset: 2 });
    expect(bodyOf(session.answers.get(hot)).nextOffset).toBe(4);
    expect(broker.replica.coldReads).toBe(1);
  });

  test('F16 damaged bytes are never served', async () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ bodyBytes: 200 }));
    const position = broker.queues.queue('T', 1, 0).rows[0]?.position as number;
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    for (const at of [position + 5, position + ENTRY_HEADER_BYTES + 150]) {
      broker.replica.log[at] = (broker.replica.log[at] as number) ^ 4;
      const id = broker.pull(session, {});
      await tick();
      expect(session.answers.get(id)).toBe('REPAIRING');
      broker.replica.log[at] = (broker.replica.log[at] as number) ^ 4;
    }
    expect(broker.damaged).toEqual([position, position]);
  });

  test('F16 only batches with a wanted tag travel; the next offset passes the others; a waiting pull waits on', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch({ tags: ['a', 'b'] }));
    broker.sent(session, 'T', 0, makeBatch({ tags: ['c'] }));
    broker.sent(session, 'T', 0, makeBatch({ tags: [undefined] }));
    const wanting = (tag: string, offset = 0, waitMs = 0) => broker.pull(session, { tagHashes: [tagHash(tag)], offset, waitMs });
    const b = bodyOf(session.answers.get(wanting('b')));
    expect([b.nextOffset, b.batches.map(({ baseOffset }) => baseOffset)]).toEqual([4, [0]]);
    const none = bodyOf(session.answers.get(wanting('zzz')));
    expect([none.nextOffset, none.batches]).toEqual([4, []]);
    const held = wanting('c', 3, 30_000);
    broker.sent(session, 'T', 0, makeBatch({ tags: ['a'] }));
    expect(session.answers.has(held)).toBe(false);
    broker.sent(session, 'T', 0, makeBatch({ tags: ['c'] }));
    expect(bodyOf(session.answers.get(held)).batches.map(({ baseOffset }) => baseOffset)).toEqual([5]);
  });

  test('F16 out of range: above is refused; a follower redirects, since it may be behind', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    expect(session.answers.get(broker.pull(session, { offset: 1 }))).toBe('OFFSET_OUT_OF_RANGE');
    expect(session.answers.get(broker.pull(session, { topic: 'nope' }))).toBe('TOPIC_NOT_FOUND');
    broker.sent(session, 'T', 0, makeBatch());
    broker.replica.follow(2);
    expect(session.answers.get(broker.pull(session, { offset: 2 }))).toBe('NOT_LEADER');
    expect(session.answers.get(broker.pull(session, { topic: 'nope' }))).toBe('NOT_LEADER');
    expect(bodyOf(session.answers.get(broker.pull(session, {}))).batches).toHaveLength(1);
  });

  test('F17 a pull at the end is held and woken by its own queue alone, or answered empty in time', () => {
    const broker = BrokerHarness.ready({ T: 2, U: 1 });
    const session = broker.session();
    const mine = broker.pull(session, { waitMs: 30_000 });
    const other = broker.pull(session, { queueId: 1, waitMs: 30_000 });
    const elsewhere = broker.pull(session, { topic: 'U', waitMs: 30_000 });
    const id = broker.send(session, 'T', 0, makeBatch());
    expect(session.answers.has(mine)).toBe(false);
    broker.replica.commit();
    expect(session.answers.has(id)).toBe(true);
    expect(bodyOf(session.answers.get(mine)).batches).toHaveLength(1);
    broker.clock.advance(29_999);
    expect([other, elsewhere].map((held) => session.answers.has(held))).toEqual([false, false]);
    broker.clock.advance(1);
    expect([other, elsewhere].map((held) => bodyOf(session.answers.get(held)).batches)).toEqual([[], []]);
  });

  test('F17 10,000 held: one send wakes one, idling arms one timer, a closed session leaves nothing', () => {
    const broker = BrokerHarness.ready({ T: 10_000 });
    const sessions = Array.from({ length: 100 }, () => broker.session());
    for (let queueId = 0; queueId < 10_000; queueId++) broker.pull(sessions[queueId % 100] as never, { queueId, waitMs: 30_000 });
    expect(broker.broker.gauges.waiters).toBe(10_000);
    expect(broker.clock.timers).toBe(1);
    const armed = broker.clock.armedCount;
    broker.clock.advance(5_000);
    expect(broker.clock.armedCount - armed).toBeLessThan(5);
    broker.sent(broker.session(), 'T', 4_321, makeBatch());
    expect(sessions.map(({ answerCount }) => answerCount).reduce((a, b) => a + b, 0)).toBe(1);
    for (const session of sessions) {
      session.closed = true;
      broker.broker.closed(session);
    }
    expect(broker.broker.gauges.waiters).toBe(0);
  });

  test('I8 held pulls are bounded: beyond, a pull is answered at once', () => {
    const broker = BrokerHarness.ready({ T: 2 }, { maxWaiters: 2, maxWaitersPerQueue: 1 });
    const session = broker.session();
    const [held, sameQueue, other, full] = [0, 0, 1, 1].map((queueId) => broker.pull(session, { queueId, waitMs: 1_000 })) as [
      number,
      number,
      number,
      number,
    ];
    expect([held, sameQueue, other, full].map((id) => session.answers.has(id))).toEqual([false, true, false, true]);
  });

  test('F16 a client that takes no more bytes gets none until it does', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.sent(session, 'T', 0, makeBatch());
    session.congested = true;
    const id = broker.pull(session, {});
    expect(session.answers.has(id)).toBe(false);
    session.congested = false;
    broker.broker.drained(session);
    expect(bodyOf(session.answers.get(id)).batches).toHaveLength(1);
  });

  test('F17 a deleted topic answers its waiters', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const held = broker.pull(session, { waitMs: 30_000 });
    broker.ask(session, Op.topicDelete, { topic: 'T' });
    expect(session.answers.get(held)).toBe('TOPIC_NOT_FOUND');
  });

  test('F08 a reader behind the hot tail is told a follower; one at the tail, or with nobody in step, is not', async () => {
    const broker = BrokerHarness.ready({ T: 1 }, { followerReadBehindBytes: 3_000 });
    broker.replica.followers = [2, 3];
    const sessions = [broker.session(), broker.session()];
    const [session] = sessions as [(typeof sessions)[number]];
    for (let i = 0; i < 10; i++) broker.sent(session, 'T', 0, makeBatch({ bodyBytes: 500 }));
    broker.replica.hotFrom = broker.queues.queue('T', 1, 0).rows[8]?.position as number;
    const suggested = async (from: (typeof sessions)[number], offset: number): Promise<number | undefined> => {
      const id = broker.pull(from, { offset, maxMessages: 1 });
      await tick();
      return bodyOf(from.answers.get(id)).suggest;
    };
    const told = [await suggested(sessions[0] as never, 0), await suggested(sessions[1] as never, 0)];
    // Sessions spread over the followers, and each stays with its own.
    expect(told.toSorted()).toEqual([2, 3]);
    expect(await suggested(session, 1)).toBe(told[0]);
    // Cold, but less than the bound behind; then hot.
    expect(await suggested(session, 7)).toBeUndefined();
    expect(await suggested(session, 9)).toBeUndefined();
    broker.replica.followers = [];
    expect(await suggested(session, 0)).toBeUndefined();
    const never = BrokerHarness.ready({ T: 1 }, { followerReadBehindBytes: 0 });
    never.replica.followers = [2];
    const reader = never.session();
    never.sent(reader, 'T', 0, makeBatch({ bodyBytes: 500 }));
    never.replica.hotFrom = Number.POSITIVE_INFINITY;
    const id = never.pull(reader, {});
    await tick();
    expect(bodyOf(reader.answers.get(id)).suggest).toBeUndefined();
  });

  test('F08 a follower serves a suggested pull from what it has applied, fenced by the owner it has applied; else the leader answers', async () => {
    const broker = BrokerHarness.ready({ T: 1 }, { followerReadBehindBytes: 100 });
    const session = broker.session();
    for (let i = 0; i < 3; i++) broker.sent(session, 'T', 0, makeBatch({ bodyBytes: 500 }));
    broker.join(session, 'G', 'm1');
    broker.replica.settle();
    const epoch = broker.machine.groups.named('G')?.owned.values().next().value?.ownerEpoch as number;
    const member = { group: 'G', member: 'm1', epoch, waitMs: 30_000 };
    broker.replica.follow(2, 2);
    const answer = async (request: object): Promise<unknown> => {
      const id = broker.pull(session, request);
      await tick();
      return session.answers.get(id);
    };
    // Not sent here by the leader: redirected as ever.
    expect(await answer(member)).toBe('NOT_LEADER');
    const suggested = { ...member, suggested: true };
    expect(bodyOf(await answer(suggested)).batches).toHaveLength(3);
    expect(bodyOf(await answer(suggested)).suggest).toBeUndefined();
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    expect(bodyOf(await answer({ ...suggested, maxMessages: 1 })).suggest).toBe(1);
    // At its end, beyond it, below its start, another's queue, an unknown topic: never "offset moved", never held, never fenced here.
    for (const other of [
      { offset: 3 },
      { offset: 4 },
      { epoch: epoch - 1 },
      { member: 'm2' },
      { topic: 'U' },
      { queueId: 9 },
      { group: 'H' },
    ]) {
      expect(await answer({ ...suggested, ...other })).toBe('NOT_LEADER');
    }
    expect(broker.broker.gauges.waiters).toBe(0);
  });
});
