import { closeSync, openSync, readdirSync, readSync, rmSync, statSync, truncateSync, writeSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Prng } from '../../sim/prng.ts';
import { type ChaosCluster, MEMBERS } from '../cluster/chaos-cluster.ts';
import type { ChaosReplica } from '../cluster/replica.ts';
import { type FaultStage, first, type StartFault } from './fault.ts';

const COPIES_TIMEOUT_MS = 30_000;
const POLL_MS = 100;
/** Directory of the data directory → share of the damage that it gets. */
const SHARES: readonly (readonly [directory: string, share: number])[] = [
  ['commitlog', 0.6],
  ['consumequeue', 0.15],
  ['index', 0.05],
  ['snapshot', 0.1],
  ['raft', 0.1],
];
const MAX_FLIPS = 4;
/** What a damaged replica has set aside is an operator's to remove; two of them are kept at most. */
const SET_ASIDE = 'set-aside';

/**
 * Stops a replica, when the others have all that it may have acknowledged: what is done to its files may then be anything, and two
 * good copies are there. Damage that shortens a log by less than the durable end tells is not noticed by its owner (docs/guarantees.md).
 */
async function stopWithCopies({ cluster, order, prng }: FaultStage): Promise<{ replica: ChaosReplica; copies: boolean }> {
  const replica = first(order);
  await replica.end(prng.chance(0.5) ? 'SIGKILL' : 'SIGTERM');
  return { replica, copies: await othersHaveAll(cluster, replica) };
}

/** Whatever the stopped one has acknowledged was committed, or is known to one of the others: once both hold the same, both hold that. */
async function othersHaveAll(cluster: ChaosCluster, stopped: ChaosReplica): Promise<boolean> {
  const deadlineMs = performance.now() + COPIES_TIMEOUT_MS;
  let wanted: number | null = null;
  for (;;) {
    const statuses = (await Promise.all(cluster.members.filter((each) => each !== stopped).map((each) => cluster.status(each)))).filter(
      (status) => status !== null,
    );
    const leads = statuses.some(({ role }) => role === 'leader');
    if (statuses.length === 2 && leads) {
      wanted ??= Math.max(...statuses.map(({ lastIndex }) => lastIndex));
      if (statuses.every(({ durableIndex, commitIndex }) => Math.min(durableIndex, commitIndex) >= (wanted as number))) return true;
    }
    if (performance.now() > deadlineMs) return false;
    await sleep(POLL_MS);
  }
}

function filesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => statSync(path).size > 0)
      .sort();
  } catch {
    return [];
  }
}

/** A file of the replica that holds something; the log most of the time. */
function pickFile(replica: ChaosReplica, prng: Prng): string {
  const found = SHARES.map(([directory, share]) => ({ files: filesBelow(join(replica.dataDir, directory)), share })).filter(
    ({ files }) => files.length > 0,
  );
  let at = prng.unit() * found.reduce((sum, { share }) => sum + share, 0);
  for (const { files, share } of found) {
    at -= share;
    if (at <= 0) return prng.pick(files);
  }
  throw new Error(`${replica.dataDir} holds no files`);
}

function flip(path: string, prng: Prng): string {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  const done: string[] = [];
  try {
    const size = statSync(path).size;
    for (let flips = prng.between(1, MAX_FLIPS); flips > 0; flips--) {
      const position = prng.between(0, size - 1);
      readSync(file, byte, 0, 1, position);
      const before = byte[0] as number;
      byte[0] = before ^ (1 << prng.between(0, 7));
      writeSync(file, byte, 0, 1, position);
      done.push(`${position}: ${before} → ${byte[0]}`);
    }
  } finally {
    closeSync(file);
  }
  return done.join(', ');
}

const damage =
  (harm: (path: string, prng: Prng) => string): StartFault =>
  async (stage) => {
    const { replica, copies } = await stopWithCopies(stage);
    let text = 'the others did not have all of it in time: left alone';
    if (copies) {
      const path = pickFile(replica, stage.prng);
      text = `${relative(replica.dataDir, path)} of ${replica.name}: ${harm(path, stage.prng)}`;
    }
    return {
      targets: [replica.name],
      end: async () => {
        rmSync(join(replica.dataDir, SET_ASIDE), { recursive: true, force: true });
        replica.start(MEMBERS);
        return { fired: copies, text };
      },
    };
  };

function truncate(path: string, prng: Prng): string {
  const before = statSync(path).size;
  truncateSync(path, prng.between(0, before - 1));
  return `${before} → ${statSync(path).size} bytes`;
}

export const DAMAGE_FAULTS: Readonly<Record<string, StartFault>> = { 'bit-flip': damage(flip), truncate: damage(truncate) };
