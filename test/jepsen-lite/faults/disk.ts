import { setTimeout as sleep } from 'node:timers/promises';
import { MEMBERS } from '../cluster/chaos-cluster.ts';
import type { ChaosReplica } from '../cluster/replica.ts';
import { type ShimCounts, ShimMode } from '../shim/shim.ts';
import { losePower } from '../shim/undo.ts';
import { first, type StartFault } from './fault.ts';

const MIB = 1024 * 1024;
/** Below the reserve of two segments of 16 MiB, in steps down to nothing. */
const LEFT_BYTES = [0, 64 * 1024, MIB, 20 * MIB];
const STRUCK_TIMEOUT_MS = 10_000;
const POLL_MS = 20;

const diskFull: StartFault = async ({ order, prng }) => {
  const replicas = prng.chance(0.25) ? order : order.slice(0, 1);
  const leaveBytes = prng.pick(LEFT_BYTES);
  const free = replicas.map(({ volume }) => volume.fill(leaveBytes));
  return {
    targets: replicas.map(({ name }) => name),
    end: async () => {
      for (const { volume } of replicas) volume.empty();
      const text = replicas.map(({ name, volume }, at) => `${name} had ${free[at]} bytes free, ${volume.freeBytes} afterwards`).join(', ');
      return { fired: free.every((bytes) => bytes <= leaveBytes), text };
    },
  };
};

interface Struck {
  readonly mode: number;
  readonly oneIn: number;
  readonly hits: (counts: ShimCounts) => number;
  /** How the process must end for the fault to count; null: it must go on. */
  readonly ends: 'failure' | 'SIGKILL' | null;
  /** What was not synced when it ended is gone too. */
  readonly losesPower: boolean;
}

/** Armed until it struck and the process ended of it, or as long as planned. */
const struck =
  ({ mode, oneIn, hits, ends, losesPower }: Struck): StartFault =>
  async ({ order, prng, holdMs }) => {
    const replica = first(order);
    const { shim } = replica;
    if (shim === null) throw new Error('no shim');
    const before = hits(shim.counts());
    // That it ends is the fault's doing.
    if (ends !== null) replica.held = true;
    shim.set(mode, oneIn, prng.u32());
    const happened = async (): Promise<boolean> => {
      const deadlineMs = performance.now() + (ends === null ? holdMs : STRUCK_TIMEOUT_MS);
      while (hits(shim.counts()) === before && performance.now() < deadlineMs) await sleep(POLL_MS);
      return hits(shim.counts()) > before;
    };
    const over = ends === null ? undefined : happened().then((hit) => (hit ? replica.exited(STRUCK_TIMEOUT_MS) : null));
    return {
      targets: [replica.name],
      ...(over === undefined ? {} : { over }),
      end: async () => {
        const exit = (await over) ?? null;
        shim.set(0);
        const count = hits(shim.counts()) - before;
        if (ends === null) return { fired: count > 0, text: `${replica.name}: struck ${count} times` };
        const how = exit === null ? 'did not end' : `ended with ${exit.signal ?? exit.code}`;
        const fired = count > 0 && (ends === 'SIGKILL' ? exit?.signal === 'SIGKILL' : exit !== null && exit.code !== 0);
        const lost = exit === null ? '' : restarted(replica, losesPower && prng.chance(0.5), prng);
        replica.held = false;
        return { fired, text: `${replica.name}: struck ${count} times, the process ${how}${lost}` };
      },
    };
  };

function restarted(replica: ChaosReplica, losesPower: boolean, prng: Parameters<typeof losePower>[3]): string {
  const { shim, volume } = replica;
  const lost = losesPower && shim !== null ? losePower(shim.arenaPath, volume.path, prng.chance(0.5) ? 'all' : 'some', prng) : null;
  replica.start(MEMBERS);
  return lost === null ? '' : `; then no power: lost ${lost.changes} writes (${lost.bytes} bytes) and ${lost.names} names`;
}

const failedCalls = (counts: ShimCounts): number => counts.failedWrites + counts.failedTruncates + counts.failedRenames;

export const DISK_FAULTS: Readonly<Record<string, StartFault>> = {
  'disk-full': diskFull,
  'fsync-error': struck({ mode: ShimMode.failSync, oneIn: 1, hits: (counts) => counts.failedSyncs, ends: 'failure', losesPower: true }),
  'write-error': struck({ mode: ShimMode.failWrite, oneIn: 10, hits: failedCalls, ends: 'failure', losesPower: true }),
  'short-write': struck({ mode: ShimMode.shortWrite, oneIn: 3, hits: (counts) => counts.shortWrites, ends: null, losesPower: false }),
  'torn-write': struck({ mode: ShimMode.tear, oneIn: 5, hits: (counts) => counts.tornWrites, ends: 'SIGKILL', losesPower: true }),
};
