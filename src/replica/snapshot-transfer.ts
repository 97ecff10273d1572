import { crc32 } from '../base/crc.ts';
import { type Disk, isOutOfSpace } from '../io/disk.ts';
import { type SnapshotMeta, snapshotName } from '../log/snapshot-format.ts';
import type { SnapshotReceiver, SnapshotStore } from '../log/snapshot-store.ts';
import type { Log, LogBoundary } from '../log/types.ts';
import type { Effects, RaftCore, ReplicaId, SnapshotRequest } from '../raft/types.ts';
import type { DerivedFiles } from './derived.ts';
import { decodeMembership } from './membership.ts';
import type { PeerLinks } from './peer-links.ts';
import { decodeSnapshotSlice, encodeSnapshotSlice, SNAPSHOT_SLICE_HEAD_BYTES } from './peer-messages.ts';
import type { StateMachine } from './types.ts';

const SLICE_BYTES = 256 * 1024;
/** Received and not written yet; a leader that sends faster than this disk takes is cut off and starts again. */
const MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024;

/**
 * Leader: gives the state at the log's start to a follower that is behind it. The follower then gets every retained group,
 * so that its log becomes byte-identical and its queues complete.
 */
export class SnapshotSender {
  readonly #store: SnapshotStore;
  readonly #links: PeerLinks;
  /** One transfer a follower; the number tells it from one over an older link. */
  readonly #sending = new Map<ReplicaId, number>();
  #transfers = 0;
  /** Sent whole. */
  sentCount = 0;

  constructor(store: SnapshotStore, links: PeerLinks) {
    this.#store = store;
    this.#links = links;
  }

  /** Repeats of a transfer under way are ignored: Raft asks again until it hears the outcome. */
  async send(request: SnapshotRequest): Promise<void> {
    const meta = this.#store.list().find(({ index }) => index === request.index);
    if (meta === undefined || this.#sending.has(request.to)) return;
    const transfer = ++this.#transfers;
    this.#sending.set(request.to, transfer);
    try {
      this.#links.send(request);
      const totalBytes = this.#store.fileBytes(meta);
      const bytes = new Uint8Array(SLICE_BYTES);
      for (let offset = 0; offset < totalBytes; ) {
        const slice = bytes.subarray(0, await this.#store.readSlice(meta, bytes, offset));
        if (slice.length === 0 || this.#sending.get(request.to) !== transfer) return;
        const head = new Uint8Array(SNAPSHOT_SLICE_HEAD_BYTES);
        const { index, term: lastTerm, position } = meta;
        encodeSnapshotSlice({ term: request.term, index, lastTerm, position, offset, totalBytes, checksum: crc32(slice) }, head, 0);
        if (!(await this.#flushed(request.to, head, slice))) return;
        offset += slice.length;
      }
      this.sentCount++;
    } catch (error) {
      // Retention removed it meanwhile: Raft asks for the next one.
      if (this.#store.list().includes(meta)) throw error;
    } finally {
      if (this.#sending.get(request.to) === transfer) this.#sending.delete(request.to);
    }
  }

  /** The link ended: its flush never comes, a new request may start over. */
  lost(peer: ReplicaId): void {
    this.#sending.delete(peer);
  }

  #flushed(to: ReplicaId, head: Uint8Array, slice: Uint8Array): Promise<boolean> {
    return new Promise((resolve) => {
      if (!this.#links.sendSnapshotSlice(to, head, slice, () => resolve(true))) resolve(false);
    });
  }
}

export interface InstallerPorts {
  readonly disk: Disk;
  /** DIR/raft: holds the note that an installation is under way. */
  readonly directory: string;
  readonly store: SnapshotStore;
  readonly log: Log;
  readonly raft: RaftCore;
  readonly stateMachine: StateMachine;
  readonly derived: DerivedFiles;
  /** Runs while no snapshot is taken and no derived file is written. */
  exclusive(work: () => Promise<void>): Promise<void>;
  /** Nothing is applied from here on until installed(). */
  pauseApply(): Promise<void>;
  /** The recorded durable end must not exceed the log that is left (I5). */
  lowerDurableEnd(endPosition: number): Promise<void>;
  /** The state stands at this boundary now; log and core agree. */
  installed(boundary: LogBoundary): void;
  failed(error: unknown): void;
}

interface Receiving {
  readonly from: ReplicaId;
  /** The leader's that it comes from. */
  readonly term: number;
  readonly index: number;
  readonly receiver: SnapshotReceiver;
}

/** Follower: takes the state at the leader's log start in place of its own log. */
export class SnapshotInstaller {
  readonly #ports: InstallerPorts;
  #receiving: Receiving | null = null;
  #work: Promise<void> = Promise.resolve();
  /** Of slices that wait for the disk. */
  #unwrittenBytes = 0;
  /** The old log goes: a failure from here on is final. */
  #replacing = false;
  #stopped = false;

  constructor(ports: InstallerPorts) {
    this.#ports = ports;
  }

  begin(install: NonNullable<Effects['install']>): void {
    const { term } = this.#ports.raft;
    this.#run(async () => {
      await this.#receiving?.receiver.abort();
      this.#receiving = null;
      try {
        const receiver = await this.#ports.store.receive();
        this.#receiving = { from: install.from, term, index: install.index, receiver };
      } catch (error) {
        if (!isOutOfSpace(error)) throw error;
        this.#ports.raft.installFailed(install.index);
      }
    });
  }

  /** `head` and `bytes` are valid during the call only. */
  slice(from: ReplicaId, head: Uint8Array, bytes: Uint8Array): void {
    const slice = decodeSnapshotSlice(head);
    // A slice that is dropped here leaves a gap, by which the transfer is given up.
    if (this.#unwrittenBytes + bytes.length > MAX_UNWRITTEN_BYTES) return;
    const copy = bytes.slice();
    this.#unwrittenBytes += copy.length;
    this.#run(async () => {
      const receiving = this.#receiving;
      this.#unwrittenBytes -= copy.length;
      if (receiving === null || slice.term < receiving.term) return;
      // Another state than the one begun (its leader cut its log further, or another one leads): that one will never be whole.
      const other = receiving.from !== from || receiving.index !== slice.index;
      if (other || crc32(copy) !== slice.checksum || slice.offset !== receiving.receiver.receivedBytes) {
        await this.#abandon(receiving);
        return;
      }
      try {
        await receiving.receiver.write(copy);
        if (receiving.receiver.receivedBytes < slice.totalBytes) return;
        this.#receiving = null;
        await this.#install(receiving.receiver);
      } catch (error) {
        // While nothing was changed yet the leader hears of it and tries again, on a full disk until there is space.
        if (this.#replacing || ((error as Error).name !== 'SnapshotDamagedError' && !isOutOfSpace(error))) throw error;
        await this.#abandon(receiving);
      }
    });
  }

  lost(peer: ReplicaId): void {
    this.#run(async () => {
      if (this.#receiving?.from === peer) await this.#abandon(this.#receiving);
    });
  }

  async #abandon(receiving: Receiving): Promise<void> {
    this.#receiving = null;
    await receiving.receiver.abort();
    this.#ports.raft.installFailed(receiving.index);
  }

  async #install(receiver: SnapshotReceiver): Promise<void> {
    const { disk, directory } = this.#ports;
    await this.#ports.exclusive(async () => {
      // From here to the end a crash leaves a log that is neither the old nor the new one: the note makes the next start begin anew.
      // It comes before the state is on the list, which without the log that belongs to it is of no use.
      const meta = await receiver.finish(async (whole) => {
        try {
          await writeInstallNote(disk, directory, whole);
        } catch (error) {
          if (isOutOfSpace(error)) await removeInstallNote(disk, directory);
          throw error;
        }
        this.#replacing = true;
        await this.#ports.pauseApply();
      });
      await this.#replaceLog(meta);
      this.#replacing = false;
    });
  }

