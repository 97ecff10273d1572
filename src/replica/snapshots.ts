import type { Clock } from '../io/clock.ts';
import { isOutOfSpace } from '../io/disk.ts';
import { BLOCK_BYTES } from '../log/layout.ts';
import type { SnapshotStore } from '../log/snapshot-store.ts';
import type { Log, LogBoundary } from '../log/types.ts';
import type { DerivedFiles } from './derived.ts';
import type { StateMachine } from './types.ts';

/** How often derived files are written behind the log. */
const FLUSH_INTERVAL_MS = 500;
/** How often a snapshot looks whether the log has become durable behind it. */
const DURABLE_POLL_MS = 20;
/** How long a snapshot waits that found no space on the disk. */
const NO_SPACE_RETRY_MS = 5_000;

export interface SnapshotsPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: SnapshotStore;
  readonly stateMachine: StateMachine;
  readonly derived: DerivedFiles;
  readonly segmentBytes: number;
  readonly intervalBytes: number;
  /** Behind the last applied entry. */
  appliedPosition(): number;
  /** The log's head was cut on disk. */
  headCut(start: LogBoundary): void;
  onEvent(name: string, fields: Readonly<Record<string, string | number>>): void;
  failed(error: unknown): void;
}

/**
 * State snapshots of one replica, and what hangs on them: derived files flushed behind the log, segments deleted when the
 * replicated start has moved and the state at the new start is safe.
 *
 * A snapshot stands at the head of each segment, for replicas behind the log's start; the newest one bounds recovery. One is
 * saved only when the log is durable behind it and the derived files are synced up to it: after a crash it never claims
 * more than what is on disk.
 */
export class Snapshots {
  readonly #ports: SnapshotsPorts;
  #work: Promise<void> = Promise.resolve();
  #pending = 0;
  #lastPosition: number;
  #cutAsked: number;
  /** The log's start in the newest saved state. */
  #savedStart: number;
  #stopped = false;
  /** The disk is full for derived files; said once. */
  #noSpace = false;
  /** No new snapshot before this time: the last one found no space. */
  #notBeforeMs = 0;

  constructor(ports: SnapshotsPorts) {
    this.#ports = ports;
    this.#lastPosition = ports.store.newest()?.position ?? 0;
    this.#cutAsked = ports.log.start.position;
    this.#savedStart = ports.stateMachine.startPosition();
    this.#flushLater();
  }

