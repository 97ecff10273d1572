import { type BrokerLimits, DEFAULT_BROKER_LIMITS } from '../broker/limits.ts';
import type { BrokerConfig } from '../config.ts';

/** The broker's bounds, as far as they can be configured. */
export function limitsOf(config: BrokerConfig): BrokerLimits {
  return {
    ...DEFAULT_BROKER_LIMITS,
    maxPullWaitMs: config.maxPullWaitMs,
    maxPullBytes: config.maxPullBytes,
    maxWaiters: config.maxWaiters,
    followerReadBehindBytes: config.followerReadBehindBytes,
    maxMessageBytes: config.maxMessageBytes,
    maxBatchBytes: config.maxBatchBytes,
    offsetCommitIntervalMs: config.offsetCommitIntervalMs,
    minSessionTimeoutMs: config.minSessionTimeoutMs,
    maxSessionTimeoutMs: config.maxSessionTimeoutMs,
    closeGraceMs: config.sessionGraceMs,
  };
}
