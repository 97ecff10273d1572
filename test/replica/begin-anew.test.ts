import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/log/layout.ts';
import { MAX_SET_ASIDE } from '../../src/replica/set-aside.ts';
import { Group } from './loaded-group.ts';

const KIB = 1024;
const ALL = [1, 2, 3];
const LOG = '/data/commitlog';

async function formed(seed: number, config: ConstructorParameters<typeof Group>[1] = {}): Promise<Group> {
  const group = new Group(seed, config);
  for (const id of ALL) group.start(id, ALL);
  await group.run(5000);
  expect(group.voters()).toEqual(ALL);
  return group;
}

const metaOf = (group: Group, id: number): { incarnation: string; formatVersion: number; others: { replicaId: number }[] } =>
  JSON.parse(Buffer.from(group.disk(id).visibleBytes('/data/meta.json') as Uint8Array).toString());

/** Everything that was written into the log's files is gone. */
function loseLog(group: Group, id: number): void {
  for (const path of group.disk(id).paths(LOG)) group.disk(id).shorten(path, BLOCK_BYTES);
}

/** Where the next write group of its first segment would lie. */
function endOfLog(group: Group, id: number): number {
  return Math.ceil((group.servers.get(id)?.stateMachine?.endPosition ?? 0) / BLOCK_BYTES) * BLOCK_BYTES;
}

/** Files of the former directories: incarnation → why it is kept. */
function keptAside(group: Group, id: number): Map<string, string> {
  const kept = new Map<string, string>();
  for (const path of group.disk(id).paths('/data/set-aside')) {
    const [, , , incarnation, name] = path.split('/');
    if (name === 'reason.json') kept.set(incarnation as string, Buffer.from(group.disk(id).visibleBytes(path) as Uint8Array).toString());
  }
  return kept;
}

async function expectVotersAgain(group: Group, id: number): Promise<void> {
  await group.run(15_000);
  expect(group.voters()).toEqual(ALL);
  expect(group.servers.get(id)?.replica?.membership().voters).toEqual(ALL);
  await group.rest();
  group.expectIdentical();
}

