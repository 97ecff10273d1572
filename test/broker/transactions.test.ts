import { describe, expect, test } from 'vitest';
import { ERRORS } from '../../src/protocol/errors.ts';
import { DISCARDED_HALVES_TOPIC } from '../../src/protocol/names.ts';
import { Op } from '../../src/protocol/requests.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { GROUP, TransactionBroker } from '../support/transaction-broker.ts';

describe('half messages and their outcomes', () => {
  test('F14 a half message is stored and acknowledged, and nobody sees it before its commit', () => {
    const broker = new TransactionBroker();
    const half = broker.half();
    expect(broker.visible()).toEqual([]);
    expect(broker.harness.machine.topics.queue(1, 0)?.nextOffset).toBe(0);
    expect(broker.end(half, 'commit')).toBe(0);
    expect(broker.visible()).toEqual([[0, 1]]);
    expect(broker.harness.machine.transactions.halves.size).toBe(0);
  });

  test('F14 a rolled back message is never seen', () => {
    const broker = new TransactionBroker();
    expect(broker.end(broker.half(), 'rollback')).toBe(-1);
    broker.half();
    expect(broker.visible()).toEqual([]);
  });

  test('F14 committed messages have the order of their commits, among others', () => {
    const broker = new TransactionBroker();
    const [first, second] = [broker.half({}, 'T', 1), broker.half({}, 'T', 1)];
    expect(broker.harness.sent(broker.session, 'T', 1, makeBatch({ idLow: 77 }))).toEqual([0, 0]);
    expect(broker.end(second, 'commit')).toBe(1);
    expect(broker.end(first, 'commit')).toBe(2);
    expect(broker.visible('T', 1)).toEqual([
      [0, 77],
      [1, 2],
      [2, 1],
    ]);
  });

  test('F14 the first outcome wins: the same one again has the same answer, the other one is a conflict', () => {
    const broker = new TransactionBroker();
    const [committed, rolledBack] = [broker.half(), broker.half()];
    expect([broker.end(committed, 'commit'), broker.end(committed, 'commit')]).toEqual([0, 0]);
    expect(broker.end(committed, 'rollback')).toBe('TRANSACTION_CONFLICT');
    expect([broker.end(rolledBack, 'rollback'), broker.end(rolledBack, 'rollback')]).toEqual([-1, -1]);
    expect(broker.end(rolledBack, 'commit')).toBe('TRANSACTION_CONFLICT');
    expect(broker.end(rolledBack, 'unknown')).toBe(-1);
    expect(broker.visible()).toEqual([[0, 1]]);
  });

  test('F14 two commits under way at once place the message once', () => {
    const broker = new TransactionBroker();
    const half = broker.half();
    const body = { ...half, outcome: 'commit', source: 'producer' } as const;
    const requests = [1, 2, 3].map(() => broker.harness.request(broker.session, Op.transactionEnd, body));
    broker.harness.replica.commit();
    expect(requests.map((id) => broker.session.answers.get(id))).toEqual([{ offset: 0 }, { offset: 0 }, { offset: 0 }]);
    expect(broker.visible()).toEqual([[0, 1]]);
  });

  test('F14 nobody ends a transaction that is not theirs, or none: before its end and after', () => {
    const broker = new TransactionBroker();
    const half = broker.half();
    const strangers = [
      { ...half, producerGroup: 'others' },
      { ...half, messageId: half.messageId.replace('1', '2') },
      { ...half, transaction: half.transaction + 1 },
    ];
    for (const stranger of strangers) expect(broker.end(stranger, 'commit')).toBe('TRANSACTION_NOT_FOUND');
    expect(broker.visible()).toEqual([]);
    expect(broker.end(half, 'commit')).toBe(0);
    for (const stranger of strangers) expect(broker.end(stranger, 'commit')).toBe('TRANSACTION_NOT_FOUND');
  });

  test('F14 F10 a half message that is sent again is one: the same number, the same sequence', () => {
    const broker = new TransactionBroker();
    const first = broker.half({ producerId: 5, idLow: 9 });
    expect(broker.half({ producerId: 5, idLow: 9 })).toEqual(first);
    expect(broker.harness.machine.transactions.halves.size).toBe(1);
    broker.end(first, 'commit');
    expect(broker.half({ producerId: 5, idLow: 9 })).toEqual(first);
    expect(broker.visible()).toEqual([[0, 9]]);
  });

  test('F14 F32 with leader-only acknowledgements, too, a half message has its number when it is acknowledged', () => {
    const broker = new TransactionBroker();
    const { harness, session } = broker;
    harness.ask(session, Op.topicCreate, { topic: 'quick', queues: 1, perm: 6, messageType: 'normal', replication: 1 });
    const id = harness.send(session, 'quick', 0, makeBatch({ producerId: 5, half: GROUP }), 1);
    expect(session.answers.has(id)).toBe(false);
    harness.replica.settle();
    const [error, transaction] = session.answers.get(id) as [number, number];
    expect([error, harness.machine.transactions.halves.get(transaction)?.transaction]).toEqual([0, transaction]);
  });

  test('F14 what is no half message is refused and takes no sequence: two in a batch, without a group or a sequence', () => {
    const broker = new TransactionBroker();
    const refused = (options: object): unknown => broker.sendHalf({ producerId: 5, ...options }).ack[0];
    expect(refused({ count: 2 })).toBe(ERRORS.BAD_REQUEST.number);
    expect(refused({ half: '' })).toBe(ERRORS.BAD_REQUEST.number);
    expect(refused({ half: 'x'.repeat(121) })).toBe(ERRORS.BAD_REQUEST.number);
    expect(refused({ half: 'no good' })).toBe(ERRORS.BAD_NAME.number);
    expect(refused({ producerId: 0 })).toBe(ERRORS.BAD_REQUEST.number);
    expect(broker.half({ producerId: 5 })).toMatchObject({ producerGroup: GROUP });
  });

  test('F14 its topic is deleted: a commit is told so, a rollback is done', () => {
    const broker = new TransactionBroker();
    const [one, two] = [broker.half({}, 'U'), broker.half({}, 'U')];
    broker.harness.ask(broker.session, Op.topicDelete, { topic: 'U' });
    expect(broker.harness.machine.transactions.halves.size).toBe(0);
    expect(broker.end(one, 'commit')).toBe('TOPIC_NOT_FOUND');
    expect(broker.end(two, 'rollback')).toBe(-1);
  });

  test('F14 F38 below feature level 3 nobody may begin one', () => {
    const broker = new TransactionBroker();
    const { harness } = broker;
    harness.replica.follow(9);
    const state = harness.machine;
    Object.defineProperty(state, 'featureLevel', { get: () => 2 });
    harness.replica.leadReady(10);
    expect(broker.sendHalf().ack[0]).toBe(ERRORS.FEATURE_LEVEL.number);
  });

  test('F14 an outcome is remembered for a day of log time; then a late answer finds nothing and does nothing', () => {
    const broker = new TransactionBroker();
    const half = broker.half();
    broker.end(half, 'rollback');
    broker.harness.replica.passTime(24 * 3_600_000);
    expect(broker.end(half, 'commit')).toBe('TRANSACTION_CONFLICT');
    broker.harness.replica.passTime(1);
    expect(broker.end(half, 'commit')).toBe('TRANSACTION_NOT_FOUND');
    expect(broker.visible()).toEqual([]);
  });
});

