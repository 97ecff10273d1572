import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { encodeCommand } from '../../src/broker/commands.ts';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import { StateLimits } from '../../src/broker/limits.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { queueKey } from '../../src/broker/topics.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import type { Assignment, PullResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import type { SendBackRequest, SentBackMessage } from '../../src/protocol/retry-requests.ts';
import { EntryType } from '../../src/replica/types.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import type { FakeSession } from '../support/fake-session.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';

const RETRY = '%RETRY%g';
const DLQ = '%DLQ%g';

function start(level: number = FEATURE_LEVELS.messaging): BrokerHarness {
  const broker = BrokerHarness.ready({ T: 2, U: 1 });
  if (level > 1) {
    const body = encodeCommand({ type: 'featureLevelRaise', level });
    broker.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    broker.replica.settle();
  }
  const session = broker.session();
  // A batch of three: the second queue's messages are single ones.
  broker.sent(session, 'T', 0, makeBatch({ count: 3, idLow: 100, tags: ['a', 'b', undefined] }));
  for (let idLow = 0; idLow < 3; idLow++) broker.sent(session, 'T', 1, makeBatch({ idLow }));
  return broker;
}

function join(broker: BrokerHarness, session: FakeSession, member = 'a@1', retries = true): Assignment {
  const request = { group: 'g', member, topics: ['T'], strategy: 'sticky', sessionTimeoutMs: 10_000, retries } as const;
  return broker.ask(session, Op.groupJoin, request);
}

const epochOf = ({ queues }: Assignment, topic: string, queueId: number): number =>
  queues.find((queue) => queue.topic === topic && queue.queueId === queueId)?.epoch ?? -1;
const failed = (offset: number, over: Partial<SentBackMessage> = {}): SentBackMessage => ({
  offset,
  delayLevel: 0,
  delayMs: 0,
  attempts: 1,
  ...over,
});

/** @returns the errors, or the code of the refusal */
async function sendBack(broker: BrokerHarness, session: FakeSession, request: Partial<SendBackRequest>): Promise<unknown> {
  const id = broker.request(session, Op.sendBack, {
    group: 'g',
    member: 'a@1',
    topic: 'T',
    queueId: 0,
    epoch: 0,
    maxReconsumeTimes: 16,
    messages: [],
    ...request,
  });
  for (let turns = 0; turns < 20_000 && !session.answers.has(id); turns++) {
    await Promise.resolve();
    broker.replica.settle();
  }
  const answer = session.answers.get(id) as { errors?: number[] } | string;
  return typeof answer === 'object' ? answer.errors : answer;
}

/** What lies in the queue: [message index, attempts, origin topic, origin queue, origin offset] each. */
function references(broker: BrokerHarness, topic: string): unknown[] {
  const session = broker.session();
  const id = broker.pull(session, { topic });
  const answer = session.answers.get(id) as PullResponse | string;
  if (typeof answer === 'string') return [answer];
  return answer.batches.map(({ reference }) => {
    const { messageIndex, attempts, originTopic, originQueueId, originOffset } = reference as NonNullable<typeof reference>;
    return [messageIndex, attempts, originTopic, originQueueId, originOffset];
  });
}

describe('send-back', () => {
  test('F22 the first retry is at level 3, each further one a level later; the row says which message, how often, and where it was first', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    expect(await sendBack(broker, session, { epoch, messages: [failed(1)] })).toEqual([0]);
    expect(await sendBack(broker, session, { epoch, messages: [failed(2, { attempts: 5 })] })).toEqual([0]);
    const { levels } = broker.machine.timers;
    expect(levels.known(3)?.nextOffset).toBe(1);
    expect(levels.known(7)?.nextOffset).toBe(1);
    expect(references(broker, RETRY)).toEqual([]);
  });

  test('F22 levels as asked, and exponential delays in log time', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    const messages = [failed(0, { delayLevel: 9 }), failed(1, { delayMs: 4_000 }), failed(2, { delayLevel: 99 })];
    expect(await sendBack(broker, session, { epoch, messages })).toEqual([0, 0, 0]);
    const { levels, wheel } = broker.machine.timers;
    expect(levels.known(9)?.nextOffset).toBe(1);
    expect(levels.known(18)?.nextOffset).toBe(1);
    expect(wheel.pending).toBe(1);
  });

  test('F23 after the last attempt, or when it is asked for, a message is a dead letter at once, with its origin', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    expect(references(broker, DLQ)).toEqual(['TOPIC_NOT_FOUND']);
    const messages = [failed(2, { delayLevel: -1 }), failed(0, { attempts: 3 }), failed(1, { attempts: 2 })];
    expect(await sendBack(broker, session, { epoch, maxReconsumeTimes: 2, messages })).toEqual([0, 0, 0]);
    expect(references(broker, DLQ)).toEqual([
      [2, 1, 'T', 0, 2],
      [0, 3, 'T', 0, 0],
    ]);
    expect(broker.machine.timers.levels.known(4)?.nextOffset).toBe(1);
  });

  test('F22 a send-back asked for twice, or by the next owner, makes one copy; an offset that was committed none', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 1);
    const dead = (offset: number) => failed(offset, { delayLevel: -1 });
    expect(await sendBack(broker, session, { epoch, queueId: 1, messages: [dead(1), dead(1)] })).toEqual([0, 0]);
    expect(await sendBack(broker, session, { epoch, queueId: 1, messages: [dead(1)] })).toEqual([0]);
    expect(references(broker, DLQ)).toHaveLength(1);
    broker.ask(session, Op.groupLeave, { group: 'g', member: 'a@1' });
    const next = epochOf(join(broker, session, 'b@1'), 'T', 1);
    expect(await sendBack(broker, session, { member: 'b@1', epoch: next, queueId: 1, messages: [dead(1)] })).toEqual([0]);
    expect(references(broker, DLQ)).toHaveLength(1);

    const commit = { group: 'g', member: 'b@1', epoch: next, offsets: [{ topic: 'T', queueId: 1, offset: 2 }] };
    broker.request(session, Op.offsetCommit, commit);
    broker.clock.advance(200);
    broker.replica.settle();
    expect(broker.machine.retries.pack()).toEqual([[], []]);
    expect(await sendBack(broker, session, { member: 'b@1', epoch: next, queueId: 1, messages: [dead(0), dead(1)] })).toEqual([0, 0]);
    expect(references(broker, DLQ)).toHaveLength(1);
  });

  test('F22 after a reset of the offset a message may fail, and be sent back, anew', async () => {
    const broker = start();
    const session = broker.session();
    const dead = failed(1, { delayLevel: -1 });
    const epoch = epochOf(join(broker, session), 'T', 1);
    expect(await sendBack(broker, session, { epoch, queueId: 1, messages: [dead] })).toEqual([0]);
    broker.ask(session, Op.groupResetOffset, { group: 'g', topic: 'T', queueId: 1, offset: 0 });
    expect(await sendBack(broker, session, { epoch, queueId: 1, messages: [dead] })).toBe('FENCED');
    const again = epochOf(session.pushes.at(-1) as Assignment, 'T', 1);
    expect(await sendBack(broker, session, { epoch: again, queueId: 1, messages: [dead] })).toEqual([0]);
    expect(references(broker, DLQ)).toHaveLength(2);
  });

  test('F22 who does not own the queue sends nothing back, also when it loses it while the entry is on its way', async () => {
    const broker = start();
    const session = broker.session();
    const messages = [failed(0, { delayLevel: -1 })];
    expect(await sendBack(broker, session, { messages })).toBe('UNKNOWN_MEMBER');
    const epoch = epochOf(join(broker, session), 'T', 0);
    expect(await sendBack(broker, session, { epoch: epoch + 1, messages })).toBe('FENCED');
    expect(await sendBack(broker, session, { epoch, member: 'b@1', messages })).toBe('UNKNOWN_MEMBER');
    expect(await sendBack(broker, session, { epoch, topic: 'none', messages })).toBe('TOPIC_NOT_FOUND');
    expect(await sendBack(broker, session, { epoch, queueId: 7, messages })).toBe('QUEUE_NOT_FOUND');
    expect(await sendBack(broker, session, { epoch, messages: [failed(3, { delayLevel: -1 })] })).toEqual([
      ERRORS.MESSAGE_NOT_FOUND.number,
    ]);
    // The topic of dead letters is there now, so the send-back is proposed in the turn that it comes in; the leave comes before it.
    expect(await sendBack(broker, session, { epoch, messages: [failed(2, { delayLevel: -1 })] })).toEqual([0]);
    broker.request(session, Op.groupLeave, { group: 'g', member: 'a@1' });
    expect(await sendBack(broker, session, { epoch, messages })).toBe('UNKNOWN_MEMBER');
    expect(references(broker, DLQ)).toHaveLength(1);
  });

  test('F22 below feature level 3 it is refused, with a code that says so', async () => {
    const broker = start(FEATURE_LEVELS.cluster);
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    expect(await sendBack(broker, session, { epoch, messages: [failed(0)] })).toBe('FEATURE_LEVEL');
  });

  test('F22 the origin stays over retries of retries, and dead letters of them', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    // A level below 1 ms is due when the entry is applied: the message is in the retry queue at once.
    expect(await sendBack(broker, session, { epoch, messages: [failed(1, { delayLevel: -1 })] })).toEqual([0]);
    const other = { group: 'h', member: 'h@1', topics: [DLQ], strategy: 'sticky', sessionTimeoutMs: 10_000, retries: true } as const;
    const owned = broker.ask(session, Op.groupJoin, other);
    const request = { group: 'h', member: 'h@1', topic: DLQ, queueId: 0, epoch: epochOf(owned, DLQ, 0) };
    expect(await sendBack(broker, session, { ...request, messages: [failed(0, { delayLevel: -1 })] })).toEqual([0]);
    expect(references(broker, '%DLQ%h')).toEqual([[1, 2, 'T', 0, 1]]);
  });

  test('F22 what may be sent back above the committed offset is bounded: TOO_MANY, until commits follow', async () => {
    const broker = BrokerHarness.ready({ T: 1 });
    const body = encodeCommand({ type: 'featureLevelRaise', level: FEATURE_LEVELS.messaging });
    broker.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    const session = broker.session();
    for (let sent = 0; sent < 9; sent++) broker.sent(session, 'T', 0, makeBatch({ count: 1_024, bodyBytes: 1 }));
    const epoch = epochOf(join(broker, session), 'T', 0);
    const round = (from: number) => Array.from({ length: 1_024 }, (_, i) => failed(from + i, { delayLevel: -1 }));
    for (let from = 0; from < StateLimits.maxSentBackPerQueue; from += 1_024) {
      expect(new Set((await sendBack(broker, session, { epoch, messages: round(from) })) as number[])).toEqual(new Set([0]));
    }
    const beyond = [failed(StateLimits.maxSentBackPerQueue, { delayLevel: -1 })];
    expect(await sendBack(broker, session, { epoch, messages: beyond })).toEqual([ERRORS.TOO_MANY.number]);
    broker.request(session, Op.offsetCommit, { group: 'g', member: 'a@1', epoch, offsets: [{ topic: 'T', queueId: 0, offset: 1 }] });
    broker.clock.advance(200);
    broker.replica.settle();
    expect(await sendBack(broker, session, { epoch, messages: beyond })).toEqual([0]);
  });
});

