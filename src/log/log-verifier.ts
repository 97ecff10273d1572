import { type Disk, isOutOfSpace } from '../io/disk.ts';
import type { GroupIndex } from '../raft/group-index.ts';
import { LARGEST_GROUP_BYTES, readGroupHeader } from './group-codec.ts';
import { readRun, readWhatCan, verifyRun } from './group-walk.ts';
import { BLOCK_BYTES, GROUP_HEADER_BYTES } from './layout.ts';
import type { SegmentStore } from './segment-store.ts';
import type { ByteSource, GroupFault, LogBoundary, LogCursor, LogFiles, VerifiedRun } from './types.ts';

const REWRITE_BYTES = 4 * 1024 * 1024;

export interface LogVerifierOptions {
  readonly disk: Disk;
  readonly store: SegmentStore;
  readonly index: GroupIndex;
  readonly segmentBytes: number;
  /** Where the log starts now. */
  start(): LogBoundary;
  /** A write or sync failed: the store is poisoned (I3). */
  onError(error: Error): void;
}

/**
 * The log as its files have it, whatever memory says: walked group by group with every byte verified, and written again with
 * the same bytes where it is damaged.
 */
export class LogVerifier implements LogFiles {
  readonly #options: LogVerifierOptions;
  /** Direct writes want aligned memory; repairs go one after the other. */
  #aligned: Uint8Array | null = null;
  readonly segmentBytes: number;

  constructor(options: LogVerifierOptions) {
    this.#options = options;
    this.segmentBytes = options.segmentBytes;
  }

  /** Before the first retained group. */
  startCursor(): LogCursor {
    const { index, position, previousChecksum, term } = this.#options.start();
    return { index, endPosition: position, previousChecksum, term, logTimeMs: 0 };
  }

  /**
   * A cursor at or before the group that covers `position`, from what memory knows of group starts: the nearest whole group header
   * at a known start, `stepsBack` of them further back. Nothing before it is verified; only startCursor() is beyond doubt.
   */
  async cursorBefore(position: number, stepsBack = 0): Promise<LogCursor> {
    const { index: groups, store } = this.#options;
    const bytes = new Uint8Array(BLOCK_BYTES);
    let steps = stepsBack;
    for (let index = this.#indexAtOrBefore(position); index > groups.firstIndex; ) {
      const mark = groups.groupStartAtOrBelow(index);
      if (mark.index <= groups.firstIndex) break;
      const got = await readWhatCan(store, bytes, mark.position);
      const header = readGroupHeader(bytes.subarray(0, Math.min(got, GROUP_HEADER_BYTES)));
      const isHere = typeof header !== 'string' && header.position === mark.position && header.firstIndex === mark.index;
      if (isHere && steps-- <= 0) {
        const { previousChecksum } = header;
        return {
          index: mark.index - 1,
          endPosition: mark.position,
          previousChecksum,
          term: groups.termAt(mark.index - 1) ?? 0,
          logTimeMs: 0,
        };
      }
      index = mark.index - 1;
    }
    return this.startCursor();
  }

  /** The verified groups behind `cursor`, up to `lastIndex`, as many as `buffer` (LARGEST_GROUP_BYTES at least) takes. */
  readRun(cursor: LogCursor, lastIndex: number, buffer: Uint8Array): Promise<VerifiedRun | GroupFault> {
    return readRun(this.#options.store, this.segmentBytes, cursor, lastIndex, buffer);
  }

  read(into: Uint8Array, position: number): Promise<number> {
    return this.#options.store.read(into, position);
  }

  async rewrite(bytes: Uint8Array, position: number): Promise<void> {
    const { disk, store, onError } = this.#options;
    this.#aligned ??= disk.allocateAligned(REWRITE_BYTES);
    try {
      await store.restore(position, bytes.length);
      for (let at = 0; at < bytes.length; at += REWRITE_BYTES) {
        const piece = bytes.subarray(at, at + REWRITE_BYTES);
        this.#aligned.set(piece);
        await store.write(this.#aligned.subarray(0, piece.length), position + at);
      }
      await store.syncDirty();
    } catch (error) {
      // A file that lost its end is allocated anew: for that there may be no room now (FAULTS 3).
      if (!isOutOfSpace(error)) onError(error as Error);
      throw error;
    }
  }

  /** Smallest index known to lie at or before `position`: starts ascend with their indexes. */
  #indexAtOrBefore(position: number): number {
    const { index: groups } = this.#options;
    let low = groups.firstIndex;
    let high = groups.lastIndex;
    while (low < high) {
      const middle = Math.floor((low + high + 1) / 2);
      if (groups.positionAtOrBelow(middle) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/**
 * Whole groups from `index` on for a peer that repairs its log: the places are the same on all replicas, so that the group is found
 * without an index. @returns null when it is not here whole
 */
export async function readForPeer(
  source: ByteSource,
  place: number,
  index: number,
  lastIndex: number,
  buffer: Uint8Array,
): Promise<VerifiedRun | null> {
  const got = await readWhatCan(source, buffer, place);
  const header = readGroupHeader(buffer.subarray(0, got));
  if (typeof header === 'string' || header.position !== place || header.firstIndex !== index) return null;
  const before = { index: index - 1, endPosition: place, previousChecksum: header.previousChecksum, term: 0, logTimeMs: 0 };
  const run = verifyRun(buffer.subarray(0, got), place, before, lastIndex);
  return typeof run === 'string' ? null : run;
}

export const PEER_RUN_BYTES = LARGEST_GROUP_BYTES;
