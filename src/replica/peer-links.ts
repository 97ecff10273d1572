import type { Clock, Timer } from '../io/clock.ts';
import type { Listener, Net, StreamConnection } from '../io/net.ts';
import type { Random } from '../io/random.ts';
import type { GroupRun } from '../log/types.ts';
import type { PeerFrameType } from '../protocol/peer-frame.ts';
import type { AppendRequest, Message, ReplicaId } from '../raft/types.ts';
import type { PeerIdentity } from './formation.ts';
import type { PeerHealth } from './leadership.ts';
import { PeerLink, type PeerLinkEvents } from './peer-link.ts';

/** Time between two dials of a peer that does not answer: short, because a restarted peer is needed for the quorum. */
const REDIAL_MS = 100;
const MAX_REDIAL_MS = 1000;
/** A link whose handshake takes longer is dropped. */
const HANDSHAKE_TIMEOUT_MS = 3000;
/** Links speak at least so often, so that silence means something on links that carry no heartbeats. */
const KEEPALIVE_INTERVAL_MS = 1000;
/** A link that was silent for so long is dead or cut: TCP alone would notice in a quarter of an hour. */
const LINK_SILENCE_MS = 4000;
/** Accepted connections that have not finished their handshake. */
const MAX_HANDSHAKES = 16;

/** What counts towards a majority, or tells how far somebody is. */
const ANSWERS: ReadonlySet<Message['type']> = new Set([
  'preVoteResponse',
  'voteResponse',
  'appendResponse',
  'heartbeatResponse',
  'snapshotResponse',
]);

export interface PeerAddress {
  readonly replicaId: ReplicaId;
  readonly host: string;
  /** Peer port (P + 1). */
  readonly port: number;
}

export interface PeerLinksOptions {
  readonly clusterId: string;
  readonly brokerName: string;
  readonly secret: string;
  readonly host: string;
  readonly port: number;
  /** At first; setPeers() and dialAlso() change it. */
  readonly peers: readonly PeerAddress[];
  readonly clock: Clock;
  readonly random: Random;
  readonly net: Net;
  /** What this replica says of itself when a link opens. */
  identity(): PeerIdentity;
  /** What this replica says of itself with each keep-alive. */
  health?(): PeerHealth;
  /** @returns false: not a member of this group, hang up */
  met(peer: PeerIdentity): boolean;
  /**
   * Raft's words of this peer count, and it may hear Raft's: it is the member that the log names under its id (I5). Asked for each
   * message, since memberships change while links stand. Default: of everybody who was met.
   */
  trusts?(peer: PeerIdentity): boolean;
  /**
   * What this peer orders and asks is heard, and answered, also when it is not trusted: who is behind holds old memberships, in which
   * the leader's id may be another replica's, and only that leader can bring newer ones. Its answers count only when it is trusted.
   */
  hears?(peer: PeerIdentity): boolean;
  /** The link to a peer that was met ended, and no new one took its place. */
  lost?(peer: ReplicaId, reset: boolean): void;
  onEvent(name: string, fields: Record<string, string | number>): void;
}

/** Set by the replica when the group is formed; until then Raft messages of others are dropped. */
export interface PeerHandlers {
  onMessage(message: Message): void;
  /** @returns false when the bytes are damaged: the link is closed */
  onAppend(message: AppendRequest, bytes: Uint8Array): boolean;
  onClock(peer: ReplicaId, wallMs: number): void;
  onHealth?(peer: ReplicaId, health: PeerHealth): void;
  /** A piece of the state at the leader's log start; `head` is a SnapshotSlice. */
  onSnapshotSlice?(peer: ReplicaId, head: Uint8Array, bytes: Uint8Array): void;
  onLost(peer: ReplicaId, reset: boolean): void;
}

/** Questions about the log's bytes and their answers: also before the group is formed, when Raft is silent. */
export interface RepairFrameHandlers {
  /** `head` and `bytes` are valid during the call only. Throws PeerFrameError: the link is closed. */
  onFrame(peer: ReplicaId, type: PeerFrameType, head: Uint8Array, bytes: Uint8Array): void;
  onLost(peer: ReplicaId): void;
}

