import { crc32 } from '../../src/base/crc.ts';
import { readGroupHeader } from '../../src/log/group-codec.ts';
import { BLOCK_BYTES, GROUP_HEADER_BYTES } from '../../src/log/layout.ts';
import { decodeSnapshotHeader, SNAPSHOT_HEADER_BYTES } from '../../src/log/snapshot-format.ts';
import type { SimReplica } from './broker-group.ts';
import { DerivedRot } from './derived-rot.ts';
import type { SimDisk } from './disk.ts';
import { SECTOR_BYTES } from './disk-image.ts';
import { positionOfSnapshot, snapshotPaths } from './durable-probe.ts';
import type { GroupReferee } from './group-referee.ts';
import type { Prng } from './prng.ts';

const LOG = '/data/commitlog';
/** Of a damaged stretch of the log, in sectors that cannot be read any more (FAULTS 23). */
const SECTOR_ERROR_RATE = 0.1;

/** How cold bytes go bad. */
const ROT_KINDS = ['flip', 'misdirected', 'lostWrite', 'truncated', 'sectorErrors', 'snapshot', 'derived', 'derived'] as const;
type RotKind = (typeof ROT_KINDS)[number];

/** Bytes of one file that went bad, and what they were. */
interface Damage {
  readonly replicaId: number;
  readonly disk: SimDisk;
  readonly path: string;
  readonly position: number;
  readonly original: Uint8Array;
  readonly what: string;
  /** Log or snapshot. */
  readonly ofLog: boolean;
}

/** Whole committed write groups of one segment, back to back. */
interface Stretch {
  readonly path: string;
  /** In the file. */
  readonly position: number;
  readonly sizeBytes: number;
}

/**
 * Damages what lies committed and cold on the disks of a broker group, and keeps count: some other disk always has the same
 * bytes whole, so that repair is possible, and what is damaged at the end was not repaired.
 */
export class Rot {
  readonly #prng: Prng;
  readonly #replicas: readonly SimReplica[];
  readonly #referee: GroupReferee;
  readonly derived: DerivedRot;
  #damages: Damage[] = [];

  /** Retention cuts the log: the others' good copies may go before a replica that is down comes back and asks for them. */
  readonly #cuts: boolean;

  constructor(prng: Prng, replicas: readonly SimReplica[], referee: GroupReferee, cuts: boolean) {
    this.#prng = prng;
    this.derived = new DerivedRot(prng);
    this.#cuts = cuts;
    this.#replicas = replicas;
    this.#referee = referee;
  }

