import type { PulledReference } from './pulled-batch.ts';

/** Where a search goes on: entries before `position`, and of the entry there the messages before `messageIndex`. */
export interface QueryCursor {
  readonly position: number;
  readonly messageIndex: number;
}
/** Messages of a topic that carry a key, newest first. Times are log times in ms, both included. */
export interface MessageQueryRequest {
  readonly topic: string;
  readonly key: string;
  readonly fromTimeMs: number;
  readonly toTimeMs: number;
  /** The broker's own bound holds as well. */
  readonly max: number;
  /** Out of an earlier answer. Missing: from the newest. */
  readonly before?: QueryCursor;
}
/** Raw region of the response: the batches, back to back, each once. */
export interface MessageQueryResponse {
  readonly found: readonly QueriedBatch[];
  /** Not everything was looked at: go on here. null: it was. */
  readonly next: QueryCursor | null;
}
export interface QueriedBatch {
  readonly queueId: number;
  readonly baseOffset: number;
  readonly logTimeMs: number;
  /** Of its entry: what cursors count by. */
  readonly position: number;
  /** 0: the bytes are those of the one before, of which this is another place. */
  readonly sizeBytes: number;
  /** Which messages of the batch, highest first. */
  readonly messageIndexes: readonly number[];
  /** One message was given its place alone: it has the offset baseOffset. */
  readonly reference?: PulledReference;
}
