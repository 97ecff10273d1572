import { describe, expect, test } from 'vitest';
import { Ended, EndedTransactions } from '../../src/broker/ended-transactions.ts';
import { type HalfMessage, HalfMessages } from '../../src/broker/half-messages.ts';
import { StateLimits } from '../../src/broker/limits.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { GROUP, TransactionBroker } from '../support/transaction-broker.ts';

const half = (transaction: number, producerGroup: string): HalfMessage => ({
  transaction,
  position: transaction,
  sizeBytes: 100,
  topicId: 1,
  queueId: 0,
  tagBloom: 0xffff_ffff,
  producerGroup,
  messageId: transaction.toString(16).toUpperCase().padStart(32, '0'),
  storedMs: 1_700_000_000_000,
  checks: 2,
  nextCheckMs: 1_700_000_006_000,
});

/** Groups take what they may in turn. @returns how many each has */
function fill(halves: HalfMessages, groups: readonly string[]): number[] {
  for (let next = 1, stuck = 0; stuck < groups.length; next++) {
    const group = groups[next % groups.length] as string;
    if (halves.hasRoomFor(group)) halves.add(half(next, group));
    stuck = halves.hasRoomFor(group) ? 0 : stuck + 1;
  }
  return groups.map((group) => halves.ofGroup(group));
}

describe('the table of half messages', () => {
  const { maxHalfMessages } = StateLimits;

  test('F14 F44 one producer group fills half of it, two a third each: there is always room for another', () => {
    const halves = new HalfMessages();
    expect(fill(halves, ['a'])).toEqual([maxHalfMessages / 2]);
    expect(halves.hasRoomFor('b')).toBe(true);
    halves.clear();
    for (const count of fill(halves, ['a', 'b'])) expect(Math.abs(count - maxHalfMessages / 3)).toBeLessThanOrEqual(1);
    expect(halves.hasRoomFor('c')).toBe(true);
    halves.clear();
    expect(halves.hasRoomFor('a')).toBe(true);
    expect(halves.ofGroup('a')).toBe(0);
  });

  test('I8 beyond its share a group is told TOO_MANY, and its sequence has not moved', () => {
    const broker = new TransactionBroker();
    const { halves } = broker.harness.machine.transactions;
    fill(halves, [GROUP]);
    const first = { producerId: 5, idLow: 9 };
    expect(broker.sendHalf(first).ack[0]).toBe(ERRORS.TOO_MANY.number);
    expect(broker.sendHalf({ half: 'others' }).ack[0]).toBe(0);
    expect(broker.sendHalf(first).ack[0]).toBe(ERRORS.TOO_MANY.number);
    halves.delete(halves.all().next().value as HalfMessage);
    halves.delete(halves.all().next().value as HalfMessage);
    expect(broker.sendHalf(first).ack[0]).toBe(0);
    expect(broker.sendHalf({ ...first, idLow: 10, sequence: 1 }).ack[0]).toBe(0);
  });

  test('F34 what lies before a position is found by the oldest', () => {
    const halves = new HalfMessages();
    for (const transaction of [100, 200, 300]) halves.add(half(transaction, 'a'));
    const refersBefore = (): boolean[] => [0, 100, 101, 200, 201].map((position) => halves.referBefore(position));
    expect(refersBefore()).toEqual([false, false, true, true, true]);
    halves.delete(halves.get(100) as HalfMessage);
    expect(refersBefore()).toEqual([false, false, false, false, true]);
    // One that was carried does not hide those behind it.
    (halves.get(200) as HalfMessage).position = 400;
    expect([201, 300, 301, 401].map((position) => halves.referBefore(position))).toEqual([false, false, true, true]);
  });

  test('a full table is packed and read again as it was', () => {
    const halves = new HalfMessages();
    fill(halves, ['a', 'b', 'c']);
    const other = new HalfMessages();
    other.unpack(structuredClone(halves.pack()));
    expect(other.size).toBe(halves.size);
    expect(other.ofGroup('b')).toBe(halves.ofGroup('b'));
    const all = [...halves.all()];
    for (const [i, each] of [...other.all()].entries()) if (i % 997 === 0) expect(each).toEqual(all[i]);
  });
});

describe('outcomes that are remembered', () => {
  test('I8 at the bound the oldest is forgotten', () => {
    const ended = new EndedTransactions();
    const one = { how: Ended.committed, endedMs: 5, offset: 7, proof: 1 };
    for (let i = 0; i < StateLimits.maxEndedTransactions; i++) ended.add(i, one);
    expect(ended.get(0)).toEqual(one);
    ended.add(StateLimits.maxEndedTransactions, { ...one, endedMs: 6 });
    expect([ended.get(0), ended.get(1)]).toEqual([undefined, one]);
    expect(ended.size).toBe(StateLimits.maxEndedTransactions);
  });
});
