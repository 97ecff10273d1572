import { ReplicationMode } from '../protocol/requests.ts';
import type { BackoffOptions } from './backoff.ts';
import { checkCompression } from './body-compression.ts';
import { PRODUCER_DEFAULTS, type ProducerOptions } from './options.ts';
import { selectByOrderingKeyHash } from './selector.ts';
import type { CompressType, MessageQueueSelector } from './types.ts';

/** ProducerOptions with every default filled in. */
export interface ProducerSettings {
  readonly retryTimesWhenSendFailed: number;
  readonly retryBackoff: BackoffOptions;
  readonly deliveryTimeoutMs: number;
  readonly sendTimeoutMs: number;
  readonly lingerMs: number;
  readonly maxBatchBytes: number;
  readonly maxBatchMessages: number;
  readonly maxInFlightBatchesPerQueue: number;
  readonly maxBufferedBytes: number;
  readonly maxBufferedMessages: number;
  readonly maxWaitingSends: number;
  readonly maxMessageBytes: number;
  readonly compressType: CompressType;
  readonly compressMsgBodyOverHowmuch: number;
  readonly compressLevel: number;
  readonly replication: number;
  readonly messageQueueSelector: MessageQueueSelector;
  readonly sendLatencyFaultEnable: boolean;
}

/** @throws LedgerError BAD_REQUEST */
export function producerSettings(given: ProducerOptions): ProducerSettings {
  const options = { ...PRODUCER_DEFAULTS, ...given };
  checkCompression(options);
  return {
    ...options,
    retryBackoff: {
      baseMs: options.retryBackoffBaseMs,
      factor: options.retryBackoffFactor,
      capMs: options.retryBackoffCapMs,
      jitter: options.retryJitter,
    },
    replication: ReplicationMode[options.replication],
    messageQueueSelector: options.messageQueueSelector ?? selectByOrderingKeyHash,
  };
}
