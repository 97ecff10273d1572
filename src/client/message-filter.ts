import { crc32 } from '../base/crc.ts';
import { SqlFilter } from '../protocol/sql-filter/sql-filter.ts';
import type { ReceivedBatch, ReceivedMessage } from './message.ts';
import { parseTagFilter, type TagFilter } from './selector.ts';
import type { FilterFunction } from './types.ts';

/**
 * What a subscription wants (F24). Tags and the expression go with each pull: the broker leaves out batches without a match, and
 * the rest of a mixed batch is dropped here, by the same code for expressions and by text for tags, of which the broker knows
 * hashes alone. The function runs here only, after both.
 */
export interface MessageFilter {
  readonly tags: TagFilter;
  readonly sql: SqlFilter | null;
  readonly accepts: FilterFunction | null;
}

/** @returns null when everything is wanted @throws LedgerError BAD_REQUEST (tags), BAD_FILTER (sql) */
export function messageFilter(filter: string | FilterFunction | undefined, sql: string | undefined): MessageFilter | null {
  const tags = typeof filter === 'function' ? null : parseTagFilter(filter);
  const accepts = typeof filter === 'function' ? filter : null;
  if (tags === null && sql === undefined && accepts === null) return null;
  return { tags, sql: sql === undefined ? null : new SqlFilter(sql), accepts };
}

/** What a pull says of a filter. */
export function pullFilter(filter: MessageFilter | null): { readonly tagHashes: readonly number[]; readonly filter?: string } {
  const tagHashes = filter?.tags?.hashes ?? [];
  return filter === null || filter.sql === null ? { tagHashes } : { tagHashes, filter: filter.sql.text };
}

/** @returns the message at `offset` of the queue, or null when it is not wanted @throws what the user's function throws */
export function wanted(batch: ReceivedBatch, offset: number, filter: MessageFilter | null): ReceivedMessage | null {
  if (filter === null) return batch.at(offset);
  const index = batch.indexAt(offset);
  // What cannot be judged is no reason to skip it, nor to pull it for ever.
  if (!batch.isSound(index)) return batch.at(offset);
  if (filter.tags !== null && !hasTag(batch, index, filter.tags)) return null;
  if (filter.sql !== null && !batch.passes(index, filter.sql)) return null;
  const message = batch.at(offset);
  return filter.accepts === null || filter.accepts(message) ? message : null;
}

/** Hashes first: equal hashes may be other tags. */
function hasTag(batch: ReceivedBatch, index: number, { hashes, tags }: NonNullable<TagFilter>): boolean {
  if (!hashes.includes(batch.tagHash(index))) return false;
  const tag = batch.tag(index);
  return tag !== undefined && tags.has(tag);
}

/** Who writes a filter that fails must hear of it, and loses no message by it: one that cannot be judged is handed over. */
export function failingOpen(accepts: FilterFunction, onError: (error: unknown) => void): FilterFunction {
  return (message) => {
    try {
      return accepts(message);
    } catch (error) {
      onError(error);
      return true;
    }
  };
}

/** What the brokers are to filter by, the same for the same subscriptions; 0 = nothing. A function is this client's own affair. */
export function filterHash(filters: ReadonlyMap<string, MessageFilter | null>): number {
  const said: string[] = [];
  for (const [topic, filter] of filters) {
    const tags = [...(filter?.tags?.tags ?? [])].sort(byText);
    const sql = filter?.sql?.text ?? '';
    if (tags.length > 0 || sql !== '') said.push(JSON.stringify([topic, tags, sql]));
  }
  return said.length === 0 ? 0 : crc32(Buffer.from(said.sort(byText).join('\n'))) || 1;
}

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
