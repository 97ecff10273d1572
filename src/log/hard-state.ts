import { assert, assertU53 } from '../base/assert.ts';
import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import type { Disk, DiskFile } from '../io/disk.ts';
import type { HardState } from '../raft/types.ts';
import { HardStateCorrupt, LogPoisoned } from './errors.ts';

const SLOT_BYTES = 4096;
const SECTOR_BYTES = 512;
const MAGIC = 0x48514d4c;
const VERSION = 1;
/** Bound of the opaque part (formation, incarnation). */
export const MAX_HARD_STATE_OPAQUE_BYTES = 2048;

/**
 * Term and vote lie in the slot's first sector under a checksum of their own: disks write a sector whole or not at all, so that a bad
 * first sector is damage and never a torn write, and no older vote can pass for the newest.
 */
const At = {
  magic: 0,
  version: 4,
  sequence: 8,
  term: 16,
  votedFor: 24,
  opaqueBytes: 28,
  durableEndPosition: 32,
  voteFloor: 40,
  opaqueChecksum: 48,
  /** 0 in files of releases that did not know it: they compare the index alone. */
  voteFloorTerm: 56,
  checksum: SECTOR_BYTES - 4,
  opaque: SECTOR_BYTES,
} as const;

/** What must survive, and be on stable storage before it is spoken of (I2). */
export interface StoredHardState extends HardState {
  /** The log was durable up to here; a shorter one has lost something (I5). Lowered before a truncation. 0 = nothing known. */
  readonly durableEndPosition: number;
  /** No vote for a log that ends before this index (I4). 0 = none. */
  readonly voteFloor: number;
  /** Term of the entry there; missing: not known. */
  readonly voteFloorTerm?: number;
  /** The owner's bytes: formation, incarnation. At most MAX_HARD_STATE_OPAQUE_BYTES. */
  readonly opaque: Uint8Array;
}

export function encodeHardState(state: StoredHardState, sequence: number, into: Uint8Array): void {
  assertU53(state.term, 'term');
  assert(state.opaque.length <= MAX_HARD_STATE_OPAQUE_BYTES, `opaque part of the hard state too long: ${state.opaque.length}`);
  into.fill(0, 0, SLOT_BYTES);
  writeU32(into, At.magic, MAGIC);
  writeU32(into, At.version, VERSION);
  writeU53(into, At.sequence, sequence);
  writeU53(into, At.term, state.term);
  writeU32(into, At.votedFor, state.votedFor);
  writeU32(into, At.opaqueBytes, state.opaque.length);
  writeU53(into, At.durableEndPosition, state.durableEndPosition);
  writeU53(into, At.voteFloor, state.voteFloor);
  writeU53(into, At.voteFloorTerm, state.voteFloorTerm ?? 0);
  into.set(state.opaque, At.opaque);
  writeU32(into, At.opaqueChecksum, crc32(state.opaque));
  writeU32(into, At.checksum, crc32(into.subarray(0, At.checksum)));
}

export interface HardStateSlot {
  readonly sequence: number;
  readonly state: StoredHardState;
  /** False: the opaque part was torn; `state.opaque` is empty. */
  readonly opaqueIsWhole: boolean;
}

/** @returns 'empty' when never written, 'bad' when damaged or of another version. */
export function decodeHardState(slot: Uint8Array): HardStateSlot | 'empty' | 'bad' {
  const head = slot.subarray(0, SECTOR_BYTES);
  if (head.every((byte) => byte === 0)) return 'empty';
  if (slot.length < SLOT_BYTES || readU32(slot, At.magic) !== MAGIC || readU32(slot, At.version) !== VERSION) return 'bad';
  if (readU32(slot, At.checksum) !== crc32(head.subarray(0, At.checksum))) return 'bad';
  const opaqueBytes = readU32(slot, At.opaqueBytes);
  if (opaqueBytes > MAX_HARD_STATE_OPAQUE_BYTES) return 'bad';
  const opaque = slot.slice(At.opaque, At.opaque + opaqueBytes);
  const opaqueIsWhole = crc32(opaque) === readU32(slot, At.opaqueChecksum);
  return {
    sequence: readU53(slot, At.sequence),
    opaqueIsWhole,
    state: {
      term: readU53(slot, At.term),
      votedFor: readU32(slot, At.votedFor),
      durableEndPosition: readU53(slot, At.durableEndPosition),
      voteFloor: readU53(slot, At.voteFloor),
      ...(readU53(slot, At.voteFloorTerm) === 0 ? {} : { voteFloorTerm: readU53(slot, At.voteFloorTerm) }),
      opaque: opaqueIsWhole ? opaque : new Uint8Array(0),
    },
  };
}

