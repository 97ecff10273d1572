import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BrokerStateMachine } from '../../../src/broker/state-machine.ts';
import { ERRORS } from '../../../src/protocol/errors.ts';
import type { PopRequest, PopResponse } from '../../../src/protocol/pop-requests.ts';
import { Op } from '../../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../../support/fake-broker.ts';
import type { FakeSession } from '../../support/fake-session.ts';
import { MemoryIds } from '../../support/fake-stores.ts';

const LEVEL = { announcedLevel: () => 3, autoRaise: true };
const INVISIBLE_MS = 10_000;
/** Turns of the event loop within which a pop that has something to give is answered. */
const TURNS = 20;

/** A leader at the newest level, topic T. */
function start(queues = 2, segmentBytes?: number): BrokerHarness {
  const broker = new BrokerHarness({}, segmentBytes, {}, { featureLevel: LEVEL });
  broker.replica.leadReady();
  broker.replica.settle();
  broker.ask(broker.session(), Op.topicCreate, { topic: 'T', queues, perm: 6, messageType: 'normal', replication: 2 });
  return broker;
}

async function answered(broker: BrokerHarness, session: FakeSession, requestId: number): Promise<unknown> {
  for (let turn = 0; turn < TURNS && !session.answers.has(requestId); turn++) {
    broker.replica.settle();
    await Promise.resolve();
  }
  return session.answers.get(requestId);
}

const popRequest = (wanted: Partial<PopRequest>): PopRequest => ({
  group: 'g',
  topic: 'T',
  queueId: -1,
  maxMessages: 8,
  maxBytes: 1 << 20,
  invisibleMs: INVISIBLE_MS,
  waitMs: 0,
  from: 'first',
  ordered: false,
  maxAttempts: 100,
  tagHashes: [],
  ...wanted,
});

function pop(broker: BrokerHarness, session: FakeSession, wanted: Partial<PopRequest> = {}): Promise<PopResponse> {
  return answered(broker, session, broker.request(session, Op.pop, popRequest(wanted))) as Promise<PopResponse>;
}

const isAcked = ({ acked, baseOffset }: PopResponse, offset: number): boolean =>
  (((acked[(offset - baseOffset) >>> 5] ?? 0) >>> ((offset - baseOffset) & 31)) & 1) === 1;
const offsetsOf = (popped: PopResponse): number[] =>
  Array.from({ length: popped.count }, (_, i) => popped.baseOffset + i).filter((offset) => !isAcked(popped, offset));

function ack(
  broker: BrokerHarness,
  session: FakeSession,
  { queueId, checkpoint }: PopResponse,
  offsets: readonly number[],
): readonly number[] {
  const receipts = offsets.map((offset) => ({ queueId, checkpoint, offset }));
  return broker.ask(session, Op.popAck, { group: 'g', topic: 'T', receipts }).errors;
}

function fill(broker: BrokerHarness, queueId: number, count: number, idLow = 0): void {
  broker.sent(broker.session(), 'T', queueId, makeBatch({ count, idLow }));
}

