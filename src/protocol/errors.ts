/**
 * The closed list of error codes. A code says what happened and what a client may do about it; numbers are on the wire
 * and never reused. docs/reference/errors.md is generated from this table.
 *
 * retry: 'no' the request is wrong or refused for good · 'same' ask the same broker again after a while ·
 * 'redirect' another replica leads: refresh the route, does not use up a retry ·
 * 'elsewhere' a definite refusal: another queue or group may take it · 'unknown' it may or may not have happened.
 */
export type RetryAdvice = 'no' | 'same' | 'redirect' | 'elsewhere' | 'unknown';

export interface ErrorDefinition {
  readonly number: number;
  readonly retry: RetryAdvice;
  readonly text: string;
}

const define = (number: number, retry: RetryAdvice, text: string): ErrorDefinition => ({ number, retry, text });

export const ERRORS = {
  BAD_REQUEST: define(1, 'no', 'The frame or a field of it is malformed.'),
  UNSUPPORTED_VERSION: define(2, 'no', 'Client and broker share no protocol version.'),
  UNKNOWN_OPERATION: define(3, 'no', 'The broker does not know this operation.'),
  CORRUPT_BATCH: define(4, 'no', 'The batch does not match its checksum or its own sizes.'),
  MESSAGE_TOO_LARGE: define(5, 'no', 'A message, its properties or the batch exceeds the limit.'),
  BAD_NAME: define(6, 'no', 'A topic, group or property name is empty, too long, reserved or has forbidden characters.'),
  BAD_DELAY: define(7, 'no', 'The delivery time is more than 40 days ahead, or the delay is none.'),
  BAD_FILTER: define(8, 'no', 'The filter expression does not parse; the detail says at which character, and why.'),
  TOPIC_NOT_FOUND: define(10, 'no', 'No such topic.'),
  TOPIC_EXISTS: define(11, 'no', 'A topic of this name exists with another definition.'),
  QUEUE_NOT_FOUND: define(12, 'redirect', 'This broker group has no such queue of the topic.'),
  NO_PERMISSION: define(13, 'no', "The topic's perm forbids this."),
  GROUP_NOT_FOUND: define(14, 'no', 'No such consumer group.'),
  MESSAGE_NOT_FOUND: define(15, 'no', 'No message with this id or offset is retained.'),
  TOPIC_CONFLICT: define(16, 'no', 'The topic exists as another incarnation, or was changed by somebody else; nothing was done.'),
  ALREADY_DELIVERED: define(18, 'no', 'The message is in its queue already, or was never delayed: it cannot be cancelled.'),
  QUEUES_CLOSED: define(17, 'elsewhere', 'The broker group is drained: its queues of the topic are read, not written; nothing was stored.'),
  NOT_LEADER: define(20, 'redirect', 'Another replica leads the broker group; nothing was stored.'),
  NOT_READY: define(21, 'redirect', 'The broker is starting, stopping or has not caught up; nothing was stored.'),
  BUSY: define(22, 'elsewhere', 'A bound on uncommitted or queued bytes is reached; nothing was stored.'),
  DISK_FULL: define(23, 'elsewhere', 'The disk is below its reserve; reading goes on.'),
  STORE_POISONED: define(24, 'redirect', 'A write or sync failed; the replica is ending.'),
  DEADLINE_EXCEEDED: define(25, 'unknown', "The request's deadline passed at the broker."),
  OUTCOME_UNKNOWN: define(26, 'unknown', 'The message may or may not have been stored, and nobody can know.'),
  OUT_OF_SEQUENCE: define(30, 'no', 'A sequence number is missing before this batch; nothing was stored.'),
  UNKNOWN_PRODUCER: define(31, 'no', "The producer's sequence state is gone; start again with a higher epoch."),
  FENCED: define(32, 'no', 'A higher epoch exists: of the producer on this queue, or of the assignment.'),
  DUPLICATE_FORGOTTEN: define(33, 'unknown', 'An old duplicate whose result is no longer kept; it was stored once.'),
  NOT_OWNER: define(40, 'no', 'The member does not own this queue (any more); join or fetch the assignment.'),
  UNKNOWN_MEMBER: define(41, 'no', "The member's session ended; join again."),
  OFFSET_OUT_OF_RANGE: define(42, 'no', 'The offset is below the first retained or above the last message.'),
  GROUP_MODE_CONFLICT: define(43, 'no', 'Members of one group must agree on mode, strategy and subscriptions.'),
  RECEIPT_EXPIRED: define(46, 'no', 'The message was delivered again since, or is done: this receipt is not good any more.'),
  TOO_MANY: define(50, 'same', 'A bound on connections, members, waiters or in-flight requests is reached.'),
  FEATURE_LEVEL: define(
    51,
    'no',
    'A replica of the broker group runs a release that does not know this; upgrade all, then raise the feature level.',
  ),
  QUOTA_EXCEEDED: define(
    52,
    'same',
    'A quota of the client or the namespace is used up; nothing was stored. A send is told how long to wait.',
  ),
  REPAIRING: define(55, 'same', 'The bytes are damaged on this replica and are being fetched from another one; nothing was served.'),
  INTERNAL: define(60, 'unknown', 'The broker failed to carry out the request; its log says why.'),
  TRANSACTION_NOT_FOUND: define(
    65,
    'no',
    'No such transaction of this producer group waits for an outcome, or ended within the time that outcomes are remembered.',
  ),
  TRANSACTION_CONFLICT: define(66, 'no', 'The transaction has ended with the other outcome: the first one counts.'),
  CLOSED: define(70, 'no', 'This client, producer or consumer was closed.'),
  CONNECTION_LOST: define(71, 'unknown', 'The connection ended before the answer.'),
  NO_ROUTE: define(72, 'redirect', 'No broker answered for the topic, or no leader is known.'),
  RETRIES_EXHAUSTED: define(73, 'no', 'Every attempt failed; the causes are attached.'),
  IN_PROGRESS: define(74, 'same', 'Another attempt at this work holds its idempotence mark.'),
} as const satisfies Record<string, ErrorDefinition>;

