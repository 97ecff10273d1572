import { crc32 } from '../base/crc.ts';
import type { Disk } from '../io/disk.ts';
import { nodeIo } from '../io/node/io.ts';
import type { OffsetOwner, OffsetStore, StoredOffset, StoredQueue } from './offset-store.ts';

const FILE = 'offsets.json';
const VERSION = 1;

interface OffsetFile {
  readonly version: number;
  /** CRC-32 of `offsets` as JSON. */
  readonly checksum: number;
  readonly offsets: readonly StoredOffset[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const keyOf = ({ topicId, topic, brokerName, queueId }: StoredQueue): string => `${brokerName}/${queueId}/${topicId}/${topic}`;
const checksumOf = (offsets: readonly StoredOffset[]): number => crc32(encoder.encode(JSON.stringify(offsets)));

/**
 * Offsets of broadcasting members in files, `DIR/INSTANCE/GROUP/offsets.json`, as RocketMQ's clients keep theirs. A file is replaced as
 * a whole (written beside it, synced, renamed, the directory synced): after a crash it is the last one or the one before.
 */
export class FileOffsetStore implements OffsetStore {
  readonly #directory: string;
  readonly #disk: Disk;
  readonly #known = new Map<string, Map<string, StoredOffset>>();

  /** @param disk default: this machine's */
  constructor(directory: string, disk: Disk = nodeIo().disk) {
    this.#directory = directory;
    this.#disk = disk;
  }

  /** @throws Error when the file is damaged: starting anywhere else in silence would skip or repeat messages */
  async load(owner: OffsetOwner, queues: readonly StoredQueue[]): Promise<readonly number[]> {
    const offsets = await this.#offsetsOf(owner);
    return queues.map((queue) => offsets.get(keyOf(queue))?.offset ?? -1);
  }

  async save(owner: OffsetOwner, changed: readonly StoredOffset[]): Promise<void> {
    const offsets = await this.#offsetsOf(owner);
    for (const offset of changed) offsets.set(keyOf(offset), offset);
    const all = [...offsets.values()];
    const file: OffsetFile = { version: VERSION, checksum: checksumOf(all), offsets: all };
    const directory = this.#directoryOf(owner);
    const temporary = `${directory}/${FILE}.new`;
    await this.#disk.mkdir(directory);
    // What an earlier attempt left behind may be longer.
    await this.#disk.remove(temporary);
    const written = await this.#disk.open(temporary, { access: 'readwrite', create: true });
    try {
      await written.write(encoder.encode(JSON.stringify(file)), 0);
      await written.sync();
    } finally {
      await written.close();
    }
    await this.#disk.rename(temporary, `${directory}/${FILE}`);
    await this.#disk.syncDirectory(directory);
  }

  async #offsetsOf(owner: OffsetOwner): Promise<Map<string, StoredOffset>> {
    const directory = this.#directoryOf(owner);
    const known = this.#known.get(directory);
    if (known !== undefined) return known;
    const read = new Map((await this.#read(`${directory}/${FILE}`)).map((offset) => [keyOf(offset), offset]));
    // Somebody may have read it at the same time: one map for all.
    const offsets = this.#known.get(directory) ?? read;
    this.#known.set(directory, offsets);
    return offsets;
  }

  async #read(path: string): Promise<readonly StoredOffset[]> {
    if (!(await this.#disk.exists(path))) return [];
    const file = await this.#disk.open(path, { access: 'read' });
    try {
      const bytes = new Uint8Array(await file.sizeBytes());
      await file.read(bytes, 0);
      const { version, checksum, offsets } = parse(bytes);
      if (version !== VERSION || checksum !== checksumOf(offsets)) throw new Error(`version ${version}, checksum ${checksum}`);
      return offsets;
    } catch (error) {
      throw new Error(`the offsets in ${path} cannot be read: mend the file, or remove it to start where consumeFromWhere says`, {
        cause: error,
      });
    } finally {
      await file.close();
    }
  }

  #directoryOf({ group, instanceName }: OffsetOwner): string {
    return `${this.#directory}/${instanceName}/${group}`;
  }
}

function parse(bytes: Uint8Array): OffsetFile {
  const value = JSON.parse(decoder.decode(bytes)) as OffsetFile | null;
  if (typeof value !== 'object' || value === null || !Array.isArray(value.offsets)) throw new Error('not a file of offsets');
  return value;
}
