import { describe, expect, test } from 'vitest';
import type { AppendResponse } from '../../src/raft/types.ts';
import { isGroupWrite } from '../log/support.ts';
import type { DiskOperation } from '../support/memory-disk.ts';
import { appendOf, driverRig, leaderLog } from './support.ts';

const acks = (sent: readonly { type: string }[]): AppendResponse[] =>
  sent.filter((one): one is AppendResponse => one.type === 'appendResponse');

describe('driver of the Raft core', () => {
  test('FAULTS 1 an append is answered only when it is synced, under a term that is on stable storage', async () => {
    const rig = await driverRig();
    const leader = await leaderLog(rig.clock);
    const { message, bytes } = appendOf(2, 1, { index: 0, term: 0 }, [leader.group(1)]);
    expect(rig.driver.stepAppend(message, bytes)).toBeNull();
    expect(acks(rig.sent)).toEqual([]);
    await rig.clock.run(50);
    expect(rig.durable.settled).toBe(true);
    expect(acks(rig.sent).map(({ success, lastIndex }) => ({ success, lastIndex }))).toEqual([{ success: true, lastIndex: 1 }]);
  });

  test('damaged groups never reach the core', async () => {
    const rig = await driverRig();
    const leader = await leaderLog(rig.clock);
    const { message, bytes } = appendOf(2, 1, { index: 0, term: 0 }, [leader.group(1)]);
    bytes[200] = (bytes[200] as number) ^ 1;
    expect(rig.driver.stepAppend(message, bytes)).toBe('bodyChecksum');
    expect(rig.raft.term).toBe(0);
    expect(rig.log.lastIndex).toBe(0);
  });

  test('a follower whose hot tail is full refuses for now, says how far it is, and takes the groups once its disk has moved', async () => {
    const rig = await driverRig({ maxChunks: 2 });
    const leader = await leaderLog(rig.clock);
    const groups = [leader.group(1, 4_000_000), leader.group(1, 4_000_000), leader.group(1, 4_000_000)];
    let prev = { index: 0, term: 0 };
    for (const group of groups) {
      const { message, bytes } = appendOf(2, 1, prev, [group]);
      expect(rig.driver.stepAppend(message, bytes)).toBeNull();
      prev = { index: group.meta.lastIndex, term: 1 };
    }
    // Nothing was written yet: two chunks are full.
    expect(rig.failures).toEqual([]);
    expect(rig.log.lastIndex).toBe(2);
    expect(rig.raft.term).toBe(1);
    await rig.clock.run(200);
    expect(acks(rig.sent).at(-1)).toMatchObject({ success: true, lastIndex: 2 });
    const { message, bytes } = appendOf(2, 1, { index: 2, term: 1 }, [groups[2] as (typeof groups)[number]]);
    rig.driver.stepAppend(message, bytes);
    await rig.clock.run(200);
    expect(rig.log.durableIndex).toBe(3);
    expect(acks(rig.sent).at(-1)).toMatchObject({ success: true, lastIndex: 3 });
  });

  test('a report that waits for a vote to be written is withdrawn when its write is cut: the same index and term may come again', async () => {
    const rig = await driverRig();
    const other = await leaderLog(rig.clock);
    const first = other.group(1);
    const second = other.group(1);
    const base = appendOf(2, 1, { index: 0, term: 0 }, [first]);
    rig.driver.stepAppend(base.message, base.bytes);
    await rig.clock.run(50);
    // From here on hard state writes stand still.
    let held: (() => void)[] = [];
    const original = rig.durable.saveVote.bind(rig.durable);
    rig.durable.saveVote = (hard, done) => {
      Object.defineProperty(rig.durable, 'settled', { get: () => held.length === 0, configurable: true });
      held.push(() => original(hard, done));
    };
    const again = appendOf(2, 2, { index: 1, term: 1 }, [second]);
    rig.driver.stepAppend(again.message, again.bytes);
    await rig.clock.run(50);
    expect(rig.reported.at(-1)).toEqual({ lastIndex: 2, term: 1 });
    // A leader of term 3 has something else at index 2; one of term 4 brings the first again.
    const third = await leaderLog(rig.clock);
    const thirdFirst = new Uint8Array(first.bytes);
    expect(third.log.appendGroups(thirdFirst).ok).toBe(true);
    const replaced = third.group(3);
    const cut = appendOf(3, 3, { index: 1, term: 1 }, [replaced]);
    rig.driver.stepAppend(cut.message, cut.bytes);
    rig.disk.fault = (operation: DiskOperation) => (isGroupWrite(operation) ? 'EIO' : null);
    const back = appendOf(2, 4, { index: 1, term: 1 }, [second]);
    rig.driver.stepAppend(back.message, back.bytes);
    Reflect.deleteProperty(rig.durable, 'settled');
    for (const write of held) write();
    held = [];
    rig.sent.length = 0;
    await rig.clock.run(50);
    expect(rig.log.durableIndex).toBe(1);
    expect(rig.raft.storedIndex).toBe(1);
    expect(acks(rig.sent).every(({ lastIndex }) => lastIndex <= 1)).toBe(true);
  });

  test('messages held behind a vote are bounded', async () => {
    const rig = await driverRig();
    rig.driver.step({ type: 'heartbeatRequest', from: 2, to: 1, term: 1, commitIndex: 0, readContext: 0 });
    for (let i = 0; i < 5000; i++) {
      rig.driver.step({ type: 'heartbeatRequest', from: 2, to: 1, term: 1, commitIndex: 0, readContext: i });
    }
    expect(rig.sent).toEqual([]);
    await rig.clock.run(50);
    expect(rig.sent.length).toBe(4096);
  });
});

describe('CommitLog as a follower', () => {
  test('a group that was checked before is not read through again, but must continue the log', async () => {
    const rig = await driverRig();
    const leader = await leaderLog(rig.clock);
    const one = leader.group(1);
    const two = leader.group(1);
    const checked = (group: typeof one) => ({
      header: { ...group.meta, logTimeMs: 1000, entryCount: 1, dataBytes: 0, previousChecksum: group === one ? 0 : 77 },
      lastChecksum: 76,
    });
    expect(rig.log.appendGroups(new Uint8Array(one.bytes), [checked(one)])).toMatchObject({ ok: true });
    // Not the chain's value behind the first.
    expect(rig.log.appendGroups(new Uint8Array(two.bytes), [checked(two)])).toEqual({ ok: false, reason: 'chain' });
  });
});
