import { readU32 } from '../../src/base/bytes.ts';
import { forEachEntry, newEntryView, readGroupHeader, verifyGroup } from '../../src/log/group-codec.ts';
import { decodeHardState } from '../../src/log/hard-state.ts';
import { BLOCK_BYTES, GROUP_HEADER_BYTES, GROUP_MAGIC, Group } from '../../src/log/layout.ts';
import { decodeMembership, type GroupMembership } from '../../src/replica/membership.ts';
import { EntryType } from '../../src/replica/types.ts';
import type { MembershipDisks } from './checkers/memberships.ts';
import type { DurableView } from './checkers/synced.ts';
import type { DiskWatcher, SimDisk } from './disk.ts';

const SNAPSHOTS = '/data/snapshot';

interface DurableGroup {
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly path: string;
  /** Of the header, which chains to everything before: two groups with the same one are the same group. */
  readonly checksum: number;
  readonly batches: readonly number[];
  readonly memberships: readonly DurableMembership[];
}

export interface DurableMembership {
  readonly index: number;
  /** Of its body. */
  readonly checksum: number;
  readonly membership: GroupMembership;
}

/** What one machine's disk certainly holds. */
class MachineImage {
  groups: DurableGroup[] = [];
  /** Checksum of a batch → in how many durable entries. */
  readonly batches = new Map<number, number>();
  /** Of the log, ascending. */
  readonly memberships: DurableMembership[] = [];
  /** Where a group starts whose end was not durable yet, by file: recovery writes in pieces that need not be whole groups. */
  readonly unfinished = new Map<string, number>();
  term = 0;
  votedFor = 0;
  /** As far as this machine has recorded that its log is durable. */
  recordedEnd = 0;
  #hardStateSequence = 0;

  hardState(bytes: Uint8Array): void {
    const slot = decodeHardState(bytes);
    if (typeof slot === 'string' || slot.sequence < this.#hardStateSequence) return;
    this.#hardStateSequence = slot.sequence;
    this.term = slot.state.term;
    this.votedFor = slot.state.votedFor;
    this.recordedEnd = slot.state.durableEndPosition;
  }

  /** @returns false: recovery writes what is there again */
  put(group: DurableGroup): boolean {
    if (this.holds(group)) return false;
    while (this.groups.length > 0 && (this.groups.at(-1) as DurableGroup).lastIndex >= group.firstIndex) this.#drop();
    this.groups.push(group);
    for (const batch of group.batches) this.batches.set(batch, (this.batches.get(batch) ?? 0) + 1);
    this.memberships.push(...group.memberships);
    return true;
  }

  holds({ firstIndex, checksum }: DurableGroup): boolean {
    return this.#find(firstIndex)?.checksum === checksum;
  }

  #find(firstIndex: number): DurableGroup | undefined {
    let [low, high] = [0, this.groups.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.groups[middle] as DurableGroup).firstIndex < firstIndex) low = middle + 1;
      else high = middle;
    }
    const found = this.groups[low];
    return found?.firstIndex === firstIndex ? found : undefined;
  }

  #drop(): void {
    const dropped = this.groups.pop() as DurableGroup;
    this.memberships.length -= dropped.memberships.length;
    for (const batch of dropped.batches) {
      const count = (this.batches.get(batch) ?? 1) - 1;
      if (count === 0) this.batches.delete(batch);
      else this.batches.set(batch, count);
    }
  }
}

/** Position of the newest state snapshot on a disk: the log before it is known to be whole and durable. */
export function newestSnapshotPosition(disk: SimDisk): number {
  const newest = snapshotPaths(disk).at(-1);
  return newest === undefined ? 0 : positionOfSnapshot(newest);
}

export const positionOfSnapshot = (path: string): number => Number(path.slice(SNAPSHOTS.length + 1, SNAPSHOTS.length + 21));

/** Whole snapshots with a durable name, oldest first. */
export function snapshotPaths(disk: SimDisk): string[] {
  return disk.paths(SNAPSHOTS).filter((path) => /\/\d{20}-\d+$/.test(path) && disk.nameIsDurable(path));
}

/** Index of the newest state snapshot whose name is durable: it got that name after its bytes were synced. */
function newestSnapshot(disk: SimDisk): number {
  let newest = 0;
  for (const path of snapshotPaths(disk)) newest = Math.max(newest, Number(path.slice(path.lastIndexOf('-') + 1)));
  return newest;
}

/**
 * Reads along what every disk makes durable, in the formats of docs/architecture.md, so that the moment something is
 * acknowledged it is known which disks hold it. It never asks the broker.
 */
export class DurableProbe implements Omit<DurableView, 'deciders'>, MembershipDisks, DiskWatcher {
  readonly #machines = new Map<SimDisk, MachineImage>();
  readonly #byReplica = new Map<number, { readonly disk: SimDisk; readonly image: MachineImage }>();
  readonly #view = newEntryView();
  /** Checksum of a batch → its index, on whatever disk it was last. */
  readonly #indexOf = new Map<number, number>();
  /** A membership came to lie on a disk; `before` is the one before it in that log. */
  onMembership: (now: DurableMembership, before: DurableMembership | null) => void = () => undefined;

  /** Of a machine that gets a new disk the old one is forgotten. */
  watch(replicaId: number, disk: SimDisk): void {
    const image = new MachineImage();
    this.#machines.set(disk, image);
    this.#byReplica.set(replicaId, { disk, image });
    disk.watcher = this;
  }

