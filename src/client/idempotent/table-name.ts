import { LedgerError } from '../../protocol/errors.ts';

/** @throws LedgerError BAD_NAME: a name becomes part of statements, where no parameter can stand for it */
export function checkedTableName(table: string): string {
  if (/^([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}$/.test(table)) return table;
  throw new LedgerError('BAD_NAME', `table ${JSON.stringify(table)}: lower-case letters, digits and _, with or without a schema`);
}