describe('the retry queue', () => {
  test('F22 belongs to the group as soon as it is made, and is pushed to the member at once; a member of an older release is not given it', async () => {
    const broker = start();
    const [session, old] = [broker.session(), broker.session()];
    const epoch = epochOf(join(broker, session), 'T', 0);
    expect(await sendBack(broker, session, { epoch, messages: [failed(0)] })).toEqual([0]);
    const pushed = session.pushes.at(-1) as Assignment;
    expect(pushed.queues.filter(({ topic }) => topic === RETRY)).toMatchObject([{ queueId: 0, committedOffset: -1 }]);
    const key = queueKey(broker.machine.topics.named(RETRY)?.id as number, 0);
    const owned = () => broker.machine.groups.named('g')?.owned.get(key);
    // Eight older ones: by lot one of them would be its owner.
    for (let at = 0; at < 8; at++) join(broker, old, `old@${at}`, false);
    expect(owned()).toMatchObject({ owner: 'a@1', target: 'a@1' });
    broker.ask(session, Op.groupLeave, { group: 'g', member: 'a@1' });
    expect(owned()).toMatchObject({ owner: '', target: '' });
  });

  test('F22 a member that joined before the level was raised is asked to join again', () => {
    const broker = start(FEATURE_LEVELS.cluster);
    const session = broker.session();
    join(broker, session);
    const beat = { group: 'g', member: 'a@1', epoch: 0, retries: true };
    expect(broker.ask(session, Op.groupHeartbeat, beat)).toHaveProperty('assignment');
    const body = encodeCommand({ type: 'featureLevelRaise', level: FEATURE_LEVELS.messaging });
    broker.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    broker.replica.settle();
    expect(broker.ask(session, Op.groupHeartbeat, beat)).toBe('UNKNOWN_MEMBER');
    const again = join(broker, session);
    expect(broker.ask(session, Op.groupHeartbeat, beat)).toHaveProperty('assignment');
    expect(again.queues).toHaveLength(2);
  });

  test('F23 internal topics are not for users to change, delete or send to', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    await sendBack(broker, session, { epoch, messages: [failed(1, { delayLevel: -1 })] });
    expect(broker.ask(session, Op.topicDelete, { topic: DLQ })).toBe('BAD_NAME');
    expect(broker.ask(session, Op.topicUpdate, { topic: DLQ, queues: 3, perm: -1, replication: -1 })).toBe('BAD_NAME');
    expect(broker.sent(session, DLQ, 0, makeBatch())).toEqual([ERRORS.NO_PERMISSION.number, -1]);
    expect(references(broker, DLQ)).toHaveLength(1);
  });
});

