import { assert } from '../base/assert.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { RaftStatus, VerifyChainRequest, VerifyChainResponse } from '../protocol/raft-requests.ts';
import type { Effects, ReplicaId } from '../raft/types.ts';
import { AppendStreams } from './append-streams.ts';
import { Applier } from './applier.ts';
import { RaftDriver } from './driver.ts';
import { DurableState, higherFloor } from './durable-state.ts';
import { HandOvers } from './hand-overs.ts';
import { InSyncWaiters } from './in-sync.ts';
import type { HandOverReason, PeerHealth } from './leadership.ts';
import { LogClock } from './log-clock.ts';
import { lostVoters, MajorityLoss } from './majority-loss.ts';
import type { GroupMembership, Member } from './membership.ts';
import { MembershipChanges } from './membership-changes.ts';
import { Proposer } from './proposer.ts';
import { raftStatusOf } from './raft-status.ts';
import { ReadBarriers } from './read-barriers.ts';
import type { ReplicaCounts, ReplicaPorts } from './replica-ports.ts';
import { SnapshotInstaller, SnapshotSender } from './snapshot-transfer.ts';
import { Snapshots } from './snapshots.ts';
import { EntryType, type ProposeRefusal, type ReplicaApi, type ReplicaRole } from './types.ts';
import { verifyChain } from './verify-chain.ts';

/** The body of a no-op: nothing but its own checksum, which is 0 over no bytes. */
const NOOP_BODY = new Uint8Array(4);
/** A follower counts as in sync for so many election timeouts after its last answer (replication mode `all`). */
const IN_SYNC_ELECTION_TIMEOUTS = 3;

/**
 * One replica of a broker group: the only place where Raft, log and peers meet. It has no semantics of messages: it lays
 * proposals into write groups, moves bytes between disk and peers as the core says, and takes committed entries to the
 * state machine in order.
 */
export class Replica implements ReplicaApi {
  readonly id: ReplicaId;
  readonly #ports: ReplicaPorts;
  readonly #driver: RaftDriver;
  readonly #proposer: Proposer;
  readonly #applier: Applier;
  readonly #streams: AppendStreams;
  readonly #barriers: ReadBarriers;
  readonly #inSync: InSyncWaiters;
  readonly #durable: DurableState;
  readonly #logClock: LogClock;
  readonly #snapshots: Snapshots;
  readonly #sender: SnapshotSender;
  readonly #installer: SnapshotInstaller;
  readonly #handOvers: HandOvers;
  readonly #changes: MembershipChanges;
  readonly #majorityLoss: MajorityLoss | null;
  #membership: GroupMembership;
  #wasInStep = false;
  readonly #refused: Record<ProposeRefusal, number> = { notLeader: 0, tooManyUncommitted: 0, diskFull: 0, poisoned: 0 };
  #leaderChanges = 0;
  #knownLeader = 0;
  #role: ReplicaRole = { role: 'follower', term: 0, leader: 0 };
  /** Monotonic ms since when closed groups wait for the own disk; 0 = none waits. */
  #diskWaitsSinceMs = 0;
  #stuck = false;
  /** This replica leads, and the first entry of its term is not laid yet. */
  #noopDue = false;
  #failed = false;
  #stopped = false;