export type ErrorCode = keyof typeof ERRORS;

const BY_NUMBER = new Map<number, ErrorCode>((Object.keys(ERRORS) as ErrorCode[]).map((code) => [ERRORS[code].number, code]));

/** @returns the code of a number on the wire; INTERNAL for one that this version does not know. */
export function errorCodeOf(number: number): ErrorCode {
  return BY_NUMBER.get(number) ?? 'INTERNAL';
}

/** Every error that a user of the client sees, and every refusal inside the broker. */
export class LedgerError extends Error {
  override name = 'LedgerError';
  readonly code: ErrorCode;
  /** The message without its code: what a refusal carries, whose receiver puts the code in front itself. */
  readonly detail: string;
  /** One per attempt, oldest first (RETRIES_EXHAUSTED, OUTCOME_UNKNOWN). */
  readonly causes: readonly LedgerError[];
  /** QUOTA_EXCEEDED: ms to wait before another attempt; 0 = not said. */
  readonly retryAfterMs: number;
  constructor(code: ErrorCode, detail?: string, causes: readonly LedgerError[] = [], retryAfterMs = 0) {
    const text = detail ?? ERRORS[code].text;
    super(`${code}: ${text}`);
    this.code = code;
    this.detail = text;
    this.causes = causes;
    this.retryAfterMs = retryAfterMs;
  }
  get retry(): RetryAdvice {
    return ERRORS[this.code].retry;
  }
}

/** What was thrown, as an error with a code: BAD_REQUEST for one that has none, since the caller's own code threw it. */
export function asLedgerError(error: unknown): LedgerError {
  if (error instanceof LedgerError) return error;
  return new LedgerError('BAD_REQUEST', error instanceof Error ? error.message : String(error));
}
