import { ERRORS, type ErrorCode } from '../protocol/errors.ts';
import { DLQ_TOPIC_PREFIX, isDlqTopic, MAX_INTERNAL_TOPIC_CHARACTERS } from '../protocol/names.ts';
import type { LongerRetention } from '../protocol/requests.ts';
import type { Command } from './commands.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { StateLimits } from './limits.ts';
import type { CommandHandler, CommandResult, StateTable } from './state-table.ts';
import type { TopicState } from './topics.ts';

/** Of all dead letters that have no retention of their own. */
export const ALL_DEAD_LETTERS = `${DLQ_TOPIC_PREFIX}*`;
const CHARACTERS = /^[%|a-zA-Z0-9_-]+$/;

/** Why an operator's wish is refused, or null. The same at the broker and at apply. */
export function retentionFault({ name, retentionMs, maxBytes }: LongerRetention): string | null {
  const isName = name === ALL_DEAD_LETTERS || (CHARACTERS.test(name) && name.length <= MAX_INTERNAL_TOPIC_CHARACTERS);
  if (!isName) return `a longer retention is of a topic, of a group's dead letters or of ${ALL_DEAD_LETTERS}`;
  if (!Number.isSafeInteger(retentionMs) || retentionMs < 1 || retentionMs > StateLimits.maxLongerRetentionMs)
    return `a longer retention is 1…${StateLimits.maxLongerRetentionMs} ms`;
  if (!Number.isSafeInteger(maxBytes) || maxBytes < 1) return 'a quota of bytes is a whole number above 0';
  return null;
}

/**
 * Topics whose messages are kept for longer than the log (F34), each with a quota of bytes: what an operator set, in the log, so that
 * all replicas drop the same.
 */
export class LongerRetentions implements StateTable, CommandHandler {
  readonly name = 'retentions';
  readonly level = FEATURE_LEVELS.keeping;
  readonly #byName = new Map<string, LongerRetention>();

  get size(): number {
    return this.#byName.size;
  }

  /** By name. */
  all(): LongerRetention[] {
    return [...this.#byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** A topic's own; of a group's dead letters else that of all. */
  of({ name }: Pick<TopicState, 'name'>): LongerRetention | undefined {
    return this.#byName.get(name) ?? (isDlqTopic(name) ? this.#byName.get(ALL_DEAD_LETTERS) : undefined);
  }

  handle(command: Command): CommandResult {
    let error: ErrorCode | null = null;
    if (command.type === 'retentionSet') {
      const { type: _, ...retention } = command;
      if (retentionFault(retention) !== null) error = 'BAD_REQUEST';
      else if (!this.#byName.has(retention.name) && this.size >= StateLimits.maxLongerRetentions) error = 'TOO_MANY';
      else this.#byName.set(retention.name, retention);
    } else if (command.type === 'retentionRemove') this.#byName.delete(command.name);
    else error = 'UNKNOWN_OPERATION';
    return { error: error === null ? 0 : ERRORS[error].number, results: [] };
  }

  topicDropped({ name }: TopicState): void {
    this.#byName.delete(name);
  }

  clear(): void {
    this.#byName.clear();
  }

  pack(): unknown {
    return this.all().map(({ name, retentionMs, maxBytes }) => [name, retentionMs, maxBytes]);
  }

  unpack(packed: unknown): void {
    for (const [name, retentionMs, maxBytes] of packed as [string, number, number][])
      this.#byName.set(name, { name, retentionMs, maxBytes });
  }
}
