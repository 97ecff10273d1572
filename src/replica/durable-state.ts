import type { HardStateFile, StoredHardState } from '../log/hard-state.ts';
import type { HardState } from '../raft/types.ts';

/** The recorded durable end trails the real one by so much at most: what a shortened log can hide without being noticed. */
const DURABLE_END_STEP_BYTES = 16 * 1024 * 1024;

export interface VoteFloor {
  /** 0 = none. */
  readonly voteFloor: number;
  /** Missing or 0: not known. */
  readonly voteFloorTerm?: number;
}

/** Of two floors the one that fewer logs reach: by term, then by index, as logs are compared. */
export function higherFloor(a: VoteFloor, b: VoteFloor): { readonly voteFloor: number; readonly voteFloorTerm: number } {
  const [aTerm, bTerm] = [a.voteFloorTerm ?? 0, b.voteFloorTerm ?? 0];
  const first = aTerm > bTerm || (aTerm === bTerm && a.voteFloor >= b.voteFloor);
  return first ? { voteFloor: a.voteFloor, voteFloorTerm: aTerm } : { voteFloor: b.voteFloor, voteFloorTerm: bTerm };
}

export const NOTHING_STORED: StoredHardState = { term: 0, votedFor: 0, durableEndPosition: 0, voteFloor: 0, opaque: new Uint8Array(0) };

const BUFFERED = 'buffered ';

/** While a replica flushes asynchronously: the boot of the machine it does so in. null = everything acknowledged was synced. */
export function bufferedBootOf({ opaque }: StoredHardState): string | null {
  const text = new TextDecoder().decode(opaque);
  return text.startsWith(BUFFERED) ? text.slice(BUFFERED.length) : null;
}

export function withBufferedBoot(state: StoredHardState, bootId: string | null): StoredHardState {
  return { ...state, opaque: new TextEncoder().encode(bootId === null ? '' : BUFFERED + bootId) };
}

/**
 * Term, vote, vote floor and the recorded durable end, all in the one hard-state file. `settled` is false while a term or
 * vote is not on stable storage yet: until then nothing may be said, and no own write counted, that depends on it (I2, FAULTS 1).
 */
export class DurableState {
  readonly #file: HardStateFile;
  readonly #failed: (error: unknown) => void;
  #state: StoredHardState;
  #unsettled = 0;

  constructor(file: HardStateFile, failed: (error: unknown) => void) {
    this.#file = file;
    this.#state = file.load() ?? NOTHING_STORED;
    this.#failed = failed;
  }

  get state(): StoredHardState {
    return this.#state;
  }

  get settled(): boolean {
    return this.#unsettled === 0;
  }

  /** @param done called when this term and vote are on stable storage; never when that failed */
  saveVote(hard: HardState, done: () => void): void {
    this.#state = { ...this.#state, term: hard.term, votedFor: hard.votedFor };
    this.#unsettled++;
    this.#file.save(this.#state).then(() => {
      this.#unsettled--;
      done();
    }, this.#failed);
  }

  saveVoteFloor(voteFloor: number, voteFloorTerm: number): void {
    this.#state = { ...this.#state, voteFloor, voteFloorTerm };
    this.#file.save(this.#state).catch(this.#failed);
  }

  /**
   * The log is proven to be on stable storage up to here: noted now and then, and the first time at once, so that a shortened
   * or emptied log is recognised at the next start (I5).
   */
  noteDurableEnd(position: number): void {
    const noted = this.#state.durableEndPosition;
    if (position <= noted || (noted !== 0 && position < noted + DURABLE_END_STEP_BYTES)) return;
    this.#state = { ...this.#state, durableEndPosition: position };
    this.#file.save(this.#state).catch(this.#failed);
  }

  /** Before a truncation to `endPosition`, or the next start takes it for a loss. */
  async lowerDurableEnd(endPosition: number): Promise<void> {
    if (endPosition >= this.#state.durableEndPosition) return;
    this.#state = { ...this.#state, durableEndPosition: endPosition };
    await this.#file.save(this.#state);
  }

  /** A clean stop: everything is synced up to here, and nothing was ever reported beyond. */
  async saveClean(endPosition: number): Promise<void> {
    this.#state = withBufferedBoot({ ...this.#state, durableEndPosition: endPosition }, null);
    await this.#file.save(this.#state);
  }
}
