import { LedgerError } from '../../protocol/errors.ts';
import type { TransactionalMarkStore } from './marks.ts';
import { checkedTableName } from './table-name.ts';

/** What is needed of a PostgreSQL client; a `PoolClient` of pg is one. */
export interface PostgresClient {
  query(text: string, values?: unknown[]): Promise<{ readonly command: string; readonly rowCount: number | null }>;
  /** Given back; with true it is closed instead. */
  release(destroy?: boolean): void;
}

/** Of the table's creation, so that members that start together do it one after another ("ledgermq" in ASCII). */
const CREATION_LOCK = '7810759568219630961';

/**
 * Marks in a table of the database that the work changes, in its own transaction. A second attempt at the same time waits at the
 * unique key for the outcome of the first.
 *
 *     const marks = new PostgresMarks(() => pool.connect());
 *     await marks.createTable();
 */
export class PostgresMarks<C extends PostgresClient> implements TransactionalMarkStore<C, Promise<void>> {
  readonly #connect: () => Promise<C>;
  readonly #table: string;

  constructor(connect: () => Promise<C>, options: { readonly table?: string } = {}) {
    this.#connect = connect;
    this.#table = checkedTableName(options.table ?? 'ledgermq_done');
  }

  /** Makes the table where it is missing. Where the user has no right to, an administrator runs these statements once. */
  async createTable(): Promise<void> {
    await this.#transaction(async (client) => {
      await client.query(`SELECT pg_advisory_xact_lock(${CREATION_LOCK})`);
      await client.query(
        `CREATE TABLE IF NOT EXISTS ${this.#table} (
          consumer_group text NOT NULL,
          message_key text NOT NULL,
          done_at timestamptz NOT NULL DEFAULT now(),
          PRIMARY KEY (consumer_group, message_key)
        )`,
      );
      return true;
    });
  }

  once(group: string, key: string, work: (client: C) => Promise<void>): Promise<boolean> {
    return this.#transaction(async (client) => {
      const insert = `INSERT INTO ${this.#table} (consumer_group, message_key) VALUES ($1, $2) ON CONFLICT DO NOTHING`;
      const { rowCount } = await client.query(insert, [group, key]);
      if (rowCount !== 1) return false;
      await work(client);
      return true;
    });
  }

  /** Forgets marks that are older than any duplicate can be: the topic's retention and all retries. @returns how many */
  async prune(olderThanMs: number): Promise<number> {
    let pruned = 0;
    await this.#transaction(async (client) => {
      const text = `DELETE FROM ${this.#table} WHERE done_at < now() - $1 * interval '1 millisecond'`;
      pruned = (await client.query(text, [olderThanMs])).rowCount ?? 0;
      return true;
    });
    return pruned;
  }

  /** Commits when `body` says true, else rolls back. */
  async #transaction(body: (client: C) => Promise<boolean>): Promise<boolean> {
    const client = await this.#connect();
    let broken = true;
    try {
      await client.query('BEGIN');
      const keep = await body(client);
      const { command } = await client.query(keep ? 'COMMIT' : 'ROLLBACK');
      broken = false;
      // The server's answer to a COMMIT after a failed statement whose error nobody looked at.
      if (keep && command !== 'COMMIT') throw new LedgerError('BAD_REQUEST', 'a statement of the handler failed: all was rolled back');
      return keep;
    } catch (error) {
      if (broken) broken = await failed(client.query('ROLLBACK'));
      throw error;
    } finally {
      // A connection in an unknown state would hand its transaction to the next user.
      client.release(broken);
    }
  }
}

function failed(query: Promise<unknown>): Promise<boolean> {
  return query.then(
    () => false,
    () => true,
  );
}
