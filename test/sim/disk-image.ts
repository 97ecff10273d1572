import type { Prng } from './prng.ts';
import { SparseBytes } from './sparse-bytes.ts';

/** What a disk writes in one piece: a torn write is made of whole old and whole new sectors. */
export const SECTOR_BYTES = 512;

/** `certain`: a durable write that came after unsynced ones; it is kept at a crash, and in its place among them. */
interface PendingWrite {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly certain: boolean;
}
type Pending = PendingWrite | { readonly truncateTo: number };

/** One file: what readers see, what would be found after a power loss, and what lies between. */
export class Inode {
  visible = new SparseBytes();
  durable = new SparseBytes();
  #pending: Pending[] = [];
  /** Sectors that cannot be read until they are written again. */
  readonly #unreadable = new Set<number>();

  get pendingCount(): number {
    return this.#pending.length;
  }

  spoilSector(sector: number): void {
    this.#unreadable.add(sector);
  }

  readable(position: number, sizeBytes: number): boolean {
    if (this.#unreadable.size === 0) return true;
    for (const sector of this.#unreadable) {
      if ((sector + 1) * SECTOR_BYTES > position && sector * SECTOR_BYTES < position + sizeBytes) return false;
    }
    return true;
  }

  /** What is written whole can be read again. */
  #renew(position: number, sizeBytes: number): void {
    for (const sector of this.#unreadable) {
      if (sector * SECTOR_BYTES >= position && (sector + 1) * SECTOR_BYTES <= position + sizeBytes) this.#unreadable.delete(sector);
    }
  }

  writeBuffered(bytes: Uint8Array, position: number): void {
    if (this.#unreadable.size > 0) this.#renew(position, bytes.length);
    this.visible.write(bytes, position);
    this.#pending.push({ position, bytes: bytes.slice(), certain: false });
  }

  writeDurable(bytes: Uint8Array, position: number): void {
    if (this.#unreadable.size > 0) this.#renew(position, bytes.length);
    this.visible.write(bytes, position);
    this.durable.write(bytes, position);
    if (this.#pending.length > 0) this.#pending.push({ position, bytes: bytes.slice(), certain: true });
  }

  /**
   * A write that never ended: torn as the cache shows it, and not even that is certain. A process that comes back and believes
   * what it reads is found out by the next power loss.
   */
  tear(bytes: Uint8Array, position: number, prng: Prng): void {
    for (const { at, part } of tornParts(bytes, prng)) this.writeBuffered(part, position + at);
  }

  truncate(sizeBytes: number): void {
    this.visible.truncate(sizeBytes);
    // Their blocks are given back.
    for (const sector of this.#unreadable) if (sector * SECTOR_BYTES >= sizeBytes) this.#unreadable.delete(sector);
    this.#pending.push({ truncateTo: sizeBytes });
  }

  /** @param count what was pending when the sync was asked for; later writes are not covered by it */
  sync(count: number): void {
    for (const pending of this.#pending.splice(0, count)) this.#settle(pending);
  }

  /** Power loss: any subset of what was not synced survives, sector by sector. */
  lose(prng: Prng): void {
    for (const pending of this.#pending) {
      if ('truncateTo' in pending) {
        if (prng.chance(0.5)) this.#settle(pending);
      } else if (pending.certain) this.#settle(pending);
      else for (const { at, part } of tornParts(pending.bytes, prng)) this.durable.write(part, pending.position + at);
    }
    this.#pending = [];
    this.visible = this.durable.clone();
  }

  #settle(pending: Pending): void {
    if ('truncateTo' in pending) this.durable.truncate(pending.truncateTo);
    else this.durable.write(pending.bytes, pending.position);
  }
}

/** All, nothing, the head, or any subset of the sectors of `bytes`. */
function tornParts(bytes: Uint8Array, prng: Prng): { readonly at: number; readonly part: Uint8Array }[] {
  const shape = prng.between(0, 3);
  if (shape === 0) return [];
  if (shape === 1) return [{ at: 0, part: bytes }];
  const sectors = Math.ceil(bytes.length / SECTOR_BYTES);
  const head = prng.between(0, sectors);
  if (shape === 2) return [{ at: 0, part: bytes.subarray(0, head * SECTOR_BYTES) }];
  const parts: { at: number; part: Uint8Array }[] = [];
  for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
    if (prng.chance(0.5)) parts.push({ at, part: bytes.subarray(at, Math.min(bytes.length, at + SECTOR_BYTES)) });
  }
  return parts;
}

interface NameChange {
  readonly directories: readonly string[];
  apply(names: Map<string, Inode>): void;
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/** The names of all files: as seen, as they would be after a power loss, and the changes between, in order. */
export class Names {
  readonly visible = new Map<string, Inode>();
  #durable = new Map<string, Inode>();
  #pending: NameChange[] = [];

  create(path: string, inode: Inode): void {
    this.#change({ directories: [parentOf(path)], apply: (names) => names.set(path, inode) });
  }

  /** A file, or a directory with all that is in it. */
  rename(from: string, to: string): void {
    const moved = [...this.visible].filter(([path]) => path === from || path.startsWith(`${from}/`));
    this.#change({
      directories: [parentOf(from), parentOf(to)],
      apply: (names) => {
        for (const [path, inode] of moved) {
          names.delete(path);
          names.set(to + path.slice(from.length), inode);
        }
      },
    });
  }

  remove(path: string): void {
    const gone = [...this.visible.keys()].filter((name) => name === path || name.startsWith(`${path}/`));
    if (gone.length === 0) return;
    this.#change({
      directories: [parentOf(path)],
      apply: (names) => {
        for (const name of gone) names.delete(name);
      },
    });
  }

  /** Makes the changes in this directory durable; one that touches two directories is atomic, as a journal has it. */
  sync(directory: string): void {
    const left: NameChange[] = [];
    for (const change of this.#pending) {
      if (change.directories.includes(directory)) change.apply(this.#durable);
      else left.push(change);
    }
    this.#pending = left;
  }

  /** What a power loss now would leave, if it took all that may be lost. */
  durable(path: string): Inode | undefined {
    return this.#durable.get(path);
  }

  durablePaths(): string[] {
    return [...this.#durable.keys()].sort();
  }

  /** Power loss: the first few of the pending changes survive, in the order of the journal. */
  lose(prng: Prng): void {
    const kept = prng.between(0, this.#pending.length);
    for (const change of this.#pending.slice(0, kept)) change.apply(this.#durable);
    this.#pending = [];
    this.visible.clear();
    for (const [path, inode] of this.#durable) this.visible.set(path, inode);
    for (const inode of new Set(this.visible.values())) inode.lose(prng);
  }

  #change(change: NameChange): void {
    change.apply(this.visible);
    this.#pending.push(change);
  }
}
