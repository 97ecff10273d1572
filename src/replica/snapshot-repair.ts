import type { Clock } from '../io/clock.ts';
import { isOutOfSpace } from '../io/disk.ts';
import { SnapshotDamagedError } from '../log/snapshot-format.ts';
import type { SnapshotReceiver, SnapshotStore } from '../log/snapshot-store.ts';
import type { ReplicaId } from '../raft/types.ts';
import { RepairStopped } from './repair.ts';
import { RepairKind, RepairStatus } from './repair-frames.ts';
import type { OwnAnswer, RepairPeers } from './repair-peers.ts';

const SLICE_BYTES = 1024 * 1024;
const RETRY_MS = 500;

type Given = 'done' | 'missing' | 'later';

export interface SnapshotRepairPorts {
  readonly clock: Clock;
  others(): readonly ReplicaId[];
  onEvent(name: string, fields: Record<string, string | number>): void;
}

/**
 * Fetches the state at a segment's head from a peer: at the same position all replicas have the same. Asks until every other replica was
 * heard.
 * @returns false when none has it. Rejects with RepairStopped.
 */
export async function repairSnapshot(
  ports: SnapshotRepairPorts,
  peers: Pick<RepairPeers, 'ask' | 'reachable' | 'isStopped'>,
  store: SnapshotStore,
  position: number,
): Promise<boolean> {
  for (;;) {
    const given = await askForSnapshot(ports, peers, store, position);
    if (given !== 'later') return given === 'done';
    await new Promise<void>((resolve) => {
      ports.clock.setTimer(RETRY_MS, resolve);
    });
  }
}

/** Asks each replica once that can be reached. @returns `missing` when every other one was heard and none has it. Rejects with RepairStopped. */
export async function askForSnapshot(
  ports: Omit<SnapshotRepairPorts, 'clock'>,
  peers: Pick<RepairPeers, 'ask' | 'reachable' | 'isStopped'>,
  store: SnapshotStore,
  position: number,
): Promise<Given> {
  if (peers.isStopped) throw new RepairStopped('stopped');
  const without = new Set<ReplicaId>();
  for (const peer of peers.reachable) {
    const found = await fetchFrom(peers, peer, store, position);
    if (found === 'done') {
      ports.onEvent('snapshot repaired', { position, peer });
      return 'done';
    }
    if (found === 'missing') without.add(peer);
  }
  return ports.others().every((id) => without.has(id)) ? 'missing' : 'later';
}

async function fetchFrom(peers: Pick<RepairPeers, 'ask'>, peer: ReplicaId, store: SnapshotStore, position: number): Promise<Given> {
  let receiver: SnapshotReceiver | null = null;
  try {
    for (;;) {
      const answer = await peers.ask(peer, RepairKind.snapshot, position, receiver?.receivedBytes ?? 0);
      if (answer === null || answer.status === RepairStatus.busy) return 'later';
      if (answer.status !== RepairStatus.ok || answer.bytes.length === 0) return 'missing';
      receiver ??= await store.receive(true);
      await receiver.write(answer.bytes);
      if (receiver.receivedBytes < answer.a) continue;
      if (receiver.meta?.position !== position) return 'missing';
      const whole = receiver;
      receiver = null;
      await whole.finish();
      return 'done';
    }
  } catch (error) {
    // No room for the copy now: no reason to stop, retention may make some (FAULTS 3; simulation seeds 1418, 2645).
    if (isOutOfSpace(error)) return 'later';
    if (!(error instanceof SnapshotDamagedError)) throw error;
    return 'missing';
  } finally {
    await receiver?.abort();
  }
}

/** Answers a peer: a piece of the state at a segment's head. */
export async function answerSnapshot(store: SnapshotStore, position: number, offset: number): Promise<OwnAnswer> {
  const meta = store.list().find((one) => one.position === position);
  if (meta === undefined) return { status: RepairStatus.missing };
  const bytes = new Uint8Array(SLICE_BYTES);
  try {
    const got = await store.readSlice(meta, bytes, offset);
    return { status: RepairStatus.ok, a: store.fileBytes(meta), bytes: bytes.subarray(0, got) };
  } catch (error) {
    // Retention removed it meanwhile.
    if (!store.list().includes(meta)) return { status: RepairStatus.missing };
    throw error;
  }
}