  get replicas(): readonly number[] {
    return [...this.#byReplica.keys()];
  }

  durableIndex(replicaId: number, atLeast: number): number {
    const { disk, image } = this.#of(replicaId);
    const end = this.#logEnd(disk, image);
    return end >= atLeast ? end : Math.max(end, newestSnapshot(disk));
  }

  #logEnd(disk: SimDisk, image: MachineImage): number {
    const last = image.groups.at(-1);
    // A file whose name was never synced is not there after a power loss, whatever was written into it.
    if (last !== undefined && !disk.nameIsDurable(last.path)) return 0;
    return last?.lastIndex ?? 0;
  }

  durableTerm(replicaId: number): { readonly term: number; readonly votedFor: number } {
    return this.#of(replicaId).image;
  }

  /** What a restart may not take for the last, torn write: it is recorded as durable, or a snapshot stands behind it. */
  provenEnd(replicaId: number): number {
    const { disk, image } = this.#of(replicaId);
    return Math.max(image.recordedEnd, newestSnapshotPosition(disk));
  }

  /** Also who got a snapshot in its place. */
  holdsBatch(replicaId: number, bodyChecksum: number): boolean {
    const machine = this.#byReplica.get(replicaId);
    if (machine === undefined) return false;
    if (machine.image.batches.has(bodyChecksum)) return true;
    const index = this.#indexOf.get(bodyChecksum);
    return index !== undefined && this.#isBeforeLog(machine, index);
  }

  indexOfBatch(bodyChecksum: number): number {
    return this.#indexOf.get(bodyChecksum) ?? 0;
  }

  holdsMembership(replicaId: number, index: number, checksum: number): boolean {
    const machine = this.#byReplica.get(replicaId);
    if (machine === undefined) return false;
    return machine.image.memberships.some((one) => one.index === index && one.checksum === checksum) || this.#isBeforeLog(machine, index);
  }

  /** A snapshot was installed that includes it: nothing of it is in the log that begins behind. */
  #isBeforeLog({ disk, image }: { readonly disk: SimDisk; readonly image: MachineImage }, index: number): boolean {
    const first = image.groups[0];
    return (first === undefined || first.firstIndex > index) && newestSnapshot(disk) >= index;
  }

  /** Does `other` hold all that this replica may have acknowledged? */
  covers(other: number, replicaId: number): boolean {
    const own = this.#of(replicaId).image.groups.at(-1);
    const machine = this.#of(other);
    const end = this.durableIndex(replicaId, Number.MAX_SAFE_INTEGER);
    if (this.durableIndex(other, end) < end) return false;
    return own === undefined || machine.image.holds(own) || newestSnapshot(machine.disk) >= own.lastIndex;
  }

  durable(disk: SimDisk, path: string, bytes: Uint8Array, position: number): void {
    const image = this.#machines.get(disk);
    if (image === undefined) return;
    if (path.includes('/commitlog/')) {
      const start = image.unfinished.get(path);
      const end = position + bytes.length;
      if (start !== undefined && start < position) this.#log(image, path, disk.readDurable(path, start, end - start), start);
      else this.#log(image, path, bytes, position);
    } else if (path.endsWith('/hard-state')) image.hardState(bytes);
  }

  crashed(_disk: SimDisk): void {
    // Only completed durable writes are counted, and those survive every crash.
  }

  #log(image: MachineImage, path: string, bytes: Uint8Array, position: number): void {
    image.unfinished.delete(path);
    for (let at = 0; at + GROUP_HEADER_BYTES <= bytes.length; ) {
      const header = readU32(bytes, at) === GROUP_MAGIC ? readGroupHeader(bytes, at) : null;
      if (header === null || typeof header === 'string') {
        at += BLOCK_BYTES;
        continue;
      }
      if (at + header.sizeBytes > bytes.length) {
        image.unfinished.set(path, position + at);
        return;
      }
      // What was written before may have gone bad since, and recovery writes again what it has read (simulation seeds 1194, 2539).
      if (!verifyGroup(bytes.subarray(at, at + header.sizeBytes)).ok) {
        at += BLOCK_BYTES;
        continue;
      }
      const batches: number[] = [];
      const memberships: DurableMembership[] = [];
      forEachEntry(bytes.subarray(at, at + header.sizeBytes), this.#view, ({ type, index, bodyChecksum, body }) => {
        if (type === EntryType.batch) {
          batches.push(bodyChecksum);
          this.#indexOf.set(bodyChecksum, index);
        } else if (type === EntryType.membership)
          memberships.push({ index, checksum: bodyChecksum, membership: decodeMembership(body.slice()) });
      });
      const isNew = image.put({
        firstIndex: header.firstIndex,
        lastIndex: header.lastIndex,
        path,
        checksum: readU32(bytes, at + Group.checksum),
        batches,
        memberships,
      });
      if (isNew) this.#tell(image, memberships.length);
      at += header.sizeBytes;
    }
  }

  /** Of the last `count` memberships of a log. */
  #tell({ memberships }: MachineImage, count: number): void {
    for (let at = memberships.length - count; at < memberships.length; at++)
      this.onMembership(memberships[at] as DurableMembership, memberships[at - 1] ?? null);
  }

  #of(replicaId: number): { readonly disk: SimDisk; readonly image: MachineImage } {
    return this.#byReplica.get(replicaId) as { disk: SimDisk; image: MachineImage };
  }
}
