import { assert } from '../base/assert.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';

/** RocketMQ's name of its own; here a topic for each time bucket. */
export const WHEEL_TOPIC_PREFIX = 'rmq_sys_wheel_timer_';
/** 40 days are 960 buckets at most; each costs an index of one queue while something in it is pending. */
export const BUCKET_MS = 3_600_000;

export const bucketOf = (dueMs: number): number => Math.floor(dueMs / BUCKET_MS);
export const bucketTopic = (bucket: number): string => WHEEL_TOPIC_PREFIX + String(bucket).padStart(10, '0');

/** A place in the order of delivery: by due time, then by the place in the log. */
export interface TimerKey {
  readonly dueMs: number;
  readonly position: number;
}

export function isAfter(dueMs: number, position: number, key: TimerKey): boolean {
  return dueMs > key.dueMs || (dueMs === key.dueMs && position > key.position);
}

/**
 * What is to be delivered at any time (F13): time buckets on disk. A bucket is the queue of an internal topic, in the order of the
 * log; a unit's time is the due time. The state itself holds a cursor in the order of delivery and a count for each bucket.
 */
export class TimerWheel {
  readonly #topics: Topics;
  /** Everything up to here is delivered. Never ahead of the log's time, so nothing that comes later can be due before it. */
  cursor: TimerKey = { dueMs: 0, position: 0 };
  /** Units not delivered, by bucket. */
  readonly #pending = new Map<number, number>();
  /** Index of the newest entry that added something. */
  addedIndex = 0;

  constructor(topics: Topics) {
    this.#topics = topics;
  }

  clear(): void {
    this.cursor = { dueMs: 0, position: 0 };
    this.#pending.clear();
    this.addedIndex = 0;
  }

  pack(): unknown {
    return [this.cursor.dueMs, this.cursor.position, this.addedIndex, this.buckets().map((bucket) => [bucket, this.pendingIn(bucket)])];
  }

  unpack(packed: unknown): void {
    const [dueMs, position, addedIndex, pending] = packed as [number, number, number, [number, number][]];
    this.cursor = { dueMs, position };
    this.addedIndex = addedIndex;
    for (const [bucket, units] of pending) this.#pending.set(bucket, units);
  }

  /** Those that are there, ascending. */
  buckets(): number[] {
    return [...this.#pending.keys()].sort((a, b) => a - b);
  }

  pendingIn(bucket: number): number {
    return this.#pending.get(bucket) ?? 0;
  }

  /** Units. */
  get pending(): number {
    let units = 0;
    for (const count of this.#pending.values()) units += count;
    return units;
  }

  /** Undefined: nothing is in it. */
  known(bucket: number): QueueState | undefined {
    return this.#topics.named(bucketTopic(bucket))?.queues[0];
  }

  isPending(dueMs: number, position: number): boolean {
    return isAfter(dueMs, position, this.cursor) && this.#pending.has(bucketOf(dueMs));
  }

  add(dueMs: number, position: number, sizeBytes: number, count: number, tagBloom: number, index: number): void {
    const bucket = bucketOf(dueMs);
    const queue = this.#topics.internal(bucketTopic(bucket), 1).queues[0] as QueueState;
    queue.index.append(queue.nextOffset, position, dueMs, sizeBytes, count, tagBloom);
    queue.nextOffset += count;
    this.#pending.set(bucket, this.pendingIn(bucket) + 1);
    this.addedIndex = index;
  }

  /** @param passed pairs [bucket, units] @returns whether so many were pending there */
  canPass(passed: readonly number[]): boolean {
    for (let i = 0; i < passed.length; i += 2) {
      if (!((passed[i + 1] as number) <= this.pendingIn(passed[i] as number))) return false;
    }
    return true;
  }

  /** @returns the queues of buckets that are empty and over: nothing can come into them any more */
  pass(to: TimerKey, passed: readonly number[], logTimeMs: number): TopicState[] {
    assert(isAfter(to.dueMs, to.position, this.cursor), 'the cursor goes forward');
    this.cursor = to;
    for (let i = 0; i < passed.length; i += 2) {
      const bucket = passed[i] as number;
      this.#pending.set(bucket, this.pendingIn(bucket) - (passed[i + 1] as number));
    }
    const over: TopicState[] = [];
    for (const bucket of this.buckets()) {
      if (bucket >= bucketOf(logTimeMs)) break;
      if (this.pendingIn(bucket) > 0) continue;
      this.#pending.delete(bucket);
      const topic = this.#topics.named(bucketTopic(bucket));
      if (topic !== undefined) over.push(topic);
    }
    return over;
  }
}
