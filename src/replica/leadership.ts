import type { ReplicaId } from '../raft/types.ts';

/** A leader whose wall clock is off the group's median by more than this hands over (DESIGN.md, Raft). */
export const MAX_CLOCK_SKEW_MS = 500;
/** Time between two looks at who should lead. */
const CHECK_INTERVAL_MS = 250;
/** What a peer said of itself is believed so long: three keep-alives. */
const HEALTH_MAX_AGE_MS = 3_000;
/** A reason has to hold so long: a clock is just being set, a replica has just come back and may go again. */
const HOLD_MS = { disk: 500, clock: 1_000, priority: 5_000 } as const satisfies Record<HandOverReason, number>;
/** After a hand-over that did not come about, or one that came back. */
const RETRY_MS = 5_000;

export type HandOverReason = 'disk' | 'clock' | 'priority';

/** What a replica says of itself to its peers, with each keep-alive of a link. */
export interface PeerHealth {
  /** Its disk has less room than the reserve. */
  readonly belowReserve: boolean;
  /** Setting `leaderPriority`. */
  readonly priority: number;
}

/** Another voter, as the leader sees it. */
export interface Candidate {
  readonly replicaId: ReplicaId;
  /** Heard lately, and everything that was committed a moment ago is on its disk. */
  readonly inSync: boolean;
  /** Null: an older release, or not heard lately. */
  readonly health: PeerHealth | null;
  /** Its wall clock against the median, ms; null: not heard lately. */
  readonly skewMs: number | null;
}

export interface LeaderState extends PeerHealth {
  readonly skewMs: number;
}

export interface HandOver {
  readonly to: ReplicaId;
  readonly reason: HandOverReason;
}

const clockIsRight = (skewMs: number | null): boolean => skewMs !== null && Math.abs(skewMs) <= MAX_CLOCK_SKEW_MS;

/** May lead as well as any: in step, room on its disk as far as is known, its clock with the others'. */
export function isFit({ inSync, health, skewMs }: Candidate): boolean {
  return inSync && health?.belowReserve !== true && clockIsRight(skewMs);
}

/**
 * Whom this leader should hand over to, if to anybody. Each reason asks that the other one is better in just that respect and
 * no worse than this leader in the graver ones: so two replicas that are equally bad never hand the lead to and fro (FAULTS 3).
 */
export function decideHandOver(own: LeaderState, candidates: readonly Candidate[]): HandOver | null {
  const fit = candidates.filter(isFit).sort((a, b) => priorityOf(b) - priorityOf(a) || a.replicaId - b.replicaId);
  const roomy = fit.find(({ health }) => health !== null);
  if (own.belowReserve) return roomy === undefined ? null : { to: roomy.replicaId, reason: 'disk' };
  const first = fit[0];
  if (first === undefined) return null;
  if (!clockIsRight(own.skewMs)) return { to: first.replicaId, reason: 'clock' };
  return priorityOf(first) > own.priority ? { to: first.replicaId, reason: 'priority' } : null;
}

/** A release without priorities stands at the default. */
export function priorityOf({ health }: Candidate): number {
  return health?.priority ?? 0;
}

/** When a leader hands over: the decision must stand for a while, and is not repeated in haste. */
export class LeadershipWatch {
  readonly #health = new Map<ReplicaId, { readonly health: PeerHealth; readonly heardMs: number }>();
  #checkAtMs = 0;
  #wanted: HandOver | null = null;
  #wantedSinceMs = 0;
  #notBeforeMs = 0;

  heard(peer: ReplicaId, health: PeerHealth, nowMs: number): void {
    this.#health.set(peer, { health, heardMs: nowMs });
  }

  health(peer: ReplicaId, nowMs: number): PeerHealth | null {
    const known = this.#health.get(peer);
    return known !== undefined && nowMs - known.heardMs <= HEALTH_MAX_AGE_MS ? known.health : null;
  }

  /** Leadership was won or lost: what was wanted before says nothing. */
  restart(): void {
    this.#wanted = null;
  }

  isDue(nowMs: number): boolean {
    if (nowMs < this.#checkAtMs) return false;
    this.#checkAtMs = nowMs + CHECK_INTERVAL_MS;
    return true;
  }

  /** @returns the hand-over to be made now */
  check(nowMs: number, own: LeaderState, candidates: readonly Candidate[]): HandOver | null {
    const wanted = decideHandOver(own, candidates);
    if (wanted === null || wanted.to !== this.#wanted?.to || wanted.reason !== this.#wanted.reason) {
      this.#wanted = wanted;
      this.#wantedSinceMs = nowMs;
    }
    if (wanted === null || nowMs < this.#notBeforeMs || nowMs - this.#wantedSinceMs < HOLD_MS[wanted.reason]) return null;
    this.#notBeforeMs = nowMs + RETRY_MS;
    return wanted;
  }
}
