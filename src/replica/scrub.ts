import { crc32 } from '../base/crc.ts';
import type { Clock } from '../io/clock.ts';
import { PEER_RUN_BYTES } from '../log/log-verifier.ts';
import type { Log, LogCursor } from '../log/types.ts';
import type { SliceComparer } from './slice-comparer.ts';

/** Pause at the end of the log before the next pass from its start. */
const PASS_PAUSE_MS = 5_000;
/** A disk that has so much to write is busy with what cannot wait. */
const BUSY_BYTES = 1024 * 1024;
const BUSY_PAUSE_MS = 50;
/** What replicas compare by one hash. */
const SLICE_BYTES = 16 * 1024 * 1024;

export interface ScrubPorts {
  readonly clock: Clock;
  readonly log: Log;
  /** Read and verified per second, at most. 0 = no scrub. */
  readonly bytesPerSecond: number;
  readonly comparer: SliceComparer;
  /** Last index that is committed and whole in the files. */
  lastIndex(): number;
  /** Mends what begins behind `cursor`. */
  mend(cursor: LogCursor): Promise<LogCursor>;
  /** After each pass over the log. */
  passed(): Promise<void>;
  failed(error: unknown): void;
}

/** What is compared with a peer: groups back to back, about SLICE_BYTES of them. */
interface Slice {
  readonly from: LogCursor;
  readonly crc: number;
  readonly sizeBytes: number;
}

/**
 * Reads all committed bytes again and again at a bounded rate, verifies every one, and compares them with the peers' by hash, so
 * that rot is found while there are good copies (FAULTS 5, 8). Nothing needs to be remembered: a pass finds again what the last
 * one did not mend.
 */
export class Scrub {
  readonly #ports: ScrubPorts;
  /** Made when it is needed first. */
  #buffer: Uint8Array | null = null;
  #cursor: LogCursor;
  #slice: Slice;
  #stopped = false;
  #work: Promise<void> | null = null;
  /** Verified by this process. */
  bytes = 0;
  passes = 0;

  constructor(ports: ScrubPorts) {
    this.#ports = ports;
    this.#cursor = ports.log.verifier.startCursor();
    this.#slice = { from: this.#cursor, crc: 0, sizeBytes: 0 };
  }

  start(): void {
    if (this.#ports.bytesPerSecond > 0) this.#later(PASS_PAUSE_MS / 10);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  #later(delayMs: number): void {
    this.#ports.clock.setTimer(delayMs, () => {
      if (this.#stopped) return;
      this.#work = this.#step()
        .then((pauseMs) => this.#later(pauseMs))
        .catch((error: unknown) => {
          if (!this.#stopped) this.#ports.failed(error);
        });
    });
  }

  /** @returns how long to pause */
  async #step(): Promise<number> {
    const { log, clock, bytesPerSecond } = this.#ports;
    if (log.endPosition - log.durablePosition > BUSY_BYTES) return BUSY_PAUSE_MS;
    const start = log.verifier.startCursor();
    if (this.#cursor.index < start.index) this.#moveTo(start);
    const lastIndex = this.#ports.lastIndex();
    if (this.#cursor.index >= lastIndex) {
      await this.#compare(true);
      this.#moveTo(log.verifier.startCursor());
      this.passes++;
      await this.#ports.passed();
      return PASS_PAUSE_MS;
    }
    const startedMs = clock.monotonicMs();
    this.#buffer ??= new Uint8Array(PEER_RUN_BYTES);
    const run = await log.verifier.readRun(this.#cursor, lastIndex, this.#buffer);
    if (this.#stopped) return 0;
    if (typeof run === 'string') {
      // Cut away, or replaced by a state from the leader, while it was read.
      if (this.#cursor.index < log.start.index || this.#ports.lastIndex() < lastIndex) return 0;
      const after = await this.#ports.mend(this.#cursor);
      this.#moveTo(after);
      return 0;
    }
    this.bytes += run.bytes.length;
    this.#cursor = run.end;
    this.#slice = {
      from: this.#slice.from,
      crc: crc32(run.bytes, this.#slice.crc),
      sizeBytes: this.#slice.sizeBytes + run.bytes.length,
    };
    await this.#compare(false);
    return Math.max(0, (run.bytes.length * 1000) / bytesPerSecond - (clock.monotonicMs() - startedMs));
  }

  #moveTo(cursor: LogCursor): void {
    this.#cursor = cursor;
    this.#slice = { from: cursor, crc: 0, sizeBytes: 0 };
  }

  async #compare(rest: boolean): Promise<void> {
    const { from, crc, sizeBytes } = this.#slice;
    if (sizeBytes === 0 || (!rest && sizeBytes < SLICE_BYTES)) return;
    this.#slice = { from: this.#cursor, crc: 0, sizeBytes: 0 };
    await this.#ports.comparer.compare(from, this.#cursor.index, crc, sizeBytes);
  }
}