describe('replayed dead letters', () => {
  test('F23 are noted with number and time; what is no dead letter is not', async () => {
    const broker = start();
    const session = broker.session();
    const epoch = epochOf(join(broker, session), 'T', 0);
    expect(broker.ask(session, Op.deadLetterMark, { group: 'g', offsets: [0] })).toBe('GROUP_NOT_FOUND');
    await sendBack(broker, session, { epoch, messages: [failed(0, { delayLevel: -1 }), failed(1, { delayLevel: -1 })] });
    expect(broker.ask(session, Op.deadLetterMark, { group: 'g', offsets: [1, 2] })).toEqual({
      errors: [0, ERRORS.MESSAGE_NOT_FOUND.number],
    });
    broker.replica.passTime(5_000);
    broker.ask(session, Op.deadLetterMark, { group: 'g', offsets: [1] });
    const marks = [{ offset: 1, replays: 2, lastReplayMs: broker.machine.logTimeMs }];
    expect(broker.ask(session, Op.deadLetterMarks, { group: 'g', from: 0, to: 10 })).toEqual({ marks });
    expect(broker.ask(session, Op.deadLetterMarks, { group: 'g', from: 0, to: 1 })).toEqual({ marks: [] });
    expect(references(broker, DLQ)).toHaveLength(2);
  });
});

