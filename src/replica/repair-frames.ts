import { readU53, writeU53 } from '../base/bytes.ts';
import { PeerFrameError } from '../protocol/peer-frame.ts';

/** What one replica asks another about its log. Numbers are on the wire. */
export const RepairKind = {
  /** a: index, b: where the log before it ends. Answer: payload whole groups from that index on; a: committed index. */
  groups: 1,
  /** a: first index, b: last index. Answer: a: CRC-32 of the bytes of the whole groups in between, b: their size. */
  hash: 2,
  /** a: position of a segment's head, b: offset in the file. Answer: payload a piece of that state; a: size of the file. */
  snapshot: 3,
  /** a: index of a vote floor. Answer: `ok` when the whole log up to it is here, else `missing`. */
  floor: 4,
  /** Answer: `ok` when the peer leads the group and a majority has just confirmed it, without the vote of who asks: its Raft is silent. */
  leads: 5,
} as const;
export type RepairKind = (typeof RepairKind)[keyof typeof RepairKind];

export const RepairStatus = {
  ok: 1,
  /** Never there, cut away, or not committed yet as far as the peer knows. */
  missing: 2,
  /** There, and damaged at the peer, too. */
  damaged: 3,
  /** A bound on questions that are answered at once. Ask again later. */
  busy: 4,
} as const;
export type RepairStatus = (typeof RepairStatus)[keyof typeof RepairStatus];

export interface RepairQuestion {
  /** Of the asker; comes back in the answer. */
  readonly id: number;
  readonly kind: RepairKind;
  readonly a: number;
  readonly b: number;
}
export interface RepairAnswer {
  readonly id: number;
  readonly status: RepairStatus;
  readonly a: number;
  readonly b: number;
}

const HEAD_BYTES = 32;

function encode(values: readonly number[]): Uint8Array {
  const head = new Uint8Array(HEAD_BYTES);
  for (const [i, value] of values.entries()) writeU53(head, i * 8, value);
  return head;
}

/** @throws PeerFrameError badHead. A longer head is of a newer release: what it adds is ignored. */
function decode(head: Uint8Array): [number, number, number, number] {
  if (head.length < HEAD_BYTES) throw new PeerFrameError('badHead', `repair: ${head.length} bytes`);
  const values = [0, 8, 16, 24].map((at) => readU53(head, at)) as [number, number, number, number];
  if (values.some(Number.isNaN)) throw new PeerFrameError('badHead', 'repair: a field is not below 2^53');
  return values;
}

export function encodeQuestion({ id, kind, a, b }: RepairQuestion): Uint8Array {
  return encode([id, kind, a, b]);
}
export function decodeQuestion(head: Uint8Array): RepairQuestion {
  const [id, kind, a, b] = decode(head);
  return { id, kind: kind as RepairKind, a, b };
}
export function encodeAnswer({ id, status, a, b }: RepairAnswer): Uint8Array {
  return encode([id, status, a, b]);
}
export function decodeAnswer(head: Uint8Array): RepairAnswer {
  const [id, status, a, b] = decode(head);
  return { id, status: status as RepairStatus, a, b };
}
