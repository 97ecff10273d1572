import { Broker } from './broker/broker.ts';
import { FEATURE_LEVELS, FIRST_FEATURE_LEVEL } from './broker/feature-level.ts';
import type { BrokerLimits } from './broker/limits.ts';
import { type BrokerMetrics, NO_METRICS } from './broker/ports.ts';
import { BrokerStateMachine } from './broker/state-machine.ts';
import type { BrokerConfig } from './config.ts';
import { type AdminHttp, startAdminHttp } from './gateway/admin-http.ts';
import { NativeGateway } from './gateway/native.ts';
import { isOutOfSpace } from './io/disk.ts';
import type { Io } from './io/io.ts';
import { DEFAULT_HOT_TAIL } from './log/hot-tail.ts';
import type { HotTailOptions } from './log/types.ts';
import { createLogger, type Logger } from './metrics/logger.ts';
import type { ErrorCode } from './protocol/errors.ts';
import { ReplicationMode } from './protocol/requests.ts';
import { Raft } from './raft/raft.ts';
import { majorityLossOf, readRecoverNote, recoveredMembership, removeRecoverNote } from './replica/forced-recovery.ts';
import { formedMembership, type GroupMembership, memberOf, membershipsOf, NOBODY } from './replica/membership.ts';
import type { PeerLinks } from './replica/peer-links.ts';
import { type Recovered, recoverReplica } from './replica/recover.ts';
import { RepairService } from './replica/repair-service.ts';
import { Replica } from './replica/replica.ts';
import type { ClusterGossip } from './routing/gossip-port.ts';
import { limitsOf } from './server/broker-limits.ts';
import { brokerSettings } from './server/broker-settings.ts';
import { DataDirectory, isUnreliable } from './server/data-directory.ts';
import { DerivedStores } from './server/derived-files.ts';
import { FormerContents } from './server/former-contents.ts';
import { gossipedGroup, ServerGossip } from './server/gossip.ts';
import { GroupPeers } from './server/group-peers.ts';
import { healthOf, statusOf } from './server/health.ts';
import { type LeaderBalance, startLeaderBalance } from './server/leader-balance.ts';
import { ServerMetrics } from './server/server-metrics.ts';
import type { GossipView, ServerState, ServerView } from './server/server-view.ts';

/** Raft's windows towards one follower are a part of what the hot tail holds, so that a follower in step is served from memory. */
const MAX_APPEND_BYTES = 1024 * 1024;
const NO_SPACE_RETRY_MS = 1_000;

/** One event, one line; never bytes of messages. */
export type ServerEvents = (name: string, fields: Readonly<Record<string, string | number>>) => void;

export interface ServerOptions {
  readonly onEvent?: ServerEvents;
  readonly metrics?: BrokerMetrics;
  readonly limits?: Partial<BrokerLimits>;
  /** Smaller memory for simulations. */
  readonly hotTail?: HotTailOptions;
  /** Bytes kept free for what must go on on a full disk. Default: two segments. */
  readonly reserveBytes?: number;
  /** What this replica reads and announces: lower than its release's own in tests of upgrades. */
  readonly newestFeatureLevel?: number;
}

/**
 * One replica of a broker group, put together: recovery, links, formation, Raft, broker, gateway. Nothing here decides
 * anything about messages; it says what is made of what, and in which order it starts and ends.
 */
export class Server implements ServerView {
  readonly #config: BrokerConfig;
  readonly #io: Io;
  readonly #options: ServerOptions;
  readonly #event: ServerEvents;
  #state: ServerState = 'recovering';
  readonly #directory: DataDirectory;
  #peers: GroupPeers | null = null;
  #derived: DerivedStores | null = null;
  #stateMachine: BrokerStateMachine | null = null;
  #recovered: Recovered | null = null;
  /** The newest membership that recovery has found so far. */
  #formerContents: FormerContents | null = null;
  #recoveredMembership: { readonly index: number; readonly membership: GroupMembership } | null = null;
  #repair: RepairService | null = null;
  #replica: Replica | null = null;
  #broker: Broker | null = null;
  #gossip: ServerGossip | null = null;
  #balance: LeaderBalance | null = null;
  #gateway: NativeGateway | null = null;
  #starting: Promise<void> | null = null;
  #forming: Promise<void> | null = null;
  /** Health, metrics and status; the process sets it. */
  admin: AdminHttp | null = null;
  #end: (error: Error) => void = () => undefined;
  /** Resolves with the reason when the replica ends by itself: a failed store, a lost directory. */
  readonly ended: Promise<Error>;