/**
 * Links to the other replicas: two TCP connections a pair, one for each direction, dialled by the one that receives. Only a
 * socket that dials can read into a buffer of its own (src/io/node/streams.ts); with one connection, the followers of a leader that
 * had dialled them took 64 KB of new memory for each read, and a third of the machine went into collecting it. A new connection of a
 * peer replaces the old one: after a restart the old one may look alive for minutes.
 */
export class PeerLinks {
  readonly #options: PeerLinksOptions;
  /** Who is dialled, by id. */
  readonly #peers: Map<ReplicaId, PeerAddress>;
  /** Dialled: what peers say comes in here. */
  readonly #inbound = new Map<ReplicaId, PeerLink>();
  /** Accepted: what is said to peers goes out here. */
  readonly #outbound = new Map<ReplicaId, PeerLink>();
  /** With those whose handshake is not done. */
  readonly #open = new Set<PeerLink>();
  readonly #redialMs = new Map<ReplicaId, number>();
  /** Dials whose handshake is not done. */
  readonly #dialling = new Map<ReplicaId, PeerLink>();
  /** Peers that wait to be dialled again. */
  readonly #redials = new Map<ReplicaId, Timer>();
  readonly #timers = new Set<Timer>();
  #handshakes = 0;
  #listener: Listener | null = null;
  #stopped = false;
  handlers: PeerHandlers | null = null;
  repair: RepairFrameHandlers | null = null;

  constructor(options: PeerLinksOptions) {
    this.#options = options;
    this.#peers = new Map(options.peers.map((peer) => [peer.replicaId, peer]));
  }

