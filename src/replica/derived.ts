/**
 * What a replica keeps beside the log and could rebuild from it (ConsumeQueues, the message-id index). The replica tells
 * it how far the log is durable and where the restored state stands.
 */
export interface DerivedFiles {
  /** Forgets everything of entries at or after `position`. */
  truncateFrom(position: number): Promise<void>;
  /** Whether everything between the log's start and `position` is in there, after truncateFrom(position). */
  covers(startPosition: number, position: number): boolean;
  /** After a successful restore: what the state does not have goes. */
  dropUnclaimed(): Promise<void>;
  /** Writes what belongs to entries before `durablePosition`, all of which are applied. */
  flush(durablePosition: number): Promise<void>;
  sync(): Promise<void>;
  /** The log's start moved. */
  cutBefore(position: number): Promise<void>;
  close(): Promise<void>;
}
