import type { Clock } from '../io/clock.ts';
import type { RaftCore, ReplicaId } from '../raft/types.ts';
import { type Candidate, type HandOver, type HandOverReason, isFit, LeadershipWatch, type PeerHealth, priorityOf } from './leadership.ts';
import type { LogClock } from './log-clock.ts';

export interface HandOversPorts {
  readonly clock: Clock;
  readonly raft: RaftCore;
  readonly logClock: LogClock;
  readonly electionTimeoutMs: number;
  health(): PeerHealth;
}

/** To whom a leader may hand over, and whether it should (F49, FAULTS 3, DESIGN.md "Raft"). Decides; the replica carries it out. */
export class HandOvers {
  readonly #ports: HandOversPorts;
  readonly #watch = new LeadershipWatch();
  /** Committed at the last look at who should lead: what a replica in sync has. */
  #committedBefore = 0;
  readonly counts: Record<HandOverReason | 'balance', number> = { disk: 0, clock: 0, priority: 0, balance: 0 };

  constructor(ports: HandOversPorts) {
    this.#ports = ports;
  }

  /** This replica leads from now on. */
  restart(lastIndex: number): void {
    this.#watch.restart();
    this.#committedBefore = lastIndex;
  }

  /** What a peer says of itself. */
  heard(peer: ReplicaId, health: PeerHealth): void {
    this.#watch.heard(peer, health, this.#ports.clock.monotonicMs());
  }

  /** A full disk, a clock that is off, a replica that should lead before this one: leadership goes where it is better off. */
  due(nowMs: number): HandOver | null {
    const { raft, logClock, health } = this.#ports;
    if (raft.role !== 'leader' || !this.#watch.isDue(nowMs)) return null;
    const handOver = this.#watch.check(nowMs, { ...health(), skewMs: logClock.skewMs() }, this.#candidates());
    this.#committedBefore = raft.commitIndex;
    return handOver;
  }

  /** Voters that are in step. */
  inSync(): ReplicaId[] {
    return this.#candidates()
      .filter(({ inSync }) => inSync)
      .map(({ replicaId }) => replicaId);
  }

  /** The replicas that may lead as well as this one, and are not meant to come after it. */
  targets(): ReplicaId[] {
    const { belowReserve, priority } = this.#ports.health();
    return this.#candidates()
      .filter((peer) => isFit(peer) && (belowReserve || peer.health !== null) && priorityOf(peer) >= priority)
      .map(({ replicaId }) => replicaId);
  }

  /** The most advanced voter that was heard lately; 0 = none. */
  best(): ReplicaId {
    const { raft, clock, electionTimeoutMs } = this.#ports;
    const nowMs = clock.monotonicMs();
    let best = 0;
    let bestMatch = -1;
    for (const { id, learner, lastContactMs, matchIndex } of raft.progress()) {
      if (learner || nowMs - lastContactMs > electionTimeoutMs || matchIndex <= bestMatch) continue;
      best = id;
      bestMatch = matchIndex;
    }
    return best;
  }

  #candidates(): Candidate[] {
    const { raft, clock, logClock, electionTimeoutMs } = this.#ports;
    const nowMs = clock.monotonicMs();
    return raft
      .progress()
      .filter((peer) => !peer.learner)
      .map(({ id, lastContactMs, matchIndex, state }) => ({
        replicaId: id,
        inSync: state === 'replicate' && nowMs - lastContactMs <= electionTimeoutMs && matchIndex >= this.#committedBefore,
        health: this.#watch.health(id, nowMs),
        skewMs: logClock.peerSkewMs(id),
      }));
  }
}
