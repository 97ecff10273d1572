import { assert, assertU53 } from '../base/assert.ts';
import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import type { Disk, DiskFile } from '../io/disk.ts';
import type { HardState } from '../raft/types.ts';
import { HardStateCorrupt, LogPoisoned } from './errors.ts';

const SLOT_BYTES = 4096;
const MAGIC = 0x48514d4c;
const VERSION = 1;
/** Bound of the opaque part (formation, incarnation). */
export const MAX_HARD_STATE_OPAQUE_BYTES = 2048;

const At = {
  magic: 0,
  version: 4,
  sequence: 8,
  term: 16,
  votedFor: 24,
  opaqueBytes: 28,
  durableEndPosition: 32,
  voteFloor: 40,
  opaque: 64,
  checksum: SLOT_BYTES - 4,
} as const;

/** What must survive, and be on stable storage before it is spoken of (I2). */
export interface StoredHardState extends HardState {
  /** The log was durable up to here; a shorter one has lost something (I5). Lowered before a truncation. 0 = nothing known. */
  readonly durableEndPosition: number;
  /** No vote for a log that ends before this index (I4). 0 = none. */
  readonly voteFloor: number;
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
  into.set(state.opaque, At.opaque);
  writeU32(into, At.checksum, crc32(into.subarray(0, At.checksum)));
}

/** @returns null when the slot is not whole: torn, damaged, never written, or of another version. */
export function decodeHardState(slot: Uint8Array): { sequence: number; state: StoredHardState } | null {
  if (slot.length < SLOT_BYTES || readU32(slot, At.magic) !== MAGIC || readU32(slot, At.version) !== VERSION) return null;
  if (readU32(slot, At.checksum) !== crc32(slot.subarray(0, At.checksum))) return null;
  const opaqueBytes = readU32(slot, At.opaqueBytes);
  if (opaqueBytes > MAX_HARD_STATE_OPAQUE_BYTES) return null;
  return {
    sequence: readU53(slot, At.sequence),
    state: {
      term: readU53(slot, At.term),
      votedFor: readU32(slot, At.votedFor),
      durableEndPosition: readU53(slot, At.durableEndPosition),
      voteFloor: readU53(slot, At.voteFloor),
      opaque: slot.slice(At.opaque, At.opaque + opaqueBytes),
    },
  };
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
   * @throws HardStateCorrupt when the file is there and neither slot is whole. A file of nothing but zeros counts as new: its first
   * save never resolved.
   */
  static async open(disk: Disk, directory: string): Promise<HardStateFile> {
    await disk.mkdir(directory);
    const path = `${directory}/hard-state`;
    const isNew = !(await disk.exists(path));
    const file = await disk.open(path, { access: 'readwrite', create: true, durable: true });
    const buffer = disk.allocateAligned(SLOT_BYTES);
    if (isNew) {
      await file.write(buffer, 0);
      await file.write(buffer, SLOT_BYTES);
      await disk.syncDirectory(directory);
      return new HardStateFile(file, buffer, 0, null);
    }
    const bytes = new Uint8Array(2 * SLOT_BYTES);
    await file.read(bytes, 0);
    const first = decodeHardState(bytes.subarray(0, SLOT_BYTES));
    const second = decodeHardState(bytes.subarray(SLOT_BYTES));
    const newest = first !== null && (second === null || first.sequence > second.sequence) ? first : second;
    if (newest === null) {
      // The only bytes that the first save can have left behind are in slot 1 (sequence 1); whoever made it was never answered.
      const untouched = bytes.subarray(0, SLOT_BYTES).every((byte) => byte === 0);
      const neverSaved = untouched && isTorn(bytes.subarray(SLOT_BYTES));
      if (!neverSaved) {
        await file.close();
        throw new HardStateCorrupt(`no whole slot in ${path}`);
      }
      return new HardStateFile(file, buffer, 0, null);
    }
    return new HardStateFile(file, buffer, newest.sequence, newest.state);
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

/** Some sector never reached the disk: an unfinished first write, not damage. */
function isTorn(slot: Uint8Array): boolean {
  const sectorBytes = 512;
  for (const at of [0, SLOT_BYTES - sectorBytes]) {
    if (slot.subarray(at, at + sectorBytes).every((byte) => byte === 0)) return true;
  }
  return false;
}