describe('state', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('sendBack' as const),
      offset: fc.nat({ max: 3 }),
      level: fc.constantFrom(-1, 0, 2),
      delayMs: fc.constantFrom(0, 700),
    }),
    fc.record({ kind: fc.constant('commit' as const), offset: fc.nat({ max: 3 }) }),
    fc.record({ kind: fc.constant('reset' as const), offset: fc.nat({ max: 3 }) }),
    fc.record({ kind: fc.constant('mark' as const), offset: fc.nat({ max: 3 }) }),
    fc.record({ kind: fc.constant('rejoin' as const) }),
  );

  test('F22 an offset is sent back once between two resets, never lost; replay and a restored snapshot agree', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        const broker = start();
        const session = broker.session();
        let assigned = join(broker, session);
        // Offsets of T/1 that were sent back and are not committed, and how many copies there are to be.
        const open = new Set<number>();
        let copies = 0;
        let committed = 0;
        for (const each of steps) {
          const epoch = epochOf(assigned, 'T', 1);
          if (each.kind === 'sendBack') {
            const message = failed(each.offset, { delayLevel: each.level, delayMs: each.level < 0 ? 0 : each.delayMs });
            const errors = await sendBack(broker, session, { epoch, queueId: 1, messages: [message] });
            expect(errors).toEqual([each.offset < 3 ? 0 : ERRORS.MESSAGE_NOT_FOUND.number]);
            if (each.offset < 3 && each.offset >= committed && !open.has(each.offset)) {
              open.add(each.offset);
              copies++;
            }
          } else if (each.kind === 'commit') {
            broker.request(session, Op.offsetCommit, {
              group: 'g',
              member: 'a@1',
              epoch,
              offsets: [{ topic: 'T', queueId: 1, offset: each.offset }],
            });
            broker.clock.advance(200);
            broker.replica.settle();
            committed = Math.max(committed, each.offset);
            for (const offset of open) if (offset < committed) open.delete(offset);
          } else if (each.kind === 'reset') {
            broker.ask(session, Op.groupResetOffset, { group: 'g', topic: 'T', queueId: 1, offset: each.offset });
            committed = each.offset;
            open.clear();
            assigned = join(broker, session);
          } else if (each.kind === 'mark') broker.ask(session, Op.deadLetterMark, { group: 'g', offsets: [each.offset] });
          else {
            broker.ask(session, Op.groupLeave, { group: 'g', member: 'a@1' });
            assigned = join(broker, session);
          }
        }
        const { levels, wheel } = broker.machine.timers;
        let waiting = wheel.pending;
        for (let level = 1; level <= 18; level++) waiting += levels.known(level)?.nextOffset ?? 0;
        const dead = broker.machine.topics.named(DLQ)?.queues[0]?.nextOffset ?? 0;
        expect(waiting + dead).toBe(copies);

        const replayed = new BrokerStateMachine({ brokerName: 'broker-a', queues: new MemoryQueues(), ids: new MemoryIds() });
        broker.replica.replay(replayed, 1, broker.replica.appliedIndex());
        expect(replayed.digest()).toBe(broker.machine.digest());
        expect(replayed.snapshot()).toEqual(broker.machine.snapshot());
        const restored = new BrokerStateMachine({ brokerName: 'broker-a', queues: broker.queues, ids: new MemoryIds() });
        restored.restore(broker.machine.snapshot());
        expect(restored.retries.pack()).toEqual(broker.machine.retries.pack());
      }),
      { numRuns: 60 },
    );
  });
});
