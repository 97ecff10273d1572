import { LedgerError } from '../protocol/errors.ts';
import type { MessageQueue } from './message-queue.ts';
import type { OutBatch } from './out-batch.ts';

/** What becomes of batches that leave the queue without having been stored. */
export interface SendQueueEvents {
  settled(queue: SendQueue, batch: OutBatch, error: LedgerError | null, baseOffset: number): void;
}

/**
 * One queue of one producer: its batches in order, and the sequence that lets the broker store each exactly once.
 *
 * A batch gets its sequence when it first leaves; up to `maxInFlight` leave before the first is answered. An unanswered one
 * is *in doubt* and is sent again as it was. What ends without being stored leaves a gap in the sequence, so the epoch is
 * raised and the rest starts again at 0. That is safe: behind a batch that is certainly not stored, nothing of that epoch can
 * be stored (the broker refuses gaps), and attempts that still travel are fenced by the higher epoch. Behind a batch that is
 * in doubt nothing is certain: those that are in doubt too share its OUTCOME_UNKNOWN, the others are sequenced again.
 */
export class SendQueue {
  readonly queue: MessageQueue;
  /** Oldest first; those with a sequence come before those without. */
  readonly pending: OutBatch[] = [];
  readonly oneWay: OutBatch[] = [];
  readonly #maxInFlight: number;
  readonly #events: SendQueueEvents;
  #epoch = 0;
  #nextSequence = 0;

  constructor(queue: MessageQueue, maxInFlight: number, events: SendQueueEvents) {
    this.queue = queue;
    this.#maxInFlight = maxInFlight;
    this.#events = events;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** The batch that a message may still join; undefined when there is none. */
  open(): OutBatch | undefined {
    const last = this.pending[this.pending.length - 1];
    return last === undefined || last.sealed ? undefined : last;
  }

  /** The next batch to send: the first of the in-flight window that is in no frame. Gives it its sequence. */
  next(): OutBatch | null {
    const window = Math.min(this.pending.length, this.#maxInFlight);
    for (let i = 0; i < window; i++) {
      const batch = this.pending[i] as OutBatch;
      if (batch.attempt !== null) continue;
      if (batch.epoch === -1) {
        if (this.#behindOlderEpoch(i)) return null;
        batch.closed = true;
        batch.epoch = this.#epoch;
        batch.firstSequence = this.#nextSequence;
        this.#nextSequence += batch.count;
      }
      return batch;
    }
    return null;
  }

  /** Whether next() would give one, without giving sequences. `lingering`: an open last batch does not count. */
  hasNext(lingerUntil: number, now: number): boolean {
    const window = Math.min(this.pending.length, this.#maxInFlight);
    for (let i = 0; i < window; i++) {
      const batch = this.pending[i] as OutBatch;
      if (batch.attempt !== null) continue;
      if (batch.epoch === -1 && this.#behindOlderEpoch(i)) return false;
      return batch.sealed || i < this.pending.length - 1 || batch.createdAt + lingerUntil <= now;
    }
    return false;
  }

  stored(batch: OutBatch, baseOffset: number): void {
    this.#remove(batch);
    this.#events.settled(this, batch, null, baseOffset);
  }

  /** The attempt ended without an answer that settles it: the same bytes go again. */
  unanswered(batch: OutBatch, error: LedgerError, inDoubt: boolean): void {
    batch.attempt = null;
    batch.inDoubt ||= inDoubt;
    noteCause(batch, error);
  }

  /**
   * OUT_OF_SEQUENCE, UNKNOWN_PRODUCER, FENCED: this attempt was not stored. While an earlier batch is unsettled that is
   * expected of those behind it; at the head it means that the sequence is broken, and a new epoch starts.
   */
  sequenceRefused(batch: OutBatch, error: LedgerError): void {
    batch.attempt = null;
    noteCause(batch, error);
    if (this.pending[0] !== batch) return;
    // A gap proves that no earlier attempt was stored; a forgotten or fenced producer proves nothing of earlier attempts.
    if (batch.inDoubt && error.code !== 'OUT_OF_SEQUENCE') {
      this.drop(batch, new LedgerError('OUTCOME_UNKNOWN', error.message, batch.causes));
      return;
    }
    this.#raiseEpoch(0);
  }

  /** Ends a batch with an error. What stays behind it is told as the class comment says. */
  drop(batch: OutBatch, error: LedgerError): void {
    const at = this.#remove(batch);
    const sequenced = batch.epoch !== -1;
    const doubtful = batch.inDoubt || batch.attempt !== null;
    batch.attempt = null;
    const follow: OutBatch[] = [];
    if (sequenced) {
      if (doubtful) {
        for (let i = this.pending.length - 1; i >= at; i--) {
          const later = this.pending[i] as OutBatch;
          if (later.inDoubt || later.attempt !== null) follow.unshift(...this.pending.splice(i, 1));
        }
      }
      this.#raiseEpoch(at);
    }
    this.#events.settled(this, batch, error, -1);
    for (const later of follow) {
      later.attempt = null;
      this.#events.settled(this, later, new LedgerError('OUTCOME_UNKNOWN', 'sent behind a message of unknown outcome', later.causes), -1);
    }
  }

  /** Takes a batch that is certainly not stored out of the queue, for another one. */
  take(batch: OutBatch): void {
    const at = this.#remove(batch);
    const sequenced = batch.epoch !== -1;
    batch.forgetSequence();
    if (sequenced) this.#raiseEpoch(at);
  }

  #remove(batch: OutBatch): number {
    const at = this.pending.indexOf(batch);
    this.pending.splice(at, 1);
    return at;
  }

  /** From the batch at `from` on. Those before it keep their epoch, and the new one waits until they are settled. */
  #raiseEpoch(from: number): void {
    this.#epoch += 1;
    this.#nextSequence = 0;
    for (let i = from; i < this.pending.length; i++) (this.pending[i] as OutBatch).forgetSequence();
  }

  /** A batch of a new epoch that overtook one of the old would fence it. */
  #behindOlderEpoch(index: number): boolean {
    return index > 0 && (this.pending[index - 1] as OutBatch).epoch !== this.#epoch;
  }
}

/** Causes kept for each batch: a long outage is one fact, not thousands. */
const MAX_CAUSES = 16;

function noteCause(batch: OutBatch, error: LedgerError): void {
  if (batch.causes.length < MAX_CAUSES) batch.causes.push(error);
}