describe('a replica whose directory cannot be relied upon begins anew (I5, FAULTS 6)', () => {
  test('a shortened log: kept aside with the reason, another incarnation, learner, voter when it holds everything', async () => {
    const group = await formed(1);
    const before = metaOf(group, 3).incarnation;
    group.kill(3);
    loseLog(group, 3);
    group.start(3, ALL);
    await group.run(1500);
    expect(group.events.get(3)).toContain('directory set aside');
    expect(metaOf(group, 3).incarnation).not.toBe(before);
    // It does not vote by its old right: the others go on without it until the leader has taken it in.
    expect(group.servers.get(3)?.replica?.membership().voters).toEqual([]);
    const kept = keptAside(group, 3);
    expect([...kept.keys()]).toEqual([before]);
    expect(kept.get(before)).toMatch(/it was durable up to|damaged/);
    expect(group.disk(3).paths(`/data/set-aside/${before}/commitlog`).length).toBeGreaterThan(0);
    await expectVotersAgain(group, 3);
    // Its vote counts again, and a restart goes on under the new incarnation.
    group.kill(1);
    group.kill(3);
    group.start(3, ALL);
    await group.run(6000);
    expect(group.leader).not.toBeNull();
  });

  test('both slots of its term and vote are bad: it does not vote under its old incarnation', async () => {
    const group = await formed(2);
    group.kill(2);
    group.disk(2).damage('/data/raft/hard-state', 0, (bytes) => bytes.fill(0x5a), 2 * BLOCK_BYTES);
    group.start(2, ALL);
    await expectVotersAgain(group, 2);
    expect(keptAside(group, 2).size).toBe(1);
  });

  test('asynchronous flush and the machine went down: it comes back by itself, as another replica', async () => {
    const group = await formed(3, { flush: 'async' });
    group.kill(3, 'power');
    group.start(3, ALL);
    await expectVotersAgain(group, 3);
    expect([...keptAside(group, 3).values()].join()).toMatch(/flushed asynchronously/);
  });

  test('asynchronous flush and all machines went down: nobody gives up what it has, all of them wait', async () => {
    const group = await formed(4, { flush: 'async' });
    for (const id of ALL) group.kill(id, 'power');
    for (const id of ALL) group.start(id, ALL);
    await group.run(20_000);
    for (const id of ALL) {
      expect(group.events.get(id)).toContain('waits for a majority of the others');
      expect(keptAside(group, id).size).toBe(0);
    }
    // A stop does not wait for them.
    for (const id of ALL) void group.servers.get(id)?.stop();
    await group.run(3000);
    for (const id of ALL) expect(group.servers.get(id)?.state).toBe('stopped');
  });

  test('it waits while the others are no majority, and keeps its directory as it is', async () => {
    const group = await formed(5);
    for (const id of [2, 3]) group.kill(id);
    loseLog(group, 3);
    group.start(3, ALL);
    await group.run(15_000);
    expect(group.events.get(3)).toContain('waits for a majority of the others');
    expect(keptAside(group, 3).size).toBe(0);
    group.start(2, ALL);
    await expectVotersAgain(group, 3);
    expect(keptAside(group, 3).size).toBe(1);
  });

  test('nobody else is in the group: it refuses, and the directory is as it was', async () => {
    const group = new Group(6);
    group.start(1, [1]);
    await group.run(3000);
    group.kill(1);
    loseLog(group, 1);
    group.start(1, [1]);
    await group.run(3000);
    expect(group.refused.join()).toMatch(/LogShortened|LogCorrupt/);
    expect(keptAside(group, 1).size).toBe(0);
  });

  test(`what is kept is bounded: after ${MAX_SET_ASIDE} it stops and says so`, async () => {
    const group = await formed(7);
    for (let time = 0; time <= MAX_SET_ASIDE; time++) {
      group.kill(3);
      loseLog(group, 3);
      group.start(3, ALL);
      await group.run(15_000);
    }
    expect(keptAside(group, 3).size).toBe(MAX_SET_ASIDE);
    expect(group.refused.join()).toMatch(/holds 2 former contents already/);
  });

  test('what is kept goes when the disk has no room and somebody leads, and only then', async () => {
    const group = await formed(9);
    group.kill(3);
    loseLog(group, 3);
    group.start(3, ALL);
    await expectVotersAgain(group, 3);
    expect(keptAside(group, 3).size).toBe(1);
    // While nobody leads it may be what an operator recovers the group from.
    for (const id of ALL) group.kill(id);
    group.disk(3).faults.full = true;
    group.start(3, ALL);
    await group.run(10_000);
    expect(keptAside(group, 3).size).toBe(1);
    for (const id of [1, 2]) group.start(id, ALL);
    await group.run(10_000);
    expect(group.events.get(3)).toContain('former contents removed');
    expect(group.disk(3).paths('/data/set-aside')).toEqual([]);
    group.disk(3).faults.full = false;
    await group.run(3_000);
    await group.rest();
    group.expectIdentical();
  });

  test('a crash at any moment of the move leaves one or the other: never old data under the new incarnation', async () => {
    for (let afterMs = 0; afterMs < 10; afterMs++) {
      const group = await formed(8);
      group.kill(3);
      loseLog(group, 3);
      const former = metaOf(group, 3).incarnation;
      group.start(3, ALL);
      for (let waited = 0; waited < 3000 && !group.disk(3).paths('/data/set-aside').length; waited += 1) await group.pass(1);
      await group.pass(afterMs);
      group.kill(3, afterMs % 2 === 0 ? 'kill' : 'power');
      group.start(3, ALL);
      await group.run(4_000);
      const { incarnation, formatVersion } = metaOf(group, 3);
      expect(incarnation).not.toBe(former);
      expect(formatVersion, `${afterMs} ms: ${group.refused}`).toBe(1);
      expect(group.disk(3).paths(`/data/set-aside/${former}/commitlog`).length, `${afterMs} ms`).toBeGreaterThan(0);
      if (afterMs % 4 === 0) await expectVotersAgain(group, 3);
    }
  }, 60_000);
});

