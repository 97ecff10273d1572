import { readU32 } from '../base/bytes.ts';
import { MAX_ENTRY_BODY_BYTES } from '../log/layout.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { errorCodeOf } from '../protocol/errors.ts';
import { EntryType } from '../replica/types.ts';
import type { Command } from './commands.ts';
import { encodeCommand, levelOf } from './commands.ts';
import type { BrokerContext } from './context.ts';
import { refusalCode } from './context.ts';
import { type DeliveryRow, encodeDelivery } from './delivery.ts';

/** `error` null = applied; `results` as the state machine gave them. */
export type CommandDone = (error: ErrorCode | null, results: readonly number[], index: number) => void;

interface Applied {
  readonly done: CommandDone;
  readonly error: number;
  readonly results: readonly number[];
  readonly index: number;
}

/** Commands that were proposed and wait for apply. Their callbacks run at the end of the run of entries, when the state may be served. */
export class PendingCommands {
  readonly #context: BrokerContext;
  readonly #waiting = new Map<number, CommandDone>();
  #applied: Applied[] = [];

  constructor(context: BrokerContext) {
    this.#context = context;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /**
   * `done` is called once, with a refusal at once.
   * @param rows what the command places: the entry is a delivery then; MAX_ROWS at most
   */
  propose(command: Command, done: CommandDone, rows: readonly DeliveryRow[] = []): void {
    const refused = this.#tryPropose(command, done, rows);
    if (refused !== null) done(refused, [], 0);
  }

  #tryPropose(command: Command, done: CommandDone, rows: readonly DeliveryRow[]): ErrorCode | null {
    const refusal = this.#context.leadership.refusal();
    if (refusal !== null) return refusal;
    if (this.#waiting.size >= this.#context.limits.maxPendingCommands) return 'BUSY';
    // A replica of an older release could not read it.
    if (levelOf(command) > this.#context.state.featureLevel && command.type !== 'featureLevelRaise') return 'FEATURE_LEVEL';
    const bare = encodeCommand(command);
    const body = rows.length === 0 ? bare : encodeDelivery(bare, rows);
    if (body.length > MAX_ENTRY_BODY_BYTES) return 'BAD_REQUEST';
    const index = this.#context.replica.propose(rows.length === 0 ? EntryType.command : EntryType.delivery, 0, 0, readU32(body, 0), body);
    if (typeof index === 'string') return refusalCode(index);
    this.#waiting.set(index, done);
    return null;
  }

  applied(index: number, error: number, results: readonly number[]): void {
    const done = this.#waiting.get(index);
    if (done === undefined) return;
    this.#waiting.delete(index);
    this.#applied.push({ done, error, results, index });
  }

  runApplied(): void {
    if (this.#applied.length === 0) return;
    const run = this.#applied;
    this.#applied = [];
    for (const { done, error, results, index } of run) done(error === 0 ? null : errorCodeOf(error), results, index);
  }

  /** The next leader may still commit them. Every command may be asked for again: they are idempotent. */
  leadershipLost(): void {
    this.runApplied();
    const lost = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const done of lost) done('OUTCOME_UNKNOWN', [], 0);
  }
}
