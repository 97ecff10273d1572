import {
  MAX_POP_RECEIPTS,
  type PopAckRequest,
  type PopChangeRequest,
  type PopReceiptFields,
  type PopRequest,
  type PopResponse,
} from './pop-requests.ts';
import type { PulledBatch, PulledReference } from './pulled-batch.ts';
import { bool, int, list, map, oneOf, textUpTo, u16, u32, u53, u53OrNone } from './schema.ts';

const name = textUpTo(512);
const MAX_TAG_HASHES = 256;

export const pulledReference = map<PulledReference>({
  messageIndex: u32,
  attempts: u16,
  originTopic: name,
  originQueueId: u16,
  originOffset: u53OrNone,
});

const receipt = { queueId: u16, checkpoint: u53, offset: u53 };

export const popRequest = map<PopRequest>({
  group: name,
  topic: name,
  queueId: int(-1, 0xffff),
  maxMessages: u32,
  maxBytes: u32,
  invisibleMs: u32,
  waitMs: u32,
  from: oneOf('first', 'last'),
  ordered: bool,
  maxAttempts: u16,
  tagHashes: list(u32, MAX_TAG_HASHES),
});
export const popResponse = map<PopResponse>({
  queueId: u16,
  checkpoint: u53,
  baseOffset: u53,
  count: u32,
  acked: list(u32),
  attempts: u16,
  batches: list(
    map<PulledBatch>({ baseOffset: u53, logTimeMs: u53, position: u53, sizeBytes: u32, reference: pulledReference }, ['reference']),
  ),
});
export const popAckRequest = map<PopAckRequest>({
  group: name,
  topic: name,
  receipts: list(map<PopReceiptFields>(receipt), MAX_POP_RECEIPTS),
});
export const popChangeRequest = map<PopChangeRequest>({ ...receipt, group: name, topic: name, invisibleMs: u32 });
