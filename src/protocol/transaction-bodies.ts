import { bool, int, list, map, oneOf, textUpTo, u16, u32, u53, u53OrNone } from './schema.ts';
import type {
  HalfDescription,
  ProducerHeartbeatRequest,
  TransactionCheckPush,
  TransactionEndRequest,
  TransactionEndResponse,
  TransactionGetRequest,
  TransactionListRequest,
  TransactionListResponse,
} from './transaction-requests.ts';

/** Half messages in one answer at most. */
export const MAX_LISTED_HALVES = 1_000;

const name = textUpTo(512);
const ref = { transaction: u53, messageId: textUpTo(32) };
const halfFields = { ...ref, producerGroup: name, topic: name, queueId: u16, storedMs: u53, nextCheckMs: u53, checks: u32 };

export const transactionEndRequest = map<TransactionEndRequest>({
  ...ref,
  producerGroup: name,
  outcome: oneOf('commit', 'rollback', 'unknown'),
  source: oneOf('producer', 'check', 'operator'),
});
export const transactionEndResponse = map<TransactionEndResponse>({ offset: u53OrNone });
export const producerHeartbeatRequest = map<ProducerHeartbeatRequest>({ group: name, leave: bool }, ['leave']);
export const transactionGetRequest = map<TransactionGetRequest>(ref);
export const halfDescription = map<HalfDescription>(halfFields);
export const transactionListRequest = map<TransactionListRequest>({
  producerGroup: name,
  after: u53OrNone,
  limit: int(1, MAX_LISTED_HALVES),
});
export const transactionListResponse = map<TransactionListResponse>({
  halves: list(halfDescription, MAX_LISTED_HALVES),
  total: u32,
  logTimeMs: u53,
});
export const transactionCheckPush = map<TransactionCheckPush>({ ...ref, producerGroup: name, check: u32 });
