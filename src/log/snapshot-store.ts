import { crc32 } from '../base/crc.ts';
import { type Disk, DiskError, type DiskFile, isOutOfSpace, isUnreadable } from '../io/disk.ts';
import {
  decodeSnapshotHeader,
  encodeSnapshotHeader,
  SNAPSHOT_HEADER_BYTES,
  SnapshotDamagedError,
  type SnapshotMeta,
  type SnapshotPlace,
  snapshotName,
  snapshotPosition,
} from './snapshot-format.ts';

const NAME = /^\d{20}-\d+$/;
const SAVING = 'saving.tmp';
const RECEIVING = 'receiving.tmp';
/** A lost state comes back from a peer while one that replaces the log may be under way. */
const MENDING = 'mending.tmp';
/** A state is written in slices of this size, so that no single write keeps the disk from the log for long. */
const SLICE_BYTES = 1024 * 1024;
/** Bound: a header that asks for more is not believed. */
const MAX_STATE_BYTES = 2 ** 31;

/**
 * State snapshots, DIR/snapshot/<20-digit position>-<index>: header and state under checksums, made by temporary file,
 * sync, rename and directory sync. Few at a time: one at each retained segment's head, and the newest.
 */
export class SnapshotStore {
  /** Snapshots that save() wrote since the store was opened. */
  savedCount = 0;
  readonly #disk: Disk;
  readonly #directory: string;
  /** Oldest first. */
  #snapshots: SnapshotMeta[] = [];
  #damaged: string[] = [];
  /** Saves, installations and removals go one after the other. */
  #work: Promise<unknown> = Promise.resolve();

  private constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  /** @param directory DIR/snapshot. Headers are read, states are not. Rejects with a DiskError. */
  static async open(disk: Disk, directory: string): Promise<SnapshotStore> {
    const store = new SnapshotStore(disk, directory);
    await disk.mkdir(directory);
    for (const name of await disk.list(directory)) {
      if (NAME.test(name)) await store.#readHeader(name);
      else if (name === SAVING || name === RECEIVING || name === MENDING) await disk.remove(`${directory}/${name}`);
    }
    return store;
  }

  /** Oldest first. */
  list(): readonly SnapshotMeta[] {
    return this.#snapshots;
  }

  /** Names of files that turned out not to be what was saved: never loaded or sent, kept for the operator. */
  damaged(): readonly string[] {
    return this.#damaged;
  }

  /** The newest one at or before a log position. */
  newest(maxPosition = Number.MAX_SAFE_INTEGER): SnapshotMeta | undefined {
    return this.#snapshots.findLast((meta) => meta.position <= maxPosition);
  }

