import { Packr } from 'msgpackr';
import { readU32, writeU32 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { type Disk, DiskError, isOutOfSpace } from '../io/disk.ts';
import type { GroupIndex, GroupOutline } from '../raft/group-index.ts';
import { type GroupHeader, readGroupHeader } from './group-codec.ts';
import { readWhatCan } from './group-walk.ts';
import { BLOCK_BYTES } from './layout.ts';
import { segmentBase, segmentName } from './segment.ts';
import type { SegmentStore } from './segment-store.ts';

/** What is known of the groups of one sealed segment whose every entry is committed, so that a start need not read their headers again. */
export interface SegmentOutline extends GroupOutline {
  readonly base: number;
  /** Chain value before its first group. */
  readonly previousChecksum: number;
  /** Chain value behind its last group: what the next segment's first group carries. */
  readonly lastChecksum: number;
}

const VERSION = 1;
const CHECKSUM_BYTES = 4;
const packr = new Packr({ useRecords: false });

type Packed = readonly [
  version: number,
  base: number,
  lastIndex: number,
  previousChecksum: number,
  lastChecksum: number,
  marks: readonly number[],
  terms: readonly number[],
];

export interface SegmentOutlinesOptions {
  readonly disk: Disk;
  /** Undefined: none are kept. */
  readonly directory: string | undefined;
  readonly store: SegmentStore;
  readonly index: GroupIndex;
  readonly segmentBytes: number;
}

/**
 * Outlines of segments, a file each, by the segment's name. Derived from the log and never synced: one that is missing, torn or of another
 * version costs the reading of that segment's headers, and one that the log does not continue is not believed (recovery compares
 * both ends' chain values).
 */
export class SegmentOutlines {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #store: SegmentStore;
  readonly #index: GroupIndex;
  readonly #segmentBytes: number;
  readonly #bases: Set<number>;
  /** Read in this start, but not what the log says: made anew. */
  readonly #doubted = new Set<number>();

  private constructor(options: SegmentOutlinesOptions & { readonly directory: string }, bases: Set<number>) {
    this.#disk = options.disk;
    this.#directory = options.directory;
    this.#store = options.store;
    this.#index = options.index;
    this.#segmentBytes = options.segmentBytes;
    this.#bases = bases;
  }

  /** Rejects with a DiskError. @returns null when none are kept */
  static async open(options: SegmentOutlinesOptions): Promise<SegmentOutlines | null> {
    const { disk, directory } = options;
    if (directory === undefined) return null;
    await disk.mkdir(directory);
    const bases = (await disk.list(directory)).map(segmentBase).filter((base) => base !== null);
    return new SegmentOutlines({ ...options, directory }, new Set(bases));
  }

  /** What an earlier life wrote: to be compared with the log, then believe(). @returns null when there is none that is whole */
  async load(base: number): Promise<SegmentOutline | null> {
    if (!this.#bases.has(base)) return null;
    this.#doubted.add(base);
    return decode(await this.#read(base), base);
  }

  believe(base: number): void {
    this.#doubted.delete(base);
  }

  /** Writes those that are missing of the segments before `position`, where everything is committed. Rejects with a DiskError. */
  async keep(position: number): Promise<void> {
    for (const base of this.#doubted) await this.#forget(base);
    this.#doubted.clear();
    for (const base of [...this.#store.bases]) {
      if (base + this.#segmentBytes + BLOCK_BYTES > position) return;
      const outline = this.#bases.has(base) ? null : await this.#make(base);
      if (outline === null) continue;
      try {
        await this.#save(outline);
      } catch (error) {
        // A start without it takes longer, no more.
        if (!isOutOfSpace(error)) throw error;
        return this.#forget(base);
      }
    }
  }

  /** Of segments that were cut away. */
  async removeBefore(base: number): Promise<void> {
    for (const known of [...this.#bases]) if (known < base) await this.#forget(known);
  }

  async removeAll(): Promise<void> {
    await this.removeBefore(Number.POSITIVE_INFINITY);
  }

  /** @returns null when a group that begins or follows it is damaged, or was cut away meanwhile */
  async #make(base: number): Promise<SegmentOutline | null> {
    const first = await this.#headerAt(base + BLOCK_BYTES);
    const next = await this.#headerAt(base + this.#segmentBytes + BLOCK_BYTES);
    if (first === null || next === null || first.firstIndex < this.#index.firstIndex) return null;
    const outline = this.#index.outline(first.firstIndex, next.firstIndex - 1);
    return outline && { ...outline, base, previousChecksum: first.previousChecksum, lastChecksum: next.previousChecksum };
  }

  async #headerAt(position: number): Promise<GroupHeader | null> {
    const bytes = new Uint8Array(BLOCK_BYTES);
    const header = readGroupHeader(bytes.subarray(0, await readWhatCan(this.#store, bytes, position)));
    return typeof header === 'string' || header.position !== position ? null : header;
  }

  async #save(outline: SegmentOutline): Promise<void> {
    const path = this.#path(outline.base);
    await this.#disk.remove(path);
    const file = await this.#disk.open(path, { access: 'readwrite', create: true });
    try {
      await file.write(encode(outline), 0);
    } finally {
      await file.close();
    }
    this.#bases.add(outline.base);
  }

  async #forget(base: number): Promise<void> {
    this.#bases.delete(base);
    await this.#disk.remove(this.#path(base));
  }

  async #read(base: number): Promise<Uint8Array> {
    const file = await this.#disk.open(this.#path(base), { access: 'read' });
    try {
      const bytes = new Uint8Array(await file.sizeBytes());
      return bytes.subarray(0, await file.read(bytes, 0));
    } catch (error) {
      if (error instanceof DiskError) return new Uint8Array(0);
      throw error;
    } finally {
      await file.close();
    }
  }

  #path(base: number): string {
    return `${this.#directory}/${segmentName(base)}`;
  }
}

function encode({ base, lastIndex, previousChecksum, lastChecksum, marks, terms }: SegmentOutline): Uint8Array {
  const packed: Packed = [
    VERSION,
    base,
    lastIndex,
    previousChecksum,
    lastChecksum,
    marks.flatMap(({ firstIndex, position }) => [firstIndex, position]),
    terms.flatMap(({ firstIndex, term }) => [firstIndex, term]),
  ];
  const body = packr.pack(packed);
  const bytes = new Uint8Array(CHECKSUM_BYTES + body.length);
  bytes.set(body, CHECKSUM_BYTES);
  writeU32(bytes, 0, crc32(body));
  return bytes;
}

function decode(bytes: Uint8Array, base: number): SegmentOutline | null {
  if (bytes.length <= CHECKSUM_BYTES || readU32(bytes, 0) !== crc32(bytes.subarray(CHECKSUM_BYTES))) return null;
  const [version, ...rest] = packr.unpack(bytes.subarray(CHECKSUM_BYTES)) as Packed;
  const [stored, lastIndex, previousChecksum, lastChecksum, marks, terms] = rest;
  if (version !== VERSION || stored !== base) return null;
  return {
    base,
    lastIndex,
    previousChecksum,
    lastChecksum,
    marks: pairs(marks).map(([firstIndex, position]) => ({ firstIndex, position })),
    terms: pairs(terms).map(([firstIndex, term]) => ({ firstIndex, term })),
  };
}

function pairs(flat: readonly number[]): [number, number][] {
  return Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at] as number, flat[2 * at + 1] as number]);
}
