/**
 * Commands of pop consumption (F25). A checkpoint is named by the index of the entry that made it: a receipt of an earlier
 * delivery of the same messages names another one, and finds nothing.
 */

/** Messages from the cursor on become invisible. `from` is where the leader read: with another cursor nothing is taken. */
export interface PopTake {
  readonly type: 'popTake';
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly from: number;
  readonly count: number;
  readonly invisibleMs: number;
}
/**
 * What was not acknowledged in time is delivered again: the checkpoint goes on under this entry's index, as far as `upTo`; what could not
 * be read with it stays in the old one.
 */
export interface PopRevive {
  readonly type: 'popRevive';
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly checkpoint: number;
  readonly upTo: number;
  readonly invisibleMs: number;
}
/** [group, topicId, queueId, checkpoint, offset]: handled, never to come again. */
export type PopReceipt = readonly [group: string, topicId: number, queueId: number, checkpoint: number, offset: number];
export interface PopAck {
  readonly type: 'popAck';
  readonly receipts: readonly PopReceipt[];
}
/** One message stays invisible until `invisibleMs` after this entry, under a checkpoint of its own. */
export interface PopChange {
  readonly type: 'popChange';
  readonly receipt: PopReceipt;
  readonly invisibleMs: number;
}
/** A checkpoint that has had all its attempts ends; the rows put its messages into the group's dead letters. */
export interface PopBury {
  readonly type: 'popBury';
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly checkpoint: number;
}

export type PopCommand = PopTake | PopRevive | PopAck | PopChange | PopBury;