  constructor(config: BrokerConfig, io: Io, options: ServerOptions = {}) {
    this.#config = config;
    this.#io = io;
    this.#options = options;
    this.#event = options.onEvent ?? (() => undefined);
    this.#directory = new DataDirectory(config, io, this.#event);
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get state(): ServerState {
    return this.#state;
  }
  get replica(): Replica | null {
    return this.#replica;
  }
  get broker(): Broker | null {
    return this.#broker;
  }
  get stateMachine(): BrokerStateMachine | null {
    return this.#stateMachine;
  }
  get gateway(): NativeGateway | null {
    return this.#gateway;
  }
  /** Who else is in the cluster, and what topics there are; null until the log is recovered. */
  get gossip(): ClusterGossip | null {
    return this.#gossip?.routing ?? null;
  }
  get topicConflicts(): number {
    return this.#gossip?.routing.topicConflicts ?? 0;
  }
  get gossipCounters(): GossipView | null {
    return this.#gossip?.routing.gossip ?? null;
  }
  get repair(): RepairService | null {
    return this.#repair;
  }
  get recovered(): Recovered | null {
    return this.#recovered;
  }
  /** Replicas that the formation still waits for. */
  get missing(): readonly number[] {
    return this.#peers?.formation.missing() ?? [];
  }

  /** Recovers and begins to look for the peers. Rejects when the directory is refused or cannot be read; it is left as it was. */
  start(): Promise<void> {
    this.#starting = this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    for (;;) {
      await this.#directory.identify();
      try {
        await this.#recover();
        break;
      } catch (error) {
        if (!isUnreliable(error) || this.#directory.meta.formedWith === null || this.#state !== 'recovering') throw error;
        await this.#beginAnew(error);
      }
      if (this.#state !== 'recovering') return;
    }
    if (this.#state === 'recovering') await this.#meetPeers();
  }

  /**
   * What lies in the directory cannot be relied upon, or mended: it is kept aside, and this replica enters its group as another one
   * under the same id (I5), but only while the group is there without it. Rejects with `cause` when there is nobody else, or when the
   * bound on what is kept is reached.
   */
  async #beginAnew(cause: Error): Promise<void> {
    await this.#linkUp();
    const peers = this.#peers as GroupPeers;
    if (peers.otherVoters().length === 0) throw cause;
    this.#event('directory not relied upon', { reason: cause.message });
    const repair = this.#repair as RepairService;
    const leader = await repair.untilOthersLead();
    if (this.#state !== 'recovering') return;
    await repair.stop();
    await peers.links.stop();
    await this.#derived?.close();
    await this.#directory.setAside(cause.message);
    this.#event('directory set aside', { reason: cause.message, incarnation: this.#directory.meta.incarnation, leader });
    this.#peers = null;
    this.#repair = null;
    this.#recoveredMembership = null;
  }

  async #recover(): Promise<void> {
    const { disk, clock } = this.#io;
    const config = this.#config;
    const derived = await DerivedStores.open(disk, config.dataDir, (what, cause) =>
      this.#event('derived file damaged', { what, cause: cause.message }),
    );
    this.#derived = derived;
    this.#stateMachine = new BrokerStateMachine({
      brokerName: config.brokerName,
      queues: derived,
      ids: derived,
      ...(this.#options.newestFeatureLevel === undefined ? {} : { newestFeatureLevel: this.#options.newestFeatureLevel }),
    });
    const startedMs = clock.monotonicMs();
    const repair = this.#makeRepair();
    this.#recovered = await recoverReplica({
      disk,
      clock,
      directory: config.dataDir,
      clusterId: config.clusterId,
      segmentBytes: config.segmentBytes,
      hotTail: this.#hotTail(),
      flush: config.flush,
      asyncFlushMs: config.asyncFlushMs,
      forced: (await readRecoverNote(disk, config.dataDir)) !== null,
      ...(this.#options.reserveBytes === undefined ? {} : { reserveBytes: this.#options.reserveBytes }),
      stateMachine: this.#stateMachine,
      derived,
      repair,
      onMembership: (index, membership) => {
        this.#recoveredMembership = { index, membership };
        this.#peers?.membershipChanged();
      },
      logHandlers: {
        onDurable: (lastIndex, term) => this.#replica?.onDurable(lastIndex, term),
        onPoisoned: (error) => this.#failed(error),
        onPinned: () => this.#peers?.links.destroySlowest(),
        onTruncating: (endPosition) => this.#replica?.onTruncating(endPosition) ?? Promise.resolve(),
      },
    });
    if (this.#state !== 'recovering') return;
    const { log, applied } = this.#recovered;
    this.#event('recovered', {
      lastIndex: log.lastIndex,
      appliedIndex: applied.index,
      verifiedBytes: log.recovery.verifiedBytes,
      tornBytes: log.recovery.tornBytes,
      voteFloor: log.recovery.voteFloor,
      recoveryMs: Math.round(clock.monotonicMs() - startedMs),
    });
  }

  /** Orderly end: no new work, leadership to the best follower, pending answers. Bounded by drainTimeoutMs. */
  async drain(): Promise<void> {
    if (this.#state !== 'running') return;
    this.#state = 'draining';
    this.#event('draining', {});
    const replica = this.#replica as Replica;
    if (replica.role().role === 'leader' && replica.membership().voters.length > 1) {
      await replica.transfer(0).catch((error: unknown) => this.#event('leadership not handed over', { error: String(error) }));
    }
    await (this.#gateway as NativeGateway).drain(this.#config.drainTimeoutMs);
  }

  async stop(): Promise<void> {
    if (this.#state === 'stopped') return;
    const failed = this.#state === 'failed';
    this.#state = 'stopped';
    // A start that is under way ends at its next step; what it has opened until then is closed below. One that waits for peers ends now.
    if (this.#replica === null) await this.#repair?.stop();
    await this.#starting?.catch(() => undefined);
    await this.#forming?.catch(() => undefined);
    this.#balance?.stop();
    await this.#formerContents?.stop();
    await this.#gossip?.close();
    await this.#gateway?.close();
    this.#broker?.close();
    await this.#repair?.stop();
    await this.#peers?.links.stop();
    await this.#directory.settled();
    if (this.#replica !== null) await this.#replica.stop();
    else await this.#recovered?.log.close();
    if (!failed) await this.#flushDerived();
    await this.#derived?.close();
    await this.#recovered?.hardState.close();
    await this.admin?.close();
    this.#event('stopped', {});
  }

  async #flushDerived(): Promise<void> {
    try {
      await this.#derived?.flush(this.#recovered?.log.syncedPosition ?? 0);
    } catch (error) {
      // The next start makes them anew from the log.
      if (!isOutOfSpace(error)) throw error;
      this.#event('no space for derived files', { error: String(error) });
    }
  }

  // ---- start ---------------------------------------------------------------------------------------------------------------

  #hotTail(): HotTailOptions {
    if (this.#options.hotTail !== undefined) return this.#options.hotTail;
    const { chunkBytes } = DEFAULT_HOT_TAIL;
    return { chunkBytes, maxChunks: Math.max(4, Math.floor(this.#config.hotTailBytes / chunkBytes)) };
  }

  #makeRepair(): RepairService {
    const { catchUpBytesPerSecond, scrubBytesPerSecond } = this.#config;
    this.#repair = new RepairService({
      clock: this.#io.clock,
      others: () => this.#peers?.otherVoters() ?? [],
      bytesPerSecond: catchUpBytesPerSecond,
      scrubBytesPerSecond,
      linkUp: () => this.#linkUp(),
      onEvent: this.#event,
      failed: (error) => this.#failed(error),
    });
    return this.#repair;
  }

  async #meetPeers(): Promise<void> {
    this.#state = 'forming';
    this.#gossip = await this.#startGossip();
    if (this.#state !== 'forming') return;
    await this.#linkUp();
    const { formation } = this.#peers as GroupPeers;
    if (this.#state === 'forming' && formation.formedWith !== null && this.#forming === null) await this.#form();
  }

  /** Also before the log is recovered, when it has to be repaired: peers answer for their logs then, and Raft is silent. */
  async #linkUp(): Promise<PeerLinks> {
    if (this.#peers !== null) return this.#peers.links;
    const state = this.#stateMachine as BrokerStateMachine;
    const peers = new GroupPeers(this.#config, this.#io, {
      meta: () => this.#directory.meta,
      membership: () => this.#replica?.membership() ?? null,
      recoveredMembership: () => this.#recoveredMembership,
      featureLevels: () => state,
      health: () => ({ belowReserve: this.#recovered?.log.diskFull ?? false, priority: this.#config.leaderPriority }),
      formed: () => {
        if (this.#state === 'forming') this.#form().catch((error: unknown) => this.#failed(error));
      },
      levelAnnounced: () => this.#broker?.featureLevelAnnounced(),
      lost: (peer, reset) => this.#gossip?.linkLost(peer, reset ? 'reset' : 'silent'),
      event: this.#event,
      failed: (error) => this.#failed(error),
    });
    this.#peers = peers;
    this.#repair?.link(peers.links);
    await peers.links.start();
    peers.membershipChanged();
    return peers.links;
  }

  #startGossip(): Promise<ServerGossip> {
    return ServerGossip.start(this.#config, this.#io, this.#directory.meta.incarnation, {
      raft: () => this.#replica?.status() ?? null,
      group: () => gossipedGroup(this.#replica?.membership() ?? NOBODY, this.#replica?.membershipIndex ?? 0),
      newestFeatureLevel: () => this.#stateMachine?.newestFeatureLevel ?? FIRST_FEATURE_LEVEL,
      belowReserve: () => this.#recovered?.log.diskFull ?? false,
      linked: (replicaId) => this.#peers?.links.connected(replicaId) ?? false,
      event: this.#event,
    });
  }

  #form(): Promise<void> {
    this.#forming = this.#formed();
    return this.#forming;
  }

  /** The formation is written down before anything is said that depends on it. */
  async #formed(): Promise<void> {
    if (this.#state !== 'forming') return;
    const { disk, clock, random } = this.#io;
    const config = this.#config;
    const peers = this.#peers as GroupPeers;
    const formedWith = peers.formation.formedWith as Readonly<Record<string, string>>;
    const isNew = this.#directory.meta.formedWith === null;
    if (isNew) await this.#withSpace(() => this.#directory.formed(formedWith));
    if (this.#state !== 'forming') return;
    const recovered = this.#recovered as Recovered;
    const { log, hardState, groupIndex, applied, snapshots } = recovered;
    const formed = formedMembership(config, this.#directory.meta.incarnation, formedWith);
    const memberships = membershipsOf(recovered, formed);
    if (memberships.membershipIndex === 0 && formed.members.length < formed.voters.length) {
      throw new Error(
        `the group was formed by replicas ${formed.voters.join(', ')}, configured are ${config.replicas.map(({ replicaId }) => replicaId).join(', ')}: a group does not change by its configuration`,
      );
    }
    const forced = await this.#forcedMembership(recovered, memberships);
    if (this.#state !== 'forming') return;
    const stateMachine = this.#stateMachine as BrokerStateMachine;
    const derived = this.#derived as DerivedStores;
    const { links } = peers;
    const stored = hardState.load();
    const windowBytes = Math.min(config.peerWindowBytes, (this.#hotTail().chunkBytes * this.#hotTail().maxChunks) / 4);
    const raft = new Raft(
      {
        id: config.replicaId,
        ...(forced ?? memberships),
        isSelf: (membership) => memberOf(membership as GroupMembership, config.replicaId)?.incarnation === this.#directory.meta.incarnation,
        electionTimeoutMs: config.electionTimeoutMs,
        heartbeatIntervalMs: config.heartbeatIntervalMs,
        maxInflightMessages: config.peerWindowGroups,
        maxInflightBytes: windowBytes,
        maxAppendBytes: MAX_APPEND_BYTES,
        maxUncommittedBytes: Math.min(config.maxUncommittedBytes, windowBytes * 2),
        random: () => random.unit(),
      },
      { term: stored?.term ?? 0, votedFor: stored?.votedFor ?? 0 },
      groupIndex,
      applied.index,
    );
    const replica = new Replica({
      id: config.replicaId,
      brokerName: config.brokerName,
      clock,
      disk,
      directory: config.dataDir,
      raft,
      log,
      hardState,
      links,
      stateMachine,
      derived,
      snapshots,
      snapshotIntervalBytes: config.snapshotIntervalBytes,
      leaderPriority: config.leaderPriority,
      electionTimeoutMs: config.electionTimeoutMs,
      tickMs: Math.max(5, Math.floor(config.heartbeatIntervalMs / 4)),
      catchUpBytesPerSecond: config.catchUpBytesPerSecond,
      segmentBytes: config.segmentBytes,
      applied,
      damagedRead: (position) => this.#repair?.reportDamage(position),
      damages: () => this.#repair?.damages() ?? [],
      forced: forced !== null,
      onForced: () => removeRecoverNote(disk, config.dataDir),
      ...majorityLossOf(config, disk, (error) => this.#failed(error)),
      mayChangeMembership: () => stateMachine.featureLevel >= FEATURE_LEVELS.cluster,
      onMembership: () => {
        peers.membershipChanged();
        this.#directory.noteOthers(replica.membership(), replica.membershipIndex);
      },
      onEvent: this.#event,
      onFailed: (error) => this.#failed(error),
    });
    this.#replica = replica;
    this.#broker = this.#makeBroker(replica, stateMachine, derived);
    this.#gateway = await NativeGateway.listen({
      clock,
      net: this.#io.net,
      handler: this.#broker,
      host: config.host,
      port: config.port,
      limits: {
        maxConnections: config.maxConnections,
        maxConnectionRequests: config.maxConnectionRequests,
        sendWindowBytes: config.sendWindowBytes,
        maxConnectionBufferBytes: config.maxConnectionBufferBytes,
      },
      onRefused: (code: ErrorCode, address: string, detail: string) => this.#event('client refused', { code, address, detail }),
    });
    if (this.#state !== 'forming') return;
    this.#state = 'running';
    peers.membershipChanged();
    this.#directory.noteOthers(replica.membership(), replica.membershipIndex);
    this.#event('formed', { replicas: Object.keys(formedWith).length, first: Number(isNew) });
    replica.start();
    this.#balance = startLeaderBalance(config, this.#io, replica, () => this.gossip?.members() ?? []);
    this.#repair?.run({ log, snapshots, commitIndex: () => replica.commitIndex(), confirmLeads: (done) => replica.readBarrier(done) });
    this.#repair?.watchFloor(
      () => replica.voteFloor,
      () => replica.liftVoteFloor(),
    );
    if (isNew) links.reintroduce();
    this.#formerContents = new FormerContents({
      clock: this.#io.clock,
      disk,
      dataDirectory: config.dataDir,
      isShort: () => log.diskFull,
      isLed: () => replica.role().leader !== 0,
      onEvent: this.#event,
      failed: (error) => this.#failed(error),
    });
    this.#formerContents.start();
  }

  /** `raft recover`: what an operator decided while this replica was down. Null: nothing. */
  async #forcedMembership(recovered: Recovered, known: ReturnType<typeof membershipsOf>): Promise<ReturnType<typeof membershipsOf> | null> {
    const { disk } = this.#io;
    const { dataDir, replicaId, advertisedHost, port } = this.#config;
    const note = await readRecoverNote(disk, dataDir);
    if (note === null) return null;
    const { incarnation } = this.#directory.meta;
    const before = (known.laterMemberships?.at(-1)?.membership ?? known.membership) as GroupMembership;
    const membership = recoveredMembership(before, { replicaId, incarnation, host: advertisedHost, port });
    this.#event('membership forced', {
      reason: note.reason,
      epoch: membership.epoch,
      leftBehind: membership.replacing.join(','),
    });
    return { membership, membershipIndex: recovered.log.lastIndex, laterMemberships: [] };
  }

  /** A full disk delays what must be written down; it does not end the replica (FAULTS 3). */
  async #withSpace<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isOutOfSpace(error) || this.#state !== 'forming') throw error;
        this.#event('no space to form the group', { error: String(error) });
        await new Promise<void>((resolve) => void this.#io.clock.setTimer(NO_SPACE_RETRY_MS, resolve));
      }
    }
  }

  #makeBroker(replica: Replica, state: BrokerStateMachine, derived: DerivedStores): Broker {
    const config = this.#config;
    return new Broker({
      clusterId: config.clusterId,
      brokerName: config.brokerName,
      clock: this.#io.clock,
      replica,
      state,
      ids: derived,
      routes: this.#gossip as ServerGossip,
      clusterTopics: (this.#gossip as ServerGossip).routing,
      defaultReplication: ReplicationMode[config.replication],
      hooks: {
        raftStatus: () => ({
          ...replica.status(),
          ...replica.health(),
          machine: config.machine || config.advertisedHost,
          featureLevel: state.featureLevel,
          newestFeatureLevel: state.newestFeatureLevel,
        }),
        transfer: (target) => replica.transfer(target),
        addReplica: (member) => replica.addReplica(member),
        removeReplica: (replicaId) => replica.removeReplica(replicaId),
        verifyChain: (request) => replica.verifyChain(request),
      },
      limits: { ...limitsOf(config), ...this.#options.limits },
      metrics: this.#options.metrics ?? NO_METRICS,
      featureLevel: {
        announcedLevel: () =>
          (this.#peers as GroupPeers).levels.common(
            state.newestFeatureLevel,
            replica.status().peers.map((member) => member.replicaId),
            this.#io.clock.monotonicMs(),
          ),
        autoRaise: config.featureLevelAutoRaise === 'on',
      },
      ...brokerSettings(config, this.#io.disk),
    });
  }

  #failed(error: unknown): void {
    if (this.#state === 'failed' || this.#state === 'stopped') return;
    this.#state = 'failed';
    const cause = error instanceof Error ? error : new Error(String(error));
    this.#event('failed', { error: cause.stack ?? cause.message });
    this.#replica?.fail(cause);
    this.#end(cause);
  }
}

/** What a process adds to a replica: its log, its metrics page, its health. */
export interface ProcessOptions extends ServerOptions {
  /** Default: JSON lines on standard output at the configured level. */
  readonly logger?: Logger;
  /** Default: on port P + 2. */
  readonly adminHttp?: boolean;
}

/**
 * Starts one replica as a process of its own. Resolves when the log is recovered and the peers are looked for; rejects when
 * it must not start, with its data directory untouched.
 */
export async function startServer(config: BrokerConfig, io: Io, options: ProcessOptions = {}): Promise<Server> {
  const logger =
    options.logger ??
    createLogger({ level: config.logLevel, fields: { broker: config.brokerName, replica: config.replicaId }, clock: io.clock });
  const startedMs = io.clock.monotonicMs();
  const onEvent: ServerEvents = (name, fields) => {
    logger[levelOf(name)](fields, name);
    metrics.event(name, fields);
    options.onEvent?.(name, fields);
  };
  const metrics = new ServerMetrics(config, io, onEvent);
  const server = new Server(config, io, { metrics: metrics.broker, ...options, onEvent });
  metrics.watch(server);
  if (options.adminHttp ?? true) {
    server.admin = await startAdminHttp(config.host, config.port + 2, {
      health: healthOf(server),
      metricsContentType: metrics.contentType,
      metrics: () => metrics.scrape(),
      status: () => statusOf(server, config, Math.round(io.clock.monotonicMs() - startedMs)),
    });
  }
  try {
    await server.start();
  } catch (error) {
    logger.fatal({ error: String(error) }, 'start refused');
    await server.stop();
    throw error;
  }
  return server;
}

function levelOf(event: string): 'info' | 'warn' | 'error' {
  if (event === 'failed') return 'error';
  return /refused|damaged|stuck|not handed over|failed/.test(event) ? 'warn' : 'info';
}