  /** On stable storage when it resolves. `state` must not change until then. Rejects with a DiskError, one for want of space may be tried again. */
  save(place: SnapshotPlace, state: Uint8Array): Promise<SnapshotMeta> {
    const meta: SnapshotMeta = { ...place, sizeBytes: state.length, stateChecksum: crc32(state) };
    return this.#run(async () => {
      await this.#disk.remove(`${this.#directory}/${SAVING}`);
      try {
        await this.#withFile(SAVING, true, (file) => writeSnapshot(file, meta, state));
      } catch (error) {
        // A part of a snapshot must not hold the space that the log is short of.
        if (isOutOfSpace(error)) await this.#disk.remove(`${this.#directory}/${SAVING}`);
        throw error;
      }
      await this.#install(SAVING, meta);
      this.savedCount++;
      return meta;
    });
  }

  /** Rejects with SnapshotDamagedError (it is off the list then, and under damaged()) or a DiskError. */
  async load(meta: SnapshotMeta): Promise<Uint8Array> {
    const name = snapshotName(meta);
    const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES + meta.sizeBytes);
    try {
      const read = await this.#withFile(name, false, (file) => file.read(bytes, 0));
      if (read !== bytes.length) throw new SnapshotDamagedError(`${name}: shorter than it was`);
      const state = bytes.subarray(SNAPSHOT_HEADER_BYTES);
      const stateChecksum = decodeSnapshotHeader(bytes, name).stateChecksum;
      if (stateChecksum !== meta.stateChecksum || crc32(state) !== stateChecksum) throw new SnapshotDamagedError(`${name}: state checksum`);
      return state;
    } catch (error) {
      this.#exclude(name);
      // A sector that cannot be read is damage like any other: an older snapshot may be whole.
      if (error instanceof DiskError && error.code === 'EIO') throw new SnapshotDamagedError(`${name}: ${error.message}`);
      throw error;
    }
  }

  /** The newest whole one at or before `maxPosition`, passing by damaged ones (see damaged()); null when there is none. Rejects with a DiskError. */
  async loadNewest(maxPosition = Number.MAX_SAFE_INTEGER): Promise<{ meta: SnapshotMeta; state: Uint8Array } | null> {
    for (let meta = this.newest(maxPosition); meta !== undefined; meta = this.newest(maxPosition)) {
      try {
        return { meta, state: await this.load(meta) };
      } catch (error) {
        if (!(error instanceof SnapshotDamagedError)) throw error;
      }
    }
    return null;
  }

  /** Bytes of the whole file: what a follower receives. */
  fileBytes(meta: SnapshotMeta): number {
    return SNAPSHOT_HEADER_BYTES + meta.sizeBytes;
  }

  /** A part of the file, for sending. The receiver verifies the whole. @returns bytes read. Rejects with a DiskError. */
  readSlice(meta: SnapshotMeta, into: Uint8Array, offset: number): Promise<number> {
    return this.#withFile(snapshotName(meta), false, (file) => file.read(into, offset));
  }

  /** Whether the file is still what was saved; a damaged one is off the list then. Rejects with a DiskError. */
  async isWhole(meta: SnapshotMeta): Promise<boolean> {
    try {
      await this.load(meta);
      return true;
    } catch (error) {
      if (error instanceof SnapshotDamagedError || !this.#snapshots.includes(meta)) return false;
      throw error;
    }
  }

  /**
   * Begins to receive a file from a peer; what was received before and not finished is dropped. One at a time.
   * @param mends a lost one, beside one that is to replace the log
   */
  async receive(mends = false): Promise<SnapshotReceiver> {
    const name = mends ? MENDING : RECEIVING;
    const path = `${this.#directory}/${name}`;
    await this.#disk.remove(path);
    const file = await this.#disk.open(path, { access: 'readwrite', create: true });
    return new SnapshotReceiver(file, (meta) =>
      this.#run(async () => {
        await this.#install(name, meta);
      }),
    );
  }

  /** Removes those before `position`, damaged ones too, but for those that `keeps` (segment heads), and never the newest. Rejects with a DiskError. */
  removeBefore(position: number, keeps: (position: number) => boolean = () => false): Promise<void> {
    const isGone = (one: number): boolean => one < position && !keeps(one);
    return this.#run(async () => {
      const newest = this.#snapshots.at(-1);
      await this.#removeAll(this.#snapshots.filter((meta) => isGone(meta.position) && meta !== newest));
      const damaged = this.#damaged.filter((name) => isGone(snapshotPosition(name)));
      this.#damaged = this.#damaged.filter((name) => !damaged.includes(name));
      for (const name of damaged) await this.#disk.remove(`${this.#directory}/${name}`);
    });
  }

  /** Removes those after `position`: before a follower starts anew from an older state of the leader's. Rejects with a DiskError. */
  removeAfter(position: number): Promise<void> {
    return this.#run(() => this.#removeAll(this.#snapshots.filter((meta) => meta.position > position)));
  }

  async #removeAll(gone: readonly SnapshotMeta[]): Promise<void> {
    this.#snapshots = this.#snapshots.filter((meta) => !gone.includes(meta));
    for (const meta of gone) await this.#disk.remove(`${this.#directory}/${snapshotName(meta)}`);
    if (gone.length > 0) await this.#disk.syncDirectory(this.#directory);
  }

  async #readHeader(name: string): Promise<void> {
    const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES);
    try {
      const sizeBytes = await this.#withFile(name, false, async (file) => {
        await file.read(bytes, 0);
        return file.sizeBytes();
      });
      const meta = decodeSnapshotHeader(bytes, name);
      if (snapshotName(meta) !== name || sizeBytes !== this.fileBytes(meta)) throw new SnapshotDamagedError(`${name}: size or name`);
      this.#add(meta);
    } catch (error) {
      if (!(error instanceof SnapshotDamagedError) && !isUnreadable(error)) throw error;
      this.#damaged.push(name);
    }
  }

  #add(meta: SnapshotMeta): void {
    const name = snapshotName(meta);
    this.#snapshots = [...this.#snapshots.filter((one) => snapshotName(one) !== name), meta].sort((a, b) => a.index - b.index);
    this.#damaged = this.#damaged.filter((one) => one !== name);
  }

  #exclude(name: string): void {
    this.#snapshots = this.#snapshots.filter((meta) => snapshotName(meta) !== name);
    if (!this.#damaged.includes(name)) this.#damaged.push(name);
  }

  async #install(temporary: string, meta: SnapshotMeta): Promise<void> {
    await this.#disk.rename(`${this.#directory}/${temporary}`, `${this.#directory}/${snapshotName(meta)}`);
    await this.#disk.syncDirectory(this.#directory);
    this.#add(meta);
  }

  async #withFile<T>(name: string, create: boolean, work: (file: DiskFile) => Promise<T>): Promise<T> {
    const file = await this.#disk.open(`${this.#directory}/${name}`, { access: create ? 'readwrite' : 'read', create });
    try {
      return await work(file);
    } finally {
      await file.close();
    }
  }

  #run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => undefined);
    return done;
  }
}