describe('damage that no other replica retains', () => {
  test('I4 a replica that finds it when it starts begins anew', async () => {
    const group = await formed(11, { segmentBytes: 512 * KIB, retentionBytes: 1024 * KIB, snapshotIntervalBytes: 64 * KIB * KIB });
    group.kill(3);
    const path = group.disk(3).paths(LOG)[0] as string;
    // The others cut everything that was there away meanwhile.
    for (let waited = 0; waited < 60 && ALL.slice(0, 2).some((id) => group.disk(id).visibleBytes(path) !== null); waited++)
      await group.run(1000);
    expect(group.disk(1).visibleBytes(path)).toBeNull();
    group.disk(3).damage(path, 3 * BLOCK_BYTES, (bytes) => bytes.fill(0x77), BLOCK_BYTES);
    // With its outline it would not look there.
    const outline = path.replace('commitlog', 'outline');
    if (group.disk(3).visibleBytes(outline) !== null) group.disk(3).damage(outline, 0, (bytes) => bytes.fill(0), 8);
    group.start(3, ALL);
    await expectVotersAgain(group, 3);
    expect([...keptAside(group, 3).values()].join()).toMatch(/no replica has a good copy/);
  });

  test('one that was configured as a group of one asks those that were added since', async () => {
    const group = new Group(12);
    group.start(1, [1]);
    await group.run(3000);
    for (const id of [2, 3]) {
      group.start(id, [1, id]);
      await group.run(1000);
      await group.add(id);
    }
    await group.run(1000);
    group.kill(1);
    const path = group.disk(1).paths(LOG)[0] as string;
    const good = group.disk(1).visibleBytes(path) as Uint8Array;
    group.disk(1).damage(path, 2 * BLOCK_BYTES, (bytes) => bytes.fill(0x77), BLOCK_BYTES);
    group.start(1, [1]);
    await group.run(4000);
    expect(group.refused).toEqual([]);
    expect(group.events.get(1)).toContain('log repaired');
    expect(keptAside(group, 1).size).toBe(0);
    expect((group.disk(1).visibleBytes(path) as Uint8Array).subarray(0, 8 * BLOCK_BYTES)).toEqual(good.subarray(0, 8 * BLOCK_BYTES));
    await group.rest();
    group.expectIdentical();
  });

  test('one whose saved state knows of nobody else asks those whom it noted beside the log (seed 2928)', async () => {
    const group = new Group(13, { snapshotIntervalBytes: 1024 * KIB });
    group.start(1, [1]);
    await group.run(1000);
    group.start(2, [1, 2]);
    await group.run(1000);
    await group.add(2);
    await group.remove(2);
    group.kill(2);
    // The state is saved with a membership of one; the entries that name the others follow, behind the damage.
    const states = (): readonly string[] => group.disk(1).paths('/data/snapshot');
    const before = states().length;
    for (let waited = 0; waited < 100 && states().length === before; waited++) await group.run(100);
    await group.run(200);
    const alone = endOfLog(group, 1);
    const saved = states();
    expect(saved).toHaveLength(1);
    for (const id of [3, 4]) {
      group.start(id, [1, id]);
      await group.run(1000);
      await group.add(id);
    }
    expect(states()).toEqual(saved);
    group.kill(1);
    const path = group.disk(1).paths(LOG)[0] as string;
    group.disk(1).damage(path, alone, (bytes) => bytes.fill(0x77), BLOCK_BYTES);
    group.start(1, [1]);
    await group.run(4000);
    expect(group.refused).toEqual([]);
    expect(group.events.get(1)).toContain('log repaired');
    await group.rest();
    group.expectIdentical();
  });
});
