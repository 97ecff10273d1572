import type { PulledBatch, PulledReference } from './pulled-batch.ts';
import { badField, text, u16, u32, u53OrNone } from './schema.ts';

/**
 * Which batches of a pull's answer stand for one message only, as a flat list beside the body: releases that do not know it pass it over, and
 * are never given such batches (internal topics and pop alone have them).
 * [(place in the answer, message index, attempts, origin topic, origin queueId, origin offset)…]
 */
const FIELDS = 6;

/** @returns null when there are none */
export function encodeReferences(batches: readonly PulledBatch[]): readonly (number | string)[] | null {
  let wire: (number | string)[] | null = null;
  for (let i = 0; i < batches.length; i++) {
    const reference = batches[i]?.reference;
    if (reference === undefined) continue;
    const { messageIndex, attempts, originTopic, originQueueId, originOffset } = reference;
    wire ??= [];
    wire.push(i, messageIndex, attempts, originTopic, originQueueId, originOffset);
  }
  return wire;
}

/** @throws LedgerError BAD_REQUEST */
export function withReferences(batches: readonly PulledBatch[], wire: unknown): PulledBatch[] {
  if (!Array.isArray(wire) || wire.length % FIELDS !== 0) throw badField('references');
  const result = [...batches];
  for (let at = 0; at < wire.length; at += FIELDS) {
    const place = u32(wire[at], 'references');
    const batch = result[place];
    if (batch === undefined) throw badField('references');
    const reference: PulledReference = {
      messageIndex: u32(wire[at + 1], 'messageIndex'),
      attempts: u16(wire[at + 2], 'attempts'),
      originTopic: text(wire[at + 3], 'originTopic'),
      originQueueId: u16(wire[at + 4], 'originQueueId'),
      originOffset: u53OrNone(wire[at + 5], 'originOffset'),
    };
    result[place] = { ...batch, reference };
  }
  return result;
}
