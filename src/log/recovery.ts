import { alignUp } from '../base/bytes.ts';
import { isUnreadable } from '../io/disk.ts';
import type { GroupMeta } from '../raft/types.ts';
import { LogCorrupt, LogForeign, LogShortened } from './errors.ts';
import { type GroupHeader, LARGEST_GROUP_BYTES, readGroupHeader, type VerifiedGroup, verifyGroup } from './group-codec.ts';
import { LAST_WRITE_BYTES } from './group-commit.ts';
import { BLOCK_BYTES, GROUP_HEADER_BYTES } from './layout.ts';
import type { SegmentOutline, SegmentOutlines } from './segment-outlines.ts';
import type { SegmentStore } from './segment-store.ts';
import type { LogBoundary, LogCursor } from './types.ts';

const SECTOR_BYTES = 512;
const SCAN_BYTES = 2 * LARGEST_GROUP_BYTES;
/** Headers alone are read with little around them: large groups are stepped over. */
const HEADER_SCAN_BYTES = 64 * 1024;
/** Groups below this size lie so close that all between them is read in large pieces: small reads cost more than the bytes. */
const SMALL_GROUP_BYTES = 32 * 1024;

export interface RecoveryInput {
  readonly store: SegmentStore;
  readonly segmentBytes: number;
  readonly start: LogBoundary;
  readonly verifyFrom: LogBoundary;
  readonly durableEndPosition: number;
  readonly unsyncedTailLost: boolean;
  /** What is known of sealed segments' groups from an earlier life; null = nothing. */
  readonly outlines: SegmentOutlines | null;
  /** Mends the log behind `from`, up to a whole group behind `position`, or rejects. Without it damage is refused. */
  repair?(from: LogCursor, damage: LogCorrupt): Promise<void>;
  /** Mends the log behind `from` when a peer has, soon, what leads to the whole group of `laterIndex` that is here. @returns whether it did */
  bridge?(from: LogCursor, damage: LogCorrupt, laterIndex: number): Promise<boolean>;
  /**
   * The checksum and log time are those of the log before the group.
   * @param lone header and body of the only entry of a group behind the checkpoint; valid during the call
   */
  onGroup(group: GroupMeta, previousChecksum: number, previousLogTimeMs: number, lone: Uint8Array | null): void;
  /** Instead of onGroup() for the groups of a segment whose headers need not be read. */
  onOutline(outline: SegmentOutline, endPosition: number): void;
}

export interface RecoveredEnd {
  readonly index: number;
  readonly term: number;
  readonly endPosition: number;
  readonly lastChecksum: number;
  readonly lastLogTimeMs: number;
  readonly verifiedBytes: number;
  /** First group that may belong to the last write: from here on bytes are written again (I3). */
  readonly unprovenPosition: number;
  /** Behind the last byte of a bad last write; endPosition when there is none. */
  readonly dirtyEnd: number;
  readonly voteFloor: number;
  /** Of the entry there; 0 = its header cannot be read. */
  readonly voteFloorTerm: number;
}

/** Bytes of the log by position, read ahead in one buffer. Behind the zeroed part they are zero. */
class Window {
  readonly #store: SegmentStore;
  readonly #segmentBytes: number;
  readonly #buffer: Uint8Array;
  #position = 0;
  #size = 0;

  constructor(store: SegmentStore, segmentBytes: number) {
    this.#store = store;
    this.#segmentBytes = segmentBytes;
    this.#buffer = new Uint8Array(Math.min(SCAN_BYTES, segmentBytes));
  }