  /** The state machine stands behind `appliedIndex`, at the end of a group whose successor lies, or will lie, at `position`. */
  advanced(appliedIndex: number, logTimeMs: number, position: number): void {
    const start = this.#ports.stateMachine.startPosition();
    const due = position - this.#lastPosition >= this.#ports.intervalBytes || start > this.#savedStart;
    if (due && this.#pending === 0 && this.#ports.clock.monotonicMs() >= this.#notBeforeMs) this.#take(appliedIndex, logTimeMs, null);
    if (start > this.#cutAsked) {
      this.#cutAsked = start;
      // What it waits for may be saved later: flushing asks again.
      this.#run(() => this.#cut(start));
    }
  }

  /** The same, and the next entry is the first of the segment at `basePosition`. */
  segmentStarts(appliedIndex: number, logTimeMs: number, basePosition: number): void {
    const position = basePosition + BLOCK_BYTES;
    if (!this.#ports.store.list().some((meta) => meta.position === position)) this.#take(appliedIndex, logTimeMs, position);
  }

  /** Runs `work` while no snapshot is taken and no derived file is written. Rejects as it does; not run when stopped. */
  exclusive(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(() => (this.#stopped ? undefined : work()));
    this.#work = done.catch(() => undefined);
    return done;
  }

  /** A snapshot from the leader took the place of state and log. */
  restart(position: number): void {
    this.#lastPosition = position;
    this.#cutAsked = position;
    this.#savedStart = this.#ports.stateMachine.startPosition();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  #take(index: number, logTimeMs: number, position: number | null): void {
    const { stateMachine } = this.#ports;
    const state = stateMachine.snapshot();
    const stateDigest = stateMachine.digest();
    const start = stateMachine.startPosition();
    this.#pending++;
    this.#run(async () => {
      try {
        if (await this.#save(index, logTimeMs, position, state, stateDigest)) this.#savedStart = Math.max(this.#savedStart, start);
      } catch (error) {
        // The next one stands further on. That of a segment's head cannot be made again later: it waits, and holds nothing up.
        if (!isOutOfSpace(error)) throw error;
        this.#notBeforeMs = this.#ports.clock.monotonicMs() + NO_SPACE_RETRY_MS;
        if (position !== null) this.#saveLater(index, logTimeMs, position, state, stateDigest);
        throw error;
      } finally {
        this.#pending--;
      }
    });
  }

  /** At most one a segment, and on a full disk no segment is made: a handful. */
  #saveLater(index: number, logTimeMs: number, position: number, state: Uint8Array, stateDigest: number): void {
    this.#ports.clock.setTimer(NO_SPACE_RETRY_MS, () => {
      this.#run(async () => {
        try {
          await this.#save(index, logTimeMs, position, state, stateDigest);
        } catch (error) {
          if (isOutOfSpace(error)) this.#saveLater(index, logTimeMs, position, state, stateDigest);
          throw error;
        }
      });
    });
  }

  async #save(index: number, logTimeMs: number, headPosition: number | null, state: Uint8Array, stateDigest: number): Promise<boolean> {
    const { log, store, derived, segmentBytes } = this.#ports;
    // Committed entries may be ahead of the own disk: a majority without this replica has them.
    while (log.durableIndex < index) {
      if (this.#stopped || log.poisoned !== null) return false;
      await this.#pause(DURABLE_POLL_MS);
    }
    // With asynchronous flush that means written only; what the state stands for must be synced before the state is.
    const writtenEnd = log.durablePosition;
    while (log.syncedPosition < Math.min(writtenEnd, log.durablePosition)) {
      if (this.#stopped || log.poisoned !== null) return false;
      await this.#pause(DURABLE_POLL_MS);
    }
    const boundary = await log.boundaryAt(index);
    if (boundary === null || boundary.index !== index) return false;
    const position = headPosition ?? boundary.position;
    await derived.flush(position);
    await derived.sync();
    await store.save({ index, term: boundary.term, position, logTimeMs, previousChecksum: boundary.previousChecksum, stateDigest }, state);
    this.#lastPosition = Math.max(this.#lastPosition, position);
    if (headPosition !== null) await log.outlineSegments(headPosition);
    await store.removeBefore(position, (one) => one % segmentBytes === BLOCK_BYTES);
    return true;
  }

  /**
   * Only with the state at the new start in hand: a replica behind it could not be helped otherwise. And only when a saved
   * state names the new start: after a restart an older one would look for segments that are gone.
   */
  async #cut(startPosition: number): Promise<void> {
    const { log, store, derived } = this.#ports;
    const head = store.list().find((meta) => meta.position === startPosition + BLOCK_BYTES);
    if (head === undefined || this.#savedStart < startPosition) return;
    const start = await log.cutTo(startPosition);
    this.#ports.headCut(start);
    await derived.cutBefore(start.position);
    await store.removeBefore(start.position);
  }

  #flushLater(): void {
    this.#ports.clock.setTimer(FLUSH_INTERVAL_MS, () => {
      if (this.#stopped) return;
      this.#run(() => this.#flush());
      this.#flushLater();
    });
  }

  async #flush(): Promise<void> {
    const { derived, log, stateMachine, appliedPosition, onEvent } = this.#ports;
    // What is durable may not be applied yet: a file that is built anew must not claim it.
    await derived.flush(Math.min(log.syncedPosition, appliedPosition()));
    if (this.#noSpace) onEvent('derived files written again', {});
    this.#noSpace = false;
    // A cut whose head snapshot was not there yet.
    const start = stateMachine.startPosition();
    if (start > log.start.position) await this.#cut(start);
  }

  #run(work: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.#stopped) return;
      try {
        await work();
      } catch (error) {
        if (isOutOfSpace(error)) this.#full(error as Error);
        else this.#ports.failed(error);
      }
    });
  }

  /** All of this could be rebuilt from the log: a full disk is no reason to end, and reading goes on (FAULTS 3). */
  #full(error: Error): void {
    if (!this.#noSpace) this.#ports.onEvent('no space for derived files', { error: error.message });
    this.#noSpace = true;
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#ports.clock.setTimer(delayMs, resolve);
    });
  }
}
