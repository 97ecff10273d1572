import { LedgerError } from '../errors.ts';

/** UTF-16 units of an expression that an error quotes. */
const QUOTED_CHARACTERS = 80;

/** @param at of the first character that is wrong, from 0; people are told it from 1 */
export function badFilter(text: string, at: number, why: string): LedgerError {
  const quoted = text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text;
  return new LedgerError('BAD_FILTER', `character ${at + 1} of ${JSON.stringify(quoted)}: ${why}`);
}
