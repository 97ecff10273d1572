import type { PeerStatus, ProgressState, ReplicaId } from './types.ts';

/**
 * What the leader knows about one follower, and what it has under way to it.
 *
 * probe: nobody knows yet where the two logs agree; one message, then wait. replicate: pipelined within two windows.
 * snapshot: the follower is behind the log's start; nothing is sent until it has the snapshot.
 */
export class Progress {
  readonly id: ReplicaId;
  learner: boolean;
  state: ProgressState = 'probe';
  matchIndex = 0;
  nextIndex: number;
  /** probe: a message is out and its answer not in. */
  waiting: boolean = false;
  /** probe: prevIndex of the message that is out, to tell its rejection from an older one's. */
  probedIndex = 0;
  lastContactMs: number;
  /** Highest commit index this follower was told and could use. */
  sentCommit = 0;
  /** Last ReadIndex round that it answered. */
  readRound = 0;
  /** snapshot: the index asked for, and when. */
  snapshotIndex = 0;
  snapshotSentMs = 0;
  /** When matchIndex moved last, or a probe or nudge went out: silence for a heartbeat since means that something was lost. */
  progressMs: number;
  nudgeDue: boolean = false;

  readonly #inflightEnd: Float64Array;
  readonly #inflightSize: Float64Array;
  #inflightHead = 0;
  inflightMessages = 0;
  inflightBytes = 0;

  constructor(id: ReplicaId, learner: boolean, nextIndex: number, maxInflightMessages: number, nowMs: number) {
    this.id = id;
    this.learner = learner;
    this.nextIndex = nextIndex;
    this.lastContactMs = nowMs;
    this.progressMs = nowMs;
    this.#inflightEnd = new Float64Array(maxInflightMessages);
    this.#inflightSize = new Float64Array(maxInflightMessages);
  }

  get windowIsFull(): boolean {
    return this.inflightMessages === this.#inflightEnd.length;
  }

  becomeProbe(nextIndex: number): void {
    this.state = 'probe';
    this.nextIndex = nextIndex;
    this.waiting = false;
    this.#clearInflight();
  }

  becomeReplicate(): void {
    this.state = 'replicate';
    this.nextIndex = Math.max(this.nextIndex, this.matchIndex + 1);
    this.waiting = false;
    this.#clearInflight();
  }

  becomeSnapshot(index: number, nowMs: number): void {
    this.state = 'snapshot';
    this.snapshotIndex = index;
    this.snapshotSentMs = nowMs;
    this.waiting = false;
    this.#clearInflight();
  }

  /** replicate: a message up to `lastIndex` is out. */
  sent(lastIndex: number, sizeBytes: number): void {
    const slot = (this.#inflightHead + this.inflightMessages) % this.#inflightEnd.length;
    this.#inflightEnd[slot] = lastIndex;
    this.#inflightSize[slot] = sizeBytes;
    this.inflightMessages += 1;
    this.inflightBytes += sizeBytes;
    this.nextIndex = lastIndex + 1;
  }

  /** Everything up to `index` is acknowledged: frees the windows. @returns true when that was news. */
  acknowledged(index: number): boolean {
    while (this.inflightMessages > 0 && (this.#inflightEnd[this.#inflightHead] as number) <= index) {
      this.inflightBytes -= this.#inflightSize[this.#inflightHead] as number;
      this.inflightMessages -= 1;
      this.#inflightHead = (this.#inflightHead + 1) % this.#inflightEnd.length;
    }
    if (index <= this.matchIndex) return false;
    this.matchIndex = index;
    this.nextIndex = Math.max(this.nextIndex, index + 1);
    return true;
  }

  /** It has not any more what it acknowledged. What was committed by it stays so. */
  lost(): void {
    this.matchIndex = 0;
  }

  status(): PeerStatus {
    return {
      id: this.id,
      learner: this.learner,
      state: this.state,
      matchIndex: this.matchIndex,
      nextIndex: this.nextIndex,
      inflightMessages: this.inflightMessages,
      inflightBytes: this.inflightBytes,
      lastContactMs: this.lastContactMs,
    };
  }

  #clearInflight(): void {
    this.#inflightHead = 0;
    this.inflightMessages = 0;
    this.inflightBytes = 0;
  }
}
