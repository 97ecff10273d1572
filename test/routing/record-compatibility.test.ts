import { describe, expect, test } from 'vitest';
import { decodeBroker, decodeGroup, decodeTopic, encodeBroker, encodeGroup, encodeTopic } from '../../src/routing/record-codec.ts';
import type { AppliedTopic, BrokerRecord, GroupRecord } from '../../src/routing/records.ts';

const BROKER: BrokerRecord = {
  brokerName: 'a',
  replicaId: 2,
  version: 2 ** 40 + 7,
  incarnation: 'two',
  endpoint: 'ws://a-2:7460',
  admin: 'http://a-2:7462',
  address: { host: 'a-2', port: 7461 },
  machine: 'node-7',
  perm: 6,
  role: 'leader',
  term: 9,
  featureLevel: 2,
  belowReserve: true,
  lagging: false,
  priority: 3,
};
const GROUP: GroupRecord = {
  brokerName: 'a',
  term: 9,
  configVersion: 4,
  logIndex: 2 ** 41,
  leader: 2,
  voters: [1, 2, 3].map((replicaId) => ({ replicaId, host: `a-${replicaId}`, port: 7461 })),
  learners: [{ replicaId: 4, host: 'a-4', port: 7461 }],
};
const TOPIC: AppliedTopic = {
  brokerName: 'a',
  logIndex: 77,
  record: {
    name: 'orders',
    incarnation: 2 ** 31 + 5,
    version: 3,
    placement: [
      { brokerName: 'a', queues: 8 },
      { brokerName: 'b', queues: 4, perm: 4 },
    ],
    perm: 6,
    messageType: 'fifo',
    replication: 2,
    deleted: false,
  },
};

/** What a newer release puts behind the fields that this one knows. */
const longer = (bytes: Uint8Array): Uint8Array => Uint8Array.from([...bytes, 0, 255, 7, 1]);

describe('newer releases in gossip', () => {
  test('F38 a record with more behind the known fields is read as far as it is known', () => {
    expect(decodeBroker(longer(encodeBroker(BROKER)))).toEqual(BROKER);
    expect(decodeGroup(longer(encodeGroup(GROUP)))).toEqual(GROUP);
    expect(decodeTopic(longer(encodeTopic(TOPIC)))).toEqual(TOPIC);
  });
});
