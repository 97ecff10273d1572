import { assert } from '../base/assert.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { StateLimits } from './limits.ts';

const KEPT = StateLimits.keptBatchResults;
/** Columns of a kept result. */
const FIRST = 0;
const COUNT = 1;
const BASE = 2;
const TIME = 3;
const COLUMNS = 4;

/** What is needed of a queue here. */
export interface SequencedQueue {
  readonly topic: { readonly id: number };
  readonly queueId: number;
  readonly producers: Map<number, ProducerState>;
}

/** What one producer has stored in one queue, under its highest epoch. */
export class ProducerState {
  readonly queue: SequencedQueue;
  readonly producerId: number;
  epoch: number;
  nextSequence = 0;
  /** Log time of its last accepted batch. */
  lastTimeMs = 0;
  /** Ring of the last results: rows of [first sequence, count, base offset, log time]. */
  readonly results = new Float64Array(KEPT * COLUMNS);
  /** Results ever written under this epoch; the ring holds the last KEPT of them. */
  written = 0;
  /** Least recently used first. */
  older: ProducerState | null = null;
  newer: ProducerState | null = null;

  constructor(queue: SequencedQueue, producerId: number, epoch: number) {
    this.queue = queue;
    this.producerId = producerId;
    this.epoch = epoch;
  }

  keep(firstSequence: number, count: number, baseOffset: number, logTimeMs: number): void {
    const row = (this.written % KEPT) * COLUMNS;
    this.results[row + FIRST] = firstSequence;
    this.results[row + COUNT] = count;
    this.results[row + BASE] = baseOffset;
    this.results[row + TIME] = logTimeMs;
    this.written++;
    this.nextSequence = firstSequence + count;
    this.lastTimeMs = logTimeMs;
  }

  /** Lays the kept results down at `at`, oldest first, as rows of four. @returns where the next ones go */
  copyKept(into: Float64Array, at: number): number {
    let next = at;
    for (let i = Math.max(0, this.written - KEPT); i < this.written; i++) {
      const row = (i % KEPT) * COLUMNS;
      for (let column = 0; column < COLUMNS; column++) into[next++] = this.results[row + column] as number;
    }
    return next;
  }
}

/** Filled by check(), reused: a verdict costs no allocation. */
export interface Verdict {
  error: ErrorCode | null;
  /** The batch is stored already: base offset and time are those of the first time. */
  duplicate: boolean;
  baseOffset: number;
  logTimeMs: number;
}

/**
 * Duplicate verdicts (DESIGN.md, "Offsets, duplicates, retries"; F10). Decided at apply, from the log alone: a retry may
 * reach another leader, and only the log knows what the old one stored.
 *
 * Expiry and eviction follow the order of last use, which is the order of the log: the list is part of the state.
 */
export class Producers {
  #oldest: ProducerState | null = null;
  #newest: ProducerState | null = null;
  #size = 0;
  readonly verdict: Verdict = { error: null, duplicate: false, baseOffset: -1, logTimeMs: 0 };

  get size(): number {
    return this.#size;
  }

  /** Decides on a batch without changing anything; the answer is in `verdict`, valid until the next call. */
  check(queue: SequencedQueue, producerId: number, epoch: number, firstSequence: number, count: number): Verdict {
    const verdict = this.verdict;
    verdict.error = null;
    verdict.duplicate = false;
    verdict.baseOffset = -1;
    const state = queue.producers.get(producerId);
    if (state !== undefined && epoch < state.epoch) verdict.error = 'FENCED';
    else if (state === undefined || epoch > state.epoch) {
      // A sequence that does not start at 0 belongs to a state that expired, or follows a batch that was refused.
      if (firstSequence !== 0) verdict.error = 'UNKNOWN_PRODUCER';
    } else if (firstSequence > state.nextSequence) verdict.error = 'OUT_OF_SEQUENCE';
    else if (firstSequence < state.nextSequence) this.#duplicate(state, firstSequence, count);
    return verdict;
  }

  #duplicate(state: ProducerState, firstSequence: number, count: number): void {
    const { results, written } = state;
    const verdict = this.verdict;
    for (let i = Math.max(0, written - KEPT); i < written; i++) {
      const row = (i % KEPT) * COLUMNS;
      if (results[row + FIRST] !== firstSequence) continue;
      if (results[row + COUNT] !== count) break;
      verdict.duplicate = true;
      verdict.baseOffset = results[row + BASE] as number;
      verdict.logTimeMs = results[row + TIME] as number;
      return;
    }
    const oldestKept = results[(Math.max(0, written - KEPT) % KEPT) * COLUMNS + FIRST] as number;
    // Below what is kept it was stored once. Inside it, a range cut differently is not a retry: nothing can be said for it.
    verdict.error = firstSequence + count <= oldestKept ? 'DUPLICATE_FORGOTTEN' : 'OUT_OF_SEQUENCE';
  }

  /** Records a batch that check() passed. */
  accept(
    queue: SequencedQueue,
    producerId: number,
    epoch: number,
    firstSequence: number,
    count: number,
    baseOffset: number,
    logTimeMs: number,
  ): void {
    let state = queue.producers.get(producerId);
    if (state === undefined) {
      if (this.#size >= StateLimits.maxProducerStates) this.#forget(this.#oldest as ProducerState);
      state = new ProducerState(queue, producerId, epoch);
      queue.producers.set(producerId, state);
      this.#size++;
    } else {
      this.#unlink(state);
      if (epoch > state.epoch) {
        state.epoch = epoch;
        state.written = 0;
      }
    }
    state.keep(firstSequence, count, baseOffset, logTimeMs);
    this.#linkNewest(state);
  }

  /** Forgets who has not stored for 24 h of log time. Amortised: each state is forgotten once. */
  expire(logTimeMs: number): void {
    while (this.#oldest !== null && this.#oldest.lastTimeMs + StateLimits.producerExpiryMs < logTimeMs) this.#forget(this.#oldest);
  }

  dropTopic(topic: { readonly queues: readonly SequencedQueue[] }): void {
    for (const queue of topic.queues) for (const state of queue.producers.values()) this.#drop(state);
    for (const queue of topic.queues) queue.producers.clear();
  }

  /** Least recently used first. */
  *[Symbol.iterator](): Generator<ProducerState> {
    for (let state = this.#oldest; state !== null; state = state.newer) yield state;
  }

  /** From a snapshot, in the order of iteration. */
  restore(state: ProducerState): void {
    assert(!state.queue.producers.has(state.producerId), 'a producer state twice in a snapshot');
    state.queue.producers.set(state.producerId, state);
    this.#linkNewest(state);
    this.#size++;
  }

  clear(): void {
    this.#oldest = null;
    this.#newest = null;
    this.#size = 0;
  }

  #forget(state: ProducerState): void {
    state.queue.producers.delete(state.producerId);
    this.#drop(state);
  }

  #drop(state: ProducerState): void {
    this.#unlink(state);
    this.#size--;
  }

  #linkNewest(state: ProducerState): void {
    state.older = this.#newest;
    state.newer = null;
    if (this.#newest === null) this.#oldest = state;
    else this.#newest.newer = state;
    this.#newest = state;
  }

  #unlink(state: ProducerState): void {
    if (state.older === null) this.#oldest = state.newer;
    else state.older.newer = state.newer;
    if (state.newer === null) this.#newest = state.older;
    else state.newer.older = state.older;
    state.older = null;
    state.newer = null;
  }
}
