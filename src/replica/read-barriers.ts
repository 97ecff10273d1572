import type { Clock } from '../io/clock.ts';

/** Reads that may wait for one barrier round; beyond, the answer is "not now" and the client asks again. */
const MAX_WAITING_READS = 16_384;

interface Round {
  readonly reads: ((ok: boolean) => void)[];
  /** What must be applied here before the round is answered; null until the leader's quorum confirmed it. */
  index: number | null;
}

/**
 * Linearizable reads by ReadIndex (thesis 6.4): one heartbeat round serves all reads of a turn, and no lease is trusted,
 * so a paused leader that wakes up answers none from its stale state (FAULTS 12).
 */
export class ReadBarriers {
  readonly #clock: Clock;
  readonly #ask: (context: number) => void;
  readonly #rounds = new Map<number, Round>();
  #gathering: ((ok: boolean) => void)[] = [];
  #waiting = 0;
  #nextContext = 1;

  /** @param ask starts a round in the Raft core; confirmed() answers it */
  constructor(clock: Clock, ask: (context: number) => void) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** Rounds asked for so far. */
  get rounds(): number {
    return this.#nextContext - 1;
  }

  add(done: (ok: boolean) => void): void {
    if (this.#waiting >= MAX_WAITING_READS) {
      done(false);
      return;
    }
    this.#waiting++;
    this.#gathering.push(done);
    if (this.#gathering.length > 1) return;
    this.#clock.defer(() => {
      const reads = this.#gathering;
      this.#gathering = [];
      if (reads.length === 0) return;
      const context = this.#nextContext++;
      this.#rounds.set(context, { reads, index: null });
      this.#ask(context);
    });
  }

  /** The core's answer. @param index null = refused: not the leader, or nothing of its own term committed yet */
  confirmed(context: number, index: number | null, appliedIndex: number): void {
    const round = this.#rounds.get(context);
    if (!round) return;
    if (index === null) this.#finish(context, round, false);
    else {
      round.index = index;
      this.applied(appliedIndex);
    }
  }

  applied(appliedIndex: number): void {
    for (const [context, round] of this.#rounds) {
      if (round.index !== null && round.index <= appliedIndex) this.#finish(context, round, true);
    }
  }

  /** Leadership ended or the replica stops: nothing pending can be confirmed any more. */
  failAll(): void {
    for (const [context, round] of this.#rounds) this.#finish(context, round, false);
    const reads = this.#gathering;
    this.#gathering = [];
    this.#waiting -= reads.length;
    for (const done of reads) done(false);
  }

  #finish(context: number, round: Round, ok: boolean): void {
    this.#rounds.delete(context);
    this.#waiting -= round.reads.length;
    for (const done of round.reads) done(ok);
  }
}
