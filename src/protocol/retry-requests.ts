/**
 * Messages that the member could not handle, each by its place in a queue that the member owns: to be delivered again to the
 * group after a delay, or to be dead letters. Asked for twice, an offset is sent back once. From feature level 3 on.
 */
export interface SendBackRequest {
  readonly group: string;
  readonly member: string;
  readonly topic: string;
  readonly queueId: number;
  /** At which the member became the queue's owner. */
  readonly epoch: number;
  /** Failed attempts from which on a further one makes a dead letter: 16 = 16 retries. */
  readonly maxReconsumeTimes: number;
  /** 1…1024 */
  readonly messages: readonly SentBackMessage[];
}
export interface SentBackMessage {
  readonly offset: number;
  /** −1: a dead letter at once; 0: level 3 + failed attempts before; from 1: this level. */
  readonly delayLevel: number;
  /** Instead of a level: ms from now, 40 days at most; 0 = by level. */
  readonly delayMs: number;
  /** Failed attempts as the member counts them, this one included; the higher one of its and the broker's number holds. */
  readonly attempts: number;
}
/** One error number for each message, in order; 0: it is safe, and done at its offset. */
export interface SendBackResponse {
  readonly errors: readonly number[];
}

/** Dead letters of the group that were sent to their topic again, by their offsets in %DLQ%group of this broker group. */
export interface DeadLetterMarkRequest {
  readonly group: string;
  readonly offsets: readonly number[];
}
/** One error number for each offset, in order. */
export interface DeadLetterMarkResponse {
  readonly errors: readonly number[];
}
/** What is noted of the dead letters at offsets from `from` to before `to`. */
export interface DeadLetterMarksRequest {
  readonly group: string;
  readonly from: number;
  readonly to: number;
}
export interface DeadLetterMarksResponse {
  /** By offset; those that were never replayed are left out. */
  readonly marks: readonly { readonly offset: number; readonly replays: number; readonly lastReplayMs: number }[];
}
