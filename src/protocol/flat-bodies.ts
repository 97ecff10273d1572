import type { BodyCodec } from './bodies.ts';
import { LedgerError } from './errors.ts';
import type { PulledBatch } from './pulled-batch.ts';
import type { PullRequest, PullResponse, SendPart, SendRequest } from './requests.ts';
import { badField, int, textUpTo, u16, u32, u53 } from './schema.ts';

/**
 * The hot operations' bodies: flat arrays of numbers and strings. Field names on every frame would double a header and
 * cost a property lookup each; groups of fields repeat at the end.
 */
export const MAX_SEND_PARTS = 1_024;
export const MAX_PULL_BATCHES = 65_536;
export const MAX_TAG_HASHES = 256;

const SEND_FIXED = 2;
const SEND_PART = 3;
const PULL_FIXED = 9;
const PULLED_FIXED = 3;
const PULLED_BATCH = 4;

const name = textUpTo(512);
const flag = int(0, 1);
const replication = int(0, 3);

function flat(wire: unknown, fixed: number, group: number, maxGroups: number): unknown[] {
  if (!Array.isArray(wire) || wire.length < fixed) throw badField('body');
  const groups = (wire.length - fixed) / group;
  if (!Number.isInteger(groups)) throw badField('body');
  if (groups > maxGroups) throw new LedgerError('BAD_REQUEST', `more than ${maxGroups} parts`);
  return wire;
}

/** [oneWay 0|1, replication, (topic, queueId, sizeBytes)…] */
export const SEND_REQUEST: BodyCodec<SendRequest> = {
  encode(body) {
    const wire: (number | string)[] = [body.oneWay ? 1 : 0, body.replication];
    for (const part of body.parts) wire.push(part.topic, part.queueId, part.sizeBytes);
    return wire;
  },
  decode(value) {
    const wire = flat(value, SEND_FIXED, SEND_PART, MAX_SEND_PARTS);
    if (wire.length === SEND_FIXED) throw badField('parts');
    const parts: SendPart[] = [];
    for (let at = SEND_FIXED; at < wire.length; at += SEND_PART) {
      parts.push({ topic: name(wire[at], 'topic'), queueId: u16(wire[at + 1], 'queueId'), sizeBytes: u32(wire[at + 2], 'sizeBytes') });
    }
    return { oneWay: flag(wire[0], 'oneWay') === 1, replication: replication(wire[1], 'replication'), parts };
  },
};

/** [topic, queueId, offset, maxBytes, maxMessages, waitMs, group, member, epoch, tagHash…] */
export const PULL_REQUEST: BodyCodec<PullRequest> = {
  encode(body) {
    const { topic, queueId, offset, maxBytes, maxMessages, waitMs, group, member, epoch } = body;
    const wire: (number | string)[] = [topic, queueId, offset, maxBytes, maxMessages, waitMs, group, member, epoch];
    for (const hash of body.tagHashes) wire.push(hash);
    return wire;
  },
  decode(value) {
    const wire = flat(value, PULL_FIXED, 1, MAX_TAG_HASHES);
    const tagHashes: number[] = [];
    for (let at = PULL_FIXED; at < wire.length; at++) tagHashes.push(u32(wire[at], 'tagHashes'));
    return {
      topic: name(wire[0], 'topic'),
      queueId: u16(wire[1], 'queueId'),
      offset: u53(wire[2], 'offset'),
      maxBytes: u32(wire[3], 'maxBytes'),
      maxMessages: u32(wire[4], 'maxMessages'),
      waitMs: u32(wire[5], 'waitMs'),
      group: name(wire[6], 'group'),
      member: name(wire[7], 'member'),
      epoch: u53(wire[8], 'epoch'),
      tagHashes,
    };
  },
};

/** [minOffset, maxOffset, nextOffset, (baseOffset, logTimeMs, position, sizeBytes)…] */
export const PULL_RESPONSE: BodyCodec<PullResponse> = {
  encode(body) {
    const wire: number[] = [body.minOffset, body.maxOffset, body.nextOffset];
    for (const batch of body.batches) wire.push(batch.baseOffset, batch.logTimeMs, batch.position, batch.sizeBytes);
    return wire;
  },
  decode(value) {
    const wire = flat(value, PULLED_FIXED, PULLED_BATCH, MAX_PULL_BATCHES);
    const batches: PulledBatch[] = [];
    for (let at = PULLED_FIXED; at < wire.length; at += PULLED_BATCH) {
      batches.push({
        baseOffset: u53(wire[at], 'baseOffset'),
        logTimeMs: u53(wire[at + 1], 'logTimeMs'),
        position: u53(wire[at + 2], 'position'),
        sizeBytes: u32(wire[at + 3], 'sizeBytes'),
      });
    }
    return {
      minOffset: u53(wire[0], 'minOffset'),
      maxOffset: u53(wire[1], 'maxOffset'),
      nextOffset: u53(wire[2], 'nextOffset'),
      batches,
    };
  },
};
