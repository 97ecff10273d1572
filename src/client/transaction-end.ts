import { ERRORS, LedgerError as Failure, type LedgerError } from '../protocol/errors.ts';
import { Op } from '../protocol/requests.ts';
import { formatTransactionId, type TransactionName } from '../protocol/transaction-id.ts';
import type { TransactionEndRequest } from '../protocol/transaction-requests.ts';
import { type ClientCore, isTransient } from './client-core.ts';

/** Between attempts at a leader that has no room. */
const AGAIN_MS = 100;

/**
 * Says how a transaction ended, again and again until its leader has answered: the broker group keeps the first outcome, so saying it
 * twice is saying it once.
 * @returns the offset of a committed message; −1 for a rollback
 * @throws LedgerError TRANSACTION_CONFLICT, TRANSACTION_NOT_FOUND, TOPIC_NOT_FOUND; OUTCOME_UNKNOWN when nobody answered in time
 */
export async function endTransaction(
  core: ClientCore,
  name: TransactionName,
  end: Pick<TransactionEndRequest, 'producerGroup' | 'outcome' | 'source'>,
  timeoutMs: number,
): Promise<number> {
  const { brokerName, transaction, messageId } = name;
  const { clock } = core.io;
  const deadlineAt = clock.monotonicMs() + timeoutMs;
  for (;;) {
    try {
      const leftMs = Math.max(1, deadlineAt - clock.monotonicMs());
      return (await core.askLeader(brokerName, Op.transactionEnd, { transaction, messageId, ...end }, leftMs)).body.offset;
    } catch (error) {
      const failure = error as LedgerError;
      const again = ERRORS[failure.code].retry === 'elsewhere' && clock.monotonicMs() + AGAIN_MS < deadlineAt;
      if (again) await core.sleep(AGAIN_MS);
      else if (isTransient(failure) || ERRORS[failure.code].retry === 'elsewhere')
        throw new Failure('OUTCOME_UNKNOWN', `nobody confirmed the end of transaction ${formatTransactionId(name)}`, [failure]);
      else throw failure;
    }
  }
}
