import { describe, expect, test } from 'vitest';
import { FEATURE_LEVELS } from '../../src/broker/feature-level.ts';
import { compressor } from '../../src/protocol/body-codecs.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { Batch, Codec, sealBatch } from '../../src/protocol/record-batch.ts';
import { encodeBatch } from '../../src/protocol/record-batch-encoder.ts';
import { Op, ReplicationMode } from '../../src/protocol/requests.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

describe('sends', () => {
  test('F09 the ack comes when the entry is applied, not before', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const id = broker.send(session, 'T', 0, makeBatch());
    expect(session.answers.has(id)).toBe(false);
    broker.replica.commit();
    expect(session.answers.get(id)).toEqual([0, 0, broker.replica.logTimeMs()]);
  });

  test('F46 compressed bodies are taken from feature level 3 on, and hello says so; before, the code says why not', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const messages = [{ body: new Uint8Array(5_000), bornTimeMs: 1 }];
    const header = { producerId: 0, producerEpoch: 0, firstSequence: 0, idHigh: new Uint8Array(8), idLow: 0 };
    const batch = encodeBatch(messages, header, 0, 0, 1, undefined, compressor(1)).bytes;
    const hello = { minVersion: 1, maxVersion: 1, clientId: 'c', namespace: '', zone: '', agent: '' };
    expect(broker.broker.opened(session, hello)).toMatchObject({ maxCodec: 0 });
    expect(broker.sent(session, 'T', 0, batch)[0]).toBe(ERRORS.FEATURE_LEVEL.number);
    broker.featureLevel.announcedLevel = () => FEATURE_LEVELS.messaging;
    broker.broker.featureLevelAnnounced();
    broker.replica.settle();
    expect(broker.broker.opened(session, hello)).toMatchObject({ maxCodec: 1 });
    expect(broker.sent(session, 'T', 0, batch)).toEqual([0, 0]);
    const later = batch.slice();
    later[Batch.codec] = Codec.zlib;
    sealBatch(later);
    expect(broker.sent(session, 'T', 0, later)[0]).toBe(ERRORS.UNSUPPORTED_VERSION.number);
  });

  test('F11 each part of a request has its own result, in order', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const parts = [makeBatch({ count: 2 }), makeBatch(), makeBatch({ count: 3 }), makeBatch()];
    const broken = parts[3] as Uint8Array;
    broken[90] = (broken[90] as number) ^ 1;
    const topics = ['T', 'missing', 'T', 'T'];
    const id = broker.request(
      session,
      Op.send,
      {
        oneWay: false,
        replication: 0,
        parts: parts.map(({ length }, i) => ({ topic: topics[i] as string, queueId: 0, sizeBytes: length })),
      },
      new Uint8Array(Buffer.concat(parts)),
    );
    broker.replica.commit();
    const time = broker.replica.logTimeMs();
    expect(session.answers.get(id)).toEqual([
      0,
      0,
      time,
      ERRORS.TOPIC_NOT_FOUND.number,
      -1,
      0,
      0,
      2,
      time,
      ERRORS.CORRUPT_BATCH.number,
      -1,
      0,
    ]);
  });

  test('F09 no topic, no queue, no permission, bad sizes, a busy or full replica: each its code, nothing proposed', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.ask(session, Op.topicCreate, { topic: 'readOnly', queues: 1, perm: 4, messageType: 'normal', replication: 2 });
    const entries = broker.replica.positions.length;
    expect(broker.sent(session, 'nope', 0, makeBatch())[0]).toBe(ERRORS.TOPIC_NOT_FOUND.number);
    expect(broker.sent(session, 'T', 4, makeBatch())[0]).toBe(ERRORS.QUEUE_NOT_FOUND.number);
    expect(broker.sent(session, 'readOnly', 0, makeBatch())[0]).toBe(ERRORS.NO_PERMISSION.number);
    const body = { oneWay: false, replication: 0, parts: [{ topic: 'T', queueId: 0, sizeBytes: 5 }] };
    expect(session.answers.get(broker.request(session, Op.send, body, makeBatch()))).toBe('BAD_REQUEST');
    for (const [refusal, code] of [
      ['tooManyUncommitted', 'BUSY'],
      ['diskFull', 'DISK_FULL'],
      ['poisoned', 'STORE_POISONED'],
    ] as const) {
      broker.replica.refusal = refusal;
      expect(broker.sent(session, 'T', 0, makeBatch())[0]).toBe(ERRORS[code].number);
    }
    expect(broker.replica.positions.length).toBe(entries);
  });

  test('I8 pending sends are bounded: BUSY at the bound, room again after apply', () => {
    const broker = BrokerHarness.ready({ T: 1 }, { maxPendingSends: 2 });
    const session = broker.session();
    const ids = [0, 1, 2].map(() => broker.send(session, 'T', 0, makeBatch()));
    expect(session.answers.get(ids[2] as number)).toEqual([ERRORS.BUSY.number, -1, 0]);
    broker.replica.commit();
    expect(broker.sent(session, 'T', 0, makeBatch())).toEqual([0, 2]);
  });

  test('F01 a topic deleted under a send: apply refuses it, alike on every replica', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const gone = broker.request(session, Op.topicDelete, { topic: 'T' });
    const id = broker.send(session, 'T', 0, makeBatch());
    broker.replica.commit();
    expect(session.answers.get(gone)).toEqual({});
    expect(session.answers.get(id)).toEqual([ERRORS.TOPIC_NOT_FOUND.number, -1, broker.replica.logTimeMs()]);
  });

  test('F10 leadership lost: what was proposed is unknown, never "not stored"; later sends are redirected', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const id = broker.send(session, 'T', 0, makeBatch({ producerId: 5 }));
    broker.replica.follow(2);
    expect(session.answers.get(id)).toEqual([ERRORS.OUTCOME_UNKNOWN.number, -1, 0]);
    expect(session.answers.get(broker.send(session, 'T', 0, makeBatch()))).toBe('NOT_LEADER');
    // The entry is committed after all, and the same replica leads again: the resend finds the first answer.
    broker.replica.settle();
    broker.replica.leadReady(3);
    expect(broker.sent(session, 'T', 0, makeBatch({ producerId: 5 }))).toEqual([0, 0]);
    expect(broker.machine.topics.queue(1, 0)?.nextOffset).toBe(1);
  });

  test('F10 an entry that another leader wrote over is not mistaken for the one that waited', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const lost = broker.send(session, 'T', 0, makeBatch({ producerId: 5 }));
    broker.replica.follow(2);
    broker.replica.truncateFrom(broker.replica.positions.length);
    broker.replica.lead(3);
    const id = broker.send(session, 'T', 0, makeBatch({ producerId: 6 }));
    expect(session.answers.get(id)).toBe('NOT_READY');
    broker.replica.commit();
    expect(session.answers.get(lost)).toEqual([ERRORS.OUTCOME_UNKNOWN.number, -1, 0]);
    expect(broker.sent(session, 'T', 0, makeBatch({ producerId: 5 }))).toEqual([0, 0]);
  });

  test('F32 leader: acknowledged at once without an offset, only while the quorum is fresh and the sequence passes', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.ask(session, Op.topicUpdate, { topic: 'T', queues: -1, perm: -1, replication: ReplicationMode.leader });
    const send = (sequence: number) => broker.send(session, 'T', 0, makeBatch({ producerId: 5, sequence }));
    const time = broker.replica.logTimeMs();
    const first = send(0);
    const second = send(1);
    expect(session.answers.get(first)).toEqual([0, -1, time]);
    expect(session.answers.get(second)).toEqual([0, -1, time]);
    const gap = send(3);
    expect(session.answers.has(gap)).toBe(false);
    const retry = send(1);
    expect(session.answers.has(retry)).toBe(false);
    broker.replica.fresh = false;
    const stale = send(2);
    expect(session.answers.has(stale)).toBe(false);
    broker.replica.commit();
    expect(session.answers.get(gap)).toEqual([ERRORS.OUT_OF_SEQUENCE.number, -1, time]);
    expect(session.answers.get(retry)).toEqual([0, 1, time]);
    expect(session.answers.get(stale)).toEqual([0, 2, time]);
  });

  test('F32 a send may ask for more than the topic, never for less', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    const less = broker.send(session, 'T', 0, makeBatch({ producerId: 5 }), ReplicationMode.leader);
    expect(session.answers.has(less)).toBe(false);
    broker.replica.inSync = false;
    const all = broker.send(session, 'T', 0, makeBatch(), ReplicationMode.all);
    broker.replica.commit();
    expect(session.answers.has(less)).toBe(true);
    expect(session.answers.has(all)).toBe(false);
    broker.replica.nowInSync();
    expect(session.answers.get(all)).toEqual([0, 1, broker.replica.logTimeMs()]);
  });

  test('F32 all: stored and applied, but leadership is lost before every replica has it: unknown', () => {
    const broker = BrokerHarness.ready();
    const session = broker.session();
    broker.replica.inSync = false;
    const all = broker.send(session, 'T', 0, makeBatch(), ReplicationMode.all);
    broker.replica.commit();
    broker.replica.follow(2);
    expect(session.answers.get(all)).toEqual([ERRORS.OUTCOME_UNKNOWN.number, -1, broker.replica.logTimeMs()]);
  });
});
