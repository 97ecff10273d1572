import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';

/** RocketMQ's bounds of suspendCurrentQueueTimeMillis. */
export const MIN_SUSPEND_MS = 10;
export const MAX_SUSPEND_MS = 30_000;

/** Messages of one queue whose handler threw, or did not acknowledge them (ackIndex). */
export interface FailedMessages {
  readonly queue: MessageQueue;
  /** In offset order; their reconsumeTimes count the attempt that just failed. */
  readonly messages: readonly ReceivedMessage[];
  /** The most failed attempts that any of them has, those at other members included. */
  readonly attempts: number;
  /** What the handler asked for: 0 = nothing, −1 = no further attempt, from 1 a delay level. */
  readonly delayLevel: number;
  /** What the handler threw; null when it returned. */
  readonly error: unknown;
}

/**
 * Takes failed messages over: those that it resolves with are safe elsewhere and done here. The others, and all when it rejects,
 * are given to the handler again after a while. Until then the queue's offset stays before them.
 */
export type TakeFailed = (failed: FailedMessages) => readonly ReceivedMessage[] | Promise<readonly ReceivedMessage[]>;

/** Where failed messages go. null: nowhere; they are tried again in place, without end. */
export interface FailureSeams {
  /** Concurrent consumption: after every failed attempt. */
  readonly sendBack: TakeFailed | null;
  /** Orderly consumption and broadcasting: after more than maxReconsumeTimes failed attempts in place. */
  readonly onAttemptsExhausted: TakeFailed | null;
}