describe('checks', () => {
  test('F14 asked after 6 s, then each 60 s, 15 times; then rolled back and kept in TRANS_CHECK_MAX_TIME_TOPIC', () => {
    const broker = new TransactionBroker();
    const member = broker.harness.session();
    broker.heartbeat(member);
    const { transaction, messageId } = broker.half();
    broker.pass(5_999);
    expect(member.pushes).toEqual([]);
    broker.pass(1);
    expect(member.pushes).toEqual([{ transaction, messageId, producerGroup: GROUP, check: 1 }]);
    for (let check = 2; check <= 15; check++) {
      broker.pass(59_999);
      broker.heartbeat(member);
      expect(member.pushes).toHaveLength(check - 1);
      broker.pass(1);
      expect(broker.checksOf(member).at(-1)?.check).toBe(check);
    }
    broker.pass(59_999);
    expect(broker.harness.machine.transactions.halves.size).toBe(1);
    broker.pass(1);
    expect(member.pushes).toHaveLength(15);
    expect(broker.harness.machine.transactions.halves.size).toBe(0);
    expect(broker.visible()).toEqual([]);
    expect(broker.visible(DISCARDED_HALVES_TOPIC)).toEqual([[0, 1]]);
    expect(broker.end({ transaction, messageId, producerGroup: GROUP }, 'commit')).toBe('TRANSACTION_CONFLICT');
    expect(broker.end({ transaction, messageId, producerGroup: GROUP }, 'rollback')).toBe(-1);
  });

  test('F14 the group’s settings count, and a message’s own first wait more', () => {
    const settings = { transactionTimeoutMs: 1_000, transactionCheckIntervalMs: 500, transactionCheckMax: 2 };
    const broker = new TransactionBroker({}, settings);
    const member = broker.harness.session();
    broker.heartbeat(member);
    const patient = broker.half({ immunity: '5' });
    const other = broker.half();
    const asked = (): [number, number][] => broker.checksOf(member).map(({ transaction, check }) => [transaction, check]);
    broker.pass(1_000);
    expect(asked()).toEqual([[other.transaction, 1]]);
    broker.pass(500);
    broker.pass(500);
    expect(asked()).toEqual([
      [other.transaction, 1],
      [other.transaction, 2],
    ]);
    expect([...broker.harness.machine.transactions.halves.all()].map(({ transaction }) => transaction)).toEqual([patient.transaction]);
    broker.pass(3_000);
    expect(asked().at(-1)).toEqual([patient.transaction, 1]);
  });

  test('F14 members of the group are asked in turn; who left, closed or fell silent is not', () => {
    const broker = new TransactionBroker({}, { transactionTimeoutMs: 1_000, transactionCheckIntervalMs: 1_000 });
    const [one, two, stranger] = [broker.harness.session(), broker.harness.session(), broker.harness.session()];
    broker.heartbeat(one);
    broker.heartbeat(two);
    broker.heartbeat(stranger, 'others');
    broker.half();
    const counts = (): number[] => [one, two, stranger].map(({ pushes }) => pushes.length);
    broker.pass(1_000);
    broker.pass(1_000);
    expect(counts()).toEqual([1, 1, 0]);
    broker.heartbeat(one, GROUP, true);
    broker.pass(1_000);
    broker.pass(1_000);
    expect(counts()).toEqual([1, 3, 0]);
    // Two is silent for longer than 30 s; one comes back, and is asked at once what nobody heard.
    broker.harness.clock.advance(31_000);
    broker.pass(1_000);
    expect(counts()).toEqual([1, 3, 0]);
    broker.heartbeat(one);
    expect(counts()).toEqual([2, 3, 0]);
  });

  test('F14 a member that goes away without an answer: the next one is asked at once', () => {
    const broker = new TransactionBroker();
    const [one, two] = [broker.harness.session(), broker.harness.session()];
    broker.heartbeat(one);
    broker.half();
    broker.pass(6_000);
    broker.heartbeat(two);
    expect([one.pushes.length, two.pushes.length]).toEqual([1, 0]);
    one.closed = true;
    broker.harness.broker.closed(one);
    expect([one.pushes.length, two.pushes.length]).toEqual([1, 1]);
    expect(broker.checksOf(two)[0]?.check).toBe(1);
  });

  test('F14 nobody is there: the check counts, and the first member that comes is asked at once', () => {
    const broker = new TransactionBroker();
    const half = broker.half();
    broker.pass(7_000);
    expect(broker.harness.machine.transactions.halves.get(half.transaction)?.checks).toBe(1);
    const member = broker.harness.session();
    broker.heartbeat(member);
    expect(broker.checksOf(member).map(({ check }) => check)).toEqual([1]);
    broker.heartbeat(member);
    expect(member.pushes).toHaveLength(1);
  });

  test('F14 what has ended is not asked for', () => {
    const broker = new TransactionBroker();
    const member = broker.harness.session();
    broker.heartbeat(member);
    const halves = [broker.half(), broker.half()];
    broker.end(halves[0] as never, 'commit');
    broker.end(halves[1] as never, 'rollback');
    broker.pass(100_000);
    expect(member.pushes).toEqual([]);
  });

  test('F14 a new leader goes on where the old one was: the same times, the same counts', () => {
    const broker = new TransactionBroker();
    broker.half();
    broker.pass(6_000);
    broker.lead();
    const member = broker.harness.session();
    broker.heartbeat(member);
    broker.pass(59_999);
    broker.heartbeat(member);
    expect(member.pushes).toEqual([]);
    broker.pass(1);
    expect(broker.checksOf(member).map(({ check }) => check)).toEqual([2]);
  });

  test('F14 a check that could not be proposed is made later', () => {
    const broker = new TransactionBroker();
    const member = broker.harness.session();
    broker.heartbeat(member);
    broker.half();
    broker.harness.replica.refusal = 'diskFull';
    broker.pass(6_000);
    expect(member.pushes).toEqual([]);
    broker.harness.replica.refusal = null;
    broker.pass(1_000);
    expect(broker.checksOf(member).map(({ check }) => check)).toEqual([1]);
  });
});

