import { DEFAULT_DELAY_LEVELS, parseDelayLevels } from '../base/delay-table.ts';
import type { QueueState, TopicState, Topics } from './topics.ts';

/** RocketMQ's name; one queue a level. */
export const SCHEDULE_TOPIC = 'SCHEDULE_TOPIC_XXXX';
const FIRST_TABLE = parseDelayLevels(DEFAULT_DELAY_LEVELS) as readonly number[];

/**
 * What is delayed by levels (F13). A level's delay is one for all, and log time never goes back: what came first is due first. So
 * the units of a level's queue are its timers, and an offset says how far they are delivered.
 */
export class DelayLevels {
  readonly #topics: Topics;
  /** Level n is at n − 1. */
  delaysMs = FIRST_TABLE;
  /** By queue: everything before is delivered. */
  readonly #delivered: number[] = [];
  /** By queue: position of the last unit that is delivered, −1: none yet. */
  readonly #deliveredPosition: number[] = [];

  constructor(topics: Topics) {
    this.#topics = topics;
  }

  clear(): void {
    this.delaysMs = FIRST_TABLE;
    this.#delivered.length = 0;
    this.#deliveredPosition.length = 0;
  }

  pack(): unknown {
    return [[...this.delaysMs], [...this.#delivered], [...this.#deliveredPosition]];
  }

  unpack(packed: unknown): void {
    const [delaysMs, delivered, positions] = packed as [number[], number[], number[]];
    this.delaysMs = delaysMs;
    this.#delivered.push(...delivered);
    this.#deliveredPosition.push(...positions);
  }

  /** Levels that exist: those of the table, and those that a longer table had. */
  get count(): number {
    return Math.max(this.delaysMs.length, this.#topics.named(SCHEDULE_TOPIC)?.queues.length ?? 0);
  }

  /** @param level 1…; above the last it is the last, as RocketMQ has it */
  clamp(level: number): number {
    return Math.min(level, this.delaysMs.length);
  }

  /** Of a level that is not in the table any more: as long as the last one's. */
  delayMs(level: number): number {
    return this.delaysMs[this.clamp(level) - 1] as number;
  }

  /** Made when the first message comes. */
  queue(level: number): QueueState {
    const topic: TopicState = this.#topics.internal(SCHEDULE_TOPIC, Math.max(level, this.delaysMs.length));
    return topic.queues[level - 1] as QueueState;
  }

  /** Undefined: nothing was ever delayed by it. */
  known(level: number): QueueState | undefined {
    return this.#topics.named(SCHEDULE_TOPIC)?.queues[level - 1];
  }

  delivered(level: number): number {
    return this.#delivered[level - 1] ?? 0;
  }

  /** Messages. */
  pending(level: number): number {
    return (this.known(level)?.nextOffset ?? 0) - this.delivered(level);
  }

  isPending(level: number, position: number): boolean {
    return this.known(level) !== undefined && position > (this.#deliveredPosition[level - 1] ?? -1);
  }

  /** @param position of the last unit before `offset` */
  deliver(level: number, offset: number, position: number): void {
    while (this.#delivered.length < level) {
      this.#delivered.push(0);
      this.#deliveredPosition.push(-1);
    }
    this.#delivered[level - 1] = offset;
    this.#deliveredPosition[level - 1] = position;
  }
}
