import type { PeerStatus } from '../raft/types.ts';

/** Waiting `all` sends; beyond, add() refuses: nobody is told that all have what was not waited for. */
const MAX_WAITING = 65_536;

/**
 * Replication mode `all`: a send is answered when every in-sync replica has it on disk, as with RocketMQ's SYNC_MASTER.
 * In sync = fed by the pipeline and heard from lately; a dead follower drops out after `silenceMs`, so it delays sends
 * that long and no longer.
 */
export class InSyncWaiters {
  readonly #silenceMs: number;
  #waiting: { readonly index: number; readonly done: (ok: boolean) => void }[] = [];

  constructor(silenceMs: number) {
    this.#silenceMs = silenceMs;
  }

  add(index: number, done: (ok: boolean) => void): boolean {
    if (this.#waiting.length >= MAX_WAITING) return false;
    this.#waiting.push({ index, done });
    return true;
  }

  get size(): number {
    return this.#waiting.length;
  }

  /** Lowest durable end among the in-sync followers, Infinity when there is none. */
  inSyncIndex(peers: readonly PeerStatus[], nowMs: number): number {
    let lowest = Number.POSITIVE_INFINITY;
    for (const peer of peers) {
      if (!peer.learner && nowMs - peer.lastContactMs <= this.#silenceMs) lowest = Math.min(lowest, peer.matchIndex);
    }
    return lowest;
  }

  progressed(peers: readonly PeerStatus[], nowMs: number): void {
    if (this.#waiting.length === 0) return;
    const index = this.inSyncIndex(peers, nowMs);
    let ready = 0;
    while (ready < this.#waiting.length && (this.#waiting[ready] as { index: number }).index <= index) ready++;
    for (const { done } of this.#waiting.splice(0, ready)) done(true);
  }

  failAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { done } of waiting) done(false);
  }
}
