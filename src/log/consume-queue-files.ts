import { assert } from '../base/assert.ts';
import { readU32, readU53, writeU32, writeU53 } from '../base/bytes.ts';
import { shortCrc32 } from '../base/short-crc.ts';
import type { Disk } from '../io/disk.ts';
import { unitIsValid } from './consume-queue-tail.ts';
import { CONSUME_QUEUE_UNIT_BYTES as UNIT } from './consume-queue-types.ts';
import type { OpenFiles } from './open-files.ts';

/** "LMQQ". */
const MAGIC = 0x51514d4c;
const VERSION = 1;
/** Takes one unit's room in front of the units. */
const FileHeader = { magic: 0, version: 4, topicId: 8, queueId: 12, firstUnit: 16, checksum: 36 } as const;

/** Units read at once when a file is checked. */
const LOAD_UNITS = 4096;

/** A unit file that is not what was written: the queue is rebuilt from the CommitLog, never guessed. */
export class DamagedQueueError extends Error {
  override name = 'DamagedQueueError';
}

const fileName = (firstUnit: number): string => String(firstUnit * UNIT).padStart(20, '0');

function encodeFileHeader(topicId: number, queueId: number, firstUnit: number): Uint8Array {
  const bytes = new Uint8Array(UNIT);
  writeU32(bytes, FileHeader.magic, MAGIC);
  writeU32(bytes, FileHeader.version, VERSION);
  writeU32(bytes, FileHeader.topicId, topicId);
  writeU32(bytes, FileHeader.queueId, queueId);
  writeU53(bytes, FileHeader.firstUnit, firstUnit);
  writeU32(bytes, FileHeader.checksum, shortCrc32(bytes, 0, FileHeader.checksum));
  return bytes;
}

function headerIsValid(bytes: Uint8Array, queueId: number, firstUnit: number): boolean {
  return (
    readU32(bytes, FileHeader.checksum) === shortCrc32(bytes, 0, FileHeader.checksum) &&
    readU32(bytes, FileHeader.magic) === MAGIC &&
    readU32(bytes, FileHeader.version) === VERSION &&
    readU32(bytes, FileHeader.queueId) === queueId &&
    readU53(bytes, FileHeader.firstUnit) === firstUnit
  );
}

/** The unit files of one queue: units [first, end), in files of `unitsPerFile`. */
export class QueueFiles {
  readonly #disk: Disk;
  readonly #files: OpenFiles;
  readonly #directory: string;
  readonly #unitsPerFile: number;
  readonly #topicId: number;
  readonly #queueId: number;
  /** First unit of each file, ascending. */
  readonly #starts: number[] = [];
  /** Written since the last sync(). */
  readonly #unsynced = new Set<string>();
  #directoryMade: boolean;
  #namesUnsynced: boolean;
  end: number;

  constructor(disk: Disk, files: OpenFiles, directory: string, unitsPerFile: number, topicId: number, queueId: number, end = 0) {
    this.#disk = disk;
    this.#files = files;
    this.#directory = directory;
    this.#unitsPerFile = unitsPerFile;
    this.#topicId = topicId;
    this.#queueId = queueId;
    this.#directoryMade = false;
    this.#namesUnsynced = false;
    this.end = end;
  }

  get topicId(): number {
    return this.#topicId;
  }

  /** First unit on disk; `end` when there is none. */
  get first(): number {
    return this.#starts[0] ?? this.end;
  }

  get fileCount(): number {
    return this.#starts.length;
  }

  /** First unit of the file after the oldest one. */
  get secondFileStart(): number | undefined {
    return this.#starts[1];
  }

  /** Finds what lies in `directory`. @returns null when it is empty or not whole: then it counts as lost */
  static async load(disk: Disk, files: OpenFiles, directory: string, unitsPerFile: number, queueId: number): Promise<QueueFiles | null> {
    const starts = (await disk.list(directory)).map((name) => (/^\d{20}$/.test(name) ? Number(name) / UNIT : Number.NaN));
    if (starts.length === 0 || !starts.every((start) => Number.isSafeInteger(start))) return null;
    let topicId = -1;
    let end = 0;
    for (const [i, start] of starts.entries()) {
      const header = new Uint8Array(UNIT);
      const path = `${directory}/${fileName(start)}`;
      await files.read(path, header, 0);
      const sizeBytes = await files.use(path, false, (file) => file.sizeBytes());
      const id = readU32(header, FileHeader.topicId);
      if (!headerIsValid(header, queueId, start) || (topicId !== -1 && topicId !== id)) return null;
      topicId = id;
      end = start + Math.floor(sizeBytes / UNIT) - 1;
      const next = starts[i + 1];
      if (next !== undefined && next !== end) return null;
    }
    const loaded = new QueueFiles(disk, files, directory, unitsPerFile, topicId, queueId, end);
    loaded.#starts.push(...starts);
    loaded.#directoryMade = true;
    await loaded.#cutAtFirstBadUnit(starts.at(-1) as number);
    return loaded;
  }