describe('what the others see of it', () => {
  test('F14 I6 a replica that replays the log, and one that restores the state, are the same', () => {
    const broker = new TransactionBroker();
    const halves = [broker.half(), broker.half({ half: 'others' }), broker.half({ immunity: '100' }), broker.half()];
    broker.end(halves[0] as never, 'commit');
    broker.end(halves[3] as never, 'rollback');
    broker.pass(7_000);
    const { replayed, restored } = broker.copies();
    const { machine } = broker.harness;
    for (const copy of [replayed, restored]) {
      expect(copy.digest()).toBe(machine.digest());
      expect(Buffer.from(copy.snapshot()).equals(Buffer.from(machine.snapshot()))).toBe(true);
      expect([...copy.transactions.halves.all()]).toEqual([...machine.transactions.halves.all()]);
      expect(copy.transactions.halves.ofGroup('others')).toBe(1);
      expect(copy.transactions.ended.get((halves[0] as { transaction: number }).transaction)).toMatchObject({ how: 1, offset: 0 });
      expect(copy.transactions.ended.newestMs).toBe(machine.transactions.ended.newestMs);
    }
  });

  test('F14 a half message is fetched by its number, with its bytes; not once it has ended', async () => {
    const broker = new TransactionBroker();
    const { transaction, messageId, producerGroup } = broker.half({}, 'U', 1);
    const id = broker.harness.request(broker.session, Op.transactionGet, { transaction, messageId });
    await Promise.resolve();
    const storedMs = broker.harness.replica.logTimeMs();
    const half = { transaction, messageId, producerGroup, topic: 'U', queueId: 1, storedMs, nextCheckMs: storedMs + 6_000, checks: 0 };
    expect(broker.session.answers.get(id)).toEqual(half);
    expect(broker.session.raws.get(id)?.at(-1)).toBe(1);
    expect(broker.harness.ask(broker.session, Op.transactionList, { producerGroup: '', after: -1, limit: 10 })).toMatchObject({
      halves: [half],
      total: 1,
    });
    broker.end({ transaction, messageId, producerGroup }, 'commit');
    expect(broker.harness.ask(broker.session, Op.transactionGet, { transaction, messageId })).toBe('TRANSACTION_NOT_FOUND');
  });

  test('F14 pages of half messages, of one group or of all', () => {
    const broker = new TransactionBroker();
    const halves = [0, 1, 2, 3].map((i) => broker.half({ half: i % 2 === 0 ? 'even' : 'odd' }).transaction);
    const page = (producerGroup: string, after: number, limit: number): number[] =>
      broker.harness.ask(broker.session, Op.transactionList, { producerGroup, after, limit }).halves.map(({ transaction }) => transaction);
    expect(page('', -1, 3)).toEqual(halves.slice(0, 3));
    expect(page('', halves[2] as number, 3)).toEqual(halves.slice(3));
    expect(page('odd', -1, 9)).toEqual([halves[1], halves[3]]);
    expect(page('none', -1, 9)).toEqual([]);
  });

  test('F14 one ended by hand is in the log of the process', () => {
    const broker = new TransactionBroker();
    const half = broker.half();
    broker.harness.ask(broker.session, Op.transactionEnd, { ...half, outcome: 'commit', source: 'operator' });
    expect(broker.harness.events).toContain('transaction ended by hand');
  });
});

