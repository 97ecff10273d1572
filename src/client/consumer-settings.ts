import { LedgerError } from '../protocol/errors.ts';
import { checkGroupName, checkTopicName, checkUserGroupName } from '../protocol/names.ts';
import { MAX_RETRY_DELAY_MS } from '../protocol/retry-bodies.ts';
import { broadcastGroupOf } from './broker-offset-store.ts';
import { MAX_SUSPEND_MS, MIN_SUSPEND_MS } from './failed-messages.ts';
import type { GroupShare } from './group-session.ts';
import { failingOpen, filterHash, type MessageFilter, messageFilter } from './message-filter.ts';
import type { OffsetStore } from './offset-store.ts';
import { CONSUMER_DEFAULTS, type ConsumerOptions } from './options.ts';
import type { BatchHandler, ConsumeFromWhere, MessageModel, SlowHandler } from './types.ts';

/** Bounds that RocketMQ checks as well: threads of a consumer, messages of a call. */
export const MAX_CONCURRENCY = 100_000;
const INSTANCE_NAME = /^[A-Za-z0-9_-]{1,64}$/;
/** RocketMQ's: three hours. */
const MAX_CONSUME_TIMEOUT_MS = 3 * 3_600_000;
const MAX_CONSUME_BATCH = 65_535;
const DEFAULT_RECONSUME_TIMES = 16;

/** ConsumerOptions with every default filled in and checked. */
export interface ConsumerSettings {
  readonly group: string;
  readonly filters: ReadonlyMap<string, MessageFilter | null>;
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
  readonly broadcasting: boolean;
  readonly offsetStore: OffsetStore | 'broker' | 'memory';
  readonly instanceName: string;
  readonly persistConsumerOffsetIntervalMs: number;
  readonly maxMessagesPerSecond: number;
  readonly reconsumeBackoff: 'levels' | 'exponential';
  readonly reconsumeBackoffJitter: boolean;
  readonly consumeTimeoutMs: number;
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

/** @throws LedgerError BAD_NAME, BAD_REQUEST, BAD_FILTER */
export function consumerSettings(given: ConsumerOptions): ConsumerSettings {
  checkUserGroupName(given.group);
  const filters = new Map<string, MessageFilter | null>();
  for (const topic of given.topics ?? []) filters.set(topic, null);
  for (const { topic, filter, sql } of given.subscriptions ?? []) {
    const guarded = typeof filter === 'function' ? failingOpen(filter, given.onError ?? (() => {})) : filter;
    filters.set(topic, messageFilter(guarded, sql));
  }
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
  mustBe('consumeTimeoutMs', options.consumeTimeoutMs, 0, MAX_CONSUME_TIMEOUT_MS);
  mustBe('reconsumeBackoffBaseMs', options.reconsumeBackoffBaseMs, 1, MAX_RETRY_DELAY_MS);
  mustBe('reconsumeBackoffCapMs', options.reconsumeBackoffCapMs, 1, MAX_RETRY_DELAY_MS);
  return {
    ...options,
    heartbeatIntervalMs,
    filters,
    share: { ...shareOf(given), filterHash: filterHash(filters) },
    broadcasting: options.messageModel === 'broadcasting',
    instanceName: instanceNameOf(given),
    handler: batchHandler ?? (handler === undefined ? null : (messages, context) => handler(messages[0] as never, context)),
    consumeMessageBatchMaxSize: handler === undefined ? batchSize : 1,
    maxReconsumeTimes: maxReconsumeTimesOf(options),
    onError: given.onError ?? (() => {}),
    onSlowHandler: given.onSlowHandler ?? (() => {}),
  };
}

/** RocketMQ's: 16 retries, in order without end, when broadcasting none. */
function maxReconsumeTimesOf(options: { maxReconsumeTimes: number; ordered: boolean; messageModel: MessageModel }): number {
  if (options.maxReconsumeTimes >= 0) return options.maxReconsumeTimes;
  if (options.ordered) return Number.POSITIVE_INFINITY;
  return options.messageModel === 'broadcasting' ? 0 : DEFAULT_RECONSUME_TIMES;
}

/** @throws LedgerError BAD_REQUEST */
export function mustBe(option: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new LedgerError('BAD_REQUEST', `${option} ${value} is not an integer in ${min}…${max}`);
}

/** What a strategy needs, and nothing that another one would: a member that says more than its strategy uses was mistaken. */
function shareOf(given: ConsumerOptions): GroupShare {
  if (given.messageModel === 'broadcasting') {
    mustFit(given.allocateMessageQueueStrategy, false, 'allocateMessageQueueStrategy', 'messageModel broadcasting');
    return { strategy: 'broadcasting' };
  }
  const { allocateMessageQueueStrategy: strategy = CONSUMER_DEFAULTS.allocateMessageQueueStrategy } = given;
  const { messageQueueList, brokerZones, machineRooms } = given;
  const byZone = strategy === 'byMachineRoom' || strategy === 'machineRoomNearby';
  const told = `allocateMessageQueueStrategy ${strategy}`;
  mustFit(messageQueueList, strategy === 'byConfig', 'messageQueueList', told);
  mustFit(brokerZones, byZone, 'brokerZones', told);
  mustFit(machineRooms, strategy === 'byMachineRoom', 'machineRooms', told);
  const queues = messageQueueList?.map(({ topic, brokerName, queueId }) => ({ topic, brokerName, queueId }));
  const zones = brokerZones && Object.entries(brokerZones).map(([brokerName, zone]) => ({ brokerName, zone }));
  return { strategy, ...(queues && { queues }), ...(zones && { brokerZones: zones }), ...(machineRooms && { machineRooms }) };
}

function mustFit(value: unknown, wanted: boolean, option: string, told: string): void {
  if ((value !== undefined) === wanted) return;
  throw new LedgerError('BAD_REQUEST', `${option} ${wanted ? 'is missing' : 'is not used'} with ${told}`);
}

/** @throws LedgerError BAD_REQUEST, BAD_NAME */
function instanceNameOf({ group, messageModel, offsetStore = 'memory', instanceName }: ConsumerOptions): string {
  const kept = offsetStore !== 'memory';
  if (kept && messageModel !== 'broadcasting') throw new LedgerError('BAD_REQUEST', 'offsetStore is not used with messageModel clustering');
  mustFit(instanceName, kept, 'instanceName', kept ? 'an offsetStore' : 'offsets that are not kept');
  if (instanceName === undefined) return '';
  if (!INSTANCE_NAME.test(instanceName))
    throw new LedgerError('BAD_NAME', `instanceName ${JSON.stringify(instanceName)}: 1–64 of A–Z a–z 0–9 _ -`);
  if (offsetStore === 'broker') checkGroupName(broadcastGroupOf({ group, instanceName }));
  return instanceName;
}
