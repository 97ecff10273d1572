import type { Log, LogCursor } from '../log/types.ts';
import type { ReplicaId } from '../raft/types.ts';
import { RepairKind, RepairStatus } from './repair-frames.ts';
import type { OwnAnswer, RepairPeers } from './repair-peers.ts';

export interface SliceComparerPorts {
  readonly log: Log;
  readonly peers: Pick<RepairPeers, 'ask' | 'reachable'>;
  onEvent(name: string, fields: Record<string, string | number>): void;
}

/** A peer hashes at most so much for one question. */
const MAX_HASH_ENTRIES = 1_000_000;

/**
 * The rolling hash between replicas (FAULTS 8): a slice that was verified here is hashed by one peer after the other. Where both are
 * whole and differ all the same, the first group that differs is looked for, and said: checksums then cannot tell who is right.
 */
export class SliceComparer {
  readonly #ports: SliceComparerPorts;
  #turn = 0;
  compared = 0;
  differences = 0;

  constructor(ports: SliceComparerPorts) {
    this.#ports = ports;
  }

  /** @param crc of the whole groups behind `from` up to `lastIndex`, `sizeBytes` of them */
  async compare(from: LogCursor, lastIndex: number, crc: number, sizeBytes: number): Promise<void> {
    const { peers, log, onEvent } = this.#ports;
    const peer = peers.reachable[this.#turn++ % Math.max(1, peers.reachable.length)];
    if (peer === undefined) return;
    const answer = await peers.ask(peer, RepairKind.hash, from.index + 1, lastIndex);
    // Behind, cut further, or mending its own copy: another time.
    if (answer?.status !== RepairStatus.ok) return;
    this.compared++;
    if (answer.a === crc && answer.b === sizeBytes) return;
    const index = await this.#firstDifference(peer, from.index + 1, lastIndex);
    if (index === null || index < log.firstIndex) return;
    this.differences++;
    const position = (await log.boundaryAt(index - 1))?.position ?? 0;
    onEvent('logs differ', { peer, index, position });
  }

  /** By halving: one more question for each doubling of the slice. */
  async #firstDifference(peer: ReplicaId, firstIndex: number, lastIndex: number): Promise<number | null> {
    const { peers, log } = this.#ports;
    const differs = async (toIndex: number): Promise<boolean | null> => {
      const answer = await peers.ask(peer, RepairKind.hash, firstIndex, toIndex);
      if (answer?.status !== RepairStatus.ok) return null;
      const own = await log.hashRange(firstIndex, toIndex);
      return own.crc !== answer.a || own.sizeBytes !== answer.b;
    };
    if ((await differs(lastIndex)) !== true) return null;
    let low = firstIndex;
    let high = lastIndex;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const found = await differs(middle);
      if (found === null) return null;
      if (found) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Answers a peer's question: hash of the whole groups of a committed range. */
export async function answerHash(log: Log, firstIndex: number, lastIndex: number, committedIndex: number): Promise<OwnAnswer> {
  const isHere = firstIndex >= log.firstIndex && lastIndex <= Math.min(committedIndex, log.durableIndex) && firstIndex <= lastIndex;
  if (!isHere || lastIndex - firstIndex > MAX_HASH_ENTRIES) return { status: RepairStatus.missing };
  try {
    const { crc, sizeBytes } = await log.hashRange(firstIndex, lastIndex);
    return { status: RepairStatus.ok, a: crc, b: sizeBytes };
  } catch (error) {
    // Cut away while it was read.
    if (firstIndex < log.firstIndex) return { status: RepairStatus.missing };
    throw error;
  }
}
