import { crc32 } from '../base/crc.ts';
import { type Disk, isOutOfSpace } from '../io/disk.ts';
import type { SnapshotMeta } from '../log/snapshot-format.ts';
import type { SnapshotReceiver, SnapshotStore } from '../log/snapshot-store.ts';
import type { Log, LogBoundary } from '../log/types.ts';
import type { Effects, RaftCore, ReplicaId, SnapshotRequest } from '../raft/types.ts';
import type { DerivedFiles } from './derived.ts';
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
  readonly #sending = new Set<ReplicaId>();
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
    this.#sending.add(request.to);
    try {
      this.#links.send(request);
      const totalBytes = this.#store.fileBytes(meta);
      const bytes = new Uint8Array(SLICE_BYTES);
      for (let offset = 0; offset < totalBytes; ) {
        const slice = bytes.subarray(0, await this.#store.readSlice(meta, bytes, offset));
        if (slice.length === 0) return;
        const head = new Uint8Array(SNAPSHOT_SLICE_HEAD_BYTES);
        const { index, term: lastTerm, position } = meta;
        encodeSnapshotSlice({ term: request.term, index, lastTerm, position, offset, totalBytes, checksum: crc32(slice) }, head, 0);
        if (!(await this.#flushed(request.to, head, slice))) return;
        offset += slice.length;
      }
      this.sentCount++;
    } finally {
      this.#sending.delete(request.to);
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
  /** The recorded durable end must not exceed the log that is left (I5). */
  lowerDurableEnd(endPosition: number): Promise<void>;
  /** The state stands at this boundary now; log and core agree. */
  installed(boundary: LogBoundary): void;
  failed(error: unknown): void;
}

interface Receiving {
  readonly from: ReplicaId;
  readonly index: number;
  readonly receiver: SnapshotReceiver;
  unwrittenBytes: number;
}

/** Follower: takes the state at the leader's log start in place of its own log. */
export class SnapshotInstaller {
  readonly #ports: InstallerPorts;
  #receiving: Receiving | null = null;
  #work: Promise<void> = Promise.resolve();

  constructor(ports: InstallerPorts) {
    this.#ports = ports;
  }

  begin(install: NonNullable<Effects['install']>): void {
    this.#run(async () => {
      await this.#receiving?.receiver.abort();
      this.#receiving = null;
      try {
        const receiver = await this.#ports.store.receive();
        this.#receiving = { from: install.from, index: install.index, receiver, unwrittenBytes: 0 };
      } catch (error) {
        if (!isOutOfSpace(error)) throw error;
        this.#ports.raft.installFailed(install.index);
      }
    });
  }

  /** `head` and `bytes` are valid during the call only. */
  slice(from: ReplicaId, head: Uint8Array, bytes: Uint8Array): void {
    const slice = decodeSnapshotSlice(head);
    const copy = bytes.slice();
    this.#run(async () => {
      const receiving = this.#receiving;
      if (receiving === null || receiving.from !== from || receiving.index !== slice.index) return;
      receiving.unwrittenBytes += copy.length;
      const bad = crc32(copy) !== slice.checksum || slice.offset !== receiving.receiver.receivedBytes;
      if (bad || receiving.unwrittenBytes > MAX_UNWRITTEN_BYTES) {
        await this.#abandon(receiving);
        return;
      }
      const meta = await this.#received(receiving, copy, slice.totalBytes);
      if (meta !== null) await this.#install(meta);
    });
  }

  /** @returns the snapshot once it is whole */
  async #received(receiving: Receiving, bytes: Uint8Array, totalBytes: number): Promise<SnapshotMeta | null> {
    try {
      await receiving.receiver.write(bytes);
      receiving.unwrittenBytes -= bytes.length;
      if (receiving.receiver.receivedBytes < totalBytes) return null;
      this.#receiving = null;
      return await receiving.receiver.finish();
    } catch (error) {
      // Nothing was changed yet: the leader hears of it and tries again, on a full disk until there is space.
      if ((error as Error).name !== 'SnapshotDamagedError' && !isOutOfSpace(error)) throw error;
      await this.#abandon(receiving);
      return null;
    }
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

  async #install(meta: SnapshotMeta): Promise<void> {
    const { disk, directory, store, log, raft, stateMachine, derived } = this.#ports;
    const boundary = { index: meta.index, term: meta.term, position: meta.position, previousChecksum: meta.previousChecksum };
    // From here to the end a crash leaves a log that is neither the old nor the new one: the note makes the next start begin anew.
    try {
      await writeInstallNote(disk, directory, boundary);
    } catch (error) {
      if (!isOutOfSpace(error)) throw error;
      await removeInstallNote(disk, directory);
      raft.installFailed(meta.index);
      return;
    }
    await this.#ports.lowerDurableEnd(0);
    await log.reset(boundary);
    await store.removeBefore(meta.position);
    await derived.truncateFrom(0);
    const state = await store.load(meta);
    stateMachine.restore(state);
    await removeInstallNote(disk, directory);
    raft.installed(meta.index, meta.term, meta.position);
    this.#ports.installed(boundary);
  }

  #run(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error: unknown) => this.#ports.failed(error));
  }
}

const NOTE = 'installing';

async function writeInstallNote(disk: Disk, directory: string, boundary: LogBoundary): Promise<void> {
  const file = await disk.open(`${directory}/${NOTE}`, { access: 'readwrite', create: true });
  await file.write(new TextEncoder().encode(JSON.stringify(boundary)), 0);
  await file.sync();
  await file.close();
  await disk.syncDirectory(directory);
}

async function removeInstallNote(disk: Disk, directory: string): Promise<void> {
  await disk.remove(`${directory}/${NOTE}`);
  await disk.syncDirectory(directory);
}

/** An installation was cut short: the old log and what was derived from it must go, the received snapshot stays. */
export async function finishInstall(disk: Disk, dataDirectory: string): Promise<void> {
  const directory = `${dataDirectory}/raft`;
  if (!(await disk.exists(`${directory}/${NOTE}`))) return;
  for (const name of ['commitlog', 'consumequeue', 'index']) await disk.remove(`${dataDirectory}/${name}`);
  await disk.syncDirectory(dataDirectory);
  await removeInstallNote(disk, directory);
}
