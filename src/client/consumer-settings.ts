import { LedgerError } from '../protocol/errors.ts';
import { checkTopicName, checkUserGroupName } from '../protocol/names.ts';
import { MAX_SUSPEND_MS, MIN_SUSPEND_MS } from './failed-messages.ts';
import type { GroupShare } from './group-session.ts';
import { CONSUMER_DEFAULTS, type ConsumerOptions } from './options.ts';
import { parseTagFilter, type TagFilter } from './selector.ts';
import type { BatchHandler, ConsumeFromWhere, SlowHandler } from './types.ts';

/** Bounds that RocketMQ checks as well: threads of a consumer, messages of a call. */
export const MAX_CONCURRENCY = 100_000;
const MAX_CONSUME_BATCH = 65_535;
const DEFAULT_RECONSUME_TIMES = 16;

/** ConsumerOptions with every default filled in and checked. */
export interface ConsumerSettings {
  readonly group: string;
  readonly filters: ReadonlyMap<string, TagFilter>;
  readonly handler: BatchHandler | null;
  readonly concurrency: number;
  readonly ordered: boolean;
  readonly consumeMessageBatchMaxSize: number;
  readonly pullBatchSize: number;
  readonly pullBatchBytes: number;
  readonly pullWaitMs: number;
  readonly prefetchMessagesPerQueue: number;
  readonly prefetchBytesPerQueue: number;
  readonly prefetchMessages: number;
  readonly prefetchBytes: number;
  readonly consumeFromWhere: ConsumeFromWhere;
  readonly share: GroupShare;
  readonly maxMessagesPerSecond: number;
  readonly reconsumeBackoffBaseMs: number;
  readonly reconsumeBackoffCapMs: number;
  /** Infinity = no bound. */
  readonly maxReconsumeTimes: number;
  readonly suspendCurrentQueueTimeMillis: number;
  readonly slowHandlerMs: number;
  readonly onSlowHandler: (slow: SlowHandler) => void;
  readonly commitIntervalMs: number;
  readonly heartbeatIntervalMs: number;
  readonly sessionTimeoutMs: number;
  readonly releaseTimeoutMs: number;
  readonly onError: (error: unknown) => void;
}

/** @throws LedgerError BAD_NAME, BAD_REQUEST */
export function consumerSettings(given: ConsumerOptions): ConsumerSettings {
  checkUserGroupName(given.group);
  const filters = new Map<string, TagFilter>();
  for (const topic of given.topics ?? []) filters.set(topic, null);
  for (const { topic, filter } of given.subscriptions ?? []) filters.set(topic, parseTagFilter(filter));
  if (filters.size === 0) throw new LedgerError('BAD_REQUEST', 'a consumer needs a topic');
  for (const topic of filters.keys()) checkTopicName(topic);
  const { handler, batchHandler } = given;
  if (handler !== undefined && batchHandler !== undefined) throw new LedgerError('BAD_REQUEST', 'give handler or batchHandler, not both');
  const options = { ...CONSUMER_DEFAULTS, ...given };
  const batchSize = given.consumeMessageBatchMaxSize ?? given.consumerMessageBatchMaxSize ?? CONSUMER_DEFAULTS.consumeMessageBatchMaxSize;
  const { sessionTimeoutMs } = options;
  // Shorter sessions need more heartbeats: at three in one, two may be late.
  const heartbeatIntervalMs = given.heartbeatIntervalMs ?? Math.min(CONSUMER_DEFAULTS.heartbeatIntervalMs, sessionTimeoutMs / 3);
  if (heartbeatIntervalMs >= sessionTimeoutMs)
    throw new LedgerError('BAD_REQUEST', `heartbeatIntervalMs ${heartbeatIntervalMs} is not below sessionTimeoutMs ${sessionTimeoutMs}`);
  mustBe('concurrency', options.concurrency, 1, MAX_CONCURRENCY);
  mustBe('consumeMessageBatchMaxSize', batchSize, 1, MAX_CONSUME_BATCH);
  mustBe('suspendCurrentQueueTimeMillis', options.suspendCurrentQueueTimeMillis, MIN_SUSPEND_MS, MAX_SUSPEND_MS);
  return {
    ...options,
    heartbeatIntervalMs,
    filters,
    share: shareOf(given),
    handler: batchHandler ?? (handler === undefined ? null : (messages, context) => handler(messages[0] as never, context)),
    consumeMessageBatchMaxSize: handler === undefined ? batchSize : 1,
    maxReconsumeTimes: maxReconsumeTimesOf(options),
    onError: given.onError ?? (() => {}),
    onSlowHandler: given.onSlowHandler ?? (() => {}),
  };
}

/** RocketMQ's: 16 retries, in order without end, when broadcasting none. */
function maxReconsumeTimesOf({ maxReconsumeTimes, ordered }: { maxReconsumeTimes: number; ordered: boolean }): number {
  if (maxReconsumeTimes >= 0) return maxReconsumeTimes;
  return ordered ? Number.POSITIVE_INFINITY : DEFAULT_RECONSUME_TIMES;
}

/** @throws LedgerError BAD_REQUEST */
export function mustBe(option: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new LedgerError('BAD_REQUEST', `${option} ${value} is not an integer in ${min}…${max}`);
}

/** What a strategy needs, and nothing that another one would: a member that says more than its strategy uses was mistaken. */
function shareOf(given: ConsumerOptions): GroupShare {
  const { allocateMessageQueueStrategy: strategy = CONSUMER_DEFAULTS.allocateMessageQueueStrategy } = given;
  const { messageQueueList, brokerZones, machineRooms } = given;
  const byZone = strategy === 'byMachineRoom' || strategy === 'machineRoomNearby';
  mustFit(messageQueueList, strategy === 'byConfig', 'messageQueueList', strategy);
  mustFit(brokerZones, byZone, 'brokerZones', strategy);
  mustFit(machineRooms, strategy === 'byMachineRoom', 'machineRooms', strategy);
  const queues = messageQueueList?.map(({ topic, brokerName, queueId }) => ({ topic, brokerName, queueId }));
  const zones = brokerZones && Object.entries(brokerZones).map(([brokerName, zone]) => ({ brokerName, zone }));
  return { strategy, ...(queues && { queues }), ...(zones && { brokerZones: zones }), ...(machineRooms && { machineRooms }) };
}

function mustFit(value: unknown, wanted: boolean, option: string, strategy: string): void {
  if ((value !== undefined) === wanted) return;
  throw new LedgerError('BAD_REQUEST', `${option} ${wanted ? 'is missing' : 'is not used'} with allocateMessageQueueStrategy ${strategy}`);
}
