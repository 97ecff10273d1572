import type { Refusal } from './datagram.ts';

/** What one broker's gossip counts, for its metrics. */
export interface GossipCounts {
  datagramsIn: number;
  datagramsOut: number;
  bytesIn: number;
  bytesOut: number;
  /** Datagrams that were not taken. */
  readonly refused: Record<Refusal, number>;
  recordsTaken: number;
  /** Records that a bound kept out. */
  dropped: number;
  /** The same epoch with another body. */
  conflicts: number;
  /** Members that became suspects here, and those of them that were found alive. */
  suspicions: number;
  suspicionsEnded: number;
  /** Suspicions about this broker that it refuted. */
  refutations: number;
  deaths: number;
  /** Exchanges begun. */
  syncs: number;
}

export function newCounts(): GossipCounts {
  return {
    datagramsIn: 0,
    datagramsOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    refused: { foreign: 0, mac: 0, malformed: 0 },
    recordsTaken: 0,
    dropped: 0,
    conflicts: 0,
    suspicions: 0,
    suspicionsEnded: 0,
    refutations: 0,
    deaths: 0,
    syncs: 0,
  };
}
