import { describe, expect, test } from 'vitest';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { ERRORS } from '../../src/protocol/errors.ts';
import { tagBloom } from '../../src/protocol/record-batch.ts';
import { Op } from '../../src/protocol/requests.ts';
import { tagBloomMatches, tagHash } from '../../src/protocol/tag-hash.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';

function ready(): { broker: BrokerHarness; session: ReturnType<BrokerHarness['session']> } {
  const broker = BrokerHarness.ready({ T: 1 });
  const session = broker.session();
  broker.sent(session, 'T', 0, makeBatch({ count: 10 }));
  return { broker, session };
}
const turns = async (): Promise<void> => {
  for (let i = 0; i < 30; i++) await Promise.resolve();
};

describe('groups', () => {
  test('F06 a release without an offset gives the queue away and commits nothing', () => {
    const { broker, session } = ready();
    broker.join(session, 'g', 'a@1');
    const mine = broker.machine.groups.named('g')?.owned.values().next().value;
    const before = mine?.ownerEpoch as number;
    const queues = [{ topic: 'T', queueId: 0, epoch: before, offset: -1 }];
    expect(broker.ask(session, Op.groupRelease, { group: 'g', member: 'a@1', queues })).toEqual({});
    expect(mine?.ownerEpoch).toBeGreaterThan(before);
    expect(broker.machine.groups.named('g')?.offsets.size).toBe(0);
  });

  test('F27 an offset is not reset above the end: the lag would be negative and messages skipped unseen', () => {
    const { broker, session } = ready();
    const reset = (offset: number): unknown => broker.ask(session, Op.groupResetOffset, { group: 'g', topic: 'T', queueId: 0, offset });
    expect(reset(11)).toBe('OFFSET_OUT_OF_RANGE');
    expect(reset(10)).toEqual({ previous: -1 });
    expect(broker.ask(session, Op.groupList, {}).groups).toMatchObject([{ group: 'g', lag: 0 }]);
  });

  test('F06 a topic that is not there yet keeps no member from the others, and is taken in when it is made', () => {
    const { broker, session } = ready();
    expect(broker.join(session, 'g', 'a@1', ['T', 'later']).queues).toHaveLength(1);
    broker.ask(session, Op.topicCreate, { topic: 'later', queues: 2, perm: 6, messageType: 'normal', replication: 2 });
    expect(broker.join(session, 'g', 'a@1', ['T', 'later']).queues).toHaveLength(3);
    expect(broker.join(session, 'h', 'a@1', ['nope'])).toBe('TOPIC_NOT_FOUND');
  });

  test('F06 a deleted topic does not keep its members from coming back', () => {
    const { broker, session } = ready();
    broker.ask(session, Op.topicCreate, { topic: 'other', queues: 1, perm: 6, messageType: 'normal', replication: 2 });
    broker.join(session, 'g', 'a@1', ['T', 'other']);
    broker.ask(session, Op.topicDelete, { topic: 'other' });
    expect(broker.join(session, 'g', 'a@1', ['T', 'other']).queues).toHaveLength(1);
  });

  test('a commit with nothing to store is answered at once and takes no room in the entry of the others', () => {
    const { broker, session } = ready();
    const proposed = broker.replica.positions.length;
    const request = { group: 'g', member: '', epoch: 0, offsets: [{ topic: 'nope', queueId: 0, offset: 1 }] };
    const answers = [
      broker.request(session, Op.offsetCommit, request),
      broker.request(session, Op.offsetCommit, { ...request, offsets: [] }),
    ];
    expect(answers.map((id) => session.answers.get(id))).toEqual([{ errors: [ERRORS.TOPIC_NOT_FOUND.number] }, { errors: [] }]);
    broker.clock.advance(1_000);
    expect(broker.replica.positions).toHaveLength(proposed);
  });
});

describe('state', () => {
  test('a state that was cleared has the digest of one that is new', () => {
    const { broker } = ready();
    const cleared = new BrokerStateMachine({ brokerName: 'broker-a', queues: new MemoryQueues(), ids: new MemoryIds() });
    cleared.clear();
    broker.replica.replay(cleared, 1, broker.replica.positions.length);
    expect(cleared.digest()).toBe(broker.machine.digest());
  });
});

describe('reads', () => {
  test('a message is said to be missing only by who knows that nothing was acknowledged since', async () => {
    const { broker, session } = ready();
    broker.replica.follow(9, 0);
    const id = broker.request(session, Op.messageGet, { id: '', topic: 'T', queueId: 0, offset: 10 });
    await turns();
    expect(session.answers.get(id)).toBe('NOT_LEADER');
  });

  test('F16 nothing is read from the files for a client that is gone or takes nothing', async () => {
    const { broker, session } = ready();
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    const held = broker.pull(session, {});
    session.congested = true;
    await turns();
    expect(broker.replica.coldReads).toBe(0);
    expect(session.answers.has(held)).toBe(false);
    session.congested = false;
    broker.broker.drained(session);
    await turns();
    expect(session.answers.get(held)).toMatchObject({ nextOffset: 10 });
    expect(broker.replica.coldReads).toBe(1);
    broker.pull(session, {});
    session.closed = true;
    broker.broker.closed(session);
    await turns();
    expect(broker.replica.coldReads).toBe(1);
  });

  test('F07 a pull that read files while its queue went to another member is refused', async () => {
    const { broker, session } = ready();
    const epoch = broker.join(session, 'g', 'a@1').queues[0]?.epoch as number;
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    const pull = broker.pull(session, { group: 'g', member: 'a@1', epoch });
    broker.ask(session, Op.groupResetOffset, { group: 'g', topic: 'T', queueId: 0, offset: 3 });
    await turns();
    expect(session.answers.get(pull)).toBe('FENCED');
  });

  test('F17 a pull of a closed connection is not held after its files were read', async () => {
    const broker = BrokerHarness.ready({ T: 1 });
    const session = broker.session();
    const batch = makeBatch({ tags: ['A'] });
    broker.sent(session, 'T', 0, batch);
    broker.replica.hotFrom = Number.POSITIVE_INFINITY;
    let go = (): void => {};
    const { readCold } = broker.replica;
    broker.replica.readCold = async (into, position) => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      return readCold.call(broker.replica, into, position);
    };
    // Another tag that only reading tells from the batch's: what was read is dropped, and the pull would wait on.
    let other = tagHash('A') + 1;
    while (!tagBloomMatches(tagBloom(batch, 0), [other])) other++;
    broker.pull(session, { waitMs: 30_000, tagHashes: [other] });
    await turns();
    session.closed = true;
    broker.broker.closed(session);
    go();
    await turns();
    expect(broker.broker.gauges.waiters).toBe(0);
  });
});
