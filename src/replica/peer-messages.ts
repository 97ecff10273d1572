import { readU53, writeU53 } from '../base/bytes.ts';
import { PeerFrameError, PeerFrameType } from '../protocol/peer-frame.ts';
import type { Message, ReplicaId } from '../raft/types.ts';

/**
 * Raft messages as heads of peer frames: term, the sender's wall clock, then the fields of the type in this order, each as
 * 64 bits; booleans are 0 or 1. Sender and receiver are known from the link. An appendRequest's groups are its payload.
 */
type FieldsOf<M> = M extends unknown ? Exclude<keyof M, 'type' | 'from' | 'to' | 'term' | 'groups'> : never;
const NUMBERS: { readonly [M in Message as M['type']]: readonly FieldsOf<M>[] } = {
  preVoteRequest: ['lastIndex', 'lastTerm'],
  preVoteResponse: ['granted'],
  voteRequest: ['lastIndex', 'lastTerm', 'transfer'],
  voteResponse: ['granted'],
  appendRequest: ['prevIndex', 'prevTerm', 'firstIndex', 'lastIndex', 'commitIndex'],
  appendResponse: ['success', 'lastIndex', 'hintTerm', 'rejectedIndex'],
  heartbeatRequest: ['commitIndex', 'readContext'],
  heartbeatResponse: ['readContext'],
  timeoutNow: [],
  snapshotRequest: ['index', 'lastTerm'],
  snapshotResponse: ['index', 'success'],
};
const BOOLEANS: ReadonlySet<string> = new Set(['granted', 'transfer', 'success']);

const TERM_AT = 0;
const WALL_AT = 8;
const FIELDS_AT = 16;
/** Room for the head of any Raft message. */
export const MAX_MESSAGE_HEAD_BYTES = 64;

const TYPE_NAMES = new Map<number, Message['type']>((Object.keys(NUMBERS) as Message['type'][]).map((type) => [PeerFrameType[type], type]));

/** Is a frame of this type a Raft message? */
export function isRaftMessage(type: PeerFrameType): boolean {
  return TYPE_NAMES.has(type);
}

/** @param wallMs the sender's wall clock: what log time's median is made of. @returns size of the head */
export function encodeMessage(message: Message, wallMs: number, into: Uint8Array, at: number): number {
  writeU53(into, at + TERM_AT, message.term);
  writeU53(into, at + WALL_AT, wallMs);
  let end = at + FIELDS_AT;
  const values = message as unknown as Record<string, number | boolean>;
  for (const field of NUMBERS[message.type]) {
    writeU53(into, end, Number(values[field]));
    end += 8;
  }
  return end - at;
}

/** The sender's wall clock, ms since 1970, of any Raft message's head that decodeMessage() accepted. */
export function messageWallMs(head: Uint8Array): number {
  return readU53(head, WALL_AT);
}

/**
 * @returns the message; an appendRequest's `groups` are empty: the caller reads them from the payload
 * @throws PeerFrameError badHead
 */
export function decodeMessage(frameType: PeerFrameType, head: Uint8Array, from: ReplicaId, to: ReplicaId): Message {
  const type = TYPE_NAMES.get(frameType);
  if (type === undefined) throw new PeerFrameError('badType', `type ${frameType} is no Raft message`);
  const fields = NUMBERS[type];
  if (head.length !== FIELDS_AT + fields.length * 8) throw new PeerFrameError('badHead', `${type}: ${head.length} bytes`);
  const message: Record<string, unknown> = { type, from, to, term: field(head, TERM_AT, type) };
  field(head, WALL_AT, type);
  let at = FIELDS_AT;
  for (const name of fields) {
    const value = field(head, at, type);
    if (BOOLEANS.has(name)) {
      if (value > 1) throw new PeerFrameError('badHead', `${type}.${name}`);
      message[name] = value === 1;
    } else {
      message[name] = value;
    }
    at += 8;
  }
  if (type === 'appendRequest') message['groups'] = [];
  return message as unknown as Message;
}

function field(head: Uint8Array, at: number, type: string): number {
  const value = readU53(head, at);
  if (Number.isNaN(value)) throw new PeerFrameError('badHead', `${type}: a field is not below 2^53`);
  return value;
}

/** Head of a snapshotSlice; the payload is `bytes offset…` of the snapshot. */
export interface SnapshotSlice {
  /** Of the leader that sends it: slices of an older one are dropped. */
  readonly term: number;
  /** Last index that the snapshot covers, and its term. */
  readonly index: number;
  readonly lastTerm: number;
  /** CommitLog position behind that entry's group. */
  readonly position: number;
  readonly offset: number;
  readonly totalBytes: number;
  /** CRC-32 of the payload. */
  readonly checksum: number;
}
const SLICE_FIELDS = ['term', 'index', 'lastTerm', 'position', 'offset', 'totalBytes', 'checksum'] as const;
export const SNAPSHOT_SLICE_HEAD_BYTES = SLICE_FIELDS.length * 8;

/** @returns size of the head */
export function encodeSnapshotSlice(slice: SnapshotSlice, into: Uint8Array, at: number): number {
  let end = at;
  for (const name of SLICE_FIELDS) {
    writeU53(into, end, slice[name]);
    end += 8;
  }
  return end - at;
}

/** @throws PeerFrameError badHead */
export function decodeSnapshotSlice(head: Uint8Array): SnapshotSlice {
  if (head.length !== SNAPSHOT_SLICE_HEAD_BYTES) throw new PeerFrameError('badHead', `snapshotSlice: ${head.length} bytes`);
  const value = (i: number): number => field(head, i * 8, 'snapshotSlice');
  return {
    term: value(0),
    index: value(1),
    lastTerm: value(2),
    position: value(3),
    offset: value(4),
    totalBytes: value(5),
    checksum: value(6),
  };
}
