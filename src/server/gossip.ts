import type { OwnRoutes } from '../broker/ports.ts';
import type { BrokerConfig } from '../config.ts';
import type { Timer } from '../io/clock.ts';
import type { Disk } from '../io/disk.ts';
import type { Io } from '../io/io.ts';
import type { DatagramSocket } from '../io/net.ts';
import type { RaftStatus } from '../protocol/raft-requests.ts';
import type { RouteResponse } from '../protocol/requests.ts';
import type { GroupMembership } from '../replica/membership.ts';
import type { Evidence } from '../routing/gossip-port.ts';
import { GossipRouting } from '../routing/gossip-routing.ts';
import { MAX_GENERATION } from '../routing/own-record.ts';
import type { GroupReplica, HostPort, TopicRecord } from '../routing/records.ts';
import type { RouteListener } from '../routing/routing.ts';

/** Of the data directory. */
const GENERATION_FILE = 'gossip-generation';
const TEMPORARY = 'gossip-generation.tmp';
const MAX_FILE_BYTES = 64;
/** 2024-01-01: generations of a directory that has none begin with the seconds since then. */
const GENERATION_EPOCH_MS = 1_704_067_200_000;
/** How often what the broker says of itself is brought in line with what it is. */
const STATE_INTERVAL_MS = 500;
/** A replica that knows of so many committed entries that it has not applied is behind. */
const MAX_LAG_ENTRIES = 10_000;

/** The group's members as the log names them. @param index of the membership's entry */
export function gossipedGroup({ voters, learners, members }: GroupMembership, index: number): ReturnType<GossipPorts['group']> {
  const named = (ids: readonly number[]): GroupReplica[] =>
    members.filter((one) => ids.includes(one.replicaId)).map(({ replicaId, host, port }) => ({ replicaId, host, port: port + 1 }));
  return { configVersion: index, voters: named(voters), learners: named(learners) };
}

/** What gossip asks of the rest of the server. */
export interface GossipPorts {
  /** null until the group is formed. */
  raft(): RaftStatus | null;
  /** The group's members as the leader's Raft has them, with peer addresses. */
  group(): { readonly configVersion: number; readonly voters: readonly GroupReplica[]; readonly learners: readonly GroupReplica[] };
  newestFeatureLevel(): number;
  belowReserve(): boolean;
  linked(replicaId: number): boolean;
  event(name: string, fields: Readonly<Record<string, string | number>>): void;
}

/** Gossip of one server: its socket, its boot generation, and what the server's own state says to others. */
export class ServerGossip implements OwnRoutes {
  readonly routing: GossipRouting;
  readonly #config: BrokerConfig;
  readonly #io: Io;
  readonly #ports: GossipPorts;
  #socket: DatagramSocket | null = null;
  #timer: Timer | null = null;

  private constructor(config: BrokerConfig, io: Io, ports: GossipPorts, incarnation: string, generation: number) {
    this.#config = config;
    this.#io = io;
    this.#ports = ports;
    const { clusterId, brokerName, replicaId, advertisedHost, port, peerSecret, leaderPriority } = config;
    this.routing = new GossipRouting({
      clock: io.clock,
      random: io.random,
      clusterId,
      secret: peerSecret,
      generation,
      own: {
        brokerName,
        replicaId,
        incarnation,
        endpoint: `ws://${advertisedHost}:${port}`,
        admin: `http://${advertisedHost}:${port + 2}`,
        address: { host: advertisedHost, port: port + 1 },
        machine: config.machine || advertisedHost,
        perm: 6,
        role: 'none',
        term: 0,
        featureLevel: ports.newestFeatureLevel(),
        belowReserve: false,
        lagging: false,
        priority: leaderPriority,
      },
      onGeneration: (outrun) => this.#keepGeneration(outrun),
      contacts: () => contactsOf(config),
      replicas: config.replicas.map((replica) => ({
        replicaId: replica.replicaId,
        endpoint: `ws://${replica.replicaId === replicaId ? advertisedHost : replica.host}:${replica.port}`,
      })),
      linked: (id) => ports.linked(id),
      onEvent: (name, fields) => ports.event(name, fields),
    });
  }

  /** Binds UDP port P + 1 and begins to speak. Rejects when the port is taken. @param incarnation of the data directory */
  static async start(config: BrokerConfig, io: Io, incarnation: string, ports: GossipPorts): Promise<ServerGossip> {
    const generation = await nextGeneration(io, config.dataDir, ports);
    const gossip = new ServerGossip(config, io, ports, incarnation, generation);
    const socket = await io.net.listenDatagrams(config.host, config.port + 1, (bytes, host, port) =>
      gossip.routing.gossip.receive(bytes, host, port),
    );
    gossip.#socket = socket;
    gossip.routing.start(socket);
    gossip.#watch();
    return gossip;
  }

