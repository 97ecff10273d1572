import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { type Command, encodeCommand } from '../../src/broker/commands.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { batchChecksum } from '../../src/protocol/record-batch.ts';
import { EntryType } from '../../src/replica/types.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { FakeReplica } from '../support/fake-replica.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';
import { golden, PINNED_LEVELS } from './golden.ts';

const SEGMENT_BYTES = 16_384;

/** The state keeps its bytes; what they mean is the replica's. */
const MEMBERSHIP = Uint8Array.of(1, 2, 3, 4, 5);

const machineOf = (queues = new MemoryQueues()): BrokerStateMachine =>
  new BrokerStateMachine({ brokerName: 'a', queues, ids: new MemoryIds() });

/** Something of everything that the state holds, by entries of `level`. */
function built(level: number, queues: MemoryQueues): BrokerStateMachine {
  const machine = machineOf(queues);
  const replica = new FakeReplica({ machine, segmentBytes: SEGMENT_BYTES });
  replica.leadReady();
  const command = (one: Command): void => {
    const body = encodeCommand(one);
    replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    replica.commit();
  };
  const batch = (topicId: number, queueId: number, bytes: Uint8Array): void => {
    replica.propose(EntryType.batch, topicId, queueId, batchChecksum(bytes, 0), bytes);
    replica.commit();
  };
  if (level > 1) command({ type: 'featureLevelRaise', level });
  command({ type: 'topicCreate', name: 'orders', queues: 2, perm: 6, messageType: 'normal', replication: 2 });
  command({ type: 'topicCreate', name: 'gone', queues: 1, perm: 6, messageType: 'normal', replication: 2 });
  command({ type: 'topicCreate', name: 'ledger', queues: 1, perm: 4, messageType: 'fifo', replication: 3 });
  command({ type: 'topicDelete', name: 'gone' });
  command({ type: 'topicUpdate', name: 'orders', queues: 3, perm: -1, replication: -1 });
  for (let i = 0; i < 12; i++) batch(1, i % 3, makeBatch({ producerId: 7, sequence: Math.floor(i / 3) * 4, count: 4, bodyBytes: 900 }));
  batch(1, 0, makeBatch({ producerId: 2 ** 52, epoch: 3, count: 2, tags: ['a', 'b'] }));
  for (const member of ['m1', 'm2']) {
    const join = { group: 'billing', member, address: '10.0.0.7:40000', topics: ['orders'] };
    command({ type: 'groupJoin', ...join, strategy: 'sticky', sessionTimeoutMs: 10_000 });
  }
  if (level >= 2) {
    const record = { incarnation: 77, perm: 6, messageType: 'normal', replication: 2 } as const;
    const places = [
      ['a', 2, -1],
      ['b', 4, 4],
    ] as const;
    command({ type: 'topicPut', ...record, name: 'spread', version: 1, places, deleted: false });
    command({ type: 'topicPut', ...record, name: 'buried', version: 1, places, deleted: false });
    command({ type: 'topicPut', ...record, name: 'buried', version: 2, places, deleted: true });
    replica.propose(EntryType.membership, 0, 0, 0, MEMBERSHIP);
    replica.commit();
  }
  command({ type: 'offsetCommit', commits: [['audit', '', [[1, 0, 5, 0]]]] });
  command({ type: 'cut', position: SEGMENT_BYTES });
  command({ type: 'setSetting', name: 'retentionBytes', value: 2 ** 33 });
  return machine;
}

describe('golden files', () => {
  test.each(PINNED_LEVELS)('F38 the state of feature level %i is saved and restored as ever', (level) => {
    const queues = new MemoryQueues();
    const machine = built(level, queues);
    expect(machine.featureLevel).toBe(level);
    expect(machine.startPosition()).toBe(SEGMENT_BYTES);
    const digest = new TextEncoder().encode(machine.digest().toString(16));
    const pinned = golden(
      `state-${level}`,
      new Map([
        ['state', machine.snapshot()],
        ['digest', digest],
      ]),
    );
    const restored = machineOf(queues);
    expect(restored.restore(pinned.get('state') as Uint8Array)).toBe(true);
    expect(restored.digest()).toBe(machine.digest());
    expect(Buffer.compare(restored.snapshot(), pinned.get('state') as Uint8Array)).toBe(0);
  });
});
