/**
 * What an operator has decided about a broker group as a whole (F48). `drained`: new topics get no queues here; `removed`: it has left the
 * cluster, the same and for good unless it is opened again. Order and numbers are in the log.
 */
export const GROUP_MARKS = ['open', 'drained', 'removed'] as const;
export type GroupMark = (typeof GROUP_MARKS)[number];
export interface GroupMarkRequest {
  readonly mark: GroupMark;
  /** Whoever asks knows that messages are lost by it: noted, and counted. */
  readonly forced: boolean;
}
