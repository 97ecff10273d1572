import type { SimReplica } from './broker-group.ts';
import type { SimDisk } from './disk.ts';
import { SECTOR_BYTES } from './disk-image.ts';
import type { Prng } from './prng.ts';

/**
 * Files that are built anew from the log, all of them under checksums (docs/architecture.md, "Bytes on disk"). What of an index file is not,
 * its slots, lies behind a million items: no run writes that many.
 */
const DIRECTORIES = ['outline', 'consumequeue', 'index', 'keyindex'] as const;

/** Bytes before and behind a flipped one that tell whether something else was written there since: as many as the largest header has. */
const AROUND_BYTES = 72;

interface Damage {
  readonly disk: SimDisk;
  readonly path: string;
  readonly position: number;
  /** What is there and around it since; null: it cannot be read. */
  readonly around: Uint8Array | null;
}

/**
 * Damages derived files behind everybody's back: a bit, or a sector that cannot be read any more. Who reads it must notice, refuse, and build
 * the file anew at its next start, which an operator sees to. No other replica is needed for that.
 */
export class DerivedRot {
  readonly #prng: Prng;
  /** An outline that a start has no use for stays as it is until one has, and is made anew then: not among them. */
  readonly #damages: Damage[] = [];

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  /** @returns what was damaged; null: there is nothing yet */
  strike({ process: { disk } }: SimReplica): string | null {
    const directories = DIRECTORIES.map((name) => disk.paths(`/data/${name}`)).filter((paths) => paths.length > 0);
    if (directories.length === 0) return null;
    const path = this.#prng.pick(this.#prng.pick(directories));
    const sizeBytes = disk.visibleSize(path);
    if (sizeBytes === 0) return null;
    const at = this.#prng.between(0, sizeBytes - 1);
    const flips = this.#prng.chance(0.5);
    const position = flips ? at : at - (at % SECTOR_BYTES);
    if (flips) this.#flip(disk, path, at);
    else disk.spoilSector(path, at);
    const around = flips ? aroundOf(disk, path, at) : null;
    if (!path.startsWith('/data/outline/')) this.#damages.push({ disk, path, position, around });
    return `rot: ${flips ? 'a bit flipped' : 'a sector unreadable'} in ${path}+${at}, ${sizeBytes} bytes`;
  }

  #flip(disk: SimDisk, path: string, at: number): void {
    const bit = 1 << this.#prng.between(0, 7);
    const flip = (bytes: Uint8Array): void => {
      bytes[0] = (bytes[0] as number) ^ bit;
    };
    disk.damage(path, at, flip, 1);
  }

  /** Where a file of this disk may still be damaged: what was written there since could by chance be what the damage had made. null: nowhere. */
  possible(disk: SimDisk): string | null {
    return this.#find(disk, ({ path, position, around }) => {
      const now = aroundOf(disk, path, position);
      return now !== null && around !== null && now[before(position)] === around[before(position)];
    });
  }

  /** Where a file of this disk certainly is damaged still (simulation seed 30393: a count that had grown to what a flip had made of it). */
  certain(disk: SimDisk): string | null {
    return this.#find(disk, ({ path, position, around }) => {
      const now = aroundOf(disk, path, position);
      return now !== null && around !== null && Buffer.compare(now, around) === 0;
    });
  }

  #find(disk: SimDisk, isThere: (flip: Damage) => boolean): string | null {
    const found = this.#damages.find(
      (damage) => damage.disk === disk && (damage.around === null ? !disk.isReadable(damage.path, damage.position) : isThere(damage)),
    );
    return found === undefined ? null : `${found.path}+${found.position}`;
  }
}

const before = (position: number): number => Math.min(position, AROUND_BYTES);

function aroundOf(disk: SimDisk, path: string, position: number): Uint8Array | null {
  return disk.exists(path) ? disk.peek(path, position - before(position), before(position) + AROUND_BYTES) : null;
}
