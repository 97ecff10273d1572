import type { Clock } from '../io/clock.ts';
import type { ReplicaId } from '../raft/types.ts';

/** Peers' clocks older than this are not counted in the median. */
const PEER_CLOCK_MAX_AGE_MS = 10_000;
/** Log time is slewed towards the median by at most this part of the elapsed time: it never jumps while a leader leads. */
const MAX_SLEW = 0.05;

/**
 * Log time: what entries carry, and what "early", "late" and "expired" are measured in (DESIGN.md, Time).
 *
 * At election it is the larger of the last entry's time and the median of the replicas' wall clocks; then it follows the
 * leader's monotonic clock, slewed towards that median, and never goes back. So one replica whose clock is off by an hour
 * moves nothing while a majority agrees.
 */
export class LogClock {
  readonly #clock: Clock;
  readonly #peers = new Map<ReplicaId, { offsetMs: number; heardAtMs: number }>();
  #baseLogMs = 0;
  #baseMonotonicMs = 0;
  #lastMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A peer said its wall clock. Transit time is ignored: it is far below what a clock may be off. */
  heard(peer: ReplicaId, wallMs: number): void {
    const now = this.#clock.monotonicMs();
    this.#peers.set(peer, { offsetMs: wallMs - now, heardAtMs: now });
  }

  /** Median of this clock and the peers' recently heard ones, ms since 1970. */
  medianMs(): number {
    const now = this.#clock.monotonicMs();
    const walls = [this.#clock.wallMs()];
    for (const peer of this.#peers.values()) {
      if (now - peer.heardAtMs <= PEER_CLOCK_MAX_AGE_MS) walls.push(peer.offsetMs + now);
    }
    walls.sort((a, b) => a - b);
    const middle = walls.length >> 1;
    const upper = walls[middle] as number;
    return Math.floor(walls.length % 2 === 1 ? upper : ((walls[middle - 1] as number) + upper) / 2);
  }

  /** How far this replica's wall clock is from the median, ms (positive: ahead). */
  skewMs(): number {
    return this.#clock.wallMs() - this.medianMs();
  }

  /** The same of a peer; null: it was not heard lately. */
  peerSkewMs(peer: ReplicaId): number | null {
    const known = this.#peers.get(peer);
    const now = this.#clock.monotonicMs();
    if (known === undefined || now - known.heardAtMs > PEER_CLOCK_MAX_AGE_MS) return null;
    return known.offsetMs + now - this.medianMs();
  }

  /** This replica leads now. @param lastLogTimeMs time of the last entry in its log */
  lead(lastLogTimeMs: number): void {
    this.#baseMonotonicMs = this.#clock.monotonicMs();
    this.#baseLogMs = Math.max(lastLogTimeMs, this.medianMs());
    this.#lastMs = this.#baseLogMs;
  }

  /** The leader's log time now, ms since 1970, integer, never smaller than the last answer. */
  nowMs(): number {
    const monotonic = this.#clock.monotonicMs();
    const elapsed = monotonic - this.#baseMonotonicMs;
    const error = this.medianMs() - (this.#baseLogMs + elapsed);
    const slew = Math.max(-MAX_SLEW * elapsed, Math.min(MAX_SLEW * elapsed, error));
    this.#baseLogMs += elapsed + slew;
    this.#baseMonotonicMs = monotonic;
    this.#lastMs = Math.max(this.#lastMs, Math.floor(this.#baseLogMs));
    return this.#lastMs;
  }
}
