import { LedgerError } from '../protocol/errors.ts';
import { DISCARDED_HALVES_TOPIC } from '../protocol/names.ts';
import { Op } from '../protocol/requests.ts';
import { MAX_LISTED_HALVES } from '../protocol/transaction-bodies.ts';
import { formatTransactionId, parseTransactionId } from '../protocol/transaction-id.ts';
import type { HalfDescription } from '../protocol/transaction-requests.ts';
import { ReceivedBatch, type ReceivedMessage } from './message.ts';
import type { GroupPort } from './message-search.ts';

/** A half message that waits for the outcome of its transaction. */
export interface PendingTransaction {
  readonly transactionId: string;
  readonly msgId: string;
  readonly producerGroup: string;
  /** Where it goes when it is committed. */
  readonly topic: string;
  readonly brokerName: string;
  readonly queueId: number;
  /** Log times of its broker group, ms since 1970. */
  readonly storedMs: number;
  readonly nextCheckMs: number;
  /** ms of log time since it was stored. */
  readonly ageMs: number;
  /** Times that the producer group was asked. */
  readonly checks: number;
}

const NO_OFFSET = -1;
const PULL_BYTES = 1024 * 1024;

function shown(half: HalfDescription, brokerName: string, logTimeMs: number): PendingTransaction {
  const { messageId: msgId, producerGroup, topic, queueId, storedMs, nextCheckMs, checks } = half;
  const transactionId = formatTransactionId({ ...half, brokerName });
  const ageMs = Math.max(0, logTimeMs - storedMs);
  return { transactionId, msgId, producerGroup, topic, brokerName, queueId, storedMs, nextCheckMs, ageMs, checks };
}

/**
 * Half messages of all broker groups, oldest first.
 * @param producerGroup '' = of all @param max in all
 * @throws LedgerError what a broker group failed with
 */
export async function pendingTransactions(
  port: GroupPort,
  producerGroup: string,
  max: number,
  timeoutMs: number,
): Promise<{ readonly transactions: readonly PendingTransaction[]; readonly total: number }> {
  const groups = await Promise.all(
    (await port.brokerNames()).map(async (brokerName) => {
      const found: PendingTransaction[] = [];
      for (let after = NO_OFFSET, total = 0; ; ) {
        const limit = Math.min(MAX_LISTED_HALVES, max - found.length);
        if (limit <= 0) return { found, total };
        const { body } = await port.askLeader(brokerName, Op.transactionList, { producerGroup, after, limit }, timeoutMs);
        found.push(...body.halves.map((half) => shown(half, brokerName, body.logTimeMs)));
        total = body.total;
        if (body.halves.length < limit) return { found, total };
        after = (body.halves.at(-1) as HalfDescription).transaction;
      }
    }),
  );
  const transactions = groups.flatMap(({ found }) => found).sort((a, b) => a.storedMs - b.storedMs);
  return { transactions: transactions.slice(0, max), total: groups.reduce((sum, { total }) => sum + total, 0) };
}

/** @throws LedgerError TRANSACTION_NOT_FOUND once it has ended, BAD_REQUEST for what is no transaction id */
export async function pendingTransaction(
  port: GroupPort,
  transactionId: string,
  timeoutMs: number,
): Promise<{ readonly transaction: PendingTransaction; readonly message: ReceivedMessage }> {
  const { brokerName, ...ref } = parseTransactionId(transactionId);
  const { body, raw } = await port.askLeader(brokerName, Op.transactionGet, ref, timeoutMs);
  const queue = { topic: body.topic, brokerName, queueId: body.queueId };
  const message = new ReceivedBatch(raw, queue, NO_OFFSET, body.storedMs).at(NO_OFFSET);
  return { transaction: shown(body, brokerName, body.storedMs), message };
}

/**
 * Ends a transaction for its producer group: written to the broker's log. Look at what the local transaction did first.
 * @returns the offset of the committed message; null for a rollback
 * @throws LedgerError TRANSACTION_NOT_FOUND once it has ended
 */
export async function endByHand(
  port: GroupPort,
  transactionId: string,
  outcome: 'commit' | 'rollback',
  timeoutMs: number,
): Promise<number | null> {
  const { brokerName, ...ref } = parseTransactionId(transactionId);
  const { producerGroup } = (await port.askLeader(brokerName, Op.transactionGet, ref, timeoutMs)).body;
  const request = { ...ref, producerGroup, outcome, source: 'operator' } as const;
  const { offset } = (await port.askLeader(brokerName, Op.transactionEnd, request, timeoutMs)).body;
  return offset < 0 ? null : offset;
}

/** Messages of transactions that were rolled back because nobody answered, oldest first for each broker group. @param max for each */
export async function discardedTransactions(port: GroupPort, max: number, timeoutMs: number): Promise<ReceivedMessage[]> {
  const groups = await Promise.all(
    (await port.brokerNames()).map(async (brokerName) => {
      try {
        return await discardedOf(port, brokerName, max, timeoutMs);
      } catch (error) {
        // No half message was ever stored there.
        if (error instanceof LedgerError && error.code === 'TOPIC_NOT_FOUND') return [];
        throw error;
      }
    }),
  );
  return groups.flat();
}

async function discardedOf(port: GroupPort, brokerName: string, max: number, timeoutMs: number): Promise<ReceivedMessage[]> {
  const queue = { topic: DISCARDED_HALVES_TOPIC, queueId: 0 };
  const { minOffset, maxOffset } = (await port.askLeader(brokerName, Op.queueRange, { ...queue, timeMs: 0 }, timeoutMs)).body;
  const messages: ReceivedMessage[] = [];
  for (let offset = minOffset; offset < maxOffset && messages.length < max; ) {
    const plain = { waitMs: 0, group: '', member: '', epoch: 0, tagHashes: [] };
    const request = { ...queue, ...plain, offset, maxBytes: PULL_BYTES, maxMessages: max - messages.length };
    const { body, raw } = await port.askLeader(brokerName, Op.pull, request, timeoutMs);
    let at = 0;
    for (const { baseOffset, logTimeMs, sizeBytes, reference } of body.batches) {
      const batch = new ReceivedBatch(raw.slice(at, at + sizeBytes), { ...queue, brokerName }, baseOffset, logTimeMs, reference);
      messages.push(batch.at(baseOffset));
      at += sizeBytes;
    }
    offset = body.nextOffset;
  }
  return messages;
}
