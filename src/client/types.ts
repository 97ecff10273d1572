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
  /** Delivered after the delay of this level (RocketMQ's `3` is 10 s by default); 0 is none, above the last level is the last one. */
  readonly delayTimeLevel?: number;
  /** Delivered this long after it was stored, 0…40 days. The broker group's clock decides, not this machine's. */
  readonly delayMs?: number;
  /** Delivered at this time, 40 days ahead at most; one that is past is delivered at once. ms since 1970. */
  readonly deliverAt?: Date | number;
}

export interface SendResult {
  /** 32 upper-case hex digits, the same over all resends. */
  readonly msgId: string;
  readonly topic: string;
  readonly brokerName: string;
  readonly queueId: number;
  /** Queue offset; null when the acknowledgement is the leader's alone (replication `leader`), and for a message that is delayed. */
  readonly offset: number | null;
}

export type SendCallback = (error: LedgerError | null, result: SendResult | null) => void;

/**
 * Chooses the queue of a keyed message from all *configured* queues of the topic in a stable order (by brokerName, then
 * queueId), whether or not they can be written now: a group that is down makes its keys wait, never move.
 */
export type MessageQueueSelector = (queues: readonly MessageQueue[], message: Message, arg: unknown) => MessageQueue;

/** How a producer compresses bodies. */
export type CompressType = 'none' | 'zstd';

export type Replication = 'topicMinimum' | 'leader' | 'quorum' | 'all';

/** Where a group without a committed offset starts in a queue. */
export type ConsumeFromWhere = 'first' | 'last' | { readonly timeMs: number };

/**
 * RocketMQ's strategies, and `sticky`, the default: even shares, and a member that comes or goes moves little more than its own.
 * All are computed by the brokers, over the queues of all broker groups.
 */
export type AllocateMessageQueueStrategy = Exclude<AllocateStrategy, 'broadcasting'>;

/** `clustering`: one member of the group gets a message. `broadcasting`: every member gets every message. */
export type MessageModel = 'clustering' | 'broadcasting';

export interface Subscription {
  readonly topic: string;
  /**
   * Tag expression, `*` (all, the default) or `A || B`, for the broker; or a function for this client: messages that it says false
   * of are dropped as if they were done. One that throws is reported, and the message is handed over.
   */
  readonly filter?: string | FilterFunction;
  /** SQL92 over properties, TAGS and KEYS among them, for the broker: `amount > 100 AND region IN ('eu', 'us')`. With `filter`, both hold. */
  readonly sql?: string;
}

/** Called with each message that the broker sent, before any handler; quick, since it runs while messages are taken in. */
export type FilterFunction = (message: ReceivedMessage) => boolean;

/** Given to a handler with its messages, and good until it is done: the next call may be given the same object. */
export interface ConsumeContext {
  readonly group: string;
  readonly queue: MessageQueue;
  /** Failed attempts at these messages before this one. */
  readonly reconsumeTimes: number;
  /**
   * Of this ownership of the queue; every later one has a higher token. A store that remembers the highest one it has seen for the
   * queue and refuses lower ones is safe from an owner that slept past its session.
   */
  readonly fencingToken: number;
  /** Aborted when the consumer closes or the queue is lost: what the handler does from here may be done elsewhere too. */
  readonly signal: AbortSignal;
  /**
   * Index of the last message of the batch that is done; −1 = none. What comes after it is a failed attempt, also when the handler
   * returns. null (as it is given): all when the handler returns, none when it throws.
   */
  ackIndex: number | null;
  /** For what fails: 0 = the usual delay, −1 = no further attempt, from 1 a delay level. */
  delayLevelWhenNextConsume: number;
  /** Orderly: how long the queue rests when this attempt fails, 10…30,000 ms; null = as the consumer is set. */
  suspendCurrentQueueTimeMillis: number | null;
}

/** A call of a handler that has ended. */
export interface HandledCall {
  readonly group: string;
  readonly queue: MessageQueue;
  readonly messages: number;
  readonly durationMs: number;
  /** It threw. */
  readonly failed: boolean;
}

/** A handler took longer than slowHandlerMs. */
export interface SlowHandler {
  readonly group: string;
  readonly queue: MessageQueue;
  /** Of the first message. */
  readonly offset: number;
  /** The first eight. */
  readonly msgIds: readonly string[];
  readonly messages: number;
  readonly durationMs: number;
  /** It has not come to its end yet. */
  readonly running: boolean;
}

/** Handler calls of one group and topic since the consumer was made. */
export interface HandlerStatistics {
  readonly group: string;
  readonly topic: string;
  readonly count: number;
  readonly messages: number;
  /** Calls that threw. */
  readonly failures: number;
  readonly sumMs: number;
  readonly maxMs: number;
  /** Calls by duration: at most HANDLER_DURATION_BUCKETS_MS[i], and above the one before; the last one is the rest. */
  readonly buckets: readonly number[];
}

/** Called with one message. A throw or rejection is a failed attempt. */
export type MessageHandler = (message: ReceivedMessage, context: ConsumeContext) => Promise<void> | void;
/** Called with up to consumeMessageBatchMaxSize messages of one queue, in offset order. */
export type BatchHandler = (messages: readonly ReceivedMessage[], context: ConsumeContext) => Promise<void> | void;

export interface PullOptions {
  /** 1…65535; default 1024. Whole batches are returned, so a little more may come. */
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  /** Long poll: how long the broker holds an empty pull. 0 (default) answers at once. */
  readonly waitMs?: number;
  /** As in Subscription; one that throws rejects the pull. */
  readonly filter?: string | FilterFunction;
  readonly sql?: string;
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
