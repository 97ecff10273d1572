import type { ReplicaId } from '../raft/types.ts';

/**
 * A peer whose link ended may come back with another release. Links are also replaced for a moment when a group forms, and
 * nobody changes its release within this time.
 */
const LOST_LINK_MS = 3_000;

/** What the replicas of the group said they can read. One entry a member: strangers are refused before they are noted here. */
export class AnnouncedLevels {
  readonly #heard = new Map<ReplicaId, { readonly level: number; lostAtMs: number | null }>();

  heard(peer: ReplicaId, level: number): void {
    this.#heard.set(peer, { level, lostAtMs: null });
  }

  lost(peer: ReplicaId, nowMs: number): void {
    const heard = this.#heard.get(peer);
    if (heard !== undefined) heard.lostAtMs = nowMs;
  }

  /** Highest level that this replica and all of `peers` know; 0 while one of them was not heard, or was lost since. */
  common(own: number, peers: readonly ReplicaId[], nowMs: number): number {
    let level = own;
    for (const peer of peers) {
      const heard = this.#heard.get(peer);
      if (heard === undefined || (heard.lostAtMs !== null && nowMs - heard.lostAtMs > LOST_LINK_MS)) return 0;
      level = Math.min(level, heard.level);
    }
    return level;
  }
}
