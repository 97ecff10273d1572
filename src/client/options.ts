import type { Io } from '../io/io.ts';
import type { MessageQueue } from './message-queue.ts';
import type { OffsetStore } from './offset-store.ts';
import type { OpenTelemetryApi } from './open-telemetry.ts';
import type {
  AllocateMessageQueueStrategy,
  BatchHandler,
  CompressType,
  ConsumeFromWhere,
  MessageHandler,
  MessageModel,
  MessageQueueSelector,
  Replication,
  SlowHandler,
  Subscription,
} from './types.ts';

/** Settings of a client, each with its default in CLIENT_DEFAULTS. Times in ms, sizes in bytes. */
export interface ClientOptions {
  /** One or more brokers, any of the cluster: `ws://a:7460,ws://b:7460` or a list. The rest is found from them. */
  readonly endpoints: string | readonly string[];
  /** Names this client in logs and groups; made up when missing. */
  readonly clientId?: string;
  readonly namespace?: string;
  readonly zone?: string;
  readonly credentials?: { readonly user: string; readonly secret: string };
  /** How long one request may take before it is given up, long polls aside. */
  readonly requestTimeoutMs?: number;
  /** Route refresh when nothing else caused one. */
  readonly routeRefreshMs?: number;
  /** First, factor and cap of the wait before dialling again. */
  readonly reconnectBackoffBaseMs?: number;
  readonly reconnectBackoffFactor?: number;
  readonly reconnectBackoffCapMs?: number;
  /** A silent connection is pinged after this and given up after twice this. */
  readonly keepAliveMs?: number;
  readonly maxFrameBytes?: number;
  /**
   * `@opentelemetry/api`, or false. Left out: when that package is installed and a tracer provider is registered by the time the
   * client is made, messages are traced.
   */
  readonly openTelemetry?: OpenTelemetryApi | false;
  /** The world: sockets, clock, randomness. Default nodeIo(). */
  readonly io?: Pick<Io, 'clock' | 'random' | 'net'>;
}

export const CLIENT_DEFAULTS = {
  namespace: '',
  zone: '',
  requestTimeoutMs: 3_000,
  routeRefreshMs: 30_000,
  reconnectBackoffBaseMs: 50,
  reconnectBackoffFactor: 2,
  reconnectBackoffCapMs: 1_000,
  keepAliveMs: 5_000,
  maxFrameBytes: 16 * 1024 * 1024,
} as const;

export interface ProducerOptions {
  /** Definite refusals that are tried again; 2 means 3 attempts. */
  readonly retryTimesWhenSendFailed?: number;
  readonly retryBackoffBaseMs?: number;
  readonly retryBackoffFactor?: number;
  readonly retryBackoffCapMs?: number;
  /** Full jitter: the wait is uniform in [0, backoff]. Off: exactly base·factorⁿ up to the cap. */
  readonly retryJitter?: boolean;
  /** From send() to its outcome; when it passes unanswered the send rejects with OUTCOME_UNKNOWN. */
  readonly deliveryTimeoutMs?: number;
  /** How long one attempt may stay unanswered before it is sent again under its sequence. */
  readonly sendTimeoutMs?: number;
  /** Waits this long to fill batches. 0: the sends of one turn of the event loop, no added latency. */
  readonly lingerMs?: number;
  readonly maxBatchBytes?: number;
  /** 1…65535. */
  readonly maxBatchMessages?: number;
  /** 1…8: the broker keeps the results of the last 8 batches of a producer on a queue. */
  readonly maxInFlightBatchesPerQueue?: number;
  /** Bytes accepted and not yet settled; at the bound send() waits. */
  readonly maxBufferedBytes?: number;
  /** Messages accepted and not yet settled; at the bound send() waits. */
  readonly maxBufferedMessages?: number;
  /** Calls of send() that wait at those bounds; more are refused with BUSY. */
  readonly maxWaitingSends?: number;
  readonly maxMessageBytes?: number;
  /** Bodies of a batch are compressed as one, where the broker takes it and they get smaller. */
  readonly compressType?: CompressType;
  /** A batch with a body of more bytes than this is compressed; 0: every batch, which pays for small messages that look alike. */
  readonly compressMsgBodyOverHowmuch?: number;
  /** zstd's, 1…19. */
  readonly compressLevel?: number;
  readonly replication?: Replication;
  readonly messageQueueSelector?: MessageQueueSelector;
  /** Avoids brokers that were slow or failed, by RocketMQ's latency table, when there are several groups. */
  readonly sendLatencyFaultEnable?: boolean;
}