  async #replaceLog(meta: SnapshotMeta): Promise<void> {
    const { disk, directory, store, log, raft, stateMachine, derived } = this.#ports;
    const boundary = { index: meta.index, term: meta.term, position: meta.position, previousChecksum: meta.previousChecksum };
    await this.#ports.lowerDurableEnd(0);
    await log.reset(boundary);
    await store.removeBefore(meta.position);
    await derived.truncateFrom(0);
    const state = await store.load(meta);
    await removeInstallNote(disk, directory);
    // In one step with the index that it belongs to: who asks in between would be told the digest of one and the index of the other.
    stateMachine.restore(state);
    const carried = stateMachine.membership?.() ?? null;
    const membership = carried === null ? undefined : { index: carried.index, membership: decodeMembership(carried.body) };
    raft.installed(meta.index, meta.term, meta.position, membership);
    this.#ports.installed(boundary);
  }

  /** Waits for the step under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#work;
  }

  #run(work: () => Promise<void>): void {
    this.#work = this.#work
      .then(() => (this.#stopped ? undefined : work()))
      .catch((error: unknown) => {
        if (!this.#stopped) this.#ports.failed(error);
      });
  }
}

const NOTE = 'installing';

async function writeInstallNote(disk: Disk, directory: string, meta: SnapshotMeta): Promise<void> {
  await disk.remove(`${directory}/${NOTE}`);
  const file = await disk.open(`${directory}/${NOTE}`, { access: 'readwrite', create: true });
  try {
    await file.write(new TextEncoder().encode(JSON.stringify({ snapshot: snapshotName(meta) })), 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.syncDirectory(directory);
}

/** The new log is whole, or the old one is gone and the recorded durable end with it. */
export async function removeInstallNote(disk: Disk, directory: string): Promise<void> {
  await disk.remove(`${directory}/${NOTE}`);
  await disk.syncDirectory(directory);
}

/**
 * An installation was cut short: the old log must go, and every state but the received one, which may be missing too. What was
 * committed here is committed without this replica: its leader's log begins behind it. The note stays until the caller has
 * forgotten what was derived from the old log and how far that was durable.
 * @returns whether there was one
 */
export async function discardHalfInstalled(disk: Disk, dataDirectory: string): Promise<boolean> {
  const path = `${dataDirectory}/raft/${NOTE}`;
  if (!(await disk.exists(path))) return false;
  const received = await readNote(disk, path);
  if (received === null) {
    // Nothing is touched before the note is whole.
    await removeInstallNote(disk, `${dataDirectory}/raft`);
    return false;
  }
  await disk.remove(`${dataDirectory}/commitlog`);
  await disk.syncDirectory(dataDirectory);
  const snapshots = `${dataDirectory}/snapshot`;
  for (const name of await disk.list(snapshots)) if (name !== received) await disk.remove(`${snapshots}/${name}`);
  await disk.syncDirectory(snapshots);
  return true;
}

/** @returns name of the received snapshot; null when the note was cut short itself */
async function readNote(disk: Disk, path: string): Promise<string | null> {
  const file = await disk.open(path, { access: 'read' });
  try {
    const bytes = new Uint8Array(Math.min(4096, await file.sizeBytes()));
    await file.read(bytes, 0);
    const note: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const name = typeof note === 'object' && note !== null && 'snapshot' in note ? note.snapshot : null;
    return typeof name === 'string' ? name : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  } finally {
    await file.close();
  }
}
