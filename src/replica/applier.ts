import { assert } from '../base/assert.ts';
import type { Clock } from '../io/clock.ts';
import { BLOCK_BYTES, ENTRY_HEADER_BYTES } from '../log/layout.ts';
import type { EntryView, Log } from '../log/types.ts';
import type { AppliedEntry, StateMachine } from './types.ts';

/** Applying pauses after this long so that heartbeats and sockets get their turn (FAULTS 17). */
const MAX_APPLY_MS_PER_TURN = 8;
/** Entries between two looks at the clock. */
const ENTRIES_PER_SLICE = 512;

export interface ApplierPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly stateMachine: StateMachine;
  readonly segmentBytes: number;
  /** The next entry to apply is the first of a segment: the state before it belongs at the segment's head. */
  segmentStarts(appliedIndex: number, logTimeMs: number, basePosition: number): void;
  /** The state includes everything up to appliedIndex, and commitIndex === appliedIndex or the turn is over. */
  advanced(appliedIndex: number): void;
  /** Committed bytes could not be read back: the replica cannot go on. */
  failed(error: unknown): void;
}

/** Takes committed entries to the state machine, in log order, each once: from memory where they still are, else from the files. */
export class Applier {
  readonly #ports: ApplierPorts;
  readonly #visit: (entry: EntryView) => void;
  #appliedIndex: number;
  #logTimeMs = 0;
  #endPosition: number;
  #commitIndex: number;
  #segment: number;
  #busy = false;
  /** A run is on the stack: what a callback commits is taken by it. */
  #running = false;
  #paused = false;
  #cold: Promise<void> | null = null;
  #stopped = false;

  /** @param position where the entry after `appliedIndex` lies */
  constructor(ports: ApplierPorts, appliedIndex: number, position: number) {
    this.#ports = ports;
    this.#appliedIndex = appliedIndex;
    this.#endPosition = position;
    this.#commitIndex = appliedIndex;
    this.#segment = segmentBefore(position, ports.segmentBytes);
    this.#visit = (entry) => this.#apply(entry);
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  /** Log time of the last applied entry, ms. */
  get logTimeMs(): number {
    return this.#logTimeMs;
  }

  /** Behind the last applied entry. */
  get endPosition(): number {
    return this.#endPosition;
  }

  /** A snapshot from the leader took the place of state and log. */
  restart(appliedIndex: number, position: number): void {
    this.#paused = false;
    this.#appliedIndex = appliedIndex;
    this.#commitIndex = appliedIndex;
    this.#endPosition = position;
    this.#segment = segmentBefore(position, this.#ports.segmentBytes);
  }

  commit(commitIndex: number): void {
    if (commitIndex <= this.#commitIndex) return;
    this.#commitIndex = commitIndex;
    if (!this.#busy && !this.#running && !this.#paused) this.#run();
  }

  /** Until restart() nothing is applied: the log is about to be replaced. Resolves when no read of it is under way. */
  async pause(): Promise<void> {
    this.#paused = true;
    await this.#cold;
  }

  stop(): void {
    this.#stopped = true;
  }

  #run(): void {
    const { clock, log } = this.#ports;
    const startMs = clock.monotonicMs();
    const before = this.#appliedIndex;
    let cold = false;
    this.#running = true;
    while (this.#appliedIndex < this.#commitIndex && !this.#stopped) {
      const to = Math.min(this.#commitIndex, this.#appliedIndex + ENTRIES_PER_SLICE);
      const visited = log.visitHot(this.#appliedIndex + 1, to, this.#visit);
      if (visited < to) {
        cold = true;
        break;
      }
      if (clock.monotonicMs() - startMs > MAX_APPLY_MS_PER_TURN) break;
    }
    if (this.#appliedIndex > before) this.#announce();
    this.#running = false;
    if (this.#appliedIndex >= this.#commitIndex || this.#stopped) return;
    this.#busy = true;
    if (cold) this.#cold = this.#runCold();
    else clock.defer(() => this.#resume());
  }

  async #runCold(): Promise<void> {
    try {
      const before = this.#appliedIndex;
      const { log } = this.#ports;
      // What is committed may be ahead of the own disk: in memory, but not whole in the file.
      const to = Math.min(this.#commitIndex, Math.max(log.durableIndex, before + 1));
      await log.visitCold(before + 1, to, this.#visit);
      if (this.#stopped) return;
      assert(this.#appliedIndex > before, `no committed entry at ${before + 1}`);
      this.#announce();
      this.#ports.clock.defer(() => this.#resume());
    } catch (error) {
      if (!this.#stopped) this.#ports.failed(error);
    } finally {
      this.#cold = null;
    }
  }

  #resume(): void {
    this.#busy = false;
    if (!this.#stopped && !this.#paused) this.#run();
  }

  #announce(): void {
    this.#ports.stateMachine.applied(this.#appliedIndex);
    this.#ports.advanced(this.#appliedIndex);
  }

  #apply(entry: EntryView): void {
    if (this.#stopped) return;
    assert(entry.index === this.#appliedIndex + 1, `apply out of order: ${entry.index} after ${this.#appliedIndex}`);
    const segment = Math.floor(entry.position / this.#ports.segmentBytes);
    if (segment !== this.#segment) {
      this.#ports.segmentStarts(this.#appliedIndex, this.#logTimeMs, segment * this.#ports.segmentBytes);
      this.#segment = segment;
    }
    this.#ports.stateMachine.apply(entry as AppliedEntry);
    this.#appliedIndex = entry.index;
    this.#logTimeMs = entry.logTimeMs;
    this.#endPosition = entry.position + ENTRY_HEADER_BYTES + entry.body.length;
  }
}

/**
 * The segment that the applied entries end in. A state at a segment's head may be one that was taken before the head was known to be
 * one, and lacks the note of it: the start is said again, which is harmless, or a cut there would be none on this replica alone (seed 368).
 */
function segmentBefore(position: number, segmentBytes: number): number {
  const segment = Math.floor(position / segmentBytes);
  return segment > 0 && position % segmentBytes <= BLOCK_BYTES ? segment - 1 : segment;
}
