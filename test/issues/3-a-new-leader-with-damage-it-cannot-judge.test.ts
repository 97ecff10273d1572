/**
 * Found by simulation seed 4379: a leader ended with LogCorrupt a millisecond after its election, while both other replicas were there.
 *
 * Mechanism: a follower without a log asked it for the first groups, one of which was damaged on its disk. A running replica mends only what
 * it knows to be committed, since anything else may be cut away and written anew at the same place; and a new leader knows nothing to
 * be committed before its first entry is. So nothing was mended, the read found the same damage eight times, and the replica stopped.
 *
 * Prevented: a read of what is not known to be committed waits until it is, or gone.
 */
import { expect, test } from 'vitest';
import type { SnapshotStore } from '../../src/log/snapshot-store.ts';
import type { PeerLinks, RepairFrameHandlers } from '../../src/replica/peer-links.ts';
import { RepairService } from '../../src/replica/repair-service.ts';
import { appendDurable, bodyOf, FIRST_SEGMENT, newDisk, openLog } from '../log/support.ts';

const GROUPS = 5;
const COPIES = { damaged: () => [], list: () => [] } as unknown as SnapshotStore;

async function replica(id: number, links: Map<number, { repair: RepairFrameHandlers | null }>, commitIndex: () => number) {
  const world = newDisk(5);
  const { log: written, ...rest } = await openLog(world);
  for (let i = 1; i <= GROUPS; i++) await appendDurable({ log: written, ...rest }, i);
  const place = written.groupAt(2)?.position as number;
  await written.close();
  const { log } = await openLog(world);
  const own: { repair: RepairFrameHandlers | null } & Partial<PeerLinks> = {
    repair: null,
    repairPeers: () => [...links.keys()].filter((peer) => peer !== id),
    sendRepair: (peer, type, head, bytes) => {
      const copies = [head, bytes].map((part) => Uint8Array.from(part ?? []));
      setImmediate(() => links.get(peer)?.repair?.onFrame(id, type, copies[0] as Uint8Array, copies[1] as Uint8Array));
      return true;
    },
  };
  links.set(id, own);
  const failures: unknown[] = [];
  const events: string[] = [];
  const service = new RepairService({
    clock: world.clock,
    others: () => [...links.keys()].filter((peer) => peer !== id),
    bytesPerSecond: 1e12,
    scrubBytesPerSecond: 1,
    linkUp: async () => own as PeerLinks,
    onEvent: (name) => events.push(name),
    failed: (error) => failures.push(error),
  });
  service.link(own as PeerLinks);
  service.run({ log, snapshots: COPIES, commitIndex, confirmLeads: (done) => done(true) });
  return { ...world, log, place, service, failures, events };
}

test('issue 3: a new leader reads damage that it does not know to be committed: the read waits, and is mended once it is', async () => {
  const links = new Map<number, { repair: RepairFrameHandlers | null }>();
  let committed = 0;
  const leader = await replica(1, links, () => committed);
  const other = await replica(2, links, () => GROUPS);
  const { disk, log, place } = leader;
  disk.poke(FIRST_SEGMENT, place, new Uint8Array(64));
  const seen: Uint8Array[] = [];
  let ended = false;
  const read = log
    .visitCold(2, 2, ({ body }) => seen.push(body.slice()))
    .finally(() => {
      ended = true;
    });
  const from = leader.clock.monotonicMs();
  while (leader.clock.monotonicMs() < from + 5_000) await new Promise(setImmediate);
  expect([ended, leader.failures, leader.events]).toEqual([false, [], []]);
  committed = GROUPS;
  await read;
  expect(seen).toEqual([bodyOf(2).body]);
  expect(leader.events).toEqual(['log damaged', 'log repaired']);
  await Promise.all([leader.service.stop(), other.service.stop()]);
});