  async start(): Promise<void> {
    const { net, host, port } = this.#options;
    const listener = await net.listenStream(host, port, (connection) => {
      if (this.#stopped || this.#handshakes >= MAX_HANDSHAKES) connection.destroy();
      return this.#link(connection, null).streamHandlers;
    });
    if (this.#stopped) {
      await listener.close();
      return;
    }
    this.#listener = listener;
    for (const peer of this.#peers.values()) this.#dial(peer);
    this.#after(KEEPALIVE_INTERVAL_MS, () => this.#keepAlive());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) this.#options.clock.clearTimer(timer);
    for (const link of [...this.#open]) link.destroy();
    await this.#listener?.close();
  }

  /** The group's other members from now on. Who is no member any more is not dialled again; links that stand go on. */
  setPeers(peers: readonly PeerAddress[]): void {
    const ids = new Set(peers.map(({ replicaId }) => replicaId));
    for (const id of [...this.#peers.keys()]) if (!ids.has(id)) this.#peers.delete(id);
    this.dialAlso(peers);
  }

  /** Those who are to become members, too. Another address is taken at the next dial. */
  dialAlso(peers: readonly PeerAddress[]): void {
    for (const peer of peers) {
      const isNew = !this.#peers.has(peer.replicaId);
      this.#peers.set(peer.replicaId, peer);
      if (isNew && !this.#isLookedFor(peer.replicaId) && this.#listener !== null) this.#dial(peer);
    }
  }

  /** Who answers under this id now, over links both ways; null: nobody. */
  identityOf(peer: ReplicaId): PeerIdentity | null {
    const heard = this.#inbound.get(peer)?.peer ?? null;
    const told = this.#outbound.get(peer)?.peer ?? null;
    return heard !== null && told !== null && heard.incarnation === told.incarnation ? heard : null;
  }

  #trusted(link: PeerLink): boolean {
    return link.peer !== null && (this.#options.trusts?.(link.peer) ?? true);
  }

  #accepts(link: PeerLink, type: Message['type']): boolean {
    return this.#trusted(link) || (link.peer !== null && !ANSWERS.has(type) && (this.#options.hears?.(link.peer) ?? false));
  }

  /** The link to a peer that may hear Raft's words. */
  #trustedOutbound(peer: ReplicaId): PeerLink | undefined {
    const link = this.#outbound.get(peer);
    return link !== undefined && this.#trusted(link) ? link : undefined;
  }

  /** Both ways. */
  connected(peer: ReplicaId): boolean {
    return this.#inbound.has(peer) && this.#outbound.has(peer);
  }

  /** A message to a peer without a link is dropped: Raft repeats what matters. */
  send(message: Message): void {
    const link = this.#outbound.get(message.to);
    if (link === undefined) return;
    const answered = ANSWERS.has(message.type) && link.peer !== null && (this.#options.hears?.(link.peer) ?? false);
    if (answered || this.#trusted(link)) link.sendMessage(message);
  }

  /** Takes over the runs' holds: each is released when the socket has taken its bytes, or the link ends. */
  sendAppend(message: AppendRequest, runs: readonly GroupRun[]): void {
    const link = this.#trustedOutbound(message.to);
    if (link !== undefined) link.sendAppend(message, runs);
    else for (const run of runs) run.hold.release();
  }

  sendSnapshotSlice(to: ReplicaId, head: Uint8Array, bytes: Uint8Array, onFlushed: () => void): boolean {
    const link = this.#trustedOutbound(to);
    link?.sendSnapshotSlice(head, bytes, onFlushed);
    return link !== undefined;
  }

  /** @returns false: no link, or the peer's release does not know these frames */
  sendRepair(to: ReplicaId, type: PeerFrameType, head: Uint8Array, bytes: Uint8Array | null, onFlushed?: () => void): boolean {
    return this.#outbound.get(to)?.sendRepair(type, head, bytes, onFlushed) ?? false;
  }

  /** Those with links both ways who can be asked about their log. */
  repairPeers(): ReplicaId[] {
    return [...this.#outbound].filter(([id, link]) => link.knowsRepair && this.#inbound.has(id)).map(([id]) => id);
  }

  /** The hot tail is full because a peer does not take its bytes: end that link; it catches up from the files. */
  destroySlowest(): void {
    let slowest: PeerLink | null = null;
    for (const link of this.#outbound.values()) if (link.heldBytes > (slowest?.heldBytes ?? 0)) slowest = link;
    slowest?.destroy();
  }

  /** This replica has just learned that the group is formed: peers that had not are told so by a new handshake. */
  reintroduce(): void {
    for (const link of this.#established()) if (!link.peerWasFormed) link.destroy();
  }

  #after(delayMs: number, callback: () => void): Timer {
    const timer = this.#options.clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      if (!this.#stopped) callback();
    });
    this.#timers.add(timer);
    return timer;
  }

  #isLookedFor(peer: ReplicaId): boolean {
    return this.#inbound.has(peer) || this.#dialling.has(peer) || this.#redials.has(peer);
  }

  #dial(peer: PeerAddress): void {
    if (this.#stopped || this.#dialling.has(peer.replicaId)) return;
    const link = this.#link(null, peer);
    this.#dialling.set(peer.replicaId, link);
    link.attach(this.#options.net.dialStream(peer.host, peer.port, link.streamHandlers));
  }

  #link(connection: StreamConnection | null, dialled: PeerAddress | null): PeerLink {
    const { clusterId, brokerName, secret, random, clock, identity } = this.#options;
    const own = identity();
    this.#handshakes++;
    let pending = true;
    const handshakeEnds = (): void => {
      if (!pending) return;
      pending = false;
      this.#handshakes--;
      this.#options.clock.clearTimer(timer);
      this.#timers.delete(timer);
    };
    const events: PeerLinkEvents = {
      ready: (link, peer) => {
        handshakeEnds();
        this.#ready(link, peer, dialled);
      },
      message: (message) => {
        if (this.#accepts(link, message.type)) this.handlers?.onMessage(message);
      },
      append: (message, bytes) => !this.#accepts(link, message.type) || (this.handlers?.onAppend(message, bytes) ?? true),
      clock: (peer, wallMs) => this.handlers?.onClock(peer, wallMs),
      health: (peer, health) => this.handlers?.onHealth?.(peer, health),
      repair: (peer, type, head, bytes) => this.repair?.onFrame(peer, type, head, bytes),
      snapshotSlice: (peer, head, bytes) => {
        if (this.#accepts(link, 'snapshotRequest')) this.handlers?.onSnapshotSlice?.(peer, head, bytes);
      },
      refused: (reason) => this.#options.onEvent('peer link refused', { reason, peer: dialled?.replicaId ?? 0 }),
      closed: (link, reset) => {
        handshakeEnds();
        this.#closed(link, reset, dialled);
      },
    };
    const link = new PeerLink({
      role: dialled === null ? 'acceptor' : 'dialer',
      own: { clusterId, brokerName, ...own },
      secret,
      random,
      clock,
      events,
    });
    const timer = this.#after(HANDSHAKE_TIMEOUT_MS, () => link.destroy());
    this.#open.add(link);
    if (connection !== null) link.attach(connection);
    return link;
  }

  #ready(link: PeerLink, peer: PeerIdentity, dialled: PeerAddress | null): void {
    const expected = dialled === null || dialled.replicaId === peer.replicaId;
    if (!expected || !this.#options.met(peer)) {
      link.destroy();
      return;
    }
    if (dialled !== null) this.#dialling.delete(dialled.replicaId);
    const links = dialled === null ? this.#outbound : this.#inbound;
    const old = links.get(peer.replicaId);
    // What was on its way over the old link is lost, and whoever waits for it is told before anything goes over the new one.
    if (old !== undefined) this.handlers?.onLost(peer.replicaId, false);
    links.set(peer.replicaId, link);
    old?.destroy();
    this.#redialMs.delete(peer.replicaId);
    // A peer that dials is up: what it has to answer should not wait for the end of a pause made while it was down.
    const redial = this.#redials.get(peer.replicaId);
    if (dialled === null && redial !== undefined) this.#redial(peer.replicaId, redial);
  }

  #closed(link: PeerLink, reset: boolean, dialled: PeerAddress | null): void {
    this.#open.delete(link);
    const peer = link.peerId;
    const links = dialled === null ? this.#outbound : this.#inbound;
    if (peer !== 0 && links.get(peer) === link) {
      links.delete(peer);
      this.handlers?.onLost(peer, reset);
      this.repair?.onLost(peer);
      this.#options.lost?.(peer, reset);
    }
    if (dialled === null) return;
    const { replicaId } = dialled;
    if (this.#dialling.get(replicaId) === link) this.#dialling.delete(replicaId);
    // One way to a peer, and one that looks for it: two would take each other's place for ever (simulation seed 244).
    if (this.#stopped || !this.#peers.has(replicaId) || this.#isLookedFor(replicaId)) return;
    const waitMs = this.#redialMs.get(replicaId) ?? REDIAL_MS;
    this.#redialMs.set(replicaId, Math.min(MAX_REDIAL_MS, waitMs * 2));
    const timer = this.#after(waitMs * (0.5 + this.#options.random.unit()), () => this.#redial(replicaId, timer));
    this.#redials.set(replicaId, timer);
  }

  #redial(replicaId: ReplicaId, timer: Timer): void {
    this.#options.clock.clearTimer(timer);
    this.#timers.delete(timer);
    this.#redials.delete(replicaId);
    const peer = this.#peers.get(replicaId);
    if (peer !== undefined) this.#dial(peer);
  }

  #established(): PeerLink[] {
    return [...this.#inbound.values(), ...this.#outbound.values()];
  }

  #keepAlive(): void {
    const nowMs = this.#options.clock.monotonicMs();
    const health = this.#options.health?.() ?? null;
    for (const link of this.#established()) {
      if (nowMs - link.heardAtMs > LINK_SILENCE_MS) link.destroy();
      else link.sendKeepAlive(health);
    }
    this.#after(KEEPALIVE_INTERVAL_MS, () => this.#keepAlive());
  }
}
