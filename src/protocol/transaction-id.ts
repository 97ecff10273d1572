import { LedgerError } from './errors.ts';
import type { TransactionRef } from './transaction-requests.ts';

/** A transaction as people and programs pass it on: the half message's id, its transaction's number, and who keeps it. */
export interface TransactionName extends TransactionRef {
  readonly brokerName: string;
}

/** `<message id>-<number>-<brokerName>` */
export function formatTransactionId({ messageId, transaction, brokerName }: TransactionName): string {
  return `${messageId}-${transaction}-${brokerName}`;
}

/** @throws LedgerError BAD_REQUEST */
export function parseTransactionId(text: string): TransactionName {
  const [, messageId = '', number = '', brokerName = ''] = /^([0-9A-F]{32})-(\d{1,16})-(.{1,512})$/.exec(text) ?? [];
  const transaction = Number(number);
  if (messageId === '' || !Number.isSafeInteger(transaction))
    throw new LedgerError('BAD_REQUEST', `a transaction id is MESSAGEID-NUMBER-BROKERNAME: ${JSON.stringify(text.slice(0, 128))}`);
  return { messageId, transaction, brokerName };
}
