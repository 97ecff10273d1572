import type { LedgerError } from '../protocol/errors.ts';
import type { MessageIdTexts } from '../protocol/message-id.ts';
import type { BatchMessage, EncodedBatch } from '../protocol/record-batch-encoder.ts';
import type { Deferral } from './delay.ts';
import type { MessageQueue } from './message-queue.ts';
import type { SendTrace } from './tracing.ts';
import type { SendCallback, SendResult } from './types.ts';

type Resolve = (result: SendResult) => void;
type Reject = (error: LedgerError) => void;

/** A message between send() and its outcome: what the encoder reads, and whom to tell. One object a message. */
export class PendingMessage implements BatchMessage {
  readonly body: Uint8Array;
  readonly bornTimeMs: number;
  readonly tag: string | undefined;
  readonly keys: readonly string[] | undefined;
  readonly shardingKey: string | undefined;
  readonly properties: readonly (readonly [string, string])[] | undefined;
  /** Null: delivered at once. */
  deferral: Deferral | null = null;
  /** Bytes of a batch that it takes at most. */
  sizeBytes = 0;
  resolve: Resolve | null = null;
  reject: Reject | null = null;
  callback: SendCallback | null = null;
  trace: SendTrace | null = null;

  constructor(
    body: Uint8Array,
    bornTimeMs: number,
    tag: string | undefined,
    keys: readonly string[] | undefined,
    shardingKey: string | undefined,
    properties: readonly (readonly [string, string])[] | undefined,
  ) {
    this.body = body;
    this.bornTimeMs = bornTimeMs;
    this.tag = tag;
    this.keys = keys;
    this.shardingKey = shardingKey;
    this.properties = properties;
  }
}

export interface BatchKind {
  readonly whole: boolean;
  readonly oneWay: boolean;
  readonly movable: boolean;
  readonly keyed: boolean;
  /** A batch has one for all its messages. */
  readonly deferral: Deferral | null;
}

/** Messages of one queue that travel and are stored together. */
export class OutBatch {
  readonly messages: PendingMessage[] = [];
  /** All or nothing, made by one sendBatch(): nothing joins it. */
  readonly whole: boolean;
  readonly oneWay: boolean;
  /** May go to another broker group after a definite refusal: neither keyed nor aimed at a queue. */
  readonly movable: boolean;
  /** Placed by the ordering keys of its messages alone: placed again when an operator takes the queue away. */
  readonly keyed: boolean;
  readonly deferral: Deferral | null;
  readonly createdAt: number;
  readonly deadlineAt: number;
  sizeBytes = 0;
  largestBodyBytes = 0;
  /** A message of it has spans. */
  traced = false;
  closed = false;
  encoded: EncodedBatch | null = null;
  /** Frames that it was put into. */
  sends = 0;
  /** `encoded.buffer` became a frame: what is sent again is a copy. */
  bufferUsed = false;
  /** Low half of the first message's id; −1 until first encoded. Kept over resends and moves. */
  idLow = -1;
  /** −1: has no sequence yet. */
  epoch = -1;
  firstSequence = 0;
  /** The frame that it is in and whose answer is awaited. */
  attempt: object | null = null;
  /** An earlier attempt may have been stored: only the same sequence may be sent again. */
  inDoubt = false;
  /** Definite refusals so far. */
  refusals = 0;
  readonly causes: LedgerError[] = [];

  constructor(createdAt: number, deadlineAt: number, kind: BatchKind) {
    this.createdAt = createdAt;
    this.deadlineAt = deadlineAt;
    this.whole = kind.whole;
    this.oneWay = kind.oneWay;
    this.movable = kind.movable;
    this.keyed = kind.keyed;
    this.deferral = kind.deferral;
  }

  get count(): number {
    return this.messages.length;
  }
  /** Nothing may join it any more: it has had a sequence once, or is a whole batch. */
  get sealed(): boolean {
    return this.closed || this.whole;
  }

  add(message: PendingMessage): void {
    this.messages.push(message);
    this.sizeBytes += message.sizeBytes;
    if (message.trace !== null) this.traced = true;
    this.largestBodyBytes = Math.max(this.largestBodyBytes, message.body.length);
  }

  /** Sequence and bytes are given up: it will be laid down again. Only for a batch that is known not to be stored. */
  forgetSequence(): void {
    this.epoch = -1;
    this.encoded = null;
    this.bufferUsed = false;
    this.sends = 0;
    this.attempt = null;
    this.inDoubt = false;
  }

  /** It is in a frame. */
  left(): void {
    if (this.traced) for (const { trace } of this.messages) trace?.left();
  }

  /** One-way: nobody will answer. */
  gone(): void {
    if (this.traced) for (const { trace } of this.messages) trace?.gone();
  }

  /**
   * @param baseOffset −1 = unknown
   * @param thrown what a callback threw: the others are told nevertheless
   */
  resolve({ topic, brokerName, queueId }: MessageQueue, baseOffset: number, ids: MessageIdTexts, thrown: (error: unknown) => void): void {
    const messages = this.messages;
    for (let i = 0; i < messages.length; i++) {
      const message = messages[i] as PendingMessage;
      const msgId = ids.at(this.idLow + i);
      const result: SendResult = { msgId, topic, brokerName, queueId, offset: baseOffset < 0 ? null : baseOffset + i };
      if (message.trace !== null) message.trace.stored(result);
      if (message.resolve !== null) message.resolve(result);
      else if (message.callback !== null) callBack(message.callback, null, result, thrown);
    }
  }

  reject(error: LedgerError, thrown: (error: unknown) => void): void {
    for (const message of this.messages) {
      message.trace?.failed(error);
      if (message.reject !== null) message.reject(error);
      else if (message.callback !== null) callBack(message.callback, error, null, thrown);
    }
  }
}

function callBack(callback: SendCallback, error: LedgerError | null, result: SendResult | null, thrown: (error: unknown) => void): void {
  try {
    callback(error, result);
  } catch (failure) {
    thrown(failure);
  }
}

/** Ends the spans of messages that will be in no batch. */
export function refused(pending: readonly PendingMessage[], error: LedgerError): LedgerError {
  for (const { trace } of pending) trace?.failed(error);
  return error;
}
