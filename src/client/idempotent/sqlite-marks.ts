import { LedgerError } from '../../protocol/errors.ts';
import type { TransactionalMarkStore } from './marks.ts';
import { checkedTableName } from './table-name.ts';

/** What is needed of an embedded database; `DatabaseSync` of node:sqlite is one, and a `Database` of better-sqlite3. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): { run(...values: (string | number)[]): { readonly changes: number | bigint } };
}

/**
 * Marks in an SQLite file that the work changes too, in its own transaction. The handler must be synchronous: the connection has one
 * transaction at a time, and whatever ran during an await would become part of it. The file is safe against power loss with
 * `PRAGMA synchronous = FULL` (the default without WAL): with less, the mark and the work may be gone when the message is not.
 */
export class SqliteMarks<D extends SqliteDatabase> implements TransactionalMarkStore<D, undefined> {
  readonly #database: D;
  readonly #table: string;

  /** Makes the table where it is missing. */
  constructor(database: D, options: { readonly table?: string } = {}) {
    this.#database = database;
    this.#table = checkedTableName(options.table ?? 'ledgermq_done');
    database.exec(
      `CREATE TABLE IF NOT EXISTS ${this.#table} (
        consumer_group TEXT NOT NULL,
        message_key TEXT NOT NULL,
        done_at_s INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
        PRIMARY KEY (consumer_group, message_key)
      ) WITHOUT ROWID`,
    );
  }

  async once(group: string, key: string, work: (database: D) => undefined): Promise<boolean> {
    const database = this.#database;
    // IMMEDIATE: two processes queue up here, instead of failing when the second one begins to write.
    database.exec('BEGIN IMMEDIATE');
    try {
      const insert = database.prepare(`INSERT INTO ${this.#table} (consumer_group, message_key) VALUES (?, ?) ON CONFLICT DO NOTHING`);
      const first = Number(insert.run(group, key).changes) === 1;
      const done: unknown = first ? work(database) : undefined;
      if (done !== undefined) throw new LedgerError('BAD_REQUEST', 'a handler in an SQLite transaction is synchronous and returns nothing');
      database.exec(first ? 'COMMIT' : 'ROLLBACK');
      return first;
    } catch (error) {
      this.#rollBack();
      throw error;
    }
  }

  /** Forgets marks that are older than any duplicate can be: the topic's retention and all retries. @returns how many */
  prune(olderThanMs: number): number {
    const text = `DELETE FROM ${this.#table} WHERE done_at_s < CAST(strftime('%s', 'now') AS INTEGER) - ?`;
    return Number(this.#database.prepare(text).run(olderThanMs / 1_000).changes);
  }

  #rollBack(): void {
    try {
      this.#database.exec('ROLLBACK');
    } catch {
      // Some errors (a full disk) have ended the transaction already.
    }
  }
}
