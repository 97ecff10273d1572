import type { HistoryLine, ReadRun } from '../history.ts';

/** An invocation with what came of it. */
export interface Operation {
  readonly f: string;
  readonly process: number;
  readonly type: 'ok' | 'fail' | 'info';
  readonly invoked: HistoryLine;
  /** null: its process ended before. */
  readonly completed: HistoryLine | null;
}

/** What somebody was shown of one queue. */
export interface Shown {
  readonly queue: string;
  readonly runs: readonly ReadRun[];
}

/** What this operation was shown: a consumer's polls, or a reader's queue. Nothing when it did not succeed. */
export function shownBy({ f, type, completed }: Operation): readonly Shown[] {
  if (completed === null || type !== 'ok') return [];
  if (f === 'poll') return (completed.value as { polls: readonly Shown[] }).polls;
  return f === 'read' ? [completed.value as Shown] : [];
}

/** A wrong thing that was seen. */
export interface Anomaly {
  readonly checker: string;
  readonly text: string;
  /** Places in the history that show it. */
  readonly indexes: readonly number[];
}

/** One kind of anomaly. Pure: what it says depends on what it was given alone. */
export interface Checker {
  readonly name: string;
  /** In the order of time, like operations(). */
  invoked?(line: HistoryLine): void;
  /** When it completes; those that never do come at the end, as info. */
  operation?(operation: Operation): void;
  end(): readonly Anomaly[];
  /** After the end, for people: a checker that had nothing to look at found nothing. */
  looked?(): string;
}

/** Anomalies of one kind that are kept; the rest are counted. */
export const MAX_ANOMALIES = 100;

/** Collects anomalies up to the bound. */
export class Findings {
  readonly #checker: string;
  readonly all: Anomaly[] = [];
  total = 0;

  constructor(checker: string) {
    this.#checker = checker;
  }

  add(text: string, ...indexes: readonly number[]): void {
    this.total++;
    const shown = [...new Set(indexes.filter((index) => index >= 0))];
    if (this.all.length < MAX_ANOMALIES) this.all.push({ checker: this.#checker, text, indexes: shown });
    else if (this.all.length === MAX_ANOMALIES)
      this.all.push({ checker: this.#checker, text: 'more of the same are left out', indexes: [] });
  }
}

/**
 * Feeds a history to checkers in the order of time.
 * @returns how many operations there were, by f and type
 * @throws Error when a process begins an operation before its last one ended: that is no history
 */
export function feed(lines: Iterable<HistoryLine>, checkers: readonly Checker[], nemesis: (line: HistoryLine) => void): OperationCounts {
  const open = new Map<number, HistoryLine>();
  const counts = new OperationCounts();
  const complete = (operation: Operation): void => {
    counts.add(operation);
    for (const checker of checkers) checker.operation?.(operation);
  };
  for (const line of lines) {
    if (line.process === 'nemesis') {
      nemesis(line);
      continue;
    }
    const invoked = open.get(line.process);
    if (line.type === 'invoke') {
      if (invoked !== undefined) throw new Error(`process ${line.process} begins at ${line.index} while ${invoked.index} is under way`);
      open.set(line.process, line);
      for (const checker of checkers) checker.invoked?.(line);
      continue;
    }
    if (invoked === undefined) throw new Error(`process ${line.process} ends at ${line.index} what it did not begin`);
    open.delete(line.process);
    complete({ f: line.f, process: line.process, type: line.type, invoked, completed: line });
  }
  for (const [process, invoked] of open) complete({ f: invoked.f, process, type: 'info', invoked, completed: null });
  return counts;
}

export class OperationCounts {
  readonly byName = new Map<string, { ok: number; fail: number; info: number }>();
  ok = 0;
  all = 0;

  add({ f, type }: Operation): void {
    const counts = this.byName.get(f) ?? { ok: 0, fail: 0, info: 0 };
    this.byName.set(f, counts);
    counts[type]++;
    if (type === 'ok') this.ok++;
    this.all++;
  }
}