export const PRODUCER_DEFAULTS = {
  retryTimesWhenSendFailed: 2,
  retryBackoffBaseMs: 100,
  retryBackoffFactor: 2,
  retryBackoffCapMs: 16_000,
  retryJitter: true,
  deliveryTimeoutMs: 30_000,
  sendTimeoutMs: 10_000,
  lingerMs: 0,
  maxBatchBytes: 256 * 1024,
  maxBatchMessages: 4_096,
  maxInFlightBatchesPerQueue: 8,
  maxBufferedBytes: 64 * 1024 * 1024,
  maxBufferedMessages: 262_144,
  maxWaitingSends: 262_144,
  maxMessageBytes: 4 * 1024 * 1024,
  compressType: 'zstd',
  compressMsgBodyOverHowmuch: 4_096,
  compressLevel: 1,
  replication: 'topicMinimum',
  sendLatencyFaultEnable: true,
} as const;

export interface ConsumerOptions {
  readonly group: string;
  /** Every message of these topics; short for `subscriptions` without filters. */
  readonly topics?: readonly string[];
  readonly subscriptions?: readonly Subscription[];
  /** Left out: iterate over the consumer with `for await`. */
  readonly handler?: MessageHandler;
  /** Instead of `handler`: called with up to consumeMessageBatchMaxSize messages of one queue. */
  readonly batchHandler?: BatchHandler;
  /** Handlers running at once in this consumer. */
  readonly concurrency?: number;
  /** One handler at a time for each queue, in order; false: messages of one queue may be handled at the same time. */
  readonly ordered?: boolean;
  /** Messages given to one call of batchHandler. */
  readonly consumeMessageBatchMaxSize?: number;
  /** RocketMQ's older spelling of consumeMessageBatchMaxSize. */
  readonly consumerMessageBatchMaxSize?: number;
  /** Messages asked for by one pull. */
  readonly pullBatchSize?: number;
  readonly pullBatchBytes?: number;
  /** How long the broker holds a pull that finds nothing. */
  readonly pullWaitMs?: number;
  /** Prefetched and not yet handled, per queue and in all; pulling stops at a bound until a handler is done. */
  readonly prefetchMessagesPerQueue?: number;
  readonly prefetchBytesPerQueue?: number;
  readonly prefetchMessages?: number;
  readonly prefetchBytes?: number;
  readonly consumeFromWhere?: ConsumeFromWhere;
  /** All members of a group give the same (else GROUP_MODE_CONFLICT). Broadcasting needs brokers of feature level 3. */
  readonly messageModel?: MessageModel;
  /** Broadcasting: where this member keeps how far it came. `memory`: nowhere; a restarted one begins where consumeFromWhere says. */
  readonly offsetStore?: OffsetStore | 'broker' | 'memory';
  /** Broadcasting, with an offset store: the name that this member's offsets have there, 1…64 of A–Z a–z 0–9 _ -. */
  readonly instanceName?: string;
  /** Broadcasting: time between two saves of the offsets. After a crash what was handled since the last one comes again. */
  readonly persistConsumerOffsetIntervalMs?: number;
  /**
   * How queues are shared out among the members of the group; all members give the same (else GROUP_MODE_CONFLICT). Others than
   * `sticky` need brokers of feature level 3. `machineRoomNearby` goes by `zone` of the client.
   */
  readonly allocateMessageQueueStrategy?: AllocateMessageQueueStrategy;
  /** byConfig: the queues that this member wants. One that several want goes to the first by member name. */
  readonly messageQueueList?: readonly MessageQueue[];
  /** byMachineRoom, machineRoomNearby: the zone of each broker group, by brokerName; all members give the same. */
  readonly brokerZones?: Readonly<Record<string, string>>;
  /** byMachineRoom: zones whose queues are consumed; queues of others stay nobody's. All members give the same. */
  readonly machineRooms?: readonly string[];
  /** Cap on messages given to handlers per second; 0 = none. */
  readonly maxMessagesPerSecond?: number;
  /**
   * When a message that failed is delivered again. `levels`: RocketMQ's, 10 s, 30 s, 1 min, … 2 h (level 3 + failed attempts before).
   * `exponential`: reconsumeBackoffBaseMs·2ⁿ up to reconsumeBackoffCapMs.
   */
  readonly reconsumeBackoff?: 'levels' | 'exponential';
  /** Draw each exponential wait from 0 to what it is: members that failed together do not come back together. */
  readonly reconsumeBackoffJitter?: boolean;
  /** A handler that takes longer is a failed attempt, and its messages are sent back; 0 = none. Not with `ordered`: a queue has one handler. */
  readonly consumeTimeoutMs?: number;
  /** Of exponential waits, and of those before an attempt in place, where the broker cannot keep retries. */
  readonly reconsumeBackoffBaseMs?: number;
  readonly reconsumeBackoffCapMs?: number;
  /** Failed attempts after which a message is given up. −1: 16; with `ordered` no bound; when broadcasting 0. */
  readonly maxReconsumeTimes?: number;
  /** With `ordered`: how long a queue rests after a failure before the same messages are tried again, 10…30,000 ms. */
  readonly suspendCurrentQueueTimeMillis?: number;
  /** A handler that takes longer is told of, by onSlowHandler and on the diagnostics channel `ledgermq.consumer.slow`. 0 = none. */
  readonly slowHandlerMs?: number;
  readonly onSlowHandler?: (slow: SlowHandler) => void;
  readonly commitIntervalMs?: number;
  /** Below sessionTimeoutMs. Default 3 s, a third of a session shorter than 9 s. */
  readonly heartbeatIntervalMs?: number;
  readonly sessionTimeoutMs?: number;
  /** How long a queue that moves away, or close(), waits for running handlers. */
  readonly releaseTimeoutMs?: number;
  /** Told of failures that the consumer goes on after: handler failures, refused joins. */
  readonly onError?: (error: unknown) => void;
}

