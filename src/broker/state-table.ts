import type { AppliedEntry } from '../replica/types.ts';
import type { Command } from './commands.ts';
import type { DeliveryRow } from './delivery.ts';
import type { QueueState, TopicState } from './topics.ts';

/**
 * A part of the replicated state with a name of its own in the saved state (I6). Whatever a table decides from is in its packed
 * form, and equal tables give equal packed forms. Plain arrays, strings, numbers, bytes.
 */
export interface StateTable {
  /** On disk: never reused. */
  readonly name: string;
  /** The feature level that brought it; default: `messaging`. */
  readonly level?: number;
  clear(): void;
  pack(): unknown;
  /** Into an empty table; topics and groups are restored already. */
  unpack(packed: unknown): void;
  /** The topic is about to go, with all its queues. */
  topicDropped?(topic: TopicState): void;
}

/** `error` is a number of protocol/errors.ts, 0 = done; both are in the digest and go to whoever proposed the command. */
export interface CommandResult {
  readonly error: number;
  readonly results: readonly number[];
}

/** Applies commands of one feature. `rows` are those of a delivery entry, none for a bare command. */
export interface CommandHandler {
  handle(command: Command, entry: AppliedEntry, rows: PlacedRows): CommandResult;
}

/** A delivery entry's rows, as the handler of its command places them. */
export interface PlacedRows {
  readonly rows: readonly DeliveryRow[];
  /** Position of row `i` in the log: the ConsumeQueue unit of what it places. */
  rowPosition(i: number): number;
}

/** Takes over a stored batch whose messages are not to be seen yet; the sequence has passed. */
export interface DeferredBatches {
  /** @param flag the BatchFlag of the deferral @returns an error number, 0 = taken */
  defer(flag: number, entry: AppliedEntry, queue: QueueState, count: number): number;
}
