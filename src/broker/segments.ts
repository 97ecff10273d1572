import { assert } from '../base/assert.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';
import { queueIdOf, queueKey, topicIdOf } from './topics.ts';

/** What is known at a segment's head. */
export interface SegmentStart {
  readonly position: number;
  /** Log time of the last entry before it: the newest of all earlier segments. */
  readonly logTimeMs: number;
  /** Pairs [queue key, next offset] of the queues that grew since the segment before; by key, ascending. */
  readonly offsets: readonly number[];
}

/** Where the segment of a position begins. */
export type SegmentBases = Pick<Segments, 'baseOf'>;

/**
 * Where the log may be cut, and what each queue's minimum offset becomes then (F34).
 *
 * Each segment start notes only the queues that grew since the one before: applying the notes in order up to a segment
 * gives every queue's next offset at its head, which is the first offset whose batch lies in or after it. So the table is
 * as large as what was written, not segments × queues.
 */
export class Segments {
  readonly #topics: Topics;
  #starts: SegmentStart[] = [];
  /** The log's start. */
  startPosition = 0;

  constructor(topics: Topics) {
    this.#topics = topics;
  }

  clear(): void {
    this.#starts = [];
    this.startPosition = 0;
  }

  get starts(): readonly SegmentStart[] {
    return this.#starts;
  }

  /** Where the segment of a retained position begins, as far as it is noted: that of a new entry always is. */
  baseOf(position: number): number {
    for (let i = this.#starts.length - 1; i >= 0; i--) {
      const start = this.#starts[i] as SegmentStart;
      if (start.position <= position) return start.position;
    }
    return this.startPosition;
  }

  /** @returns false when this segment start is noted already */
  note(position: number, logTimeMs: number): boolean {
    const last = this.#starts.at(-1);
    if (position === 0 || position <= this.startPosition || position === last?.position) return false;
    assert(last === undefined || position > last.position, 'segments start in the order of the log');
    const offsets: number[] = [];
    for (const topic of this.#topics.all()) {
      for (const queue of topic.queues) {
        if (queue.notedOffset === queue.nextOffset) continue;
        offsets.push(queueKey(topic.id, queue.queueId), queue.nextOffset);
        queue.notedOffset = queue.nextOffset;
      }
    }
    this.#starts.push({ position, logTimeMs, offsets });
    return true;
  }

  /** Whether the log may begin there: false when it was cut already, and for what is no segment's base. */
  isStart(position: number): boolean {
    return this.#starts.some((start) => start.position === position);
  }

  /** @param position one that isStart() */
  cut(position: number): void {
    for (const { offsets } of this.#upTo(position)) {
      this.#raise(offsets, (queue, offset) => queue.logBegins(offset));
    }
    this.#begin(position);
  }

  /** @param expired one that isStart(): `position` or a later one, before which queues retain nothing but what `waits` */
  cutCarried(position: number, expired: number, waits: (topic: TopicState) => boolean): void {
    for (const { position: start, offsets } of this.#upTo(expired)) {
      this.#raise(offsets, (queue, offset) => {
        if (start <= position || !waits(queue.topic)) queue.logBegins(Math.max(queue.logMinOffset, offset));
      });
    }
    this.#begin(position);
  }

  /** Where queues would begin in a log that is cut there, by key; those that are not in it begin where they do now. */
  offsetsAt(position: number): ReadonlyMap<number, number> {
    const found = new Map<number, number>();
    for (const { offsets } of this.#upTo(position))
      for (let i = 0; i < offsets.length; i += 2) found.set(offsets[i] as number, offsets[i + 1] as number);
    return found;
  }

  #upTo(position: number): SegmentStart[] {
    return this.#starts.filter((start) => start.position <= position);
  }

  /** @param offsets as a segment's start has noted them */
  #raise(offsets: readonly number[], raise: (queue: QueueState, offset: number) => void): void {
    for (let i = 0; i < offsets.length; i += 2) {
      const key = offsets[i] as number;
      const queue = this.#topics.queue(topicIdOf(key), queueIdOf(key));
      // A deleted topic's queues are gone: ids are never given twice, so nobody else is meant.
      if (queue === undefined) continue;
      raise(queue, offsets[i + 1] as number);
    }
  }

  #begin(position: number): void {
    this.#starts = this.#starts.filter((start) => start.position > position);
    this.startPosition = position;
  }

  restore(startPosition: number, starts: readonly SegmentStart[]): void {
    this.startPosition = startPosition;
    this.#starts = [...starts];
  }
}
