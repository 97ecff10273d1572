import { AssertionError } from '../base/assert.ts';
import type { Clock } from '../io/clock.ts';
import type { ErrorCode } from '../protocol/errors.ts';
import type { HelloRequest, MessageGetRequest, QuotaUse, RouteResponse } from '../protocol/requests.ts';
import { Op, PushKind } from '../protocol/requests.ts';
import type { ReplicaApi, ReplicaRole } from '../replica/types.ts';
import type { TopicRecord } from '../routing/records.ts';
import type { RouteChange } from '../routing/routing.ts';
import { Admin, refuseWith } from './admin.ts';
import { Carrying } from './carrying.ts';
import type { BrokerContext } from './context.ts';
import { Leadership } from './context.ts';
import { Deadlines } from './deadlines.ts';
import { DelayAdmin } from './delay-admin.ts';
import { type FeatureLevelPorts, FeatureLevelRaiser } from './feature-level-raiser.ts';
import { GroupSessions } from './group-sessions.ts';
import type { BrokerLimits } from './limits.ts';
import { MessageGet } from './message-get.ts';
import { MessageQuery } from './message-query.ts';
import { OffsetCommits } from './offset-commits.ts';
import { PendingCommands } from './pending-commands.ts';
import { Pops } from './pop/pops.ts';
import type { AdminHooks, ApplyListener, BrokerMetrics, MessageIdIndex, OwnRoutes } from './ports.ts';
import { maxCodec, Produce } from './produce.ts';
import { Pulls } from './pulls.ts';
import { QuotaAdmin } from './quota-admin.ts';
import { QuotaMeters } from './quota-meters.ts';
import { type DiskWatermark, Retention } from './retention.ts';
import { RetentionAdmin } from './retention-admin.ts';
import { SendBacks } from './send-backs.ts';
import type { BrokerHello, Request, RequestHandler, Session } from './session.ts';
import { type SettingName, settingLevel } from './settings.ts';
import type { BrokerStateMachine } from './state-machine.ts';
import { StoredEntries } from './stored-entries.ts';
import { TimerDelivery } from './timer-delivery.ts';
import { type ClusterTopics, TopicReconciler } from './topic-reconciler.ts';
import { queueKey, recordOf, topicIdOf } from './topics.ts';
import { TransactionRequests } from './transaction-requests.ts';

export interface BrokerOptions {
  readonly clusterId: string;
  readonly brokerName: string;
  readonly clock: Clock;
  /** Its state machine must be `state`. */
  readonly replica: ReplicaApi;
  readonly state: BrokerStateMachine;
  readonly ids: MessageIdIndex;
  readonly routes: OwnRoutes;
  readonly hooks: AdminHooks;
  readonly limits: BrokerLimits;
  readonly metrics: BrokerMetrics;
  /** Settings of the group as this replica's configuration has them: a new leader brings the log's in line. */
  /** Minimum replication of topics that name none (ReplicationMode; default quorum). */
  readonly defaultReplication?: number;
  readonly settings?: Partial<Record<SettingName, number>>;
  /** Default: the disk's use cuts nothing. */
  readonly diskWatermark?: DiskWatermark;
  /** Delay of each level, ms. Default: as the log has it, RocketMQ's at first. */
  readonly delayLevelsMs?: readonly number[];
  /** Default: the feature level stays as it is. */
  readonly featureLevel?: FeatureLevelPorts;
  /** What other groups have applied of topics. Default: there are none. */
  readonly clusterTopics?: ClusterTopics;
}

export interface BrokerGauges {
  /** Waiting now. */
  readonly pendingSends: number;
  readonly pendingCommands: number;
  readonly waiters: number;
  readonly sessions: number;
  /** Timers in the leader's memory, and its bytes. */
  readonly nearTimers: number;
  readonly nearTimerBytes: number;
  /** Log time at which the first of what waits in levels and timers is due, as far as this leader has looked; −1: nothing is known to wait. */
  readonly nextDueMs: number;
  /** Bytes of log that retention would remove and may not. */
  readonly heldBytes: number;
  /** Bytes of entries that were copied to the log's head, since the process started. */
  readonly carriedBytes: number;
  /** Pulls answered since the start: from the hot tail, from segment files. */
  readonly hotAnswers: number;
  readonly coldAnswers: number;
}

/**
 * What serves requests from the replicated state: the leader's memory (I7) and nothing that outlives the process.
 * Made once recovery has restored the state machine and the replica exists, before it starts: from then on the state machine
 * tells it what was applied.
 */