  /** Says goodbye. */
  async close(): Promise<void> {
    if (this.#timer !== null) this.#io.clock.clearTimer(this.#timer);
    this.#timer = null;
    this.routing.stop();
    await this.#socket?.close();
  }

  /** The link to a replica of the own group ended. */
  linkLost(replicaId: number, evidence: Evidence): void {
    this.routing.suspect({ brokerName: this.#config.brokerName, replicaId }, evidence);
    this.routing.linksChanged();
  }

  // ---- OwnRoutes -------------------------------------------------------------------------------------------------------

  route(topics: readonly string[]): RouteResponse {
    return this.routing.route(topics);
  }

  onChange(listener: RouteListener): () => void {
    return this.routing.onChange(listener);
  }

  publishTopic(record: TopicRecord, logIndex: number): void {
    this.routing.publishTopic(record, logIndex);
  }

  setLeader(term: number, leader: number): void {
    this.routing.setLeader(term, leader);
    this.#tellState();
    if (leader === this.#config.replicaId) this.#tellGroup(term);
  }

  #watch(): void {
    this.#timer = this.#io.clock.setTimer(STATE_INTERVAL_MS, () => {
      const raft = this.#ports.raft();
      this.#tellState();
      if (raft !== null && raft.role === 'leader') this.#tellGroup(raft.term);
      this.#watch();
    });
  }

  #tellState(): void {
    const raft = this.#ports.raft();
    const role = raft === null ? 'none' : raft.role === 'leader' ? 'leader' : 'follower';
    this.routing.publishBroker({
      role,
      term: raft?.term ?? 0,
      belowReserve: this.#ports.belowReserve(),
      lagging: raft !== null && raft.commitIndex - raft.appliedIndex > MAX_LAG_ENTRIES,
      featureLevel: this.#ports.newestFeatureLevel(),
    });
  }

  /** Once a term and once each change of members: the log's index orders them within a term, and says nothing new by itself. */
  #tellGroup(term: number): void {
    const { brokerName, replicaId } = this.#config;
    const { configVersion, voters, learners } = this.#ports.group();
    const known = this.routing.groups().find((group) => group.brokerName === brokerName);
    if (known !== undefined && known.term === term && known.configVersion === configVersion) return;
    const logIndex = this.#ports.raft()?.lastIndex ?? 0;
    this.routing.publishGroup({ brokerName, term, configVersion, logIndex, leader: replicaId, voters, learners });
  }

  /** Another life of this identity was known by a higher generation: the next boot goes on from there. */
  #keepGeneration(generation: number): void {
    this.#ports.event('gossip generation raised', { generation });
    writeGeneration(this.#io.disk, this.#config.dataDir, generation).catch((error: unknown) => {
      this.#ports.event('gossip generation not kept', { error: String(error) });
    });
  }
}

/** Seeds and the other replicas of the group: gossip ports, P + 1. */
function contactsOf({ seeds, replicas, replicaId }: BrokerConfig): readonly HostPort[] {
  const named = seeds
    .split(',')
    .filter((seed) => seed !== '')
    .map((seed) => {
      const colon = seed.lastIndexOf(':');
      return { host: seed.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(seed.slice(colon + 1)) + 1 };
    });
  const own = replicas.filter((replica) => replica.replicaId !== replicaId).map(({ host, port }) => ({ host, port: port + 1 }));
  return [...named, ...own];
}

/** Above every earlier one of this directory, and above those of a lost directory as far as clocks are right. */
async function nextGeneration({ disk, clock }: Io, directory: string, ports: GossipPorts): Promise<number> {
  const kept = await readGeneration(disk, directory);
  const seconds = Math.floor((clock.wallMs() - GENERATION_EPOCH_MS) / 1000);
  const generation = Math.min(MAX_GENERATION - 1, Math.max(1, kept + 1, seconds));
  try {
    await writeGeneration(disk, directory, generation);
  } catch (error) {
    // Others tell a broker that its word is older than what they know, and it goes above that: a full disk must not keep it silent.
    ports.event('gossip generation not kept', { error: String(error) });
  }
  return generation;
}

/** 0 when there is none that can be read: it is soft state, and damage costs one round of refutation. */
async function readGeneration(disk: Disk, directory: string): Promise<number> {
  const path = `${directory}/${GENERATION_FILE}`;
  if (!(await disk.exists(path))) return 0;
  try {
    const file = await disk.open(path, { access: 'read' });
    try {
      const bytes = Buffer.alloc(MAX_FILE_BYTES);
      const text = bytes.toString('latin1', 0, await file.read(bytes, 0)).trim();
      return /^\d{1,10}$/.test(text) ? Number(text) : 0;
    } finally {
      await file.close();
    }
  } catch {
    return 0;
  }
}

async function writeGeneration(disk: Disk, directory: string, generation: number): Promise<void> {
  await disk.remove(`${directory}/${TEMPORARY}`);
  const file = await disk.open(`${directory}/${TEMPORARY}`, { access: 'readwrite', create: true });
  try {
    await file.write(Buffer.from(`${generation}\n`), 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${directory}/${TEMPORARY}`, `${directory}/${GENERATION_FILE}`);
  await disk.syncDirectory(directory);
}
