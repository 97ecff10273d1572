import { assert } from '../base/assert.ts';
import { LARGEST_GROUP_BYTES } from './group-codec.ts';
import { BLOCK_BYTES } from './layout.ts';
import type { HotHold, HotTailOptions } from './types.ts';

export const DEFAULT_HOT_TAIL: HotTailOptions = { chunkBytes: 8 * 1024 * 1024, maxChunks: 8 };

/** Positions that lie back to back in one chunk. A new run begins at a new segment and after a truncation. */
interface Run {
  readonly position: number;
  readonly offset: number;
  sizeBytes: number;
}

/** One piece of aligned memory: groups are laid into it, written from it, sent from it and read from it. */
export class HotChunk implements HotHold {
  readonly bytes: Uint8Array;
  readonly runs: Run[] = [];
  /** Where the next group goes. Never goes back while the chunk is in use: a sender may still hold what was truncated. */
  tailOffset = 0;
  #holds = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  retain(): void {
    this.#holds++;
  }

  release(): void {
    assert(this.#holds > 0, 'chunk released more often than retained');
    this.#holds--;
  }

  get isHeld(): boolean {
    return this.#holds > 0;
  }

  get endPosition(): number {
    const last = this.runs.at(-1);
    return last === undefined ? 0 : last.position + last.sizeBytes;
  }
}

/**
 * The newest part of the log in memory: a bounded ring of chunks. A chunk is used again only when everything in it is durable here and no
 * sender holds it, so that neither the disk nor a socket ever sees bytes change under it.
 */
export class HotTail {
  readonly #options: HotTailOptions;
  readonly #allocate: (sizeBytes: number) => Uint8Array;
  readonly #onPinned: () => void;
  /** Oldest first; the last one is filled now. */
  readonly #chunks: HotChunk[] = [];

  constructor(options: HotTailOptions, allocate: (sizeBytes: number) => Uint8Array, onPinned: () => void) {
    assert(options.chunkBytes % BLOCK_BYTES === 0 && options.chunkBytes >= LARGEST_GROUP_BYTES, 'chunk smaller than the largest group');
    assert(options.maxChunks >= 2, 'a hot tail has at least two chunks');
    this.#options = options;
    this.#allocate = allocate;
    this.#onPinned = onPinned;
  }

  /**
   * A chunk with room for `sizeBytes` at its tailOffset.
   * @param durablePosition chunks that end at or before it may be recycled
   * @returns null when everything is held or not durable yet (the bound: the caller refuses)
   */
  room(sizeBytes: number, durablePosition: number): HotChunk | null {
    const current = this.#chunks.at(-1);
    if (current !== undefined && current.tailOffset + sizeBytes <= current.bytes.length) return current;
    if (this.#chunks.length < this.#options.maxChunks) {
      const chunk = new HotChunk(this.#allocate(this.#options.chunkBytes));
      this.#chunks.push(chunk);
      return chunk;
    }
    return this.#recycle(durablePosition) ?? this.#recycleAfterPinned(durablePosition);
  }

  /** Bytes of groups that are held. */
  get sizeBytes(): number {
    let sizeBytes = 0;
    for (const chunk of this.#chunks) for (const run of chunk.runs) sizeBytes += run.sizeBytes;
    return sizeBytes;
  }

  /** Records that the group at `position` is laid at the chunk's tail, and moves the tail. */
  add(chunk: HotChunk, position: number, sizeBytes: number): void {
    const last = chunk.runs.at(-1);
    if (last !== undefined && last.position + last.sizeBytes === position && last.offset + last.sizeBytes === chunk.tailOffset) {
      last.sizeBytes += sizeBytes;
    } else {
      chunk.runs.push({ position, offset: chunk.tailOffset, sizeBytes });
    }
    chunk.tailOffset += sizeBytes;
  }

  /** The chunk and offset of [position, position + sizeBytes), or null when not all of it is here. */
  find(position: number, sizeBytes: number): { chunk: HotChunk; offset: number } | null {
    for (let i = this.#chunks.length - 1; i >= 0; i--) {
      const chunk = this.#chunks[i] as HotChunk;
      for (const run of chunk.runs) {
        if (position >= run.position && position + sizeBytes <= run.position + run.sizeBytes) {
          return { chunk, offset: run.offset + (position - run.position) };
        }
      }
    }
    return null;
  }

  read(position: number, sizeBytes: number): Uint8Array | null {
    const found = this.find(position, sizeBytes);
    return found === null ? null : found.chunk.bytes.subarray(found.offset, found.offset + sizeBytes);
  }

  /** Forgets everything from `position` on. The memory stays as it is for whoever holds it. */
  truncate(position: number): void {
    for (const chunk of this.#chunks) {
      while (chunk.runs.length > 0 && (chunk.runs.at(-1) as Run).position >= position) chunk.runs.pop();
      const last = chunk.runs.at(-1);
      if (last !== undefined && last.position + last.sizeBytes > position) last.sizeBytes = position - last.position;
    }
  }

  #recycleAfterPinned(durablePosition: number): HotChunk | null {
    // Only holds can be ended by the owner; a chunk that waits for the disk waits.
    if (!this.#chunks.some((chunk, i) => i < this.#chunks.length - 1 && chunk.isHeld && chunk.endPosition <= durablePosition)) return null;
    this.#onPinned();
    return this.#recycle(durablePosition);
  }

  #recycle(durablePosition: number): HotChunk | null {
    // The one filled now is never taken: it is not full, or the group that does not fit into it is about to leave it.
    const at = this.#chunks.findIndex((chunk, i) => i < this.#chunks.length - 1 && !chunk.isHeld && chunk.endPosition <= durablePosition);
    if (at < 0) return null;
    const [chunk] = this.#chunks.splice(at, 1) as [HotChunk];
    chunk.runs.length = 0;
    chunk.tailOffset = 0;
    this.#chunks.push(chunk);
    return chunk;
  }
}