  /**
   * Units that were flushed but not synced may be lost or garbage after a crash of the machine: the newest file is read and cut there.
   * A unit that was synced lies before, or the owner's restore() finds the queue too short.
   */
  async #cutAtFirstBadUnit(start: number): Promise<void> {
    const block = new Uint8Array(Math.min(this.end - start, LOAD_UNITS) * UNIT);
    const path = `${this.#directory}/${fileName(start)}`;
    for (let unit = start; unit < this.end; unit += LOAD_UNITS) {
      const wanted = block.subarray(0, Math.min(LOAD_UNITS, this.end - unit) * UNIT);
      const read = await this.#files.read(path, wanted, (1 + unit - start) * UNIT);
      for (let at = 0; at < wanted.length; at += UNIT) {
        if (at + UNIT > read || !unitIsValid(wanted, at)) return this.truncate(unit + at / UNIT);
      }
    }
  }

  /** Appends encoded units. */
  async write(units: Uint8Array): Promise<void> {
    if (!this.#directoryMade) await this.#disk.mkdir(this.#directory);
    this.#directoryMade = true;
    for (let done = 0; done < units.length; ) {
      const last = this.#starts.at(-1);
      const isNew = last === undefined || this.end - last >= this.#unitsPerFile;
      const start = isNew ? this.end : last;
      const room = (this.#unitsPerFile - (this.end - start)) * UNIT;
      const part = units.subarray(done, Math.min(units.length, done + room));
      const path = `${this.#directory}/${fileName(start)}`;
      await this.#files.use(path, isNew, async (file) => {
        // Only now there is a file: on a full disk the open itself may fail.
        this.#unsynced.add(path);
        if (isNew) await file.write(encodeFileHeader(this.#topicId, this.#queueId, start), 0);
        await file.write(part, (1 + this.end - start) * UNIT);
      });
      if (isNew) {
        this.#starts.push(start);
        this.#namesUnsynced = true;
      }
      this.end += part.length / UNIT;
      done += part.length;
    }
  }

  /** What was written is on stable storage. */
  async sync(): Promise<void> {
    for (const path of this.#unsynced) await this.#files.use(path, false, (file) => file.sync());
    this.#unsynced.clear();
    if (this.#namesUnsynced) await this.#disk.syncDirectory(this.#directory);
    this.#namesUnsynced = false;
  }

  /**
   * Whole units from `from` on, as many as fit into `into` and lie in the same file.
   * @returns how many, at least one @throws DamagedQueueError when one is not what was written, or missing
   */
  async read(from: number, into: Uint8Array): Promise<number> {
    assert(from >= this.first && from < this.end, `unit ${from} is on disk`);
    let file = this.#starts.length - 1;
    while ((this.#starts[file] as number) > from) file--;
    const start = this.#starts[file] as number;
    const fileEnd = this.#starts[file + 1] ?? this.end;
    const units = Math.min(fileEnd - from, Math.floor(into.length / UNIT));
    const path = `${this.#directory}/${fileName(start)}`;
    const wanted = into.subarray(0, units * UNIT);
    const read = await this.#files.read(path, wanted, (1 + from - start) * UNIT);
    if (read !== wanted.length) throw new DamagedQueueError(`${path}: shorter than it was`);
    for (let at = 0; at < wanted.length; at += UNIT) {
      if (!unitIsValid(wanted, at)) throw new DamagedQueueError(`${path}: unit ${from + at / UNIT} is damaged`);
    }
    return units;
  }

  /** Makes `end` the end. */
  async truncate(end: number): Promise<void> {
    assert(end <= this.end, 'truncating forwards');
    this.end = Math.max(end, this.first);
    while (this.#starts.length > 0 && (this.#starts.at(-1) as number) >= end) await this.#removeFile(this.#starts.pop() as number);
    const last = this.#starts.at(-1);
    if (last === undefined) return;
    await this.#files.use(`${this.#directory}/${fileName(last)}`, false, (file) => file.truncate((1 + end - last) * UNIT));
  }

  async removeOldestFile(): Promise<void> {
    assert(this.#starts.length > 1, 'the newest file stays');
    await this.#removeFile(this.#starts.shift() as number);
  }

  async removeAll(): Promise<void> {
    this.#starts.length = 0;
    this.#unsynced.clear();
    this.#namesUnsynced = false;
    this.#directoryMade = false;
    await this.#files.closeUnder(this.#directory);
    await this.#disk.remove(this.#directory);
  }

  async #removeFile(start: number): Promise<void> {
    const path = `${this.#directory}/${fileName(start)}`;
    this.#unsynced.delete(path);
    await this.#files.closeUnder(path);
    await this.#disk.remove(path);
  }
}