  /** A view of at least `sizeBytes` (fewer at the segment's end), good until the next call. */
  async at(position: number, sizeBytes: number, readAheadBytes: number): Promise<Uint8Array> {
    const left = this.#segmentBytes - (position % this.#segmentBytes);
    const wanted = Math.min(sizeBytes, left);
    if (position < this.#position || position + wanted > this.#position + this.#size) {
      const size = Math.min(left, this.#buffer.length, Math.max(wanted, readAheadBytes));
      this.#size = 0;
      this.#size = await this.#fill(position, size);
      this.#position = position;
    }
    return this.#buffer.subarray(position - this.#position, this.#size);
  }

  /** Never zeros for what cannot be read: they would pass for a torn write. */
  async #fill(position: number, sizeBytes: number): Promise<number> {
    for (let size = sizeBytes; ; size = alignUp(size / 2, BLOCK_BYTES)) {
      try {
        const into = this.#buffer.subarray(0, size);
        into.fill(0, await this.#store.read(into, position));
        return size;
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        if (size <= BLOCK_BYTES) throw new LogCorrupt(position, 'a sector cannot be read');
      }
    }
  }

  /** The files were changed. */
  forget(): void {
    this.#size = 0;
  }
}

/** Finds where the log ends and whether it may be used. Reads only: whatever it throws, the directory is as it was. */
export async function recover(input: RecoveryInput): Promise<RecoveredEnd> {
  return new Recovery(input).run();
}

class Recovery {
  readonly #input: RecoveryInput;
  readonly #window: Window;
  #index: number;
  #term: number;
  #position: number;
  #checksum: number;
  #logTimeMs = 0;
  #verifiedBytes = 0;
  /** Before the last group whose header was read: what repair can rely on. */
  #anchor: LogCursor;
  #readAheadBytes = HEADER_SCAN_BYTES;
  /** Where a bridge was tried last; −1 = nowhere. */
  #bridgedAt = -1;
  /** Term of the group that laterGroup() found. */
  #laterTerm = 0;
  /** Starts of the newest groups, enough to reach one write back. */
  #recent: number[] = [];

  constructor(input: RecoveryInput) {
    this.#input = input;
    this.#window = new Window(input.store, input.segmentBytes);
    this.#index = input.start.index;
    this.#term = input.start.term;
    this.#position = input.start.position;
    this.#checksum = input.start.previousChecksum;
    const { index, term, position, previousChecksum } = input.start;
    this.#anchor = { index, term, endPosition: position, previousChecksum, logTimeMs: 0 };
  }

