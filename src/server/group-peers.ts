import { FIRST_FEATURE_LEVEL } from '../broker/feature-level.ts';
import type { BrokerConfig } from '../config.ts';
import type { Io } from '../io/io.ts';
import type { Meta } from '../log/meta.ts';
import { MAX_REPLICAS } from '../raft/quorum.ts';
import { Formation, type PeerIdentity } from '../replica/formation.ts';
import type { PeerHealth } from '../replica/leadership.ts';
import { type GroupMembership, type Member, memberOf } from '../replica/membership.ts';
import { PeerLinks } from '../replica/peer-links.ts';
import { AnnouncedLevels } from './announced-levels.ts';

export interface GroupPeersPorts {
  meta(): Meta;
  /** The newest in the log; null until the replica runs. */
  membership(): GroupMembership | null;
  /** The newest that recovery has found so far; null: none. */
  recoveredMembership(): { readonly index: number; readonly membership: GroupMembership } | null;
  featureLevels(): { readonly featureLevel: number; readonly newestFeatureLevel: number };
  health(): PeerHealth;
  /** The formation is known from now on. */
  formed(): void;
  levelAnnounced(): void;
  lost(peer: number, reset: boolean): void;
  event(name: string, fields: Readonly<Record<string, string | number>>): void;
  /** This replica must not go on. */
  failed(error: Error): void;
}

/** The other replicas of the group: the links to them, who they say they are, and whether that is who the log names (I5). */
export class GroupPeers {
  readonly links: PeerLinks;
  readonly formation: Formation;
  readonly levels = new AnnouncedLevels();
  /** Where those who were met say they are, by id; at most MAX_REPLICAS. */
  readonly #introduced = new Map<number, Omit<Member, 'incarnation'>>();
  readonly #config: BrokerConfig;
  readonly #ports: GroupPeersPorts;

  constructor(config: BrokerConfig, io: Io, ports: GroupPeersPorts) {
    this.#config = config;
    this.#ports = ports;
    const { clusterId, brokerName, replicaId, peerSecret, host, port, replicas } = config;
    this.formation = new Formation(
      this.#identity(),
      replicas.map((replica) => replica.replicaId),
    );
    this.links = new PeerLinks({
      clusterId,
      brokerName,
      secret: peerSecret,
      host,
      port: port + 1,
      peers: peerAddresses(replicas, replicaId),
      clock: io.clock,
      random: io.random,
      net: io.net,
      identity: () => this.#identity(),
      health: () => ports.health(),
      met: (peer) => this.#met(peer),
      trusts: (peer) => this.#trusts(peer),
      hears: (peer) => this.#hears(peer),
      lost: (peer, reset) => {
        ports.lost(peer, reset);
        this.formation.lost(peer);
        this.levels.lost(peer, io.clock.monotonicMs());
      },
      onEvent: ports.event,
    });
  }

