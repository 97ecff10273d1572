import { type Disk, type DiskFile, isUnreadable } from '../io/disk.ts';

interface Slot {
  readonly file: Promise<DiskFile>;
  users: number;
  /** Closed as soon as nobody uses it. */
  doomed: boolean;
}

/**
 * File handles of derived files, kept open while there is room: with 1,000 queues a handle each would be too many.
 * Bound: `maxOpenFiles` idle ones; beyond it the least recently used is closed. Those in use are not counted out.
 */
export class OpenFiles {
  readonly #disk: Disk;
  readonly #maxOpenFiles: number;
  /** In order of last use. */
  readonly #slots = new Map<string, Slot>();

  constructor(disk: Disk, maxOpenFiles: number) {
    this.#disk = disk;
    this.#maxOpenFiles = maxOpenFiles;
  }

  /** Runs `work` with the file open. Rejects with a DiskError, ENOENT when it is missing and `create` is false. */
  async use<T>(path: string, create: boolean, work: (file: DiskFile) => Promise<T>): Promise<T> {
    const slot = this.#slots.get(path) ?? { file: this.#disk.open(path, { access: 'readwrite', create }), users: 0, doomed: false };
    this.#slots.delete(path);
    this.#slots.set(path, slot);
    slot.users++;
    try {
      return await work(await slot.file);
    } catch (error) {
      // A failed open must not be remembered, and a handle that failed is not used again.
      if (this.#slots.get(path) === slot) this.#slots.delete(path);
      slot.doomed = true;
      throw error;
    } finally {
      slot.users--;
      if (slot.doomed) await this.#closeIdle(slot);
      else await this.#evict();
    }
  }

  /**
   * @returns bytes read: fewer at the end of the file, none when a sector of them cannot be read. What is derived is built anew from the
   * log then, like anything else in it that is not what was written. Rejects with any other DiskError.
   */
  async read(path: string, into: Uint8Array, position: number): Promise<number> {
    try {
      return await this.use(path, false, (file) => file.read(into, position));
    } catch (error) {
      if (isUnreadable(error)) return 0;
      throw error;
    }
  }

  /** Forgets every handle at or under `path`; those in use are closed when they are done. Before files are removed. */
  async closeUnder(path: string): Promise<void> {
    for (const [name, slot] of [...this.#slots]) {
      if (name !== path && !name.startsWith(`${path}/`)) continue;
      this.#slots.delete(name);
      slot.doomed = true;
      await this.#closeIdle(slot);
    }
  }

  async closeAll(): Promise<void> {
    for (const [name, slot] of [...this.#slots]) {
      this.#slots.delete(name);
      slot.doomed = true;
      await this.#closeIdle(slot);
    }
  }

  async #evict(): Promise<void> {
    for (const [name, slot] of this.#slots) {
      if (this.#slots.size <= this.#maxOpenFiles) return;
      if (slot.users > 0) continue;
      this.#slots.delete(name);
      slot.doomed = true;
      await this.#closeIdle(slot);
    }
  }

  async #closeIdle(slot: Slot): Promise<void> {
    if (slot.users > 0) return;
    const file = await slot.file.catch(() => null);
    await file?.close();
  }
}
