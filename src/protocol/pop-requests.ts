import type { PulledBatch } from './pulled-batch.ts';

/** Pop consumption (F25): see docs/protocol.md, "Pop". */

export interface PopRequest {
  readonly group: string;
  readonly topic: string;
  /** −1: any queue of the topic on this broker group. */
  readonly queueId: number;
  /** 1…MAX_POP_MESSAGES */
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** For how long what is given is invisible to others, ms of log time. */
  readonly invisibleMs: number;
  /** Long poll: ms to wait when there is nothing. */
  readonly waitMs: number;
  /** Where a group begins that never consumed this queue. */
  readonly from: 'first' | 'last';
  /** One delivery of a queue at a time: the next when all of it is acknowledged or visible again (RocketMQ's orderly pop). */
  readonly ordered: boolean;
  /** Deliveries of a message at most; then it goes to the group's dead letters. */
  readonly maxAttempts: number;
  /** Tag hashes wanted; empty = all. Other messages of the range are the client's to acknowledge. */
  readonly tagHashes: readonly number[];
}

/** Raw region: the batches, back to back. checkpoint 0: nothing came. */
export interface PopResponse {
  readonly queueId: number;
  /** Names this delivery in receipts. */
  readonly checkpoint: number;
  /** Messages [baseOffset, baseOffset + count), less those whose bit is set in `acked` (32 a number, lowest first). */
  readonly baseOffset: number;
  readonly count: number;
  readonly acked: readonly number[];
  /** Deliveries before this one. */
  readonly attempts: number;
  readonly batches: readonly PulledBatch[];
}

export interface PopReceiptFields {
  readonly queueId: number;
  readonly checkpoint: number;
  readonly offset: number;
}
export interface PopAckRequest {
  readonly group: string;
  readonly topic: string;
  readonly receipts: readonly PopReceiptFields[];
}
/** An error number for each receipt, in order; 0 = acknowledged. */
export interface PopAckResponse {
  readonly errors: readonly number[];
}
export interface PopChangeRequest extends PopReceiptFields {
  readonly group: string;
  readonly topic: string;
  /** From now on, ms of log time; 0: visible at once. */
  readonly invisibleMs: number;
}
/** The message's receipt from now on. */
export interface PopChangeResponse {
  readonly checkpoint: number;
}

/** One pop's messages at most: a batch larger than this is given in parts, its bytes each time. */
export const MAX_POP_MESSAGES = 1_024;
export const MAX_POP_RECEIPTS = 4_096;