describe('the log’s start', () => {
  const SEGMENT = 64 * 1024;
  const HOUR = 3_600_000;

  test('F14 F34 it waits for a half message; a committed one is as old as its commit', () => {
    const broker = new TransactionBroker({}, { retentionMs: 3 * HOUR }, SEGMENT);
    const { replica, machine, clock } = broker.harness;
    const [waits, committed] = [broker.half({ immunity: '999999' }), broker.half()];
    const hours = (count: number): void => {
      for (let hour = 0; hour < count; hour++) {
        for (let i = 0; i < 4; i++) broker.harness.sent(broker.session, 'T', 1, makeBatch({ bodyBytes: 14_000 }));
        replica.passTime(HOUR);
      }
      clock.advance(10_000);
      replica.settle();
    };
    hours(6);
    expect(broker.end(committed, 'commit')).toBe(0);
    hours(2);
    expect(machine.startPosition()).toBe(0);
    expect(broker.end(waits, 'rollback')).toBe(-1);
    hours(0);
    // The row of the commit is two hours old: it keeps what it points at.
    expect(machine.startPosition()).toBe(0);
    expect(broker.visible()).toEqual([[0, 2]]);
    hours(6);
    expect(machine.startPosition()).toBeGreaterThan(committed.transaction);
    expect(broker.visible('T', 0)).toEqual([]);
  });
});
