import type { Carrying } from './carrying.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { SegmentStart } from './segments.ts';
import type { BrokerStateMachine } from './state-machine.ts';

/**
 * Where the log should start: behind every segment whose messages are all older than the retention, and so that what is
 * left is not larger than the bound. Whole segments only; the one being written stays.
 * @returns the base of a segment, or null when nothing is to go
 */
export function cutPosition(
  startPosition: number,
  starts: readonly SegmentStart[],
  endPosition: number,
  logTimeMs: number,
  retentionMs: number,
  retentionBytes: number,
): number | null {
  let start = startPosition;
  for (const { position, logTimeMs: newestBefore } of starts) {
    const tooOld = retentionMs > 0 && newestBefore + retentionMs < logTimeMs;
    const tooLarge = retentionBytes > 0 && endPosition - start > retentionBytes;
    if (!tooOld && !tooLarge) break;
    start = position;
  }
  return start === startPosition ? null : start;
}

/** Of a log whose start waits for deliveries that are retained: its size at most, in bounds. */
const MAX_OVERSHOOT = 1.25;

/** The last start of a segment up to `wanted` before which nothing is needed any more; null: none. */
function allowedCut(state: BrokerStateMachine, wanted: number): number | null {
  for (const { position } of state.segments.starts.toReversed()) {
    if (position <= wanted && state.mayCut(position)) return position;
  }
  return null;
}

/**
 * Where to cut a log from which what is needed is carried on. What waits may wait for weeks, and is always carried. A delivery that is
 * retained is not, as a rule: the log begins so far before `wanted` that only those refer to what is gone that are gone, too. But not when
 * the log would be larger by it than its bound allows.
 * @param boundBytes of the log; 0 = none @param isFull the disk is
 */
function carriedCut(state: BrokerStateMachine, wanted: number, boundBytes: number, isFull: boolean): number | null {
  const starts = state.segments.starts.map(({ position }) => position).filter((position) => position <= wanted);
  // One segment gives more back than it takes, and the reserve holds what it takes.
  if (isFull) return starts[0] ?? null;
  const behind = starts.findLast((position) => state.held.newestReferring(position) < wanted) ?? null;
  const leftBytes = state.endPosition - (behind ?? state.startPosition());
  return boundBytes > 0 && leftBytes > MAX_OVERSHOOT * boundBytes ? wanted : behind;
}

/** Of the leader's own file system. */
export interface DiskWatermark {
  /** Use above which the oldest segments go, however young; 1…99. */
  readonly percent: number;
  /** Rejects with a DiskError: then nothing is cut for its sake. */
  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>;
}

/** Bytes of log that the disk has room for; 0 = no bound. */
export function watermarkBytes(logBytes: number, freeBytes: number, totalBytes: number, percent: number): number {
  const overBytes = totalBytes - freeBytes - Math.floor((totalBytes * percent) / 100);
  // 1: all but the segment that is written.
  return overBytes <= 0 ? 0 : Math.max(1, logBytes - overBytes);
}

/** A leadership that is soon over must not keep the log from being cut: under one after the other it would grow without bound. */
const FIRST_CHECK_MS = 1_000;

/** The leader proposes cuts by time, by size and by its disk's use (F34); all replicas make them at apply. */
export class Retention implements Deadline {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #carrying: Carrying;
  readonly #watermark: DiskWatermark | null;
  #proposed = false;
  /** Bytes that should go by now and may not, because something that is pending refers to them. */
  heldBytes = 0;
  dueMs = 0;
  slot = -1;

  constructor(context: BrokerContext, commands: PendingCommands, carrying: Carrying, watermark: DiskWatermark | null = null) {
    this.#context = context;
    this.#commands = commands;
    this.#carrying = carrying;
    this.#watermark = watermark;
  }

  becameReady(): void {
    this.#context.deadlines.set(this, Math.min(FIRST_CHECK_MS, this.#context.limits.retentionCheckMs));
  }

  leadershipLost(): void {
    this.#context.deadlines.remove(this);
    this.heldBytes = 0;
  }

  due(): void {
    const { deadlines, limits, leadership } = this.#context;
    if (!leadership.ready) return;
    deadlines.set(this, limits.retentionCheckMs);
    if (this.#watermark === null) this.#cut(0);
    else void this.#cutByDisk(this.#watermark);
  }

  async #cutByDisk({ percent, space }: DiskWatermark): Promise<void> {
    let bytes = 0;
    try {
      const { freeBytes, totalBytes } = await space();
      bytes = watermarkBytes(this.#context.state.endPosition - this.#context.state.startPosition(), freeBytes, totalBytes, percent);
    } catch (error) {
      this.#context.metrics.event('disk space unknown', { error: String(error) });
    }
    if (this.#context.leadership.ready) this.#cut(bytes);
  }

  /** @param diskBytes what the disk has room for; 0 = no bound */
  #cut(diskBytes: number): void {
    const { state, replica, metrics } = this.#context;
    if (this.#proposed) return;
    const sizes = [state.setting('retentionBytes'), diskBytes].filter((bytes) => bytes > 0);
    const wanted = cutPosition(
      state.startPosition(),
      state.segments.starts,
      state.endPosition,
      replica.logTimeMs(),
      state.setting('retentionMs'),
      sizes.length === 0 ? 0 : Math.min(...sizes),
    );
    let position = wanted === null ? null : allowedCut(state, wanted);
    if (wanted !== null && position !== wanted && this.#carrying.isKnown) {
      position = carriedCut(state, wanted, sizes.length === 0 ? 0 : Math.min(...sizes), replica.diskFull?.() === true);
      this.heldBytes = wanted - (position ?? state.startPosition());
      if (position !== null) this.#carrying.cutAt(position, wanted);
      return;
    }
    this.heldBytes = wanted === null ? 0 : wanted - (position ?? state.startPosition());
    if (position === null) return;
    this.#proposed = true;
    metrics.event('log cut proposed', { position });
    this.#commands.propose({ type: 'cut', position }, () => {
      this.#proposed = false;
    });
  }
}
