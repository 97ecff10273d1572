import { describe, expect, test } from 'vitest';
import { writeRecoverNote } from '../../src/replica/forced-recovery.ts';
import type { Server } from '../../src/server.ts';
import { FIRST_VALUE, Group } from './loaded-group.ts';

describe('membership', () => {
  test('F35 FAULTS 13 1 → 3 → 5 → 3 under load: learners first, joint, nothing acknowledged is lost, all voters identical', async () => {
    const group = new Group(1);
    group.start(1, [1]);
    await group.run(4000);
    for (const id of [2, 3, 4, 5]) {
      group.start(id, [1, id]);
      await group.run(1000);
      await group.add(id);
      expect(group.voters()).toContain(id);
    }
    expect(group.voters()).toEqual([1, 2, 3, 4, 5]);
    // The one that the group began with goes, whoever leads.
    await group.remove(1);
    await group.run(3000);
    await group.remove(4);
    await group.run(3000);
    expect(group.voters()).toEqual([2, 3, 5]);
    await group.rest();
    group.expectIdentical();
    expect(group.acknowledged).toBeGreaterThan(FIRST_VALUE + 300);
    expect(group.refused).toEqual([]);
    // They go on without those who left, and know each other after a restart of all.
    for (const id of [1, 4]) group.kill(id);
    for (const id of [2, 3, 5]) group.kill(id);
    for (const id of [2, 3, 5]) group.start(id, [1, id]);
    await group.run(6000);
    expect(group.voters()).toEqual([2, 3, 5]);
    await group.rest();
    group.expectIdentical();
  });

  test('FAULTS 13 a replica that slept while another one was added hears it when it leads: it dials back who introduces itself', async () => {
    const group = new Group(4);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    group.kill(3);
    await group.run(500);
    group.start(4, [1, 2, 4]);
    await group.run(1000);
    await group.add(4);
    await group.change((server) => server.replica?.transfer(4));
    await group.run(2000);
    expect(group.leader?.replica?.id).toBe(4);
    group.start(3, [1, 2, 3]);
    await group.run(4000);
    expect(group.leader?.replica?.id).toBe(4);
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([1, 2, 3, 4]);
    await group.rest();
    group.expectIdentical();
  });

  test('I5 FAULTS 6 an emptied directory under a known id does not vote; the leader replaces it, and it votes when it holds everything', async () => {
    const group = new Group(2);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    group.empty(3);
    await group.run(500);
    group.start(3, [1, 2, 3]);
    await group.run(1000);
    expect(group.events.get(3)).toContain('joining');
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([]);
    await group.run(15_000);
    expect(group.voters()).toEqual([1, 2, 3]);
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([1, 2, 3]);
    await group.rest();
    group.expectIdentical();
    // Its vote counts again: one of the others may go.
    group.kill(1);
    await group.run(6000);
    expect(group.leader).not.toBeNull();
  });

  test('I5 FAULTS 6 two emptied of three never form a group: nothing is acknowledged any more, and the third keeps what it has', async () => {
    const group = new Group(3);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    const before = group.acknowledged;
    expect(before).toBeGreaterThan(0);
    for (const id of [2, 3]) group.empty(id);
    for (const id of [2, 3]) group.start(id, [1, 2, 3]);
    await group.run(2000);
    const acknowledged = group.acknowledged;
    await group.run(20_000);
    expect(group.leader).toBeNull();
    expect(group.acknowledged).toBe(acknowledged);
    for (const id of [2, 3]) expect(group.servers.get(id)?.replica?.membership().voters ?? []).toEqual([]);
  });

  test('I5 onMajorityLoss=recover: when all other directories are lost, the last one goes on alone after the grace time; one that is only away is waited for', async () => {
    const group = new Group(8, { onMajorityLoss: 'recover', majorityLossGraceMs: 5_000 });
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    const acknowledged = group.acknowledged;
    expect(acknowledged).toBeGreaterThan(0);
    // One is emptied, the other one may come back with what it has.
    group.kill(2);
    group.empty(3);
    group.start(3, [1, 2, 3]);
    await group.run(15_000);
    expect(group.servers.get(1)?.state).toBe('running');
    group.empty(2);
    group.start(2, [1, 2, 3]);
    await group.run(4000);
    expect(group.servers.get(1)?.state).toBe('running');
    await group.run(4000);
    expect(group.servers.get(1)?.state).toBe('failed');
    // Its supervisor starts it again.
    group.kill(1);
    group.start(1, [1, 2, 3]);
    await group.run(20_000);
    expect(group.events.get(1)).toContain('membership forced');
    expect(group.voters()).toEqual([1, 2, 3]);
    expect(group.acknowledged).toBeGreaterThan(acknowledged);
    await group.rest();
    group.expectIdentical();
  });

  test('two removals that wait together never leave a group without voters: the last one is refused', async () => {
    const group = new Group(4);
    group.start(1, [1]);
    await group.run(3000);
    group.start(2, [1, 2]);
    await group.run(500);
    await group.add(2);
    const outcomes: string[] = [];
    const leader = group.leader as Server;
    const leaderId = leader.replica?.id as number;
    for (const id of [3 - leaderId, leaderId]) {
      leader.replica?.removeReplica(id).then(
        () => outcomes.push(`${id} removed`),
        (error: unknown) => outcomes.push(String(error)),
      );
    }
    await group.run(5000);
    expect(group.voters()).toEqual([leaderId]);
    expect(outcomes).toEqual([`${3 - leaderId} removed`, expect.stringContaining('the last voter cannot be removed')]);
  });

  test('I5 FAULTS 6 raft recover: after a majority is lost an operator lets one go on; those left behind do not vote, emptied ones come back', async () => {
    const group = new Group(5);
    for (const id of [1, 2, 3]) group.start(id, [1, 2, 3]);
    await group.run(5000);
    for (const id of [1, 2, 3]) group.kill(id);
    await group.run(500);
    const acknowledged = group.acknowledged;
    group.empty(3);
    await group.decide(1, (disk) => writeRecoverNote(disk, '/data', { reason: 'test: 2 and 3 are lost' }));
    group.start(1, [1, 2, 3]);
    await group.run(4000);
    expect(group.events.get(1)).toContain('membership forced');
    expect(group.voters()).toEqual([1]);
    expect(group.acknowledged).toBeGreaterThan(acknowledged);
    // The decision is in the log now: a restart needs no note.
    group.kill(1);
    group.start(1, [1, 2, 3]);
    await group.run(3000);
    expect(group.events.get(1)).not.toContain('membership forced');
    expect(group.voters()).toEqual([1]);
    // The one that was left behind with its old directory ends by itself and says why; the emptied one is taken in.
    group.start(2, [1, 2, 3]);
    group.start(3, [1, 2, 3]);
    await group.run(12_000);
    expect(group.servers.get(2)?.state).toBe('failed');
    expect(group.voters()).toEqual([1, 3]);
    await group.rest();
    group.expectIdentical();
  });
});
