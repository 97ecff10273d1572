import type { Clock } from '../io/clock.ts';
import type { StreamConnection, StreamHandlers } from '../io/net.ts';
import type { Random } from '../io/random.ts';
import type { GroupRun } from '../log/types.ts';
import { PEER_HEADER_BYTES, PeerFrameError, PeerFrameType } from '../protocol/peer-frame.ts';
import { decodeControl, encodeControl, PeerChannel, type PeerHello } from '../protocol/peer-frame-handshake.ts';
import { bool, map, u16 } from '../protocol/schema.ts';
import type { AppendRequest, Message, ReplicaId } from '../raft/types.ts';
import type { PeerHealth } from './leadership.ts';
import { decodeMessage, encodeMessage, isRaftMessage, MAX_MESSAGE_HEAD_BYTES, messageWallMs } from './peer-messages.ts';

/** The receive buffer starts here and grows to what arrives: most groups are small. */
const FIRST_RECEIVE_BYTES = 64 * 1024;

const KEEP_ALIVE = new Uint8Array(0);

const wireHealth = map<PeerHealth>({ belowReserve: bool, priority: u16 });

export interface PeerLinkEvents {
  ready(link: PeerLink, peer: PeerHello): void;
  message(message: Message): void;
  /** `bytes` is valid during the call only. @returns false: the bytes are damaged, the link is closed */
  append(message: AppendRequest, bytes: Uint8Array): boolean;
  /** Every Raft message brings its sender's wall clock (log time's median). */
  clock(peer: ReplicaId, wallMs: number): void;
  /** A keep-alive says how the peer is. */
  health?(peer: ReplicaId, health: PeerHealth): void;
  /** `head` and `bytes` are valid during the call only. */
  snapshotSlice(peer: ReplicaId, head: Uint8Array, bytes: Uint8Array): void;
  /** A question or answer about the log's bytes; the same. */
  repair(peer: ReplicaId, type: PeerFrameType, head: Uint8Array, bytes: Uint8Array): void;
  refused(reason: string): void;
  closed(link: PeerLink, reset: boolean): void;
}

export interface PeerLinkOptions {
  readonly role: 'dialer' | 'acceptor';
  readonly own: PeerHello;
  readonly secret: string;
  readonly random: Random;
  readonly clock: Clock;
  readonly events: PeerLinkEvents;
}

/** One connection to another replica: handshake, Raft messages, groups as they are on disk. */
export class PeerLink {
  readonly #options: PeerLinkOptions;
  readonly #channel: PeerChannel;
  /** Holds on the hot tail for bytes that the socket has not taken yet. */
  readonly #held = new Set<GroupRun>();
  #connection: StreamConnection | null = null;
  #peer: PeerHello | null = null;
  #receiveBuffer = new Uint8Array(0);
  /** Monotonic ms of the last bytes from the peer. */
  heardAtMs: number;
  #ended = false;
  /** This side ended it: says nothing about the peer's health. */
  #destroyed = false;

