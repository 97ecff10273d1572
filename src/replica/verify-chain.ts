import type { Log } from '../log/types.ts';
import type { LogDamage, VerifyChainRequest, VerifyChainResponse } from '../protocol/raft-requests.ts';
import type { StateMachine } from './types.ts';

/** Entries of one slice: small enough to find a difference, large enough for a short answer. */
const SLICE_ENTRIES = 16_384;

/**
 * Hashes of a range of the log, slice by slice, cut at group boundaries, which are the same on all replicas (FAULTS 8).
 * @param request indexes; fromIndex below the log's start begins there
 */
export async function verifyChain(
  log: Log,
  stateMachine: StateMachine,
  appliedIndex: () => number,
  request: VerifyChainRequest,
  damages: () => readonly LogDamage[] = () => [],
): Promise<VerifyChainResponse> {
  const fromIndex = Math.max(request.fromIndex, log.firstIndex);
  const toIndex = Math.min(request.toIndex, log.durableIndex);
  const slices: VerifyChainResponse['slices'][number][] = [];
  const known = new Set(damages());
  let first = fromIndex;
  while (first <= toIndex) {
    // From the log itself: a replica that has started again knows fewer groups by heart than one that has not.
    const before = await log.boundaryAt(first - 1);
    let last = 0;
    // One group may hold more entries than a slice.
    for (let wanted = first - 1; last < first && wanted < toIndex; ) {
      wanted = Math.min(toIndex, wanted + SLICE_ENTRIES);
      last = (await log.boundaryAt(wanted))?.index ?? 0;
    }
    if (before === null || last < first || last > toIndex) break;
    const { crc } = await log.hashRange(first, last);
    slices.push({ firstIndex: first, lastIndex: last, position: before.position, hash: crc });
    first = last + 1;
  }
  const digestIndex = appliedIndex();
  // A read that meets damage waits for its repair: the hash is that of the mended bytes, and the damage is told besides.
  const met = damages().filter((damage) => !known.has(damage) && damage.index >= fromIndex && damage.index < first);
  const answer = { fromIndex, toIndex: first - 1, slices, stateDigest: stateMachine.digest(), digestIndex };
  return met.length === 0 ? answer : { ...answer, damages: met };
}