  constructor(ports: ReplicaPorts) {
    this.id = ports.id;
    this.#ports = ports;
    const { clock, log, raft, links } = ports;
    this.#durable = new DurableState(ports.hardState, (error) => this.fail(error));
    this.#logClock = new LogClock(clock);
    const { electionTimeoutMs } = ports;
    this.#handOvers = new HandOvers({ clock, raft, logClock: this.#logClock, electionTimeoutMs, health: () => this.health() });
    this.#barriers = new ReadBarriers(clock, (context) => {
      raft.readIndex(context);
      this.#driver.run();
    });
    this.#inSync = new InSyncWaiters(IN_SYNC_ELECTION_TIMEOUTS * ports.electionTimeoutMs);
    this.#streams = new AppendStreams({
      clock,
      log,
      term: () => raft.term,
      catchUpBytesPerSecond: ports.catchUpBytesPerSecond,
      send: (message) => {
        if (message.type === 'snapshotRequest') this.#sender.send(message).catch((error: unknown) => this.fail(error));
        else links.send(message);
      },
      sendAppend: (message, runs) => links.sendAppend(message, runs),
      failed: (error) => this.fail(error),
    });
    this.#sender = new SnapshotSender(ports.snapshots, links);
    this.#snapshots = new Snapshots({
      clock,
      log,
      store: ports.snapshots,
      stateMachine: ports.stateMachine,
      derived: ports.derived,
      segmentBytes: ports.segmentBytes,
      intervalBytes: ports.snapshotIntervalBytes,
      appliedPosition: () => this.#applier.endPosition,
      headCut: (start) => raft.cutHead(start.index, start.term, start.position),
      onEvent: ports.onEvent,
      failed: (error) => this.fail(error),
    });
    this.#installer = new SnapshotInstaller({
      disk: ports.disk,
      directory: `${ports.directory}/raft`,
      store: ports.snapshots,
      log,
      raft,
      stateMachine: ports.stateMachine,
      derived: ports.derived,
      exclusive: (work) => this.#snapshots.exclusive(work),
      pauseApply: () => this.#applier.pause(),
      lowerDurableEnd: (endPosition) => this.#durable.lowerDurableEnd(endPosition),
      installed: (boundary) => {
        this.#applier.restart(boundary.index, boundary.position);
        this.#snapshots.restart(boundary.position);
        this.#driver.run();
      },
      failed: (error) => this.fail(error),
    });
    this.#applier = new Applier(
      {
        clock,
        log,
        stateMachine: ports.stateMachine,
        segmentBytes: ports.segmentBytes,
        segmentStarts: (appliedIndex, logTimeMs, basePosition) => {
          ports.stateMachine.onSegmentStart(basePosition);
          this.#snapshots.segmentStarts(appliedIndex, logTimeMs, basePosition);
        },
        advanced: (appliedIndex) => this.#advanced(appliedIndex),
        failed: (error) => this.fail(error),
      },
      ports.applied.index,
      ports.applied.position,
    );
    this.#proposer = new Proposer({
      clock,
      log,
      leadingTerm: () => (raft.role === 'leader' && !this.#failed && !this.#stopped ? raft.term : 0),
      canPropose: (sizeBytes) => raft.canPropose(sizeBytes),
      logTimeMs: () => this.#logClock.nowMs(),
      closed: ({ meta }, membership) => {
        this.#noteDiskWait();
        const accepted = raft.propose(membership === null ? meta : { ...meta, membership });
        assert(accepted, `the core refused the group at ${meta.firstIndex} that the log holds`);
        this.#driver.run();
      },
    });
    this.#membership = this.membership();
    this.#changes = new MembershipChanges({
      id: ports.id,
      clock,
      raft,
      mayChange: () => !this.#noopDue && (ports.mayChangeMembership?.() ?? false),
      propose: (membership) => typeof this.#proposer.proposeMembership(membership) === 'number',
      forced: ports.forced ?? false,
      forcedIsKept: () => void ports.onForced?.().catch((error: unknown) => this.fail(error)),
      identity: (id) => links.identityOf(id),
      dial: (members) => links.dialAlso(members.map(({ replicaId, host, port }) => ({ replicaId, host, port: port + 1 }))),
      onEvent: ports.onEvent,
    });
    this.#majorityLoss =
      ports.majorityLoss === undefined
        ? null
        : new MajorityLoss({ id: ports.id, identity: (id) => links.identityOf(id), ...ports.majorityLoss });
    this.#driver = new RaftDriver({
      raft,
      log,
      durable: this.#durable,
      deliver: (message) => {
        // A failed store speaks for nothing any more: no vote, no acknowledgement (I3).
        if (!this.#failed) this.#streams.deliver(message);
      },
      committed: (commitIndex) => {
        this.#proposer.committed(commitIndex);
        this.#applier.commit(commitIndex);
      },
      reads: (reads) => {
        for (const read of reads) this.#barriers.confirmed(read.context, read.index, this.#applier.appliedIndex);
      },
      roleChanged: (change) => this.#roleChanged(change),
      install: (install) => this.#installer.begin(install),
      failed: (error) => this.fail(error),
    });
  }

  /** The newest in the log; what Raft counts by. */
  membership(): GroupMembership {
    return this.#ports.raft.membership as GroupMembership;
  }

  /** Index of its entry; 0: as the group was formed. */
  get membershipIndex(): number {
    return this.#ports.raft.membershipIndex;
  }

  /** Leader: resolves when it votes. Rejects with LedgerError NOT_LEADER, BAD_REQUEST, TOO_MANY, FEATURE_LEVEL. */
  addReplica(member: Pick<Member, 'replicaId' | 'host' | 'port'>): Promise<void> {
    return this.#changes.add(member);
  }

  /** Leader: resolves when it is gone. Rejects as addReplica(). */
  removeReplica(replicaId: ReplicaId): Promise<void> {
    return this.#changes.remove(replicaId);
  }

  /** Called once, when the group is formed. */
  start(): void {
    const { raft, log, links } = this.#ports;
    links.handlers = {
      onMessage: (message) => this.#receive(() => this.#driver.step(message), message.term),
      onAppend: (message, bytes) => {
        let fault = null;
        this.#receive(() => {
          fault = this.#driver.stepAppend(message, bytes);
          this.#noteDiskWait();
        }, message.term);
        if (fault !== null) this.#ports.onEvent('append refused', { from: message.from, fault });
        return fault === null;
      },
      onClock: (peer, wallMs) => this.#logClock.heard(peer, wallMs),
      onHealth: (peer, health) => this.#handOvers.heard(peer, health),
      onSnapshotSlice: (peer, head, bytes) => this.#installer.slice(peer, head, bytes),
      onLost: (peer, reset) => {
        this.#streams.lost(peer);
        this.#sender.lost(peer);
        this.#installer.lost(peer);
        // At the leader what was in flight is lost however the link ended; a follower takes only a reset for evidence.
        if (!this.#stopped && (reset || raft.role === 'leader')) {
          raft.tick(this.#ports.clock.monotonicMs());
          raft.peerReset(peer);
          this.#driver.run();
        }
      },
    };
    const { voteFloor, voteFloorTerm } = higherFloor(this.#durable.state, log.recovery);
    if (voteFloor > 0) {
      raft.setVoteFloor(voteFloor, voteFloorTerm);
      this.#durable.saveVoteFloor(voteFloor, voteFloorTerm);
    }
    this.#tick();
  }

  // ---- for the broker (ReplicaApi) -----------------------------------------------------------------------------------

  role(): ReplicaRole {
    return this.#role;
  }

  propose(type: EntryType, topicId: number, queueId: number, bodyChecksum: number, body: Uint8Array): number | ProposeRefusal {
    // Commands go on below the reserve: offsets, cuts and membership are what frees a full disk (FAULTS 3).
    const full = type === EntryType.batch && this.#ports.log.diskFull;
    const refusal = full ? 'diskFull' : this.#noopDue ? 'tooManyUncommitted' : null;
    const index = refusal ?? this.#proposer.propose(type, topicId, queueId, bodyChecksum, body);
    if (typeof index === 'string') this.#refused[index]++;
    return index;
  }

  appliedIndex(): number {
    return this.#applier.appliedIndex;
  }

  allApplied(): boolean {
    const { log } = this.#ports;
    return log.openBytes === 0 && log.lastIndex === this.#applier.appliedIndex;
  }

  commitIndex(): number {
    return this.#ports.raft.commitIndex;
  }

  readBarrier(done: (ok: boolean) => void): void {
    if (this.#failed || this.#stopped) done(false);
    else this.#barriers.add(done);
  }

  whenAllInSync(index: number, done: (ok: boolean) => void): void {
    if (this.#role.role !== 'leader') done(false);
    else if (!this.#inSync.add(index, done)) done(false);
    else this.#checkInSync();
  }

  quorumIsFresh(): boolean {
    return this.#ports.raft.quorumFresh(this.#ports.clock.monotonicMs());
  }

  logTimeMs(): number {
    return this.#role.role === 'leader' ? this.#logClock.nowMs() : this.#ports.log.lastLogTimeMs;
  }

  readFollowers(): readonly ReplicaId[] {
    if (this.#role.role !== 'leader') return [];
    return this.#handOvers.inSync();
  }

  diskFull(): boolean {
    return this.#ports.log.diskFull;
  }

  endPosition(): number {
    return this.#ports.log.endPosition;
  }

  readHot(position: number, sizeBytes: number): Uint8Array | null {
    return this.#ports.log.readHot(position, sizeBytes);
  }

  readCold(into: Uint8Array, position: number): Promise<number> {
    return this.#ports.log.readCold(into, position);
  }

  startPosition(): number {
    return this.#ports.log.start.position;
  }

  damagedRead(position: number): void {
    this.#ports.damagedRead?.(position);
  }

  // ---- for administration ----------------------------------------------------------------------------------------------

  status(): RaftStatus {
    const { raft, log, clock, brokerName, stateMachine } = this.#ports;
    return {
      ...raftStatusOf(raft, log, clock.monotonicMs(), this.voteFloor),
      brokerName,
      replicaId: this.id,
      appliedIndex: this.appliedIndex(),
      stateDigest: stateMachine.digest(),
    };
  }

  /** @param target 0 = the most advanced follower that was heard lately. Resolves when this replica does not lead any more. */
  async transfer(target: ReplicaId): Promise<void> {
    const { raft, clock, electionTimeoutMs } = this.#ports;
    if (raft.role !== 'leader') throw new LedgerError('NOT_LEADER');
    const to = target !== 0 ? target : this.#handOvers.best();
    if (to === 0) throw new LedgerError('BAD_REQUEST', 'no follower to hand leadership to');
    if (to === this.id) return;
    this.#proposer.flush();
    if (!raft.transferLeadership(to)) throw new LedgerError('BAD_REQUEST', `leadership cannot go to replica ${to}`);
    this.#driver.run();
    const deadlineMs = clock.monotonicMs() + 2 * electionTimeoutMs;
    while (this.#ports.raft.role === 'leader') {
      if (clock.monotonicMs() > deadlineMs) throw new LedgerError('DEADLINE_EXCEEDED', `replica ${to} did not take over`);
      await new Promise<void>((resolve) => {
        clock.setTimer(this.#ports.tickMs, resolve);
      });
    }
  }

  /** What this replica tells its peers of itself. */
  health(): PeerHealth {
    return { belowReserve: this.#ports.log.diskFull, priority: this.#ports.leaderPriority ?? 0 };
  }

  /** Leader: the replicas that may lead as well as this one, and are not meant to come after it. */
  handOverTargets(): ReplicaId[] {
    return this.#handOvers.targets();
  }

  /** Begins to hand leadership over. @returns false: this is no leader (any more), or a transfer is under way */
  handOver(to: ReplicaId, reason: HandOverReason | 'balance'): boolean {
    const { raft } = this.#ports;
    if (raft.role !== 'leader' || this.#stopped || this.#failed) return false;
    this.#proposer.flush();
    if (!raft.transferLeadership(to)) return false;
    this.#handOvers.counts[reason]++;
    this.#ports.onEvent('leadership handed over', { to, reason });
    this.#driver.run();
    return true;
  }

  verifyChain(request: VerifyChainRequest): Promise<VerifyChainResponse> {
    return verifyChain(
      this.#ports.log,
      this.#ports.stateMachine,
      () => this.appliedIndex(),
      request,
      () => this.#ports.damages?.() ?? [],
    );
  }

  /** How far this replica's wall clock is from the median of the group's, ms. */
  clockSkewMs(): number {
    return this.#logClock.skewMs();
  }

  /** Other voters of the newest membership whose directories are not what the group knows. */
  lostVoters(): ReplicaId[] {
    return lostVoters(this.membership(), this.id, (id) => this.#ports.links.identityOf(id));
  }

  /** Votes, and has been in step with a leader since this process started: the group may go on with it in another one's place. */
  get caughtUp(): boolean {
    const { raft } = this.#ports;
    this.#wasInStep ||= raft.isVoter && raft.holdsCommitted;
    return this.#wasInStep && raft.isVoter;
  }

  /** For metrics: since this process formed or joined the group. */
  get counts(): ReplicaCounts {
    const { raft } = this.#ports;
    return {
      elections: raft.elections,
      leaderChanges: this.#leaderChanges,
      uncommittedBytes: raft.uncommittedBytes,
      refusedProposals: this.#refused,
      readBarriers: this.#barriers.rounds,
      snapshotsSent: this.#sender.sentCount,
      handOvers: this.#handOvers.counts,
    };
  }

  /** No vote for a log that ends before this index, and no campaign with one (I4). 0 = none. */
  get voteFloor(): number {
    return this.#durable.state.voteFloor;
  }

  liftVoteFloor(): void {
    if (this.#failed || this.#stopped || this.voteFloor === 0) return;
    this.#ports.raft.setVoteFloor(null);
    this.#durable.saveVoteFloor(0, 0);
  }

  get failed(): boolean {
    return this.#failed;
  }

  // ---- life ------------------------------------------------------------------------------------------------------------

  /** The log's `onDurable`. */
  onDurable(lastIndex: number, term: number): void {
    if (this.#failed || this.#stopped) return;
    const { log, raft } = this.#ports;
    const nowMs = this.#ports.clock.monotonicMs();
    // A leader that was paused steps down before its own disk's word counts (FAULTS 12).
    raft.tick(nowMs);
    this.#diskWaitsSinceMs = log.durableIndex < log.lastIndex ? nowMs : 0;
    this.#durable.noteDurableEnd(log.syncedPosition);
    if (this.#durable.state.voteFloor > 0 && lastIndex >= this.#durable.state.voteFloor) {
      this.#ports.raft.setVoteFloor(null);
      this.#durable.saveVoteFloor(0, 0);
    }
    this.#driver.stored(lastIndex, term);
  }

  /** The log's `onTruncating`. */
  onTruncating(endPosition: number): Promise<void> {
    return this.#durable.lowerDurableEnd(endPosition);
  }

  /** First failure of the store, or a broken invariant of it: hand over what can be, acknowledge nothing, end. */
  fail(error: unknown): void {
    if (this.#failed || this.#stopped) return;
    const { raft } = this.#ports;
    if (raft.role === 'leader') {
      raft.stepDown('store failed');
      this.#driver.run();
    }
    this.#failed = true;
    this.#applier.stop();
    this.#barriers.failAll();
    this.#inSync.failAll();
    this.#ports.onFailed(error);
  }

  /** Clean stop: nothing is lost by skipping it, recovery is only longer. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#applier.stop();
    this.#streams.stop();
    this.#proposer.reset();
    this.#barriers.failAll();
    this.#inSync.failAll();
    const { log } = this.#ports;
    await this.#installer.stop();
    await this.#snapshots.stop();
    await log.close();
    if (!this.#failed && log.poisoned === null) await this.#durable.saveClean(log.syncedPosition);
  }

  // ---- inside ------------------------------------------------------------------------------------------------------------

  #tick(): void {
    if (this.#stopped || this.#failed) return;
    const { clock, raft, tickMs } = this.#ports;
    const nowMs = clock.monotonicMs();
    this.#watchDisk(nowMs);
    raft.tick(nowMs);
    this.#driver.run();
    if (this.#noopDue) this.#layNoop();
    this.#checkInSync();
    const handOver = this.#handOvers.due(nowMs);
    if (handOver !== null) this.handOver(handOver.to, handOver.reason);
    this.#changes.tick(nowMs);
    this.#majorityLoss?.tick(this.membership(), this.#role.leader, nowMs);
    this.#watchMembership();
    clock.setTimer(tickMs, () => this.#tick());
  }

  /** A leader whose disk has not synced for an election timeout hands over, and does not come back before it syncs again (FAULTS 14). */
  #watchDisk(nowMs: number): void {
    const { raft, log, electionTimeoutMs } = this.#ports;
    // What was waited for may have been cut away, and then no write reports it.
    if (log.durableIndex >= log.lastIndex) this.#diskWaitsSinceMs = 0;
    const waits = this.#diskWaitsSinceMs !== 0 && nowMs - this.#diskWaitsSinceMs > electionTimeoutMs;
    if (waits && !this.#stuck) {
      this.#stuck = true;
      this.#ports.onEvent('disk stuck', { waitingMs: Math.round(nowMs - this.#diskWaitsSinceMs) });
      this.#endTerm();
      raft.stepDown('disk stuck');
    } else if (!waits && this.#stuck) {
      this.#stuck = false;
      raft.allowCampaign();
    }
  }

  /** It changes with what is stored and what is cut, so it is looked at after each of them. */
  #watchMembership(): void {
    const now = this.membership();
    if (now === this.#membership) return;
    this.#membership = now;
    this.#ports.onMembership?.(now);
  }

  #noteDiskWait(): void {
    const { log } = this.#ports;
    if (this.#diskWaitsSinceMs === 0 && log.durableIndex < log.lastIndex) this.#diskWaitsSinceMs = this.#ports.clock.monotonicMs();
  }

  #receive(step: () => void, term: number): void {
    if (this.#stopped || this.#failed) return;
    // A process that slept hears its clock first: a paused leader steps down before it counts old answers (FAULTS 12).
    this.#ports.raft.tick(this.#ports.clock.monotonicMs());
    this.#driver.run();
    // What was proposed before this word of a higher term belongs to the old one, and is still handed to Raft under it.
    if (term > this.#ports.raft.term) this.#endTerm();
    step();
    this.#watchMembership();
    if (this.#inSync.size > 0) this.#checkInSync();
  }

  #endTerm(): void {
    if (this.#ports.raft.role === 'leader') this.#proposer.flush();
  }

  #roleChanged(change: NonNullable<Effects['roleChange']>): void {
    const led = this.#role.role === 'leader';
    if (change.leader !== 0 && change.leader !== this.#knownLeader) {
      this.#knownLeader = change.leader;
      this.#leaderChanges++;
    }
    this.#role = { role: change.role, term: change.term, leader: change.leader };
    this.#ports.onEvent('role', { role: change.role, term: change.term, leader: change.leader });
    if (led && change.role !== 'leader') {
      this.#noopDue = false;
      this.#proposer.reset();
      this.#barriers.failAll();
      this.#inSync.failAll();
    }
    if (change.role === 'leader' && !led) {
      this.#handOvers.restart(this.#ports.log.lastIndex);
      this.#logClock.lead(this.#ports.log.lastLogTimeMs);
      this.#proposer.reset();
      this.#noopDue = true;
      this.#layNoop();
    }
    this.#ports.stateMachine.onRoleChange(this.#role);
  }

  /** With a full hot tail (a slow disk) it waits for the next tick, and everything else waits behind it. */
  #layNoop(): void {
    const index = this.#proposer.propose(EntryType.noop, 0, 0, 0, NOOP_BODY);
    if (index === 'tooManyUncommitted') return;
    this.#noopDue = false;
    if (typeof index === 'number') this.#proposer.flush();
  }

  #advanced(appliedIndex: number): void {
    this.#barriers.applied(appliedIndex);
    if (appliedIndex === this.#ports.raft.commitIndex)
      this.#snapshots.advanced(appliedIndex, this.#applier.logTimeMs, this.#applier.endPosition);
  }

  #checkInSync(): void {
    if (this.#inSync.size > 0) this.#inSync.progressed(this.#ports.raft.progress(), this.#ports.clock.monotonicMs());
  }
}