describe('F25 pop', () => {
  test('F25 what one consumer popped no other one sees, from as many consumers as there are, until its time is over', async () => {
    const broker = start(1);
    fill(broker, 0, 10);
    const [a, b, c] = [broker.session(), broker.session(), broker.session()];
    const first = await pop(broker, a, { maxMessages: 4 });
    const second = await pop(broker, b, { maxMessages: 4 });
    const third = await pop(broker, c, { maxMessages: 4 });
    expect([first, second, third].map(offsetsOf)).toEqual([
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9],
    ]);
    expect(await pop(broker, a)).toMatchObject({ checkpoint: 0, count: 0 });
    expect(ack(broker, b, second, [4, 5, 6, 7])).toEqual([0, 0, 0, 0]);
    expect(ack(broker, a, first, [1])).toEqual([0]);
    broker.replica.passTime(INVISIBLE_MS);
    const again = await pop(broker, c, { maxMessages: 4 });
    expect(offsetsOf(again)).toEqual([0, 2, 3]);
    expect(again.attempts).toBe(1);
    // The one who slept has nothing to say about them any more.
    expect(ack(broker, a, first, [0, 2])).toEqual([ERRORS.RECEIPT_EXPIRED.number, ERRORS.RECEIPT_EXPIRED.number]);
    expect(offsetsOf(await pop(broker, a))).toEqual([8, 9]);
  });

  test('F25 a pop that waits is woken by a message, and by one that becomes visible again', async () => {
    const broker = start(2);
    const session = broker.session();
    const waiting = broker.request(session, Op.pop, popRequest({ waitMs: 30_000 }));
    await answered(broker, session, waiting);
    fill(broker, 1, 1);
    const popped = (await answered(broker, session, waiting)) as PopResponse;
    expect(popped).toMatchObject({ queueId: 1, baseOffset: 0, count: 1 });

    const next = broker.request(session, Op.pop, popRequest({ waitMs: 30_000 }));
    expect(await answered(broker, session, next)).toBeUndefined();
    broker.replica.passTime(INVISIBLE_MS);
    broker.clock.advance(INVISIBLE_MS);
    expect(await answered(broker, session, next)).toMatchObject({ queueId: 1, baseOffset: 0, count: 1, attempts: 1 });

    const last = broker.request(session, Op.pop, popRequest({ waitMs: 1_000 }));
    expect(await answered(broker, session, last)).toBeUndefined();
    broker.clock.advance(1_000);
    expect(await answered(broker, session, last)).toMatchObject({ checkpoint: 0 });
  });

  test('F25 the invisible time is changed: longer for work, none for what is given up', async () => {
    const broker = start(1);
    fill(broker, 0, 2);
    const session = broker.session();
    const popped = await pop(broker, session);
    const change = (offset: number, invisibleMs: number, checkpoint = popped.checkpoint) =>
      broker.ask(session, Op.popChange, { group: 'g', topic: 'T', queueId: 0, checkpoint, offset, invisibleMs });
    const longer = change(0, 5 * INVISIBLE_MS);
    expect(change(1, 0)).toMatchObject({ checkpoint: expect.any(Number) });
    expect(offsetsOf(await pop(broker, session))).toEqual([1]);
    broker.replica.passTime(2 * INVISIBLE_MS);
    expect(offsetsOf(await pop(broker, session))).toEqual([1]);
    // The old receipt is not good any more, the new one is.
    expect(ack(broker, session, popped, [0])).toEqual([ERRORS.RECEIPT_EXPIRED.number]);
    expect(change(0, 1, popped.checkpoint)).toBe('RECEIPT_EXPIRED');
    expect(ack(broker, session, { ...popped, checkpoint: longer.checkpoint }, [0])).toEqual([0]);
  });

  test('F25 a receipt that was changed is not confirmed, though another message of its pop is still open', async () => {
    const broker = start(1);
    fill(broker, 0, 2);
    const session = broker.session();
    const popped = await pop(broker, session);
    const { checkpoint } = popped;
    broker.ask(session, Op.popChange, { group: 'g', topic: 'T', queueId: 0, checkpoint, offset: 1, invisibleMs: 0 });
    expect(ack(broker, session, popped, [1, 0])).toEqual([ERRORS.RECEIPT_EXPIRED.number, 0]);
    expect(offsetsOf(await pop(broker, session))).toEqual([1]);
  });

  test('F25 in order: nothing of a queue while a delivery of it is open, and what failed comes before what is behind it', async () => {
    const broker = start(1);
    fill(broker, 0, 6);
    const session = broker.session();
    const first = await pop(broker, session, { ordered: true, maxMessages: 3 });
    expect(await pop(broker, session, { ordered: true })).toMatchObject({ checkpoint: 0 });
    ack(broker, session, first, [0]);
    for (const offset of [1, 2])
      broker.ask(session, Op.popChange, {
        group: 'g',
        topic: 'T',
        queueId: 0,
        checkpoint: first.checkpoint,
        offset,
        invisibleMs: 3 - offset,
      });
    broker.replica.passTime(10);
    const again = await pop(broker, session, { ordered: true });
    expect(offsetsOf(again)).toEqual([1]);
    expect(await pop(broker, session, { ordered: true })).toMatchObject({ checkpoint: 0 });
    ack(broker, session, again, [1]);
    const then = await pop(broker, session, { ordered: true });
    expect(offsetsOf(then)).toEqual([2]);
    ack(broker, session, then, [2]);
    expect(offsetsOf(await pop(broker, session, { ordered: true }))).toEqual([3, 4, 5]);
  });

  test('F25 F23 a message that had all its attempts goes to the dead letters, with its origin; what was acknowledged of the same pop does not', async () => {
    const broker = start(1);
    fill(broker, 0, 3, 40);
    const session = broker.session();
    const first = await pop(broker, session, { maxAttempts: 2 });
    ack(broker, session, first, [1]);
    broker.replica.passTime(INVISIBLE_MS);
    expect(offsetsOf(await pop(broker, session, { maxAttempts: 2 }))).toEqual([0, 2]);
    broker.replica.passTime(INVISIBLE_MS);
    expect(await pop(broker, session, { maxAttempts: 2 })).toMatchObject({ checkpoint: 0 });
    const dead = broker.pull(session, { topic: '%DLQ%g' });
    expect(session.answers.get(dead)).toMatchObject({
      nextOffset: 2,
      batches: [
        { baseOffset: 0, reference: { messageIndex: 0, attempts: 2, originTopic: 'T', originQueueId: 0, originOffset: 0 } },
        { baseOffset: 1, reference: { messageIndex: 2, attempts: 2, originTopic: 'T', originQueueId: 0, originOffset: 2 } },
      ],
    });
    expect(broker.machine.groups.named('g')?.offsets.get((broker.machine.topics.named('T')?.id as number) * 65_536)).toBe(3);
  });

  test('F25 a revival gives what can be read at once; what the files hold beside it waits for its own turn, and is not taken for done', async () => {
    const broker = start(1);
    fill(broker, 0, 2);
    fill(broker, 0, 3, 100);
    const session = broker.session();
    expect(offsetsOf(await pop(broker, session))).toEqual([0, 1, 2, 3, 4]);
    broker.replica.passTime(INVISIBLE_MS);
    // The first batch has left the hot tail.
    broker.replica.hotFrom = broker.replica.positions.at(-2) as number;
    expect(offsetsOf(await pop(broker, session))).toEqual([0, 1]);
    expect(offsetsOf(await pop(broker, session))).toEqual([2, 3, 4]);
    expect(await pop(broker, session)).toMatchObject({ checkpoint: 0 });
  });

  test('F25 a group is consumed by pops or by members, not by both', async () => {
    const broker = start(1);
    fill(broker, 0, 1);
    const session = broker.session();
    const popped = await pop(broker, session);
    expect(broker.join(session, 'g', 'm@1')).toBe('GROUP_MODE_CONFLICT');
    ack(broker, session, popped, [0]);
    expect(broker.join(session, 'g', 'm@1')).toMatchObject({ queues: [{ queueId: 0, committedOffset: 1 }] });
    expect(await pop(broker, session)).toBe('GROUP_MODE_CONFLICT');
  });

  test('F25 bad pops are refused by code', async () => {
    const broker = start(1);
    const session = broker.session();
    for (const [wanted, code] of [
      [{ topic: 'none' }, 'TOPIC_NOT_FOUND'],
      [{ queueId: 7 }, 'QUEUE_NOT_FOUND'],
      [{ maxMessages: 0 }, 'BAD_REQUEST'],
      [{ maxMessages: 1_025 }, 'BAD_REQUEST'],
      [{ invisibleMs: 1 }, 'BAD_REQUEST'],
      [{ group: '' }, 'BAD_NAME'],
    ] as const)
      expect(await pop(broker, session, wanted)).toBe(code);
    const old = BrokerHarness.ready({ T: 1 });
    expect(await pop(old, old.session())).toBe('FEATURE_LEVEL');
    broker.replica.follow(9);
    expect(await pop(broker, session)).toBe('NOT_LEADER');
  });

  test('F25 whatever is popped, acknowledged, given up, forgotten, restored and led anew: nobody holds what another holds, nothing is lost', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('send' as const), queueId: fc.nat(1), count: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant('pop' as const), maxMessages: fc.integer({ min: 1, max: 40 }), ordered: fc.boolean() }),
      fc.record({ kind: fc.constant('ack' as const), which: fc.nat(), bits: fc.nat() }),
      fc.record({ kind: fc.constant('change' as const), which: fc.nat(), place: fc.nat(), invisibleMs: fc.constantFrom(0, 500, 20_000) }),
      fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(1, 999, 5_000, 11_000) }),
      fc.record({ kind: fc.constant('lead' as const) }),
      fc.record({ kind: fc.constant('restore' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const broker = start(2);
        const session = broker.session();
        const sent = [0, 0];
        const done = new Set<string>();
        /** Message → until when its holder has it alone. */
        const held = new Map<string, number>();
        const live: { popped: PopResponse; untilMs: number }[] = [];
        const now = (): number => broker.replica.logTimeMs();
        const took = (popped: PopResponse): void => {
          for (const offset of offsetsOf(popped)) {
            const message = `${popped.queueId}/${offset}`;
            expect(done.has(message)).toBe(false);
            expect(held.get(message) ?? 0).toBeLessThanOrEqual(now());
            held.set(message, now() + INVISIBLE_MS);
          }
          live.push({ popped, untilMs: now() + INVISIBLE_MS });
        };
        for (const one of steps) {
          if (one.kind === 'send') {
            fill(broker, one.queueId, one.count);
            sent[one.queueId] = (sent[one.queueId] as number) + one.count;
          } else if (one.kind === 'pop') {
            const popped = await pop(broker, session, one);
            if (popped.checkpoint !== 0) took(popped);
          } else if (one.kind === 'time') broker.replica.passTime(one.ms);
          else if (one.kind === 'lead') broker.replica.leadReady();
          else if (one.kind === 'restore') {
            const copy = new BrokerStateMachine({ brokerName: 'broker-a', queues: broker.queues, ids: new MemoryIds() });
            expect(copy.restore(broker.machine.snapshot())).toBe(true);
            expect(copy.snapshot()).toEqual(broker.machine.snapshot());
          } else if (live.length > 0) {
            const { popped } = live[one.which % live.length] as (typeof live)[number];
            const offsets = offsetsOf(popped);
            if (one.kind === 'ack') {
              const wanted = offsets.filter((_, i) => ((one.bits >> (i % 30)) & 1) === 1);
              ack(broker, session, popped, wanted).forEach((error, i) => {
                const message = `${popped.queueId}/${wanted[i]}`;
                if (error === 0) done.add(message);
              });
            } else {
              const offset = offsets[one.place % offsets.length] as number;
              const { queueId, checkpoint } = popped;
              const answer = broker.ask(session, Op.popChange, {
                group: 'g',
                topic: 'T',
                queueId,
                checkpoint,
                offset,
                invisibleMs: one.invisibleMs,
              });
              if (typeof answer === 'object') {
                held.set(`${queueId}/${offset}`, now() + one.invisibleMs);
                live.push({
                  popped: { ...popped, checkpoint: answer.checkpoint, baseOffset: offset, count: 1, acked: [0] },
                  untilMs: now() + one.invisibleMs,
                });
              }
            }
          }
        }
        for (let quiet = 0; quiet < 2; ) {
          const popped = await pop(broker, session, { maxMessages: 1_000 });
          if (popped.checkpoint === 0) {
            quiet++;
            broker.replica.passTime(30_000);
            continue;
          }
          quiet = 0;
          took(popped);
          for (const error of ack(broker, session, popped, offsetsOf(popped))) expect(error).toBe(0);
          for (const offset of offsetsOf(popped)) done.add(`${popped.queueId}/${offset}`);
        }
        expect(done.size).toBe((sent[0] as number) + (sent[1] as number));
        expect(broker.machine.pop.checkpointCount).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});
