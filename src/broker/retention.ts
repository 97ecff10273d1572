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

/** The last start of a segment up to `wanted` before which nothing is needed any more; null: none. */
function allowedCut(state: BrokerStateMachine, wanted: number): number | null {
  for (const { position } of state.segments.starts.toReversed()) {
    if (position <= wanted && state.mayCut(position)) return position;
  }
  return null;
}

/** The leader proposes cuts by time and by size (F34); all replicas make them at apply. */
export class Retention implements Deadline {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  #proposed = false;
  dueMs = 0;
  slot = -1;

  constructor(context: BrokerContext, commands: PendingCommands) {
    this.#context = context;
    this.#commands = commands;
  }

  becameReady(): void {
    this.#context.deadlines.set(this, this.#context.limits.retentionCheckMs);
  }

  leadershipLost(): void {
    this.#context.deadlines.remove(this);
  }

  due(): void {
    const { state, replica, deadlines, limits, leadership, metrics } = this.#context;
    if (!leadership.ready) return;
    deadlines.set(this, limits.retentionCheckMs);
    if (this.#proposed) return;
    const wanted = cutPosition(
      state.startPosition(),
      state.segments.starts,
      state.endPosition,
      replica.logTimeMs(),
      state.setting('retentionMs'),
      state.setting('retentionBytes'),
    );
    const position = wanted === null ? null : allowedCut(state, wanted);
    if (position === null) return;
    this.#proposed = true;
    metrics.event('log cut proposed', { position });
    this.#commands.propose({ type: 'cut', position }, () => {
      this.#proposed = false;
    });
  }
}
