import { describe, expect, test } from 'vitest';
import { StateLimits } from '../../src/broker/limits.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import type { BatchOptions } from '../support/fake-broker.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

const ME = 77;

function harness() {
  const broker = BrokerHarness.ready({ T: 2 });
  const session = broker.session();
  const send = (sequence: number, options: BatchOptions = {}, queueId = 0) =>
    broker.sent(session, 'T', queueId, makeBatch({ producerId: ME, sequence, ...options }));
  return { broker, send };
}
const refused = (code: keyof typeof ERRORS) => [ERRORS[code].number, -1];

describe('F10 producer sequences', () => {
  test('F10 dense sequences are stored in order, per queue', () => {
    const { send } = harness();
    expect(send(0, { count: 2 })).toEqual([0, 0]);
    expect(send(2)).toEqual([0, 2]);
    expect(send(0, {}, 1)).toEqual([0, 0]);
  });

  test('F10 a retried batch is stored once and gets its first answer, whichever of the last 8 it is', () => {
    const { broker, send } = harness();
    for (let i = 0; i < 10; i++) expect(send(2 * i, { count: 2 })).toEqual([0, 2 * i]);
    for (let i = 2; i < 10; i++) expect(send(2 * i, { count: 2 })).toEqual([0, 2 * i]);
    expect(broker.machine.topics.queue(1, 0)?.nextOffset).toBe(20);
    expect(broker.queues.queue('T', 1, 0).rows).toHaveLength(10);
  });

  test('F10 older duplicates are known as such, without their answer', () => {
    const { send } = harness();
    for (let i = 0; i < 9; i++) send(i);
    expect(send(0)).toEqual(refused('DUPLICATE_FORGOTTEN'));
  });

  test('F10 a gap is refused and leaves nothing behind', () => {
    const { send } = harness();
    send(0);
    expect(send(2)).toEqual(refused('OUT_OF_SEQUENCE'));
    expect(send(1)).toEqual([0, 1]);
    expect(send(2)).toEqual([0, 2]);
  });

  test('F12 F10 pipelined batches of which one got lost: none overtakes it, and all sent again are stored once, in their order', () => {
    const { broker, send } = harness();
    const stored = (sequence: number) => send(sequence, { idLow: sequence });
    expect(stored(0)).toEqual([0, 0]);
    // 1 was lost on its way: what is behind it must not take its place.
    expect(stored(2)).toEqual(refused('OUT_OF_SEQUENCE'));
    expect(stored(3)).toEqual(refused('OUT_OF_SEQUENCE'));
    // The producer sends again from the oldest without an answer on; 0 had been stored, its answer was lost.
    expect([0, 1, 2, 3].map(stored)).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
      [0, 3],
    ]);
    expect(broker.queues.queue('T', 1, 0).rows).toHaveLength(4);
    expect(broker.machine.topics.queue(1, 0)?.nextOffset).toBe(4);
  });

  test('F10 a range cut differently is no retry', () => {
    const { send } = harness();
    send(0, { count: 4 });
    expect(send(0, { count: 2 })).toEqual(refused('OUT_OF_SEQUENCE'));
    expect(send(2, { count: 4 })).toEqual(refused('OUT_OF_SEQUENCE'));
  });

  test('F10 a new producer, epoch or queue starts at 0', () => {
    const { send } = harness();
    expect(send(5)).toEqual(refused('UNKNOWN_PRODUCER'));
    send(0);
    expect(send(1, { epoch: 1 })).toEqual(refused('UNKNOWN_PRODUCER'));
    expect(send(0, { epoch: 1 })).toEqual([0, 1]);
    expect(send(1, { epoch: 0 })).toEqual(refused('FENCED'));
    expect(send(1, { epoch: 1 })).toEqual([0, 2]);
  });

  test('F10 a state expires after 24 h of log time without a send, and only then', () => {
    const { broker, send } = harness();
    send(0);
    broker.replica.passTime(StateLimits.producerExpiryMs);
    expect(send(1)).toEqual([0, 1]);
    broker.replica.passTime(StateLimits.producerExpiryMs + 1);
    expect(send(2)).toEqual(refused('UNKNOWN_PRODUCER'));
    expect(broker.machine.producers.size).toBe(0);
  });

  test('F09 one-way batches carry no sequence and get no answer', () => {
    const { broker } = harness();
    const session = broker.session();
    const batch = makeBatch({ count: 3 });
    broker.broker.request(session, {
      op: 10,
      requestId: 1,
      deadlineMs: 0,
      body: { oneWay: true, replication: 0, parts: [{ topic: 'T', queueId: 0, sizeBytes: batch.length }] },
      raw: batch,
    });
    broker.replica.commit();
    expect(session.answers.size).toBe(0);
    expect(broker.machine.topics.queue(1, 0)?.nextOffset).toBe(3);
    expect(broker.machine.producers.size).toBe(0);
  });
});
