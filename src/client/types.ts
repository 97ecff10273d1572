import type { AllocateStrategy } from '../protocol/allocate-strategies.ts';
import type { LedgerError } from '../protocol/errors.ts';
import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';

/** What a producer sends. */
export interface Message {
  /** 1…127 characters of letters, digits, `%`, `|`, `_`, `-`. */
  readonly topic: string;
  /** A string is sent as UTF-8. With properties at most the topic's limit (4 MiB). */
  readonly body: Uint8Array | string;
  /** What tag filters match (RocketMQ's TAGS). */
  readonly tag?: string;
  /** Business keys the message can be found by (RocketMQ's KEYS). A space ends a key, so none may contain one. */
  readonly keys?: readonly string[];
  readonly properties?: Readonly<Record<string, string>>;
  /** Messages with the same key go to the same queue and keep their order (RocketMQ's sharding key). */
  readonly orderingKey?: string;
  /** Sends to exactly this queue; no other is tried. */
  readonly queue?: MessageQueue;
}

export interface SendResult {
  /** 32 upper-case hex digits, the same over all resends. */
  readonly msgId: string;
  readonly topic: string;
  readonly brokerName: string;
  readonly queueId: number;
  /** Queue offset; null when the acknowledgement is the leader's alone (replication `leader`). */
  readonly offset: number | null;
}

export type SendCallback = (error: LedgerError | null, result: SendResult | null) => void;

/**
 * Chooses the queue of a keyed message from all *configured* queues of the topic in a stable order (by brokerName, then
 * queueId), whether or not they can be written now: a group that is down makes its keys wait, never move.
 */
export type MessageQueueSelector = (queues: readonly MessageQueue[], message: Message, arg: unknown) => MessageQueue;

export type Replication = 'topicMinimum' | 'leader' | 'quorum' | 'all';

/** Where a group without a committed offset starts in a queue. */
export type ConsumeFromWhere = 'first' | 'last' | { readonly timeMs: number };

/**
 * RocketMQ's strategies, and `sticky`, the default: even shares, and a member that comes or goes moves little more than its own.
 * All are computed by the brokers, over the queues of all broker groups.
 */
export type AllocateMessageQueueStrategy = Exclude<AllocateStrategy, 'broadcasting'>;

export interface Subscription {
  readonly topic: string;
  /** Tag expression: `*` (all, the default) or `A || B`. */
  readonly filter?: string;
}

/** Given to a handler with its messages. */
export interface ConsumeContext {
  readonly group: string;
  readonly queue: MessageQueue;
  /** Which attempt at these messages this is, from 0. */
  readonly reconsumeTimes: number;
  /** Aborted when the consumer closes or the queue is lost: what the handler does from here may be done elsewhere too. */
  readonly signal: AbortSignal;
}

/** Called with one message, or with an array when consumeMessageBatchMaxSize > 1. A throw or rejection is a failed attempt. */
export type MessageHandler = (message: ReceivedMessage, context: ConsumeContext) => Promise<void> | void;
export type BatchHandler = (messages: readonly ReceivedMessage[], context: ConsumeContext) => Promise<void> | void;

export interface PullOptions {
  /** 1…65535; default 1024. Whole batches are returned, so a little more may come. */
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  /** Long poll: how long the broker holds an empty pull. 0 (default) answers at once. */
  readonly waitMs?: number;
  /** Tag expression; default all. */
  readonly filter?: string;
}
export interface PullResult {
  readonly messages: readonly ReceivedMessage[];
  /** Where to pull next: past everything this answer covers, filtered messages included. */
  readonly nextOffset: number;
  readonly minOffset: number;
  readonly maxOffset: number;
}
export interface QueueRange {
  /** First retained offset. */
  readonly minOffset: number;
  /** The offset that the next message will get. */
  readonly maxOffset: number;
  /** First offset whose log time is at or after the time asked for. */
  readonly timeOffset: number;
}
