export interface PulledBatch {
  readonly baseOffset: number;
  readonly logTimeMs: number;
  /** Position of the batch in the CommitLog (its first byte). */
  readonly position: number;
  readonly sizeBytes: number;
  /** The place in the queue is that of one message of the batch alone, which was stored before. */
  readonly reference?: PulledReference;
}

export interface PulledReference {
  /** Which message of the batch has the offset `baseOffset`. */
  readonly messageIndex: number;
  /** Failed attempts before this delivery. */
  readonly attempts: number;
  /** Where it was first, on the same broker group; '' and −1: a topic that is gone. */
  readonly originTopic: string;
  readonly originQueueId: number;
  readonly originOffset: number;
}