async function writeSnapshot(file: DiskFile, meta: SnapshotMeta, state: Uint8Array): Promise<void> {
  await file.write(encodeSnapshotHeader(meta), 0);
  for (let at = 0; at < state.length; at += SLICE_BYTES) {
    await file.write(state.subarray(at, at + SLICE_BYTES), SNAPSHOT_HEADER_BYTES + at);
  }
  await file.sync();
}

/** Takes a snapshot file from a peer, slice by slice in order. Nothing of it counts before finish() resolved. */
export class SnapshotReceiver {
  readonly #file: DiskFile;
  readonly #install: (meta: SnapshotMeta) => Promise<void>;
  readonly #header = new Uint8Array(SNAPSHOT_HEADER_BYTES);
  #receivedBytes = 0;
  #meta: SnapshotMeta | null = null;
  #checksum = 0;

  constructor(file: DiskFile, install: (meta: SnapshotMeta) => Promise<void>) {
    this.#file = file;
    this.#install = install;
  }

  /** Where the next slice starts. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Known once the first SNAPSHOT_HEADER_BYTES are there. */
  get meta(): SnapshotMeta | null {
    return this.#meta;
  }

  /** The next slice; await it before the next call. Rejects with SnapshotDamagedError or a DiskError: abort() then. */
  async write(slice: Uint8Array): Promise<void> {
    const at = this.#receivedBytes;
    this.#receivedBytes += slice.length;
    const headerPart = Math.min(Math.max(SNAPSHOT_HEADER_BYTES - at, 0), slice.length);
    if (headerPart > 0) this.#header.set(slice.subarray(0, headerPart), at);
    if (headerPart > 0 && this.#receivedBytes >= SNAPSHOT_HEADER_BYTES) this.#meta = this.#checkedHeader();
    if (this.#meta !== null && this.#receivedBytes > SNAPSHOT_HEADER_BYTES + this.#meta.sizeBytes) {
      throw new SnapshotDamagedError('more bytes than the header announced');
    }
    this.#checksum = crc32(slice.subarray(headerPart), this.#checksum);
    await this.#file.write(slice, at);
  }

  /**
   * Verifies the whole, makes it durable and puts it on the list. Rejects with SnapshotDamagedError or a DiskError.
   * @param beforeInstall awaited once it is known to be whole, before it is on the list
   */
  async finish(beforeInstall?: (meta: SnapshotMeta) => Promise<void>): Promise<SnapshotMeta> {
    const meta = this.#meta;
    try {
      if (meta === null || this.#receivedBytes !== SNAPSHOT_HEADER_BYTES + meta.sizeBytes)
        throw new SnapshotDamagedError('received in part');
      if (this.#checksum !== meta.stateChecksum) throw new SnapshotDamagedError('state checksum of what was received');
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
    await beforeInstall?.(meta);
    await this.#install(meta);
    return meta;
  }

  /** Gives up; the next receive() or open() removes what is left. */
  abort(): Promise<void> {
    return this.#file.close();
  }

  #checkedHeader(): SnapshotMeta {
    const meta = decodeSnapshotHeader(this.#header, 'received snapshot');
    if (!(meta.sizeBytes <= MAX_STATE_BYTES)) throw new SnapshotDamagedError(`a state of ${meta.sizeBytes} bytes is not believed`);
    return meta;
  }
}