  /**
   * By the log, as far as it is read; until then, and for a replica that belongs nowhere yet, as last known and by configuration: the
   * configuration may be that of a group of one to which others were added since.
   */
  members(): readonly Omit<Member, 'incarnation'>[] {
    const members = (this.#ports.membership() ?? this.#foundMembership())?.members ?? [];
    if (members.length > 0) return members;
    const known = this.#ports.meta().others ?? [];
    return [...known, ...this.#config.replicas.filter(({ replicaId }) => !known.some((one) => one.replicaId === replicaId))];
  }

  /** Whose word counts besides this replica's own, as far as it is known here. */
  otherVoters(): number[] {
    const { replicaId, replicas } = this.#config;
    const membership = this.#ports.membership() ?? this.#foundMembership();
    const others = this.#ports.meta().others;
    const voters =
      membership !== null && membership.voters.length > 0
        ? [...new Set([...membership.voters, ...(membership.outgoing ?? [])])]
        : (others ?? replicas).map((one) => one.replicaId);
    return voters.filter((id) => id !== replicaId);
  }

  /** While the log is recovered. Damage hides the entries behind it: what was noted beside the log may be newer, and then counts (seed 2928). */
  #foundMembership(): GroupMembership | null {
    const found = this.#ports.recoveredMembership();
    return found !== null && found.index >= (this.#ports.meta().othersAsOf ?? 0) ? found.membership : null;
  }

  membershipChanged(): void {
    this.links.setPeers(peerAddresses(this.members(), this.#config.replicaId));
    this.#dialIntroduced();
  }

  #identity(): PeerIdentity {
    const { incarnation, formedWith } = this.#ports.meta();
    const { newestFeatureLevel, featureLevel } = this.#ports.featureLevels();
    const epoch = this.#ports.membership()?.epoch ?? 0;
    return {
      replicaId: this.#config.replicaId,
      incarnation,
      formedWith,
      maxFeatureLevel: newestFeatureLevel,
      featureLevel,
      ...(epoch === 0 ? {} : { epoch }),
      ...this.#address(),
    };
  }

  #address(): { host: string; port: number } | undefined {
    const own = this.members().find(({ replicaId }) => replicaId === this.#config.replicaId);
    return own === undefined ? undefined : { host: own.host, port: own.port };
  }

  /**
   * Each side dials what it receives. A replica that was away while another one was added does not find it in its log, and must
   * hear it all the same: it may lead, and be the one to bring that log.
   */
  #dialBack({ replicaId, host, port }: PeerIdentity): void {
    if (host === undefined || port === undefined || replicaId > MAX_REPLICAS) return;
    this.#introduced.set(replicaId, { replicaId, host, port });
    this.#dialIntroduced();
  }

  #dialIntroduced(): void {
    const known = new Set(this.members().map(({ replicaId }) => replicaId));
    const unknown = [...this.#introduced.values()].filter(({ replicaId }) => !known.has(replicaId));
    this.links.dialAlso(peerAddresses(unknown, this.#config.replicaId));
  }

  /** @returns whether the link is kept */
  #met(peer: PeerIdentity): boolean {
    const { featureLevel, newestFeatureLevel } = this.#ports.featureLevels();
    const level = peer.maxFeatureLevel ?? FIRST_FEATURE_LEVEL;
    const groupLevel = peer.featureLevel ?? FIRST_FEATURE_LEVEL;
    if (groupLevel > newestFeatureLevel) {
      this.#ports.failed(
        new Error(`the group is at feature level ${groupLevel}, this release knows ${newestFeatureLevel}: start the newer release`),
      );
      return false;
    }
    if (level < featureLevel) {
      // It could read nothing of what is written since; its own directory may be from before the raise.
      const reason = `its release knows feature level ${level}, the group is at ${featureLevel}`;
      this.#ports.event('peer refused', { peer: peer.replicaId, reason });
      return false;
    }
    const before = this.formation.formedWith;
    const verdict = this.formation.hear(peer);
    if (verdict === 'joining') this.#ports.event('joining', { peer: peer.replicaId, incarnation: this.#ports.meta().incarnation });
    if (this.#isLeftBehindBy(peer)) return false;
    if (!this.#trusts(peer)) {
      const reason = 'its directory is not the one that the group knows under this id';
      this.#ports.event('peer not trusted', { peer: peer.replicaId, reason });
    }
    if (before === null && this.formation.formedWith !== null) this.#ports.formed();
    this.#dialBack(peer);
    this.levels.heard(peer.replicaId, level);
    this.#ports.levelAnnounced();
    return true;
  }

  /** An operator went on without this replica (`raft recover`): what it holds and the others do not is not part of the group any more. */
  #isLeftBehindBy(peer: PeerIdentity): boolean {
    const own = this.#ports.membership();
    if (own === null || own.voters.length === 0 || (peer.epoch ?? 0) <= own.epoch) return false;
    this.#ports.failed(
      new Error(
        `the group went on without this replica ('raft recover', epoch ${peer.epoch}, here ${own.epoch}). Move the data directory away and start again: the replica is taken in as a new one.`,
      ),
    );
    return true;
  }

  /** Whether Raft may be spoken with it: it is who the log names under its id, or the log here does not reach so far. */
  #trusts(peer: PeerIdentity): boolean {
    const own = this.#ports.membership();
    if (own === null || own.voters.length === 0) return own === null || peer.formedWith !== null;
    if ((peer.epoch ?? 0) < own.epoch && peer.formedWith !== null && !this.#isNamed(own, peer)) return false;
    const member = memberOf(own, peer.replicaId);
    return member === undefined ? peer.formedWith !== null : this.#isNamed(own, peer);
  }

  /** Not left behind by an operator's recovery. That it speaks of Raft says that it has heard of the group since its hello. */
  #hears(peer: PeerIdentity): boolean {
    return (peer.epoch ?? 0) >= (this.#ports.membership()?.epoch ?? 0);
  }

  #isNamed(own: GroupMembership, peer: PeerIdentity): boolean {
    const id = peer.replicaId;
    const counts = own.voters.includes(id) || own.learners.includes(id) || (own.outgoing?.includes(id) ?? false);
    return counts && memberOf(own, id)?.incarnation === peer.incarnation;
  }
}

function peerAddresses(
  members: readonly Omit<Member, 'incarnation'>[],
  ownId: number,
): { replicaId: number; host: string; port: number }[] {
  return members.filter(({ replicaId }) => replicaId !== ownId).map(({ replicaId, host, port }) => ({ replicaId, host, port: port + 1 }));
}