export const CONSUMER_DEFAULTS = {
  concurrency: 20,
  ordered: false,
  consumeMessageBatchMaxSize: 1,
  pullBatchSize: 1_024,
  pullBatchBytes: 1024 * 1024,
  pullWaitMs: 15_000,
  prefetchMessagesPerQueue: 4_096,
  prefetchBytesPerQueue: 8 * 1024 * 1024,
  prefetchMessages: 32_768,
  prefetchBytes: 64 * 1024 * 1024,
  consumeFromWhere: 'last',
  messageModel: 'clustering',
  offsetStore: 'memory',
  persistConsumerOffsetIntervalMs: 5_000,
  allocateMessageQueueStrategy: 'sticky',
  maxMessagesPerSecond: 0,
  reconsumeBackoff: 'levels',
  reconsumeBackoffJitter: true,
  consumeTimeoutMs: 15 * 60_000,
  reconsumeBackoffBaseMs: 1_000,
  reconsumeBackoffCapMs: 16_000,
  maxReconsumeTimes: -1,
  suspendCurrentQueueTimeMillis: 1_000,
  slowHandlerMs: 1_000,
  commitIntervalMs: 100,
  heartbeatIntervalMs: 3_000,
  sessionTimeoutMs: 10_000,
  releaseTimeoutMs: 5_000,
} as const;