  constructor(options: PeerLinkOptions) {
    this.#options = options;
    this.heardAtMs = options.clock.monotonicMs();
    const { events } = options;
    this.#channel = new PeerChannel({
      role: options.role,
      own: options.own,
      secret: options.secret,
      random: options.random,
      send: (bytes) => this.#connection?.write(bytes),
      ready: (peer) => {
        this.#peer = peer;
        events.ready(this, peer);
      },
      allocate: (_type, _head, sizeBytes) => {
        if (this.#receiveBuffer.length < sizeBytes) this.#receiveBuffer = new Uint8Array(Math.max(FIRST_RECEIVE_BYTES, sizeBytes));
        return this.#receiveBuffer.subarray(0, sizeBytes);
      },
      frame: (type, head, payload) => this.#onFrame(type, head, payload),
    });
  }

  readonly streamHandlers: StreamHandlers = {
    onOpen: () => this.#channel.open(),
    onData: (_connection, bytes) => this.#onData(bytes),
    onClose: (_connection, reset) => this.#onClose(reset && !this.#destroyed),
  };

  /** 0 until the handshake is done. */
  get peerId(): ReplicaId {
    return this.#peer?.replicaId ?? 0;
  }

  /** What the peer said of itself when the link opened. */
  get peer(): PeerHello | null {
    return this.#peer;
  }

  /** What the peer said of the formation when the link opened. */
  get peerWasFormed(): boolean {
    return this.#peer?.formedWith != null;
  }

  get bufferedBytes(): number {
    return this.#connection?.bufferedBytes ?? 0;
  }

  /** Bytes of the hot tail that are kept for it. */
  get heldBytes(): number {
    let total = 0;
    for (const run of this.#held) total += run.bytes.length;
    return total;
  }

  attach(connection: StreamConnection): void {
    this.#connection = connection;
  }

  sendMessage(message: Message): void {
    this.#writeHead(message, 0);
  }

  sendAppend(message: AppendRequest, runs: readonly GroupRun[]): void {
    let payloadBytes = 0;
    for (const run of runs) payloadBytes += run.bytes.length;
    if (this.#ended || !this.#writeHead(message, payloadBytes)) {
      for (const run of runs) run.hold.release();
      return;
    }
    for (const run of runs) {
      this.#held.add(run);
      (this.#connection as StreamConnection).write(run.bytes, () => this.#release(run));
    }
    if (this.#ended) this.#releaseAll();
  }

  /** @param onFlushed the socket has taken the bytes: time for the next slice. Not called when the link ends. */
  sendSnapshotSlice(head: Uint8Array, bytes: Uint8Array, onFlushed: () => void): void {
    if (this.#ended || this.#connection === null || !this.#channel.ready) return;
    this.#connection.write(this.#channel.writer.encodeFrame(PeerFrameType.snapshotSlice, head, bytes.length));
    this.#connection.write(bytes, onFlushed);
  }

  /** @returns false: the link has ended, or the peer's release does not know these frames */
  sendRepair(type: PeerFrameType, head: Uint8Array, bytes: Uint8Array | null, onFlushed?: () => void): boolean {
    if (this.#ended || this.#destroyed || this.#connection === null || !this.knowsRepair) return false;
    this.#connection.write(this.#channel.writer.encodeFrame(type, head, bytes?.length ?? 0));
    if (bytes !== null && bytes.length > 0) this.#connection.write(bytes, onFlushed);
    else onFlushed?.();
    return true;
  }

  /** A release of feature level 1 ends a link over a frame that it does not know. */
  get knowsRepair(): boolean {
    return (this.#peer?.maxFeatureLevel ?? 1) > 1;
  }

  /** A release of feature level 1 sends none with a health, and passes over it. */
  sendKeepAlive(health: PeerHealth | null): void {
    if (this.#ended || !this.#channel.ready) return;
    const head = health === null ? KEEP_ALIVE : encodeControl(health);
    this.#connection?.write(this.#channel.writer.encodeFrame(PeerFrameType.control, head));
  }

  /** Holds on the hot tail are free when this returns. */
  destroy(): void {
    this.#destroyed = true;
    this.#releaseAll();
    this.#channel.end();
    this.#connection?.destroy();
  }

  #writeHead(message: Message, payloadBytes: number): boolean {
    if (this.#ended || this.#destroyed || this.#connection === null || !this.#channel.ready) return false;
    const frame = new Uint8Array(PEER_HEADER_BYTES + MAX_MESSAGE_HEAD_BYTES);
    const headBytes = encodeMessage(message, this.#options.clock.wallMs(), frame, PEER_HEADER_BYTES);
    this.#channel.writer.encodeFrameHeader(frame, 0, PeerFrameType[message.type], headBytes, payloadBytes);
    this.#connection.write(frame.subarray(0, PEER_HEADER_BYTES + headBytes));
    return true;
  }

  #onData(bytes: Uint8Array): void {
    this.heardAtMs = this.#options.clock.monotonicMs();
    try {
      this.#channel.receive(bytes);
    } catch (error) {
      if (!(error instanceof PeerFrameError)) throw error;
      this.#options.events.refused(error.message);
      this.destroy();
    }
  }

  #onFrame(type: PeerFrameType, head: Uint8Array, payload: Uint8Array): void {
    const { events, own } = this.#options;
    const peer = this.peerId;
    if (type === PeerFrameType.snapshotSlice) {
      events.snapshotSlice(peer, head, payload);
      return;
    }
    if (type === PeerFrameType.repairQuestion || type === PeerFrameType.repairAnswer) {
      events.repair(peer, type, head, payload);
      return;
    }
    if (type === PeerFrameType.control && head.length > 0) events.health?.(peer, decodeControl(head, wireHealth));
    if (!isRaftMessage(type)) return;
    const message = decodeMessage(type, head, peer, own.replicaId);
    events.clock(peer, messageWallMs(head));
    if (message.type === 'appendRequest' && payload.length > 0) {
      if (!events.append(message, payload)) throw new PeerFrameError('badHead', 'damaged write group');
    } else {
      events.message(message);
    }
  }

  #release(run: GroupRun): void {
    if (this.#held.delete(run)) run.hold.release();
  }

  #releaseAll(): void {
    for (const run of [...this.#held]) this.#release(run);
  }

  #onClose(reset: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#releaseAll();
    this.#options.events.closed(this, reset);
  }
}
