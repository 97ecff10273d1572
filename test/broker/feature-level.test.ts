import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { type Command, decodeCommand, encodeCommand, plainPackr } from '../../src/broker/commands.ts';
import { FIRST_FEATURE_LEVEL, NEWEST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { BrokerStateMachine } from '../../src/broker/state-machine.ts';
import { EntryType } from '../../src/replica/types.ts';
import { FakeReplica } from '../support/fake-replica.ts';
import { MemoryIds, MemoryQueues } from '../support/fake-stores.ts';

const machineOf = (newestFeatureLevel = NEWEST_FEATURE_LEVEL): BrokerStateMachine =>
  new BrokerStateMachine({ brokerName: 'a', queues: new MemoryQueues(), ids: new MemoryIds(), newestFeatureLevel });

class Group {
  readonly machine: BrokerStateMachine;
  readonly replica: FakeReplica;
  constructor(newestFeatureLevel = NEWEST_FEATURE_LEVEL) {
    this.machine = machineOf(newestFeatureLevel);
    this.replica = new FakeReplica({ machine: this.machine });
    this.replica.leadReady();
  }
  command(command: Command): void {
    const body = encodeCommand(command);
    this.replica.propose(EntryType.command, 0, 0, readU32(body, 0), body);
    this.replica.commit();
  }
}

describe('feature level', () => {
  test('F38 a state begins at the first level; a raise is kept, seen by the digest, never taken back', () => {
    const group = new Group();
    const { machine } = group;
    expect(machine.featureLevel).toBe(FIRST_FEATURE_LEVEL);
    const before = machine.digest();
    group.command({ type: 'featureLevelRaise', level: NEWEST_FEATURE_LEVEL });
    expect(machine.featureLevel).toBe(NEWEST_FEATURE_LEVEL);
    expect(machine.digest()).not.toBe(before);
    group.command({ type: 'featureLevelRaise', level: FIRST_FEATURE_LEVEL });
    expect(machine.featureLevel).toBe(NEWEST_FEATURE_LEVEL);
    machine.clear();
    expect(machine.featureLevel).toBe(FIRST_FEATURE_LEVEL);
  });

  test('F38 the level is part of the saved state', () => {
    const group = new Group();
    group.command({ type: 'featureLevelRaise', level: NEWEST_FEATURE_LEVEL });
    const other = machineOf();
    expect(other.restore(group.machine.snapshot())).toBe(true);
    expect(other.featureLevel).toBe(NEWEST_FEATURE_LEVEL);
    expect(other.digest()).toBe(group.machine.digest());
  });

  test('F38 an older release refuses a raised state and a raise in the log, with words', () => {
    const group = new Group();
    const old = machineOf(NEWEST_FEATURE_LEVEL - 1);
    old.restore(group.machine.snapshot());
    group.command({ type: 'featureLevelRaise', level: NEWEST_FEATURE_LEVEL });
    const words = `feature level ${NEWEST_FEATURE_LEVEL}, this release knows ${NEWEST_FEATURE_LEVEL - 1}: the group was upgraded, start the newer release`;
    expect(() => machineOf(NEWEST_FEATURE_LEVEL - 1).restore(group.machine.snapshot())).toThrow(words);
    expect(() => group.replica.replay(old, 2, 2)).toThrow(words);
  });

  test('F38 what the first level writes stays as the first release reads it', () => {
    const group = new Group();
    group.command({ type: 'topicCreate', name: 'orders', queues: 2, perm: 6, messageType: 'normal', replication: 2 });
    const [version, [level]] = plainPackr.unpack(group.machine.snapshot()) as [number, [number]];
    expect([version, level]).toEqual([1, 1]);
    const command = plainPackr.unpack(encodeCommand({ type: 'topicDelete', name: 'orders' }).subarray(4)) as unknown[];
    expect(command).toEqual([1, 3, 'orders']);
  });

  test('F38 a command carries the level that it needs: a raise carries its own', () => {
    const body = encodeCommand({ type: 'featureLevelRaise', level: 2 });
    expect(plainPackr.unpack(body.subarray(4))).toEqual([2, 13, 2]);
    expect(decodeCommand(body)).toEqual({ type: 'featureLevelRaise', level: 2 });
    expect(() => decodeCommand(body, 1)).toThrow('a command of the log needs feature level 2');
    expect(() => decodeCommand(encodeCommand({ type: 'featureLevelRaise', level: 99 }))).toThrow('feature level 99');
  });
});
