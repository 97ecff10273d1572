import type { SimReplica } from './broker-group.ts';
import type { SimDisk } from './disk.ts';
import { SECTOR_BYTES } from './disk-image.ts';
import type { Prng } from './prng.ts';

/**
 * Files that are built anew from the log, all of them under checksums (docs/architecture.md, "Bytes on disk"). What of an index file is not,
 * its slots, lies behind a million items: no run writes that many.
 */
const DIRECTORIES = ['outline', 'consumequeue', 'index', 'keyindex'] as const;

interface Damage {
  readonly replicaId: number;
  readonly disk: SimDisk;
  readonly path: string;
  readonly position: number;
  /** What is there since; null: it cannot be read. */
  readonly bytes: Uint8Array | null;
}

/**
 * Damages derived files behind everybody's back: a bit, or a sector that cannot be read any more. Who reads it must notice, refuse, and build
 * the file anew at its next start, which an operator sees to. No other replica is needed for that.
 */
export class DerivedRot {
  readonly #prng: Prng;
  /** An outline that a start has no use for stays as it is until one has, and is made anew then: not among them. */
  #damages: Damage[] = [];

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  /** @returns what was damaged; null: there is nothing yet */
  strike({ id, process: { disk } }: SimReplica): string | null {
    const directories = DIRECTORIES.map((name) => disk.paths(`/data/${name}`)).filter((paths) => paths.length > 0);
    if (directories.length === 0) return null;
    const path = this.#prng.pick(this.#prng.pick(directories));
    const sizeBytes = disk.visibleBytes(path)?.length ?? 0;
    if (sizeBytes === 0) return null;
    const at = this.#prng.between(0, sizeBytes - 1);
    const flips = this.#prng.chance(0.5);
    const position = flips ? at : at - (at % SECTOR_BYTES);
    if (flips) this.#flip(disk, path, at);
    else disk.spoilSector(path, at);
    const bytes = flips ? (disk.visibleBytes(path)?.subarray(at, at + 1) ?? null) : null;
    if (!path.startsWith('/data/outline/')) this.#damages.push({ replicaId: id, disk, path, position, bytes });
    return `rot: ${flips ? 'a bit flipped' : 'a sector unreadable'} in ${path}+${at}, ${sizeBytes} bytes`;
  }

  #flip(disk: SimDisk, path: string, at: number): void {
    const bit = 1 << this.#prng.between(0, 7);
    const flip = (bytes: Uint8Array): void => {
      bytes[0] = (bytes[0] as number) ^ bit;
    };
    disk.damage(path, at, flip, 1);
  }

  /** Its disk is gone, or it is none of the group's any more. */
  forget(replicaId: number): void {
    this.#damages = this.#damages.filter((damage) => damage.replicaId !== replicaId);
  }

  /** Where a file is still damaged, by replica. */
  standing(): ReadonlyMap<number, string> {
    this.#damages = this.#damages.filter(({ disk, path, position, bytes }) => {
      if (bytes === null) return !disk.isReadable(path, position);
      const now = disk.visibleBytes(path)?.subarray(position, position + bytes.length);
      return now !== undefined && Buffer.compare(now, bytes) === 0;
    });
    return new Map(this.#damages.map(({ replicaId, path, position }) => [replicaId, `${path}+${position}`]));
  }
}