  /** @returns what was damaged; null when nothing may be */
  strike(victim: SimReplica): string | null {
    // A recovery that finds what it has just mended damaged again gives up, and rightly so.
    if (victim.process.alive && victim.handle?.status() == null) return null;
    // Who leaves is not repaired any more.
    if (victim.leaving) return null;
    const kind = this.#prng.pick(ROT_KINDS);
    if (kind === 'derived') return this.derived.strike(victim);
    // Never both at once: a log is known to be whole by the snapshot behind it.
    const standing = this.standing().filter(({ replicaId }) => replicaId === victim.id);
    if (standing.some(({ ofLog }) => ofLog === (kind === 'snapshot'))) return null;
    if (kind === 'snapshot') return this.#strikeSnapshot(victim, kind);
    // What nobody retains any more makes a replica begin anew, which takes a majority of the others: one at a time.
    if (this.#cuts && this.standing().some(({ replicaId }) => replicaId !== victim.id)) return null;
    const stretch = this.#stretch(victim, kind === 'truncated');
    return stretch === null ? null : this.#strikeLog(victim, stretch, kind);
  }

  /** Its disk is gone, or it is none of the group's any more. */
  forget(replicaId: number): void {
    this.#damages = this.#damages.filter((damage) => damage.replicaId !== replicaId);
  }

  /** Damages that are still there: neither repaired, nor gone with their file. */
  standing(): readonly Damage[] {
    this.#damages = this.#damages.filter(({ disk, path, position, original, ofLog }) => {
      if (!disk.exists(path)) return false;
      // A state that was saved there anew, before the head was known to be one, is another, and good (simulation seed 40633).
      if (!ofLog && isWholeState(disk, path)) return false;
      const now = disk.platter(path, position, original.length);
      return now === null || !now.readable || Buffer.compare(now.bytes, original) !== 0;
    });
    return this.#damages;
  }

  /** What is not repaired yet (FAULTS 5), in words; null when everything is. A state that is not at a segment's head is not needed any more. */
  unrepaired(): string | null {
    const left = this.standing().find(({ ofLog, path }) => ofLog || this.#isHead(path));
    return left === undefined ? null : `${left.what} of replica ${left.replicaId} at ${left.path}+${left.position}`;
  }

  #isHead(path: string): boolean {
    const { segmentBytes } = (this.#replicas[0] as SimReplica).config;
    return positionOfSnapshot(path) % segmentBytes === BLOCK_BYTES;
  }

  #strikeLog(victim: SimReplica, { path, position, sizeBytes }: Stretch, kind: RotKind): string {
    const { disk } = victim.process;
    const prng = this.#prng;
    const original = (disk.platter(path, position, sizeBytes) as { bytes: Uint8Array }).bytes;
    const sectors = sizeBytes / SECTOR_BYTES;
    const blocks = sizeBytes / BLOCK_BYTES;
    if (kind === 'flip') {
      for (let n = prng.between(1, 3); n > 0; n--) {
        const at = prng.between(0, sizeBytes - 1);
        disk.damage(path, position + at, (bytes) => flip(bytes, 0, prng), 1);
      }
    } else if (kind === 'misdirected') {
      const [to, from] = [prng.between(0, blocks - 1), prng.between(0, blocks - 1)];
      // What was meant for one place lies at another; where that is the same place, the block is that of the file's header.
      const source = to === from ? 0 : position + from * BLOCK_BYTES;
      const stray = (disk.platter(path, source, BLOCK_BYTES) as { bytes: Uint8Array }).bytes;
      disk.damage(path, position + to * BLOCK_BYTES, (bytes) => bytes.set(stray), BLOCK_BYTES);
    } else if (kind === 'lostWrite') {
      const first = prng.between(0, blocks - 1);
      const lost = prng.between(1, blocks - first);
      disk.damage(path, position + first * BLOCK_BYTES, (bytes) => bytes.fill(0), lost * BLOCK_BYTES);
    } else if (kind === 'truncated') disk.shorten(path, position);
    else {
      const certain = prng.between(0, sectors - 1);
      for (let sector = 0; sector < sectors; sector++) {
        if (sector === certain || prng.chance(SECTOR_ERROR_RATE)) disk.spoilSector(path, position + sector * SECTOR_BYTES);
      }
    }
    return this.#note({ replicaId: victim.id, disk, path, position, original, what: kind, ofLog: true });
  }

  #strikeSnapshot(victim: SimReplica, what: RotKind): string | null {
    const { disk } = victim.process;
    const others = this.#replicas.filter((replica) => replica !== victim && hasCopies(replica));
    const candidates = snapshotPaths(disk).filter((path) =>
      others.some(({ process }) => sameFile(process.disk.visibleBytes(path), disk.visibleBytes(path))),
    );
    if (candidates.length === 0) return null;
    const path = this.#prng.pick(candidates);
    const original = disk.visibleBytes(path) as Uint8Array;
    const at = this.#prng.between(0, original.length - 1);
    disk.damage(path, at, (bytes) => flip(bytes, 0, this.#prng), 1);
    return this.#note({ replicaId: victim.id, disk, path, position: 0, original, what, ofLog: false });
  }

  #note(damage: Damage): string {
    this.#damages.push(damage);
    return `rot: ${damage.what} in ${damage.path}+${damage.position}, ${damage.original.length} bytes`;
  }

  /** A few committed groups of the victim that another disk has whole. @param sealed of a segment that is written no more, up to its end */
  #stretch(victim: SimReplica, sealed: boolean): Stretch | null {
    const { disk } = victim.process;
    const segments = disk.paths(LOG).filter((path) => /\/\d{20}$/.test(path));
    const usable = sealed ? segments.filter((_, at) => holdsGroups(disk, segments[at + 1])) : segments;
    if (usable.length === 0) return null;
    const path = this.#prng.pick(usable);
    const groups = this.#committedGroups(victim, path);
    if (groups.length === 0) return null;
    const first = this.#prng.between(0, groups.length - 1);
    const last = sealed ? groups.length - 1 : Math.min(groups.length - 1, first + this.#prng.between(0, 3));
    const position = (groups[first] as Stretch).position;
    const end = (groups[last] as Stretch).position + (groups[last] as Stretch).sizeBytes;
    const stretch = { path, position, sizeBytes: end - position };
    return this.#isElsewhere(victim, stretch) ? stretch : null;
  }

  #isElsewhere(victim: SimReplica, { path, position, sizeBytes }: Stretch): boolean {
    const own = victim.process.disk.platter(path, position, sizeBytes);
    if (own === null || !own.readable) return false;
    return this.#replicas.some((replica) => {
      const { process } = replica;
      if (replica === victim || !hasCopies(replica)) return false;
      const copy = process.disk.platter(path, position, sizeBytes);
      return copy?.readable === true && process.disk.nameIsDurable(path) && Buffer.compare(copy.bytes, own.bytes) === 0;
    });
  }

  /** In one segment file: committed, and never to be taken for a torn last write. */
  #committedGroups(victim: SimReplica, path: string): Stretch[] {
    const { probe } = this.#referee;
    const proven = probe.provenEnd(victim.id);
    const { disk } = victim.process;
    const groups: Stretch[] = [];
    for (let at = BLOCK_BYTES; at + GROUP_HEADER_BYTES <= disk.visibleSize(path); ) {
      const header = readGroupHeader(disk.peek(path, at, GROUP_HEADER_BYTES));
      if (typeof header === 'string') break;
      if (header.lastIndex > this.#referee.committedIndex || header.position + header.sizeBytes > proven) break;
      groups.push({ path, position: at, sizeBytes: header.sizeBytes });
      at += header.sizeBytes;
    }
    return groups;
  }
}

/** A spare one does not: the segment before it is still written. */
function holdsGroups(disk: SimDisk, path: string | undefined): boolean {
  const head = path === undefined ? null : disk.platter(path, BLOCK_BYTES, GROUP_HEADER_BYTES);
  return head !== null && typeof readGroupHeader(head.bytes) !== 'string';
}

function flip(bytes: Uint8Array, at: number, prng: Prng): void {
  bytes[at] = (bytes[at] as number) ^ (1 << prng.between(0, 7));
}

function sameFile(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a !== null && b !== null && Buffer.compare(a, b) === 0;
}

/** Whether the group repairs from it: who leaves is not asked any more, who joins not by all yet. */
const hasCopies = ({ leaving, joining }: SimReplica): boolean => !leaving && !joining;

function isWholeState(disk: SimDisk, path: string): boolean {
  const bytes = disk.visibleBytes(path) as Uint8Array;
  if (!disk.platter(path, 0, bytes.length)?.readable) return false;
  try {
    const { sizeBytes, stateChecksum } = decodeSnapshotHeader(bytes, path);
    return bytes.length === SNAPSHOT_HEADER_BYTES + sizeBytes && crc32(bytes.subarray(SNAPSHOT_HEADER_BYTES)) === stateChecksum;
  } catch {
    return false;
  }
}
