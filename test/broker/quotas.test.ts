import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { namespaceOf, Quotas, quotaFault } from '../../src/broker/quotas.ts';
import { TokenBucket } from '../../src/broker/token-bucket.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { Op, type Quota, type QuotaListResponse } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import { FakeSession } from '../support/fake-session.ts';

const NONE = { each: false, bytesPerSecond: -1, messagesPerSecond: -1, connections: -1, topics: -1 };
const client = (name: string, more: Partial<Quota>): Quota => ({ kind: 'client', name, ...NONE, ...more });
const namespace = (name: string, more: Partial<Quota>): Quota => ({ kind: 'namespace', name, ...NONE, ...more });

/** Of the level that knows quotas. */
function ready(topics: Record<string, number> = { T: 1 }): BrokerHarness {
  const broker = BrokerHarness.ready(topics);
  broker.featureLevel.announcedLevel = () => NEWEST_FEATURE_LEVEL;
  expect(broker.ask(broker.session(), Op.featureLevelRaise, { level: 0 })).toEqual({ featureLevel: NEWEST_FEATURE_LEVEL });
  return broker;
}

function named(clientId: string): FakeSession {
  return Object.assign(new FakeSession(), { clientId });
}

function open(broker: BrokerHarness, clientId: string): FakeSession | string {
  const session = named(clientId);
  const answer = broker.broker.opened(session, { minVersion: 1, maxVersion: 1, clientId, namespace: '', zone: '', agent: 'test' });
  return typeof answer === 'string' ? answer : session;
}

const QUOTA = ERRORS.QUOTA_EXCEEDED.number;

/** @returns [error, ms to wait] */
function send(broker: BrokerHarness, session: FakeSession, topic = 'T', count = 1, idLow = 0): [number, number] {
  const id = broker.send(session, topic, 0, makeBatch({ count, idLow }));
  broker.replica.settle();
  const [error, , waitMs] = session.answers.get(id) as [number, number, number];
  return [error, waitMs];
}

