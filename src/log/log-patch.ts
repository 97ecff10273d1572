import { assert } from '../base/assert.ts';
import { readGroupHeader } from './group-codec.ts';
import { placesBehind, readAround, readRun, readWhatCan, verifyRun } from './group-walk.ts';
import { GROUP_HEADER_BYTES } from './layout.ts';
import type { ByteSource, LogCursor } from './types.ts';

/** Groups that a peer sent and that nothing has proven yet; beyond, only a peer that knows them committed can help. */
const MAX_UNPROVEN_BYTES = 32 * 1024 * 1024;

export interface PatchStore extends ByteSource {
  /** Same-bytes writes over what is damaged (I11); on stable storage when it resolves. */
  rewrite(bytes: Uint8Array, position: number): Promise<void>;
  /** Where the log begins now: it is cut, or a snapshot takes its place, while a peer is asked. */
  startCursor(): LogCursor;
}

/** Whole groups from a peer's log, back to back. `bytes` are the caller's. */
export interface PeerGroups {
  readonly bytes: Uint8Array;
  /** The peer knows everything up to here to be committed. */
  readonly committedIndex: number;
}

export interface PatchInput {
  readonly store: PatchStore;
  readonly segmentBytes: number;
  /** The group behind it is damaged. */
  readonly from: LogCursor;
  /** Groups of index `from.index + 1` on; null: no peer has them whole now. */
  fetch(cursor: LogCursor): Promise<PeerGroups | null>;
  /** The log is known to go so far; behind it there is nothing to reconnect with. */
  readonly lastIndex: number;
  /** Takes the largest group. */
  readonly buffer: Uint8Array;
}

export type PatchResult =
  | { readonly ok: true; readonly end: LogCursor; readonly repairedBytes: number }
  /** `mismatch`: what the peer has does not continue what is here: the damage begins earlier, or the peer's copy is not good. */
  | { readonly ok: false; readonly reason: 'missing' | 'mismatch' | 'unproven'; readonly at: LogCursor };

interface Piece {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly lastIndex: number;
}

/**
 * Replaces a damaged range by a peer's bytes (I4). What is written continues the chain that is known to be good, and is either
 * committed at the peer or proven to be what stood here: a group behind it that is whole here continues its chain.
 */
export async function patchLog(input: PatchInput): Promise<PatchResult> {
  const { store, segmentBytes, lastIndex, buffer } = input;
  let cursor = input.from;
  let repairedBytes = 0;
  let unproven: Piece[] = [];
  let ahead: { readonly index: number; readonly groups: Promise<PeerGroups | null> } | null = null;
  const write = async (pieces: readonly Piece[]): Promise<void> => {
    for (const piece of merged(pieces)) {
      if (piece.position < store.startCursor().endPosition) continue; // not there any more
      await store.rewrite(piece.bytes, piece.position);
      repairedBytes += piece.bytes.length;
      await assertSame(store, piece);
    }
  };
  for (;;) {
    const groups: PeerGroups | null = await (ahead?.index === cursor.index ? ahead.groups : input.fetch(cursor));
    if (groups === null)
      return unproven.length > 0 ? { ok: false, reason: 'unproven', at: input.from } : { ok: false, reason: 'missing', at: cursor };
    if (cursor.index < store.startCursor().index) return { ok: false, reason: 'missing', at: cursor };
    const run = verifyPeerRun(groups.bytes, cursor, segmentBytes, lastIndex);
    if (run === null) return { ok: false, reason: 'mismatch', at: cursor };
    // Not what is committed here: the peer may have another, uncommitted group of that index.
    const known = groups.committedIndex;
    const local = buffer.subarray(0, run.bytes.length);
    await readAround(store, local, run.position);
    const different = differing(run.bytes, local, run.position);
    const proven = different.pieces.filter((piece) => piece.lastIndex <= known || piece.lastIndex < different.lastSameIndex);
    ahead = null;
    if (different.lastSameIndex < run.end.index && run.end.index < lastIndex) {
      // The damage goes on, very likely: the next groups come while these are written.
      const coming = input.fetch(run.end);
      coming.catch(() => undefined);
      ahead = { index: run.end.index, groups: coming };
    }
    if (different.lastSameIndex > 0 && unproven.length > 0) {
      await write(unproven);
      unproven = [];
    }
    await write(proven);
    const doubtful = different.pieces.find((piece) => !proven.includes(piece));
    const wholeBytes = unproven.length > 0 ? 0 : doubtful === undefined ? run.bytes.length : doubtful.position - run.position;
    // What is behind it may be more than this log has: whether it is damaged, the walk that goes on from here finds out.
    if (wholeBytes > 0) {
      const whole = verifyRun(run.bytes.subarray(0, wholeBytes), run.position, cursor, lastIndex);
      assert(typeof whole !== 'string', 'verified groups that are not whole');
      return { ok: true, end: whole.end, repairedBytes };
    }
    for (const piece of different.pieces) {
      if (!proven.includes(piece)) unproven.push({ ...piece, bytes: piece.bytes.slice() });
    }
    cursor = run.end;
    const next = cursor.index >= lastIndex ? null : await readRun(store, segmentBytes, cursor, cursor.index + 1, buffer);
    // What stands here goes on from what the peer gave.
    if (next !== null && typeof next !== 'string') await write(unproven);
    else if (next === null && unproven.length > 0) return { ok: false, reason: 'unproven', at: input.from };
    if (next === null || typeof next !== 'string') return { ok: true, end: cursor, repairedBytes };
    if (unproven.reduce((sum, piece) => sum + piece.bytes.length, 0) > MAX_UNPROVEN_BYTES) {
      return { ok: false, reason: 'unproven', at: input.from };
    }
  }
}

