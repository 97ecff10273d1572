import { assert } from '../base/assert.ts';
import type { QueueState, Topics } from './topics.ts';

/** RocketMQ's name; a queue for each time bucket that something waits in. */
export const WHEEL_TOPIC = 'rmq_sys_wheel_timer';
/** 40 days are 960 buckets at most. */
export const BUCKET_MS = 3_600_000;

export const bucketOf = (dueMs: number): number => Math.floor(dueMs / BUCKET_MS);

interface Bucket {
  readonly queueId: number;
  /** Units not delivered. */
  pending: number;
}

/** A place in the order of delivery: by due time, then by the place in the log. */
export interface TimerKey {
  readonly dueMs: number;
  readonly position: number;
}

export function isAfter(dueMs: number, position: number, key: TimerKey): boolean {
  return dueMs > key.dueMs || (dueMs === key.dueMs && position > key.position);
}

/**
 * What is to be delivered at any time (F13): time buckets on disk. A bucket is a queue of an internal topic, in the order of the log; a
 * unit's time is the due time. When a bucket is over its queue is the next one's: queues are as many as buckets at one time, and no
 * files are removed that an older state might still need. The state itself holds a cursor in the order of delivery and two numbers a bucket.
 */
export class TimerWheel {
  readonly #topics: Topics;
  /** Everything up to here is delivered. Never ahead of the log's time, so nothing that comes later can be due before it. */
  cursor: TimerKey = { dueMs: 0, position: 0 };
  readonly #buckets = new Map<number, Bucket>();
  /** Index of the newest entry that added something. */
  addedIndex = 0;

  constructor(topics: Topics) {
    this.#topics = topics;
  }

  clear(): void {
    this.cursor = { dueMs: 0, position: 0 };
    this.#buckets.clear();
    this.addedIndex = 0;
  }

  pack(): unknown {
    const buckets = [...this.#buckets].sort(([a], [b]) => a - b).map(([bucket, { queueId, pending }]) => [bucket, queueId, pending]);
    return [this.cursor.dueMs, this.cursor.position, this.addedIndex, buckets];
  }

  unpack(packed: unknown): void {
    const [dueMs, position, addedIndex, buckets] = packed as [number, number, number, [number, number, number][]];
    this.cursor = { dueMs, position };
    this.addedIndex = addedIndex;
    for (const [bucket, queueId, pending] of buckets) this.#buckets.set(bucket, { queueId, pending });
  }

  /** Those that are there, ascending. */
  buckets(): number[] {
    return [...this.#buckets.keys()].sort((a, b) => a - b);
  }

  pendingIn(bucket: number): number {
    return this.#buckets.get(bucket)?.pending ?? 0;
  }

  /** Units. */
  get pending(): number {
    let units = 0;
    for (const { pending } of this.#buckets.values()) units += pending;
    return units;
  }

  /** Undefined: nothing is in it. */
  known(bucket: number): QueueState | undefined {
    const queueId = this.#buckets.get(bucket)?.queueId;
    return queueId === undefined ? undefined : this.#topics.named(WHEEL_TOPIC)?.queues[queueId];
  }

  isPending(dueMs: number, position: number): boolean {
    return isAfter(dueMs, position, this.cursor) && this.#buckets.has(bucketOf(dueMs));
  }

  add(dueMs: number, position: number, sizeBytes: number, count: number, tagBloom: number, index: number): void {
    const bucket = this.#bucket(bucketOf(dueMs));
    const queue = this.#topics.internal(WHEEL_TOPIC, bucket.queueId + 1).queues[bucket.queueId] as QueueState;
    queue.index.append(queue.nextOffset, position, dueMs, sizeBytes, count, tagBloom);
    queue.nextOffset += count;
    bucket.pending++;
    this.addedIndex = index;
  }

  /** A new one takes the first queue that is free. */
  #bucket(number: number): Bucket {
    const known = this.#buckets.get(number);
    if (known !== undefined) return known;
    const taken = new Set([...this.#buckets.values()].map(({ queueId }) => queueId));
    let queueId = 0;
    while (taken.has(queueId)) queueId++;
    const bucket = { queueId, pending: 0 };
    this.#buckets.set(number, bucket);
    return bucket;
  }

  /** @param passed pairs [bucket, units] @returns whether so many were pending there */
  canPass(passed: readonly number[]): boolean {
    for (let i = 0; i < passed.length; i += 2) {
      if (!((passed[i + 1] as number) <= this.pendingIn(passed[i] as number))) return false;
    }
    return true;
  }

  /** Units that wait elsewhere now. @param units pairs [bucket, units], as canPass() allowed */
  drop(units: readonly number[]): void {
    for (let i = 0; i < units.length; i += 2) {
      const bucket = this.#buckets.get(units[i] as number);
      if (bucket !== undefined) bucket.pending -= units[i + 1] as number;
    }
  }

  /** Queues of buckets that are empty and over are free: nothing can come into these any more. */
  pass(to: TimerKey, passed: readonly number[], logTimeMs: number): void {
    assert(isAfter(to.dueMs, to.position, this.cursor), 'the cursor goes forward');
    this.cursor = to;
    this.drop(passed);
    for (const number of this.buckets()) {
      if (number >= bucketOf(logTimeMs)) break;
      if (this.pendingIn(number) > 0) continue;
      const queue = this.known(number) as QueueState;
      // The next one begins behind what this one left.
      queue.logBegins(queue.nextOffset);
      this.#buckets.delete(number);
    }
  }
}
