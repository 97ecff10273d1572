/**
 * Found by simulation seed 3179: three replicas, each with one damaged group among the newest megabytes, each group whole on two of them, and
 * nobody could lead for long.
 *
 * Mechanism: a group with missing sectors in what may be the last write, with whole groups behind it, is a floor for votes: the log ends
 * before it. What stood behind it was shown to nobody and zeroed at a leader's first append, though it may be the last good copy
 * of what the leader's own disk has lost. Two such replicas left the third with damage that nobody could mend.
 *
 * Prevented: a starting replica asks the others first. A group that leads to what stands behind it here is what stood in its place,
 * and the log is whole again; only when nobody has it in time is there a floor.
 */
import { expect, test } from 'vitest';
import { answerGroups, LogRepair, type RepairView } from '../../src/replica/repair.ts';
import { appendDurable, bodyOf, entriesOf, FIRST_SEGMENT, newDisk, openLog } from '../log/support.ts';

const GROUPS = 9;
const TORN = 4;

/** @param forkedFrom from this group on other bytes than those of the others */
async function written(forkedFrom = GROUPS + 1) {
  const world = newDisk(5);
  const opened = await openLog(world);
  for (let i = 1; i <= GROUPS; i++) await appendDurable(opened, i < forkedFrom ? i : 1000 + i);
  const place = opened.log.groupAt(TORN)?.position as number;
  return { ...world, opened, place };
}

/** A replica whose group TORN has lost a sector starts beside one peer. */
async function start(peer: Awaited<ReturnType<typeof written>> | null) {
  const own = await written();
  own.disk.crash();
  own.disk.poke(FIRST_SEGMENT, own.place, new Uint8Array(512));
  const before = own.disk.peek(FIRST_SEGMENT);
  const events: string[] = [];
  const askedMs: number[] = [];
  const peerView = (): RepairView => ({
    verifier: (peer as NonNullable<typeof peer>).opened.log.verifier,
    committedIndex: () => 0,
    lastIndex: () => GROUPS,
    givenIndex: () => GROUPS,
    isRunning: true,
  });
  const repair = new LogRepair({
    clock: own.clock,
    peers: {
      reachable: peer === null ? [] : [2],
      ask: async (_peer, _kind, a, b) => {
        askedMs.push(own.clock.monotonicMs());
        const answer = await answerGroups(peerView(), a, b, () => undefined);
        return { id: 1, status: answer.status, a: answer.a ?? 0, b: answer.b ?? 0, bytes: answer.bytes ?? new Uint8Array(0) };
      },
    },
    others: () => [2],
    bytesPerSecond: 1e12,
    onEvent: (name) => events.push(name),
  });
  const { log } = await openLog(own, {
    bridge: ({ verifier, from }, laterIndex) =>
      repair.bridge({ verifier, committedIndex: () => 0, lastIndex: () => laterIndex, givenIndex: () => 0, isRunning: false }, from, 2_000),
  });
  return { ...own, log, before, events };
}

test('issue 3: what looks like a torn last write is mended by a replica that has what leads to the groups behind it', async () => {
  const { log, events } = await start(await written());
  expect(log.recovery).toMatchObject({ voteFloor: 0, tornBytes: 0 });
  expect(log.lastIndex).toBe(GROUPS);
  expect((await entriesOf(log)).map(({ body }) => body)).toEqual(Array.from({ length: GROUPS }, (_, i) => bodyOf(i + 1).body));
  expect(events).toEqual(['log repaired']);
});

test('issue 3: nobody has it, or another group in its place: a floor as before, and nothing is changed', async () => {
  for (const peer of [null, await written(TORN), await written(TORN - 1)]) {
    const { log, before, disk, events } = await start(peer);
    expect(log.recovery.voteFloor).toBe(GROUPS);
    expect(log.lastIndex).toBe(TORN - 1);
    expect(disk.peek(FIRST_SEGMENT)).toEqual(before);
    expect(events).toEqual([]);
  }
});
