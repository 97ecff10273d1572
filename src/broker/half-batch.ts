import { readU32 } from '../base/bytes.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import { LedgerError } from '../protocol/errors.ts';
import { formatMessageId } from '../protocol/message-id.ts';
import { checkGroupName, MAX_GROUP_CHARACTERS } from '../protocol/names.ts';
import { findProperty, Property } from '../protocol/properties.ts';
import { batchCount, batchHasSequence, batchIdHigh, batchIdLow, batchPropertiesBytes, Unit, unitAt } from '../protocol/record-batch.ts';
import { nameRefusal } from './name-refusal.ts';

/** What the broker reads of a half batch besides its header (F14). */
export interface HalfHeader {
  readonly producerGroup: string;
  readonly messageId: string;
  /** Before the first check, ms; null: as the group's setting says. */
  readonly checkImmunityMs: number | null;
}

const SECONDS = /^\d{1,9}$/;

/**
 * A half batch is one message with a sequence and the name of its producer group: one transaction, stored once however often it is
 * sent. The same at the broker and at apply.
 * @param body a checked batch
 * @returns its header, or why it is refused
 */
export function readHalf(body: Uint8Array): HalfHeader | ErrorCode {
  if (batchCount(body, 0) !== 1 || !batchHasSequence(body, 0)) return 'BAD_REQUEST';
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const unit = unitAt(0, 0);
  const from = unitAt(0, 1) + readU32(bytes, unit + Unit.propertiesAt);
  const to = from + readU32(bytes, unit + Unit.propertiesBytes);
  if (to > unitAt(0, 1) + batchPropertiesBytes(body, 0)) return 'CORRUPT_BATCH';
  try {
    const producerGroup = findProperty(bytes, from, to, Property.producerGroup) ?? '';
    if (producerGroup === '' || producerGroup.length > MAX_GROUP_CHARACTERS) return 'BAD_REQUEST';
    const immunity = findProperty(bytes, from, to, Property.checkImmunitySeconds) ?? '';
    const checkImmunityMs = SECONDS.test(immunity) ? Number(immunity) * 1_000 : null;
    return { producerGroup, messageId: formatMessageId({ high: batchIdHigh(body, 0), low: batchIdLow(body, 0) }), checkImmunityMs };
  } catch (error) {
    if (error instanceof LedgerError) return error.code;
    throw error;
  }
}

/** Before it costs an entry. */
export function halfRefusal(body: Uint8Array): ErrorCode | null {
  const half = readHalf(body);
  if (typeof half === 'string') return half;
  return nameRefusal(() => checkGroupName(half.producerGroup))?.code ?? null;
}
