/**
 * LedgerMQ's client.
 *
 *     import { LedgerClient } from 'ledgermq';
 *
 *     await using client = new LedgerClient({ endpoints: 'ws://127.0.0.1:7460' });
 *     const producer = client.producer();
 *     const { msgId, offset } = await producer.send({ topic: 'orders', body: 'hello', orderingKey: 'customer-7' });
 *     console.log(`stored ${msgId} at ${offset}`);
 *
 *     const consumer = client.consumer({ group: 'billing', topics: ['orders'], consumeFromWhere: 'first' });
 *     for await (const message of consumer) console.log(message.offset, message.text());
 */
export { Admin, type TopicDefinition } from './client/admin.ts';
export type { Backlog, FailedGroup, QueueLag, QueueReset, ResetOutcome, ResetScope, ResetTarget } from './client/backlog.ts';
export { Consumer } from './client/consumer.ts';
export type { DeadLetter, DeadLetterPlace } from './client/dead-letter.ts';
export type { DeadLetterChanges, ReplayedLetter } from './client/dead-letter-replay.ts';
export { type DeadLetterPage, type DeadLetterQuery, DeadLetters, type ReplayQuery } from './client/dead-letters.ts';
export type { DelayedInGroup } from './client/delay-admin.ts';
export type { GroupOutcome } from './client/every-group.ts';
export { FileOffsetStore } from './client/file-offset-store.ts';
export { HANDLER_DURATION_BUCKETS_MS } from './client/handler-timings.ts';
export { IDEMPOTENT_DEFAULTS, type IdempotentOptions, idempotent } from './client/idempotent/idempotent.ts';
export { type IdempotentInTransactionOptions, idempotentInTransaction } from './client/idempotent/idempotent-in-transaction.ts';
export {
  type Claim,
  type IdempotenceKey,
  MAX_IDEMPOTENCE_KEY_LENGTH,
  type MarkStore,
  type TransactionalMarkStore,
} from './client/idempotent/marks.ts';
export { MemoryMarks } from './client/idempotent/memory-marks.ts';
export { type PostgresClient, PostgresMarks } from './client/idempotent/postgres-marks.ts';
export { type RedisCommands, RedisMarks } from './client/idempotent/redis-marks.ts';
export { type SqliteDatabase, SqliteMarks } from './client/idempotent/sqlite-marks.ts';
export { LedgerClient } from './client/ledger-client.ts';
export type { ReceivedMessage } from './client/message.ts';
export type { MessageQueue } from './client/message-queue.ts';
export type { MessageQuery, MessageQueryResult, SearchedGroup, SearchStatus } from './client/message-search.ts';
export type { OffsetOwner, OffsetStore, StoredOffset, StoredQueue } from './client/offset-store.ts';
export type { OpenTelemetryApi } from './client/open-telemetry.ts';
export {
  CLIENT_DEFAULTS,
  type ClientOptions,
  CONSUMER_DEFAULTS,
  type ConsumerOptions,
  PRODUCER_DEFAULTS,
  type ProducerOptions,
} from './client/options.ts';
export { POP_CONSUMER_DEFAULTS, PopConsumer, type PopConsumerOptions } from './client/pop/pop-consumer.ts';
export { PoppedMessage } from './client/pop/popped-message.ts';
export { Producer } from './client/producer.ts';
export { PullConsumer } from './client/pull-consumer.ts';
export type { GroupQuota, QuotaLimits, QuotaSubject } from './client/quotas.ts';
export type { GroupRetention, TopicRetention } from './client/retentions.ts';
export { selectByOrderingKeyHash } from './client/selector.ts';
export type { PendingTransaction } from './client/transaction-admin.ts';
export type { CheckLocalTransaction, TransactionCheck } from './client/transaction-checker.ts';
export {
  Transaction,
  type TransactionOptions,
  type TransactionOutcome,
  TransactionProducer,
  type TransactionProducerOptions,
  type TransactionSendResult,
} from './client/transaction-producer.ts';
export type {
  AllocateMessageQueueStrategy,
  BatchHandler,
  CompressType,
  ConsumeContext,
  ConsumeFromWhere,
  FilterFunction,
  HandledCall,
  HandlerStatistics,
  Message,
  MessageHandler,
  MessageModel,
  MessageQueueSelector,
  PullOptions,
  PullResult,
  QueueRange,
  Replication,
  SendCallback,
  SendResult,
  SlowHandler,
  Subscription,
} from './client/types.ts';
export { type ErrorCode, LedgerError } from './protocol/errors.ts';