describe('F44 quotas', () => {
  test('F44 a rate holds over any longer time, whatever the pieces, and the wait that is told is enough', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.array(fc.tuple(fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: 1, max: 500_000 })), { minLength: 1, maxLength: 200 }),
        (perSecond, steps) => {
          let nowMs = 5;
          const bucket = new TokenBucket(perSecond, nowMs);
          let taken = 0;
          let largest = 0;
          for (const [pauseMs, count] of steps) {
            nowMs += pauseMs;
            const waitMs = bucket.waitMs(nowMs);
            nowMs += waitMs;
            expect(bucket.waitMs(nowMs)).toBe(0);
            bucket.take(count);
            taken += count;
            largest = Math.max(largest, count);
            // A burst of a quarter of a second, and one piece that left a debt.
            expect(taken).toBeLessThanOrEqual((perSecond * (nowMs - 5)) / 1_000 + Math.max(1, perSecond / 4) + largest + 1e-3);
          }
        },
      ),
    );
  });

  test('F44 the most particular quota of a client counts', () => {
    const quotas = new Quotas();
    for (const [name, messagesPerSecond] of [
      ['*', 1],
      ['billing-*', 2],
      ['billing-batch-*', 3],
      ['billing-batch-7', 4],
    ] as const) {
      quotas.handle({ type: 'quotaSet', ...client(name, { messagesPerSecond }) });
    }
    const of = (clientId: string): number | undefined => quotas.ofClient(clientId)?.messagesPerSecond;
    expect(['x', 'billing', 'billing-', 'billing-1', 'billing-batch-1', 'billing-batch-7', ''].map(of)).toEqual([1, 1, 2, 2, 3, 4, 1]);
    quotas.handle({ type: 'quotaRemove', kind: 'client', name: '*' });
    expect(of('x')).toBeUndefined();
    expect(['shop%orders', 'orders', '%RETRY%shop%g', '%RETRY%g', '%DLQ%shop%g', 'a%b%c'].map(namespaceOf)).toEqual([
      'shop',
      '',
      'shop',
      '',
      'shop',
      'a',
    ]);
  });

  test('F44 what is no quota is refused, at the broker and at apply, and so is one above the bound', () => {
    for (const wrong of [
      client('', { messagesPerSecond: 1 }),
      client('x', { messagesPerSecond: 0 }),
      client('x', { bytesPerSecond: 1.5 }),
      client('x', { topics: 3 }),
      namespace('x', { connections: 3 }),
      namespace('x%', { topics: 3 }),
      namespace('x', { topics: 3, each: true }),
    ]) {
      expect(quotaFault(wrong)).not.toBeNull();
      expect(new Quotas().handle({ type: 'quotaSet', ...wrong }).error).toBe(ERRORS.BAD_REQUEST.number);
    }
    const quotas = new Quotas();
    for (let i = 0; i < 1_000; i++) expect(quotas.handle({ type: 'quotaSet', ...client(`c${i}`, { connections: 1 }) }).error).toBe(0);
    expect(quotas.handle({ type: 'quotaSet', ...client('more', { connections: 1 }) }).error).toBe(ERRORS.TOO_MANY.number);
    expect(quotas.handle({ type: 'quotaSet', ...client('c7', { connections: 2 }) }).error).toBe(0);
    const copy = new Quotas();
    copy.unpack(structuredClone(quotas.pack()));
    expect(copy.all()).toEqual(quotas.all());
  });

  test('F44 messages a second: refused with the time to wait, and let through after it; the neighbour notices nothing', () => {
    const broker = ready();
    const admin = broker.session();
    expect(broker.ask(admin, Op.quotaSet, client('busy-*', { messagesPerSecond: 100 }))).toEqual({});
    const [one, two, neighbour] = ['busy-1', 'busy-2', 'calm'].map((id) => open(broker, id) as FakeSession) as [
      FakeSession,
      FakeSession,
      FakeSession,
    ];
    // A burst of 25, and the batch that empties it goes whole.
    expect(send(broker, one, 'T', 75)).toEqual([0, expect.any(Number)]);
    const [error, waitMs] = send(broker, two);
    expect([error, waitMs]).toEqual([QUOTA, 501]);
    expect(send(broker, neighbour)[0]).toBe(0);
    broker.clock.advance(waitMs - 2);
    expect(send(broker, two)[0]).toBe(QUOTA);
    broker.clock.advance(2);
    expect(send(broker, two)[0]).toBe(0);
    const { quotas } = broker.ask(admin, Op.quotaList, {}) as QuotaListResponse;
    expect(quotas).toEqual([{ ...client('busy-*', { messagesPerSecond: 100 }), used: 2, refused: 2 }]);
    // Lifted: at once.
    send(broker, one, 'T', 1_000);
    expect(send(broker, one)[0]).toBe(QUOTA);
    broker.ask(admin, Op.quotaRemove, { kind: 'client', name: 'busy-*' });
    expect(send(broker, one)[0]).toBe(0);
  });

  test('F44 bytes a second; each client for itself; who comes back finds its debt again', () => {
    const broker = ready();
    broker.ask(broker.session(), Op.quotaSet, client('*', { bytesPerSecond: 1_000, each: true }));
    const [one, two] = ['one', 'two'].map((id) => open(broker, id) as FakeSession) as [FakeSession, FakeSession];
    expect(send(broker, one, 'T', 20)[0]).toBe(0);
    expect(send(broker, one)[0]).toBe(QUOTA);
    expect(send(broker, two)[0]).toBe(0);
    broker.broker.closed(one);
    const again = open(broker, 'one') as FakeSession;
    const [error, waitMs] = send(broker, again);
    expect(error).toBe(QUOTA);
    broker.clock.advance(waitMs);
    expect(send(broker, again)[0]).toBe(0);
  });

  test('F44 what was refused for another reason uses up nothing; a one-way send above the quota is dropped', () => {
    const broker = ready();
    const admin = broker.session();
    broker.ask(admin, Op.quotaSet, client('c', { messagesPerSecond: 4 }));
    const session = open(broker, 'c') as FakeSession;
    for (let i = 0; i < 10; i++) expect(send(broker, session, 'nope')[0]).toBe(ERRORS.TOPIC_NOT_FOUND.number);
    expect(send(broker, session)[0]).toBe(0);
    expect(send(broker, session)[0]).toBe(QUOTA);
    const before = broker.replica.positions.length;
    const batch = makeBatch();
    broker.request(session, Op.send, { oneWay: true, replication: 0, parts: [{ topic: 'T', queueId: 0, sizeBytes: batch.length }] }, batch);
    expect(broker.replica.positions).toHaveLength(before);
  });

  test('F44 connections of a client at each broker; one that leaves makes room', () => {
    const broker = ready();
    broker.ask(broker.session(), Op.quotaSet, client('c-*', { connections: 2 }));
    const first = open(broker, 'c-1') as FakeSession;
    expect(typeof open(broker, 'c-2')).toBe('object');
    expect(open(broker, 'c-3')).toBe('QUOTA_EXCEEDED');
    expect(typeof open(broker, 'd')).toBe('object');
    broker.broker.closed(first);
    expect(typeof open(broker, 'c-3')).toBe('object');
    expect(open(broker, 'c-4')).toBe('QUOTA_EXCEEDED');
    // Fewer than are there: nobody is sent away, nobody comes in.
    broker.ask(broker.session(), Op.quotaSet, client('c-*', { connections: 1 }));
    expect(open(broker, 'c-5')).toBe('QUOTA_EXCEEDED');
  });

  test('F44 topics and rates of a namespace, over all its clients', () => {
    const broker = ready({ other: 1 });
    const admin = broker.session();
    broker.ask(admin, Op.quotaSet, namespace('shop', { topics: 2, messagesPerSecond: 4 }));
    const create = (topic: string): unknown =>
      broker.ask(admin, Op.topicCreate, { topic, queues: 1, perm: 6, messageType: 'normal', replication: 2 });
    expect(create('shop%a')).toMatchObject({ topic: 'shop%a' });
    expect(create('shop%b')).toMatchObject({ topic: 'shop%b' });
    expect(create('shop%c')).toBe('QUOTA_EXCEEDED');
    expect(create('shop%a')).toMatchObject({ topic: 'shop%a' });
    expect(create('shopping%c')).toMatchObject({ topic: 'shopping%c' });
    broker.ask(admin, Op.topicDelete, { topic: 'shop%a' });
    expect(create('shop%c')).toMatchObject({ topic: 'shop%c' });
    const [one, two] = ['one', 'two'].map((id) => open(broker, id) as FakeSession) as [FakeSession, FakeSession];
    expect(send(broker, one, 'shop%b', 8)[0]).toBe(0);
    expect(send(broker, two, 'shop%c')[0]).toBe(QUOTA);
    expect(send(broker, two, 'other')[0]).toBe(0);
  });

  test('F44 F38 below the feature level that knows them quotas are refused', () => {
    const broker = BrokerHarness.ready();
    expect(broker.ask(broker.session(), Op.quotaSet, client('c', { messagesPerSecond: 4 }))).toBe('FEATURE_LEVEL');
    expect(broker.ask(broker.session(), Op.quotaList, {})).toEqual({ quotas: [] });
  });

  test('F44 quotas are in the log: the next leader holds to them, and a restored state has them', () => {
    const broker = ready();
    broker.ask(broker.session(), Op.quotaSet, client('c', { messagesPerSecond: 4 }));
    const snapshot = broker.machine.snapshot();
    const other = new BrokerHarness();
    other.machine.restore(snapshot);
    expect(other.machine.quotas.ofClient('c')).toMatchObject({ messagesPerSecond: 4 });
    expect(other.machine.digest()).toBe(broker.machine.digest());
    broker.replica.follow(7);
    broker.replica.leadReady(8);
    const session = open(broker, 'c') as FakeSession;
    expect(send(broker, session, 'T', 8)[0]).toBe(0);
    expect(send(broker, session)[0]).toBe(QUOTA);
  });
});
