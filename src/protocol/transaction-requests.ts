export type TransactionOutcome = 'commit' | 'rollback' | 'unknown';

/** What names a transaction: the first is what the ack of a half message has instead of an offset. */
export interface TransactionRef {
  /** Position of the half message's entry. */
  readonly transaction: number;
  readonly messageId: string;
}
/** To the leader of the group that holds the half message. May be carried out twice: the first outcome counts. */
export interface TransactionEndRequest extends TransactionRef {
  readonly producerGroup: string;
  /** `unknown`: nothing is done, the group is asked again. */
  readonly outcome: TransactionOutcome;
  /** Who says it: for the broker's log. */
  readonly source: 'producer' | 'check' | 'operator';
}
/** `offset`: in its queue, of what was committed; else −1. */
export interface TransactionEndResponse {
  readonly offset: number;
}
/** Checks for this producer group may come over this connection, for 30 s from now on. */
export interface ProducerHeartbeatRequest {
  readonly group: string;
  /** The producer was closed: no more. */
  readonly leave?: boolean;
}
/** TRANSACTION_NOT_FOUND once it has ended. Raw region of the response: the batch. */
export type TransactionGetRequest = TransactionRef;
export interface HalfDescription extends TransactionRef {
  readonly producerGroup: string;
  /** Where it goes when it is committed. */
  readonly topic: string;
  readonly queueId: number;
  /** Log times, ms. */
  readonly storedMs: number;
  readonly nextCheckMs: number;
  /** Times that the producer group was asked. */
  readonly checks: number;
}
export interface TransactionListRequest {
  /** '' = all. */
  readonly producerGroup: string;
  /** Only those behind this one, oldest first; −1 = from the oldest on. */
  readonly after: number;
  /** 1…1000. */
  readonly limit: number;
}
export interface TransactionListResponse {
  readonly halves: readonly HalfDescription[];
  /** Half messages of all producer groups. */
  readonly total: number;
  /** Of the broker group, ms. */
  readonly logTimeMs: number;
}
/** The outcome of one of the producer group's transactions is missing: look it up and say it with transactionEnd. */
export interface TransactionCheckPush extends TransactionRef {
  readonly producerGroup: string;
  /** Which check it is, from 1. */
  readonly check: number;
}

/** Request bodies by operation: transactionEnd, producerHeartbeat, transactionGet, transactionList. */
export interface TransactionRequests {
  readonly 65: TransactionEndRequest;
  readonly 66: ProducerHeartbeatRequest;
  readonly 67: TransactionGetRequest;
  readonly 68: TransactionListRequest;
}
/** Bodies of successful responses to the same. */
export interface TransactionResponses {
  readonly 65: TransactionEndResponse;
  readonly 66: Readonly<Record<string, never>>;
  readonly 67: HalfDescription;
  readonly 68: TransactionListResponse;
}