function verifyPeerRun(bytes: Uint8Array, cursor: LogCursor, segmentBytes: number, lastIndex: number) {
  const header = readGroupHeader(bytes);
  if (typeof header === 'string' || !placesBehind(cursor.endPosition, segmentBytes).includes(header.position)) return null;
  const run = verifyRun(bytes, header.position, cursor, lastIndex);
  return typeof run === 'string' ? null : run;
}

/** The groups of `good` that `local` does not have, and the last index of a group that is the same in both. */
function differing(good: Uint8Array, local: Uint8Array, position: number): { pieces: Piece[]; lastSameIndex: number } {
  const pieces: Piece[] = [];
  let lastSameIndex = 0;
  for (let at = 0; at < good.length; ) {
    const header = readGroupHeader(good, at);
    assert(typeof header !== 'string' && header.sizeBytes >= GROUP_HEADER_BYTES, 'verified group without a header');
    const bytes = good.subarray(at, at + header.sizeBytes);
    if (isEqual(bytes, local.subarray(at, at + header.sizeBytes))) lastSameIndex = header.lastIndex;
    else pieces.push({ position: position + at, bytes, lastIndex: header.lastIndex });
    at += header.sizeBytes;
  }
  return { pieces, lastSameIndex };
}

/** Neighbours in memory and in the log become one write. */
function merged(pieces: readonly Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    const adjacent =
      last !== undefined &&
      last.position + last.bytes.length === piece.position &&
      last.bytes.buffer === piece.bytes.buffer &&
      last.bytes.byteOffset + last.bytes.length === piece.bytes.byteOffset;
    if (!adjacent) result.push(piece);
    else {
      const bytes = new Uint8Array(last.bytes.buffer, last.bytes.byteOffset, last.bytes.length + piece.bytes.length);
      result[result.length - 1] = { position: last.position, bytes, lastIndex: piece.lastIndex };
    }
  }
  return result;
}

/** A disk that does not give back what was written and synced cannot be relied on. */
async function assertSame(store: PatchStore, { bytes, position }: Piece): Promise<void> {
  const back = new Uint8Array(bytes.length);
  const got = await readWhatCan(store, back, position);
  assert(got === bytes.length && isEqual(bytes, back), `repaired bytes at ${position} were not read back`);
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
