import { LedgerError } from '../protocol/errors.ts';

/** @returns what the check threw, or null: a bad name is a client's mistake, anything else is ours */
export function nameRefusal(check: () => void): LedgerError | null {
  try {
    check();
    return null;
  } catch (error) {
    if (error instanceof LedgerError) return error;
    throw error;
  }
}