export class Broker implements RequestHandler, ApplyListener {
  readonly #options: BrokerOptions;
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #produce: Produce;
  readonly #pulls: Pulls;
  readonly #pops: Pops;
  readonly #commits: OffsetCommits;
  readonly #groups: GroupSessions;
  readonly #carrying: Carrying;
  readonly #retention: Retention;
  readonly #timers: TimerDelivery;
  readonly #delays: DelayAdmin;
  readonly #featureLevel: FeatureLevelRaiser;
  readonly #reconciler: TopicReconciler | null;
  readonly #admin: Admin;
  readonly #quotas: QuotaAdmin;
  readonly #retentions: RetentionAdmin;
  readonly #messages: MessageGet;
  readonly #transactions: TransactionRequests;
  readonly #searches: MessageQuery;
  readonly #sendBacks: SendBacks;
  /** Sessions that asked for a route, and the topics they asked for. */
  readonly #routed = new Map<Session, Set<string>>();
  readonly #toldTopics = new Map<string, TopicRecord>();
  readonly #endRouteListener: () => void;
  #becameReady = false;
  /** Feature level whose settings this leadership has proposed; 0 = none. */
  #settingsLevel = 0;

  constructor(options: BrokerOptions) {
    const { clock, replica, state, limits, metrics } = options;
    this.#options = options;
    const quotas = new QuotaMeters(clock, state.quotas, state.topics);
    this.#context = { clock, replica, state, limits, metrics, deadlines: new Deadlines(clock), leadership: new Leadership(), quotas };
    this.#commands = new PendingCommands(this.#context);
    this.#produce = new Produce(this.#context);
    this.#pulls = new Pulls(this.#context);
    this.#pops = new Pops(this.#context, this.#commands, this.#pulls.reader);
    this.#commits = new OffsetCommits(this.#context, this.#commands);
    this.#groups = new GroupSessions(this.#context, this.#commands);
    this.#carrying = new Carrying(this.#context, this.#commands, this.#pulls.reader);
    this.#retention = new Retention(this.#context, this.#commands, this.#carrying, options.diskWatermark ?? null);
    this.#timers = new TimerDelivery(this.#context, this.#commands, this.#pulls.reader, options.delayLevelsMs ?? null);
    this.#featureLevel = new FeatureLevelRaiser(
      this.#context,
      this.#commands,
      options.featureLevel ?? { announcedLevel: () => 0, autoRaise: false },
    );
    this.#reconciler =
      options.clusterTopics === undefined
        ? null
        : new TopicReconciler(this.#context, this.#commands, options.clusterTopics, options.brokerName);
    this.#admin = new Admin(this.#context, this.#commands, options);
    this.#quotas = new QuotaAdmin(this.#context, this.#commands);
    this.#retentions = new RetentionAdmin(this.#context, this.#commands);
    const entries = new StoredEntries(this.#context, this.#pulls.reader, options.ids);
    this.#delays = new DelayAdmin(this.#context, this.#commands, entries, options.ids, this.#timers);
    this.#messages = new MessageGet(this.#context, this.#pulls.reader, entries, options.ids, this.#delays);
    this.#searches = new MessageQuery(this.#context, this.#pulls.reader, entries, options.ids);
    this.#sendBacks = new SendBacks(this.#context, this.#commands, this.#pulls.reader, this.#admin);
    this.#transactions = new TransactionRequests(this.#context, this.#commands, this.#pulls.reader);
    this.#endRouteListener = options.routes.onChange((change) => this.#pushRoutes(change));
    state.listen(this, (role) => this.#roleChanged(role));
    this.onRestored();
    this.#roleChanged(replica.role());
  }

  /** Gauges for whoever scrapes. */
  get gauges(): BrokerGauges {
    const { reader } = this.#pulls;
    return {
      hotAnswers: reader.hotAnswers,
      coldAnswers: reader.coldAnswers,
      pendingSends: this.#produce.pendingCount,
      nearTimers: this.#timers.near.timers,
      nearTimerBytes: this.#timers.near.bytes,
      nextDueMs: this.#timers.nextDueMs,
      heldBytes: this.#retention.heldBytes,
      carriedBytes: this.#carrying.carriedBytes,
      pendingCommands: this.#commands.size,
      waiters: this.#pulls.waiters.size,
      sessions: this.#routed.size,
    };
  }

  /** Sessions of group members that are connected here. */
  connectedMembers(): Iterable<{ readonly group: string; readonly session: Session }> {
    return this.#groups.connected();
  }

  /** Quotas and what is used of them here. */
  quotaUse(): readonly QuotaUse[] {
    return this.#context.quotas.use();
  }

  /** Leads, and has applied everything that earlier leaders acknowledged. */
  get ready(): boolean {
    return this.#context.leadership.ready;
  }

  /** What a member of the group can read became known. */
  featureLevelAnnounced(): void {
    this.#featureLevel.check();
  }

  /** Ends all timers. Sessions are the gateway's to close. */
  close(): void {
    this.#endRouteListener();
    this.#reconciler?.close();
    this.#context.deadlines.clear();
  }

  // ---- requests --------------------------------------------------------------------------------------------------------

  opened(session: Session, hello: HelloRequest): BrokerHello | ErrorCode {
    // A client that believes itself in a namespace must not find itself in everybody's topics.
    if (hello.namespace !== '') return 'BAD_REQUEST';
    if (!this.#context.quotas.opened(session)) return 'QUOTA_EXCEEDED';
    const { clusterId, brokerName, replica, limits, state } = this.#options;
    const { maxBatchBytes } = limits;
    return { clusterId, brokerName, replicaId: replica.id, maxBatchBytes, maxCodec: maxCodec(state.featureLevel) };
  }

  request(session: Session, request: Request): void {
    try {
      this.#dispatch(session, request);
    } catch (error) {
      // A broken invariant ends the process; anything else is one request's trouble.
      if (error instanceof AssertionError) throw error;
      const { op, requestId } = request;
      this.#context.metrics.event('request failed', { op, requestId, client: session.clientId, error: String(error) });
      session.refuse(request.requestId, 'INTERNAL');
    }
  }

  #dispatch(session: Session, request: Request): void {
    const { requestId } = request;
    switch (request.op) {
      case Op.send:
        this.#produce.send(session, requestId, request.body, request.raw);
        break;
      case Op.pull:
        this.#pulls.pull(session, requestId, request.body);
        break;
      case Op.ping:
        session.respond(Op.ping, requestId, {});
        break;
      case Op.route:
        this.#route(session, requestId, request.body.topics);
        break;
      case Op.offsetCommit:
        this.#commits.commit(session, requestId, request.body);
        break;
      case Op.offsetFetch:
        this.#commits.fetch(session, requestId, request.body);
        break;
      default:
        this.#dispatchGroups(session, request);
    }
  }

  #dispatchGroups(session: Session, request: Request): void {
    const { requestId } = request;
    switch (request.op) {
      case Op.groupJoin:
        this.#groups.join(session, requestId, request.body);
        break;
      case Op.groupHeartbeat:
        this.#groups.heartbeat(session, requestId, request.body);
        break;
      case Op.groupRelease:
        this.#groups.release(session, requestId, request.body);
        break;
      case Op.groupLeave:
        this.#groups.leave(session, requestId, request.body);
        break;
      case Op.sendBack:
        this.#sendBacks.sendBack(session, requestId, request.body);
        break;
      case Op.deadLetterMark:
        this.#sendBacks.mark(session, requestId, request.body);
        break;
      case Op.deadLetterMarks:
        this.#sendBacks.marks(session, requestId, request.body);
        break;
      case Op.pop:
        this.#pops.pop(session, requestId, request.body);
        break;
      case Op.popAck:
        this.#pops.ack(session, requestId, request.body);
        break;
      case Op.popChange:
        this.#pops.change(session, requestId, request.body);
        break;
      default:
        this.#dispatchAdmin(session, request);
    }
  }

  #dispatchAdmin(session: Session, request: Request): void {
    const { requestId } = request;
    switch (request.op) {
      case Op.topicCreate:
        this.#admin.topicCreate(session, requestId, request.body);
        break;
      case Op.topicUpdate:
        this.#admin.topicUpdate(session, requestId, request.body);
        break;
      case Op.topicDelete:
        this.#admin.topicDelete(session, requestId, request.body.topic);
        break;
      case Op.topicList:
        this.#admin.topicList(session, requestId, request.body);
        break;
      case Op.topicPut:
        this.#admin.topicPut(session, requestId, request.body);
        break;
      case Op.groupList:
        this.#admin.groupList(session, requestId);
        break;
      case Op.groupDescribe:
        this.#admin.groupDescribe(session, requestId, request.body.group);
        break;
      case Op.groupLag:
        this.#admin.groupLag(session, requestId, request.body);
        break;
      case Op.groupResetOffset:
        this.#admin.groupResetOffset(session, requestId, request.body);
        break;
      case Op.queueRange:
        this.#admin.queueRange(session, requestId, request.body);
        break;
      case Op.messageGet:
        this.#messageGet(session, requestId, request.body);
        break;
      case Op.delayCancel:
        this.#admin.read(session, requestId, () => {
          this.#delays.cancel(request.body).then(
            () => session.respond(Op.delayCancel, requestId, {}),
            (error: unknown) => refuseWith(session, requestId, error),
          );
        });
        break;
      case Op.delayList:
        this.#admin.read(session, requestId, () => {
          this.#delays.list(request.body).then(
            (response) => session.respond(Op.delayList, requestId, response),
            (error: unknown) => refuseWith(session, requestId, error),
          );
        });
        break;
      case Op.quotaSet:
        this.#quotas.set(session, requestId, request.body);
        break;
      case Op.quotaRemove:
        this.#quotas.remove(session, requestId, request.body);
        break;
      case Op.quotaList:
        this.#admin.read(session, requestId, () => this.#quotas.list(session, requestId));
        break;
      case Op.retentionSet:
        this.#retentions.set(session, requestId, request.body);
        break;
      case Op.retentionRemove:
        this.#retentions.remove(session, requestId, request.body);
        break;
      case Op.retentionList:
        this.#admin.read(session, requestId, () => this.#retentions.list(session, requestId));
        break;
      case Op.messageQuery:
        this.#admin.read(session, requestId, () => this.#searches.query(session, requestId, request.body));
        break;
      case Op.clusterStatus:
        this.#admin.clusterStatus(session, requestId);
        break;
      case Op.raftStatus:
        this.#admin.raftStatus(session, requestId);
        break;
      case Op.raftTransfer:
        this.#admin.raftTransfer(session, requestId, request.body);
        break;
      case Op.raftAdd:
        this.#admin.raftAdd(session, requestId, request.body);
        break;
      case Op.raftRemove:
        this.#admin.raftRemove(session, requestId, request.body);
        break;
      case Op.groupMark:
        this.#admin.groupMark(session, requestId, request.body);
        break;
      case Op.verifyChain:
        this.#admin.verifyChain(session, requestId, request.body);
        break;
      case Op.featureLevelRaise:
        this.#raiseFeatureLevel(session, requestId, request.body.level);
        break;
      default:
        if (!this.#transactions.request(session, request)) session.refuse(requestId, 'UNKNOWN_OPERATION');
    }
  }

  #raiseFeatureLevel(session: Session, requestId: number, level: number): void {
    this.#featureLevel.raise(level, `${session.clientId} (${session.address})`, (error, featureLevel) => {
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.featureLevelRaise, requestId, { featureLevel });
    });
  }

  /** Behind a barrier: who lags, or leads no longer without knowing it, must not say that a message does not exist. */
  #messageGet(session: Session, requestId: number, request: MessageGetRequest): void {
    this.#admin.read(session, requestId, () => {
      this.#messages.get(request).then(
        ({ response, batch }) => session.respond(Op.messageGet, requestId, response, batch),
        (error: unknown) => refuseWith(session, requestId, error),
      );
    });
  }

  #route(session: Session, requestId: number, topics: readonly string[]): void {
    const wanted = this.#routed.get(session) ?? new Set<string>();
    const answer = this.#options.routes.route(topics);
    for (const { topic } of answer.topics) wanted.add(topic);
    if (!session.closed) this.#routed.set(session, wanted);
    session.respond(Op.route, requestId, answer);
  }

  /** Deleted topics are found at the next request for them: the push has no place for what is not there. */
  #pushRoutes(change: RouteChange): void {
    for (const [session, wanted] of this.#routed) {
      const topics = change.topics.filter(({ topic }) => wanted.has(topic));
      if (change.brokers.length === 0 && topics.length === 0) continue;
      const push: RouteResponse = { brokers: change.brokers, topics };
      session.push(PushKind.routeChanged, push);
    }
  }

  drained(session: Session): void {
    this.#pulls.drained(session);
  }

  closed(session: Session): void {
    this.#context.quotas.closed(session);
    this.#routed.delete(session);
    this.#pulls.closed(session);
    this.#pops.closed(session);
    this.#groups.closed(session);
    this.#transactions.closed(session);
  }

  // ---- what was applied ------------------------------------------------------------------------------------------------

  onBatch(
    index: number,
    topicId: number,
    queueId: number,
    error: number,
    baseOffset: number,
    _nextOffset: number,
    logTimeMs: number,
  ): void {
    if (error === 0) this.onPlaced(topicId, queueId);
    this.#produce.applied(index, topicId, queueId, error, baseOffset, logTimeMs);
  }

  onPlaced(topicId: number, queueId: number): void {
    this.#pulls.waiters.grew(queueKey(topicId, queueId));
    this.#pops.grew(topicId);
  }

  onCommand(index: number, error: number, result: readonly number[]): void {
    this.#commands.applied(index, error, result);
  }

  onCarried(index: number, position: number): void {
    this.#carrying.onCarried(index, position);
  }

  onGroupChanged(group: string): void {
    this.#context.metrics.groupChanged(group);
    this.#groups.groupChanged(group);
  }

  onTopicChanged(record: TopicRecord, topicId: number, index: number): void {
    this.#tellTopic(record, index);
    if (this.#context.state.topics.named(record.name) === undefined)
      this.#pulls.waiters.wakeIf((waiter) => topicIdOf(waiter.key) === topicId);
  }

  #tellTopic(record: TopicRecord, logIndex: number): void {
    if (record.deleted) this.#toldTopics.delete(record.name);
    else this.#toldTopics.set(record.name, record);
    this.#options.routes.publishTopic(record, logIndex);
  }

  onNoop(_index: number, term: number): void {
    if (this.#context.leadership.noopApplied(term)) this.#becameReady = true;
  }

  /** Answers first, then what follows from them: a joining member hears of its assignment once. */
  onApplied(_appliedIndex: number): void {
    if (this.#becameReady) {
      this.#becameReady = false;
      this.#featureLevel.becameReady();
      this.#groups.becameReady();
      this.#retention.becameReady();
      this.#timers.becameReady();
      this.#transactions.becameReady();
      this.#reconciler?.becameReady();
    }
    this.#proposeSettings();
    this.#commands.runApplied();
    this.#groups.runApplied();
    this.#timers.applied();
    this.#pulls.waiters.wakeGrown();
    this.#pops.wakeGrown();
  }

  /** Once in a leadership, and again when the feature level brought settings that could not be said before. */
  #proposeSettings(): void {
    const { state, leadership } = this.#context;
    if (!leadership.ready || this.#settingsLevel === state.featureLevel) return;
    const before = this.#settingsLevel;
    this.#settingsLevel = state.featureLevel;
    for (const [name, value] of Object.entries(this.#options.settings ?? {}) as [SettingName, number][]) {
      if (settingLevel(name) > state.featureLevel || settingLevel(name) <= before || state.setting(name) === value) continue;
      this.#commands.propose({ type: 'setSetting', name, value }, (error) => {
        this.#context.metrics.event('setting changed', { name, value, error: error ?? '' });
      });
    }
  }

  onRestored(): void {
    const { topics, appliedIndex } = this.#context.state;
    // One that is not in the state now was deleted by entries that the snapshot stands for.
    for (const told of [...this.#toldTopics.values()]) {
      if (topics.record(told.name) === null) this.#tellTopic({ ...told, version: told.version + 1, deleted: true }, appliedIndex);
    }
    for (const topic of topics.public()) this.#tellTopic(recordOf(topic), appliedIndex);
    for (const record of topics.allGone()) this.#tellTopic(record, appliedIndex);
    this.#pulls.waiters.wakeIf(() => true);
  }

  #roleChanged(role: ReplicaRole): void {
    const lost = this.#context.leadership.roleChanged(role.role === 'leader', role.term);
    this.#options.routes.setLeader(role.term, role.leader);
    if (!lost) return;
    this.#becameReady = false;
    this.#settingsLevel = 0;
    this.#produce.leadershipLost();
    this.#commits.leadershipLost();
    this.#commands.leadershipLost();
    this.#groups.leadershipLost();
    this.#carrying.leadershipLost();
    this.#retention.leadershipLost();
    this.#timers.leadershipLost();
    this.#transactions.leadershipLost();
    this.#reconciler?.leadershipLost();
    this.#featureLevel.leadershipLost();
    this.#pulls.leadershipLost();
    this.#pops.leadershipLost();
  }
}