  async run(): Promise<RecoveredEnd> {
    const { verifyFrom } = this.#input;
    while (this.#index < verifyFrom.index) await this.#mended(() => this.#step());
    if (this.#index !== verifyFrom.index || this.#position > verifyFrom.position) {
      throw new LogCorrupt(this.#position, `no group ends at the checkpoint's index ${verifyFrom.index}`);
    }
    this.#checksum = verifyFrom.previousChecksum;
    for (;;) {
      const end = await this.#mended(() => this.#verifyNext());
      if (end !== null && end !== undefined) return end;
    }
  }

  /** Runs a step again once what it found damaged is repaired. */
  async #mended<T>(step: () => Promise<T>): Promise<T> {
    for (let last = -1; ; ) {
      try {
        return await step();
      } catch (error) {
        const { repair } = this.#input;
        // Found again at the same place: it is not what repair can mend.
        if (repair === undefined || !(error instanceof LogCorrupt) || error.position === last) throw error;
        last = error.position;
        await repair(this.#anchor, error);
        this.#window.forget();
      }
    }
  }

  /** One group behind the checkpoint, every byte of it. @returns null while there are more */
  async #verifyNext(): Promise<RecoveredEnd | null> {
    const place = await this.#place();
    if (place === null) return this.#end(this.#position, 0);
    const bytes = await this.#window.at(place, LARGEST_GROUP_BYTES, SCAN_BYTES);
    const result = verifyGroup(bytes, {
      position: place,
      index: this.#index + 1,
      previousChecksum: this.#checksum,
      logTimeMs: this.#logTimeMs,
    });
    if (!result.ok) return this.#badTail(place, result, bytes);
    if (result.header.term < this.#term) throw new LogCorrupt(place, 'the term goes back');
    const { entryCount, dataBytes } = result.header;
    this.#accept(result.header, result.lastChecksum, entryCount === 1 ? bytes.subarray(GROUP_HEADER_BYTES, dataBytes) : null);
    this.#verifiedBytes += result.header.sizeBytes;
    return null;
  }

  /** One group before the checkpoint, by its header. */
  async #step(): Promise<void> {
    const place = await this.#place();
    if (place === null) {
      if (this.#position < this.#input.durableEndPosition)
        throw new LogShortened(`the log ends at ${this.#position}, before its checkpoint`);
      throw new LogCorrupt(this.#position, 'the log ends before its checkpoint');
    }
    if (place % this.#input.segmentBytes === BLOCK_BYTES && (await this.#leap(place))) return;
    const header = await this.#headerAt(place);
    if (header === 'version') throw new LogForeign(`a group of another format at position ${place}`);
    if (typeof header === 'string') throw new LogCorrupt(place, `group header: ${header}`);
    if (header.position !== place || header.firstIndex !== this.#index + 1 || header.term < this.#term) {
      throw new LogCorrupt(place, 'the group does not continue the log');
    }
    this.#readAheadBytes = header.sizeBytes <= SMALL_GROUP_BYTES ? SCAN_BYTES : HEADER_SCAN_BYTES;
    this.#accept(header, 0, null);
  }

  async #headerAt(place: number): Promise<GroupHeader | string> {
    return readGroupHeader(await this.#window.at(place, GROUP_HEADER_BYTES, this.#readAheadBytes));
  }

  /**
   * Steps over a sealed segment before the checkpoint whose groups are known, when its first group and the next segment's carry the chain
   * values that the outline was made with: then all between them is what it was. Damage inside is found by who reads it.
   * @returns false when its headers must be read
   */
  async #leap(place: number): Promise<boolean> {
    const { store, segmentBytes, verifyFrom, outlines, onOutline } = this.#input;
    const base = place - BLOCK_BYTES;
    const nextHead = place + segmentBytes;
    if (outlines === null || nextHead > verifyFrom.position) return false;
    if (store.filledBytes(base) < segmentBytes) return false;
    const outline = await outlines.load(base);
    if (outline === null || outline.lastIndex > verifyFrom.index) return false;
    const first = await this.#headerAt(place);
    const next = await this.#headerAt(nextHead);
    if (typeof first === 'string' || typeof next === 'string') return false;
    const { index, term } = { index: outline.lastIndex, term: outline.terms.at(-1)?.term ?? 0 };
    if (first.position !== place || first.firstIndex !== this.#index + 1 || first.term < this.#term) return false;
    if (outline.marks[0]?.firstIndex !== first.firstIndex || outline.previousChecksum !== first.previousChecksum) return false;
    if (next.position !== nextHead || next.firstIndex !== index + 1 || next.previousChecksum !== outline.lastChecksum) return false;
    const endPosition = base + segmentBytes;
    outlines.believe(base);
    onOutline(outline, endPosition);
    this.#index = index;
    this.#term = term;
    this.#position = endPosition;
    this.#checksum = outline.lastChecksum;
    this.#logTimeMs = first.logTimeMs;
    this.#anchor = { index, term, endPosition, previousChecksum: outline.lastChecksum, logTimeMs: first.logTimeMs };
    this.#recent = [];
    return true;
  }

  #accept(header: GroupHeader, lastChecksum: number, lone: Uint8Array | null): void {
    const previousLogTimeMs = this.#logTimeMs;
    const { index, term: previousTerm } = { index: this.#index, term: this.#term };
    this.#anchor = {
      index,
      term: previousTerm,
      endPosition: header.position,
      previousChecksum: header.previousChecksum,
      logTimeMs: previousLogTimeMs,
    };
    this.#index = header.lastIndex;
    this.#term = header.term;
    this.#position = header.position + header.sizeBytes;
    this.#checksum = lastChecksum;
    this.#logTimeMs = header.logTimeMs;
    this.#recent.push(header.position);
    if (this.#recent.length > 2 * (LAST_WRITE_BYTES / BLOCK_BYTES)) this.#recent = this.#recent.slice(-(LAST_WRITE_BYTES / BLOCK_BYTES));
    const { firstIndex, lastIndex, term, position, sizeBytes, previousChecksum } = header;
    this.#input.onGroup({ firstIndex, lastIndex, term, position, sizeBytes }, previousChecksum, previousLogTimeMs, lone);
  }

  /** Where the next group lies: here, or at the head of the next segment when here is nothing; null when there is nothing behind at all. */
  async #place(): Promise<number | null> {
    const { segmentBytes } = this.#input;
    const used = this.#position % segmentBytes;
    const base = this.#position - used;
    if (used > 0 && (await this.#firstNonZero(this.#position, this.#position + BLOCK_BYTES)) !== null) return this.#position;
    const head = used === 0 ? this.#position + BLOCK_BYTES : base + segmentBytes + BLOCK_BYTES;
    if ((await this.#firstNonZero(head, head + BLOCK_BYTES)) !== null) return head;
    // Nothing where a group must begin. Bytes further on are a torn write that lost its beginning, or damage.
    if (used > 0 && (await this.#lastNonZeroIn(base)) >= this.#position) return this.#position;
    if ((await this.#lastNonZeroIn(head - BLOCK_BYTES)) >= head) return head;
    // A whole segment of nothing with groups behind it: its file is gone, or was replaced.
    return (await this.#hasGroupsBehind(head)) ? head : null;
  }

  async #hasGroupsBehind(position: number): Promise<boolean> {
    for (const base of this.#input.store.bases) if (base > position && (await this.#lastNonZeroIn(base)) >= 0) return true;
    return false;
  }

  async #firstNonZero(position: number, end: number): Promise<number | null> {
    const bytes = await this.#window.at(position, end - position, this.#readAheadBytes);
    for (let i = 0; i < Math.min(bytes.length, end - position); i++) if (bytes[i] !== 0) return position + i;
    return null;
  }

  /** Position of the end of the segment's last word that is not zero, the header's aside; -1 = none. From the end of its allocated part. */
  async #lastNonZeroIn(base: number): Promise<number> {
    const { store } = this.#input;
    const first = Math.max(base + BLOCK_BYTES, base <= this.#position ? this.#position : 0);
    let end = base + store.filledBytes(base);
    const buffer = new Uint8Array(Math.min(1024 * 1024, Math.max(0, end - first)));
    while (end > first) {
      const size = Math.min(buffer.length, end - first);
      const got = await readOrNull(store, buffer.subarray(0, size), end - size);
      // Something was written there, or nothing would be unreadable.
      if (got === null) return end - 1;
      const words = new Uint32Array(buffer.buffer, 0, got / 4);
      for (let word = words.length - 1; word >= 0; word--) if (words[word] !== 0) return end - size + word * 4 + 3;
      end -= size;
    }
    return -1;
  }

  /** What stands at `place` is not the next group: torn, a floor, or corruption (I4). @returns null when it is mended */
  async #badTail(place: number, bad: VerifiedGroup & { ok: false }, bytes: Uint8Array): Promise<RecoveredEnd | null> {
    const { unsyncedTailLost, segmentBytes, store, durableEndPosition } = this.#input;
    const base = place - (place % segmentBytes);
    const dirtyEnd = alignUp((await this.#lastNonZeroIn(base)) + 1, BLOCK_BYTES);
    let lastBase = base;
    for (const next of store.bases) if (next > base && (await this.#lastNonZeroIn(next)) >= 0) lastBase = next;
    const everything = lastBase === base ? dirtyEnd : lastBase + segmentBytes;
    const damaged = new LogCorrupt(place, bad.reason);
    const isShort = this.#position < durableEndPosition;
    if (unsyncedTailLost && !isShort) return this.#end(everything, 0);
    if (bad.reason === 'version') throw new LogForeign(`a group of another format at position ${place}`);
    // A whole header that does not continue the log was never written here by a crash: it is misdirected or of another life.
    if (bad.reason === 'index' || bad.reason === 'position' || bad.reason === 'logTime') throw damaged;
    if (bad.reason === 'chain' && bad.at === 0) throw damaged;
    // One write lies in one segment and is bounded: bytes beyond it were written after this place was durable.
    if (lastBase !== base || dirtyEnd - place > LAST_WRITE_BYTES) throw damaged;
    const torn = hasMissingSector(bytes, bad);
    const later = await this.#laterGroup(place, dirtyEnd);
    if (!torn && later > 0) throw damaged;
    // Proven durable once, so nothing of it can be torn; that it was the last write is all that is known.
    if (isShort && torn) throw damaged;
    if (torn && later === 0) return this.#end(dirtyEnd, 0);
    // Torn, but a whole group behind it may as well be of a later write, and then this one was acknowledged: nobody here can tell. A
    // replica that has it can. What is behind a floor is a leader's to overwrite, and may be the last good copy (seed 3179).
    if (later > 0) return (await this.#bridged(damaged, later)) ? null : this.#end(dirtyEnd, later, this.#laterTerm);
    return this.#end(dirtyEnd, bad.header?.lastIndex ?? this.#index + 1, bad.header?.term ?? 0);
  }

  async #bridged(damage: LogCorrupt, laterIndex: number): Promise<boolean> {
    const { bridge } = this.#input;
    if (bridge === undefined || this.#bridgedAt === damage.position) return false;
    this.#bridgedAt = damage.position;
    const [index, term, endPosition, previousChecksum, logTimeMs] = [
      this.#index,
      this.#term,
      this.#position,
      this.#checksum,
      this.#logTimeMs,
    ];
    const mended = await bridge({ index, term, endPosition, previousChecksum, logTimeMs }, damage, laterIndex);
    this.#window.forget();
    return mended;
  }

  /** Last index of a whole group somewhere in the range behind `place`; 0 = none. */
  async #laterGroup(place: number, end: number): Promise<number> {
    let found = 0;
    for (let at = place + BLOCK_BYTES; at < end; at += BLOCK_BYTES) {
      const head = readGroupHeader(await this.#window.at(at, GROUP_HEADER_BYTES, SCAN_BYTES));
      if (typeof head === 'string' || head.position !== at || head.firstIndex <= this.#index) continue;
      const result = verifyGroup(await this.#window.at(at, head.sizeBytes, SCAN_BYTES));
      if (!result.ok || head.lastIndex <= found) continue;
      found = head.lastIndex;
      this.#laterTerm = head.term;
    }
    return found;
  }

  #end(dirtyEnd: number, voteFloor: number, voteFloorTerm = 0): RecoveredEnd {
    const { durableEndPosition } = this.#input;
    // A floor stands for what is damaged there: it is not gone.
    if (voteFloor === 0 && this.#position < durableEndPosition) {
      throw new LogShortened(`the log ends at ${this.#position}, it was durable up to ${durableEndPosition}`);
    }
    const lastWrite = this.#recent.find((position) => position >= this.#position - LAST_WRITE_BYTES) ?? this.#position;
    return {
      index: this.#index,
      term: this.#term,
      endPosition: this.#position,
      lastChecksum: this.#checksum,
      lastLogTimeMs: this.#logTimeMs,
      verifiedBytes: this.#verifiedBytes,
      unprovenPosition: lastWrite,
      dirtyEnd: Math.max(dirtyEnd, this.#position),
      voteFloor,
      voteFloorTerm,
    };
  }
}

async function readOrNull(store: SegmentStore, into: Uint8Array, position: number): Promise<number | null> {
  try {
    return await store.read(into, position);
  } catch (error) {
    if (isUnreadable(error)) return null;
    throw error;
  }
}

/** True when the bad header or body covers a sector that the disk never wrote (sectors are written whole or not at all). */
function hasMissingSector(bytes: Uint8Array, bad: VerifiedGroup & { ok: false }): boolean {
  const first = bad.at - (bad.at % SECTOR_BYTES);
  // A group whose data ends inside a sector ends there: padding is zero anyway and says nothing.
  for (let at = first; at < bad.at + bad.badBytes && at + SECTOR_BYTES <= bytes.length; at += SECTOR_BYTES) {
    if (isZero(bytes, at, at + SECTOR_BYTES)) return true;
  }
  return false;
}

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (bytes[i] !== 0) return false;
  return true;
}
