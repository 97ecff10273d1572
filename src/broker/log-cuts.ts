import { ERRORS } from '../protocol/errors.ts';
import type { AppliedEntry } from '../replica/types.ts';
import type { Carried } from './carried.ts';
import type { Command, Cut, CutCarried } from './commands.ts';
import type { HeldSegments, PendingReferences } from './held-segments.ts';
import type { KeptMessages } from './kept-messages.ts';
import type { MessageIdIndex } from './ports.ts';
import type { Segments } from './segments.ts';
import type { CommandHandler, CommandResult } from './state-table.ts';
import type { TopicState } from './topics.ts';

/** What a cut of the log takes from, or must leave. */
export interface LogCutsPorts {
  readonly segments: Segments;
  readonly carried: Carried;
  readonly held: HeldSegments;
  readonly kept: KeptMessages;
  readonly ids: Pick<MessageIdIndex, 'cut'>;
  /** Who must not lose bytes of the log by a cut. */
  readonly pending: readonly PendingReferences[];
  /** Whether what is in the topic's queues waits there for its time. */
  waitIn(topic: TopicState): boolean;
}

/** Cuts of the log, at apply (F34): all replicas make the same ones. */
export class LogCuts implements CommandHandler {
  readonly #ports: LogCutsPorts;

  constructor(ports: LogCutsPorts) {
    this.#ports = ports;
  }

  /** Whether nothing that is pending, no retained delivery and no longer retention needs what lies before. */
  mayCut(position: number): boolean {
    const { kept, held, pending } = this.#ports;
    return !kept.isAtWork && held.allows(position) && !pending.some((one) => one.referBefore(position));
  }

  handle(command: Command, entry: AppliedEntry): CommandResult {
    return command.type === 'cut' || command.type === 'cutCarried'
      ? this.#cut(command, entry)
      : { error: ERRORS.UNKNOWN_OPERATION.number, results: [] };
  }

  #cut(command: Cut | CutCarried, { logTimeMs }: AppliedEntry): CommandResult {
    const { segments, carried, held, kept, ids, waitIn } = this.#ports;
    const { position } = command;
    const allowed = command.type === 'cut' ? this.mayCut(position) : carried.mayCut(position, command.asOf);
    // Something came between the proposal and here.
    if (!allowed) return { error: ERRORS.NOT_READY.number, results: [] };
    // A second proposal of the same cut, or one of an earlier leader, finds nothing to do.
    if (segments.isStart(position)) {
      carried.cut(position);
      if (command.type === 'cut') segments.cut(position);
      else segments.cutCarried(position, command.expired, waitIn);
      kept.cut(position, logTimeMs);
      ids.cut(position);
      held.cut(position);
    }
    return { error: 0, results: [] };
  }
}