/** @returns null when nothing was ever saved. @throws HardStateCorrupt when the newest term and vote cannot be known. */
function newestOf(bytes: Uint8Array, path: string): HardStateSlot | null {
  const slots = [decodeHardState(bytes.subarray(0, SLOT_BYTES)), decodeHardState(bytes.subarray(SLOT_BYTES))];
  let newest: HardStateSlot | null = null;
  let other: HardStateSlot | null = null;
  for (const slot of slots) {
    if (slot === 'bad') throw new HardStateCorrupt(`damaged slot in ${path}`);
    if (slot === 'empty') continue;
    [newest, other] = newest === null || slot.sequence > newest.sequence ? [slot, newest] : [newest, slot];
  }
  if (newest === null) return null;
  // The slots are written in turn: next to sequence n lies n - 1, and nothing at all next to 1 only.
  if (newest.sequence - (other?.sequence ?? 0) !== 1) throw new HardStateCorrupt(`a slot is gone from ${path}`);
  if (newest.opaqueIsWhole) return newest;
  if (other === null) return { ...newest, state: { ...newest.state, opaque: new Uint8Array(0) } };
  if (!other.opaqueIsWhole) throw new HardStateCorrupt(`no whole opaque part in ${path}`);
  return { ...newest, state: { ...newest.state, opaque: other.state.opaque } };
}

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * Term, vote and what else must not be forgotten: two slots written in turn (FAULTS 4), so that a torn write leaves the older one.
 * One write at a time; saves that arrive meanwhile share the next one, which holds the newest state.
 */
export class HardStateFile {
  readonly #file: DiskFile;
  readonly #buffer: Uint8Array;
  #sequence: number;
  #state: StoredHardState | null;
  #next: StoredHardState | null = null;
  #waiters: Waiter[] = [];
  #writing = false;
  #failed: Error | null = null;

  private constructor(file: DiskFile, buffer: Uint8Array, sequence: number, state: StoredHardState | null) {
    this.#file = file;
    this.#buffer = buffer;
    this.#sequence = sequence;
    this.#state = state;
  }

  /**
   * Opens `directory`/hard-state, or makes it durably.
   * @throws HardStateCorrupt when the newest term and vote cannot be known; nothing was changed then.
   */
  static async open(disk: Disk, directory: string): Promise<HardStateFile> {
    await disk.mkdir(directory);
    const path = `${directory}/hard-state`;
    const file = await disk.open(path, { access: 'readwrite', create: true, durable: true });
    const buffer = disk.allocateAligned(SLOT_BYTES);
    try {
      const bytes = new Uint8Array(2 * SLOT_BYTES);
      const readBytes = await file.read(bytes, 0);
      if (readBytes < bytes.length) {
        // A save begins only after both slots were laid out: a shorter file was never written to.
        if (bytes.some((byte) => byte !== 0)) throw new HardStateCorrupt(`${path} was cut short`);
        await file.write(buffer, 0);
        await file.write(buffer, SLOT_BYTES);
        await disk.syncDirectory(directory);
        return new HardStateFile(file, buffer, 0, null);
      }
      const newest = newestOf(bytes, path);
      if (newest === null) await disk.syncDirectory(directory);
      else {
        // It may have been read from a cache, out of a write that never ended: it is spoken of only when it was written again (I3).
        const at = (newest.sequence % 2) * SLOT_BYTES;
        buffer.set(bytes.subarray(at, at + SLOT_BYTES));
        await file.write(buffer, at);
      }
      return new HardStateFile(file, buffer, newest?.sequence ?? 0, newest?.state ?? null);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The newest durable state; null = never saved. */
  load(): StoredHardState | null {
    return this.#state;
  }

  /** Resolves when `state`, or a newer one, is on stable storage. The first failure is final (I3). */
  save(state: StoredHardState): Promise<void> {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    this.#next = state;
    const saved = new Promise<void>((resolve, reject) => this.#waiters.push({ resolve, reject }));
    if (!this.#writing) void this.#writeAll();
    return saved;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #writeAll(): Promise<void> {
    this.#writing = true;
    while (this.#next !== null) {
      const state = this.#next;
      const waiters = this.#waiters;
      this.#next = null;
      this.#waiters = [];
      try {
        encodeHardState(state, this.#sequence + 1, this.#buffer);
        await this.#file.write(this.#buffer, ((this.#sequence + 1) % 2) * SLOT_BYTES);
      } catch (error) {
        this.#failed = new LogPoisoned('hard state not written', { cause: error });
        for (const waiter of [...waiters, ...this.#waiters]) waiter.reject(this.#failed);
        break;
      }
      this.#sequence++;
      this.#state = state;
      for (const waiter of waiters) waiter.resolve();
    }
    this.#writing = false;
  }
}
