import { readU32 } from '../base/bytes.ts';
import { batchCount, Unit, unitAt } from '../protocol/record-batch.ts';
import { SqlFilter } from '../protocol/sql-filter/sql-filter.ts';

/** Which batches a pull wants (F24): those with a message that has one of the tags, and of which the expression is true. */
export interface BatchFilter {
  /** Empty: all. */
  readonly tagHashes: readonly number[];
  readonly sql: SqlFilter | null;
}

/**
 * Exact for the expression; for tags exact to the hash, the client compares the text.
 * @param at of a checked batch
 * @param message the one that is asked about; −1: any of the batch
 */
export function batchMatches(bytes: Uint8Array, at: number, { tagHashes, sql }: BatchFilter, message = -1): boolean {
  if (sql === null && tagHashes.length === 0) return true;
  const from = Math.max(message, 0);
  const to = message < 0 ? batchCount(bytes, at) : message + 1;
  if (sql === null) {
    for (let i = from; i < to; i++) if (tagHashes.includes(readU32(bytes, unitAt(at, i) + Unit.tagHash))) return true;
    return false;
  }
  const wanted = tagHashes.length === 0 ? null : (unit: number) => tagHashes.includes(readU32(bytes, unit + Unit.tagHash));
  return sql.matchesSome(bytes, at, from, to, wanted);
}

/**
 * Filter expressions of pulls, parsed and compiled once. Members of a group send the same text with each pull; at the bound the
 * one that was not asked for longest goes, and costs its parsing again.
 */
export class SqlFilters {
  readonly #maxFilters: number;
  /** Least recently used first. */
  readonly #filters = new Map<string, SqlFilter>();

  constructor(maxFilters: number) {
    this.#maxFilters = maxFilters;
  }

  get size(): number {
    return this.#filters.size;
  }

  /** @throws LedgerError BAD_FILTER */
  get(text: string): SqlFilter {
    const known = this.#filters.get(text);
    const filter = known ?? new SqlFilter(text);
    if (known !== undefined) this.#filters.delete(text);
    else if (this.#filters.size >= this.#maxFilters) this.#filters.delete(this.#filters.keys().next().value as string);
    this.#filters.set(text, filter);
    return filter;
  }
}
