import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemberTable } from '../../src/routing/member-table.ts';
import { decodeBroker, decodeGroup, decodeTopic, encodeBroker, encodeGroup, encodeTopic } from '../../src/routing/record-codec.ts';
import { compareGroups, RecordTable } from '../../src/routing/record-table.ts';
import type { AppliedTopic, BrokerRecord, GroupRecord } from '../../src/routing/records.ts';

/** A body is a function of its epoch, as its only owner makes it. */
const group = (brokerName: string, term: number, configVersion: number, logIndex: number): GroupRecord => ({
  brokerName,
  term,
  configVersion,
  logIndex,
  leader: (term % 3) + 1,
  voters: [{ replicaId: (configVersion % 5) + 1, host: `h${logIndex}`, port: 7461 }],
  learners: [],
});
const topic = (brokerName: string, name: string, logIndex: number): AppliedTopic => ({
  brokerName,
  logIndex,
  record: {
    name,
    incarnation: 1 + (logIndex >> 2),
    version: logIndex % 4,
    placement: [{ brokerName: 'a', queues: logIndex }],
    perm: 6,
    messageType: logIndex % 2 === 0 ? 'normal' : 'fifo',
    replication: 2,
    deleted: logIndex % 5 === 0,
  },
});
const broker = (replicaId: number, version: number): BrokerRecord => ({
  brokerName: 'a',
  replicaId,
  version,
  incarnation: `i${version}`,
  endpoint: 'ws://h:7460',
  admin: 'http://h:7462',
  address: { host: 'h', port: 7461 },
  machine: 'm',
  perm: 6,
  role: version % 2 === 0 ? 'leader' : 'follower',
  term: version,
  featureLevel: 2,
  belowReserve: version % 3 === 0,
  lagging: version % 5 === 0,
  priority: 7,
});

type Merge = { readonly kind: number; readonly which: number; readonly x: number; readonly y: number; readonly z: number };
class Tables {
  readonly records = new RecordTable();
  readonly members = new MemberTable(() => {});
  merge({ kind, which, x, y, z }: Merge): void {
    const name = `n${which}`;
    if (kind === 0) this.records.mergeGroup(group(name, x, y, z));
    else if (kind === 1) this.records.mergeTopic(topic(name, `t${y % 3}`, z));
    else if (kind === 2) this.members.mergeRecord(broker(which + 1, z), encodeBroker(broker(which + 1, z)), 0);
    else {
      const row = this.members.get(`a/${which + 1}`);
      if (row !== undefined && row.record.version === z) this.members.bury(row, z, 0);
    }
  }
  get all() {
    return {
      groups: [...this.records.groups].map(([key, { record }]) => [key, record] as const).sort(([p], [q]) => (p < q ? -1 : 1)),
      topics: [...this.records.topics]
        .flatMap(([key, rows]) => [...rows].map(([name, { applied }]) => [`${key}/${name}`, applied] as const))
        .sort(([p], [q]) => (p < q ? -1 : 1)),
      members: [...this.members.values()].map(({ key, record }) => [key, record] as const).sort(([p], [q]) => (p < q ? -1 : 1)),
    };
  }
}

describe('FAULTS 19 merging', () => {
  test('FAULTS 19 100,000 random merges in any order converge, and nothing ever goes back', () => {
    let merges = 0;
    const merge = fc.record({
      kind: fc.nat(3),
      which: fc.nat(2),
      x: fc.nat(4),
      y: fc.nat(4),
      z: fc.nat(12),
    });
    const run = fc.property(fc.array(merge, { minLength: 400, maxLength: 600 }), fc.infiniteStream(fc.nat()), (list, order) => {
      const one = new Tables();
      const other = new Tables();
      const newest = new Map<string, GroupRecord>();
      const indexes = new Map<string, number>();
      const versions = new Map<string, number>();
      for (const each of list) {
        one.merge(each);
        for (const [key, { record }] of one.records.groups) {
          const before = newest.get(key);
          if (before !== undefined && compareGroups(record, before) < 0) throw new Error(`group ${key} went back`);
          newest.set(key, record);
        }
        for (const [key, rows] of one.records.topics) {
          for (const [name, { applied }] of rows) {
            if (applied.logIndex < (indexes.get(key + name) ?? -1)) throw new Error(`topic ${name} went back`);
            indexes.set(key + name, applied.logIndex);
          }
        }
        for (const { key, record } of one.members.values()) {
          if (record.version < (versions.get(key) ?? -1)) throw new Error(`broker ${key} went back`);
          versions.set(key, record.version);
        }
      }
      const shuffled = list.map((each) => ({ each, key: order.next().value as number })).sort((p, q) => p.key - q.key);
      for (const { each } of shuffled) other.merge(each);
      expect(other.all).toEqual(one.all);
      merges += list.length + shuffled.length;
    });
    fc.assert(run, { numRuns: 130 });
    expect(merges).toBeGreaterThanOrEqual(100_000);
  });

  test('FAULTS 19 the same epoch with another body is a conflict, and the first one stays', () => {
    const table = new RecordTable();
    expect(table.mergeGroup(group('a', 3, 1, 9))).toBe('taken');
    expect(table.mergeGroup(group('a', 3, 1, 9))).toBe('known');
    expect(table.mergeGroup({ ...group('a', 3, 1, 9), leader: 9 })).toBe('conflict');
    expect(table.groups.get('a')?.record).toEqual(group('a', 3, 1, 9));
    expect(table.mergeGroup(group('a', 2, 5, 99))).toBe('older');
    const { record } = topic('a', 't', 4);
    expect(table.mergeTopic(topic('a', 't', 4))).toBe('taken');
    expect(table.mergeTopicBytes(encodeTopic({ brokerName: 'a', logIndex: 4, record: { ...record, perm: 4 } })).merged).toBe('conflict');
    // The same state at a later index is no news.
    expect(table.mergeTopic({ brokerName: 'a', logIndex: 40, record })).toBe('known');
    expect(table.topicRows).toBe(1);
  });

  test('records are read as they were written; fields of later releases are passed over', () => {
    const longer = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes, Buffer.from([1, 2, 3])]);
    expect(decodeBroker(longer(encodeBroker(broker(1, 6))))).toEqual(broker(1, 6));
    expect(decodeGroup(longer(encodeGroup(group('a', 1, 2, 3))))).toEqual(group('a', 1, 2, 3));
    expect(decodeTopic(longer(encodeTopic(topic('a', 't', 7))))).toEqual(topic('a', 't', 7));
    for (const bytes of [encodeBroker(broker(1, 6)), encodeGroup(group('a', 1, 2, 3)), encodeTopic(topic('a', 't', 7))]) {
      const decode = [decodeBroker, decodeGroup, decodeTopic];
      for (let size = 0; size < bytes.length; size += 3) {
        for (const each of decode) expect(() => each(bytes.subarray(0, Math.min(size, 20)))).toThrow();
      }
    }
  });
});
