import { assert, unreachable } from '../base/assert.ts';
import { type CoreState, membershipChanged } from './core-state.ts';
import { Election } from './election.ts';
import { Follower } from './follower.ts';
import type { GroupIndex } from './group-index.ts';
import { Leader } from './leader.ts';
import { type MembershipAt, Memberships } from './memberships.ts';
import { Outbox } from './outbox.ts';
import { MAX_REPLICAS, Quorum } from './quorum.ts';
import type {
  Effects,
  GroupMeta,
  HardState,
  Membership,
  Message,
  PeerStatus,
  PreVoteRequest,
  PreVoteResponse,
  RaftConfig,
  RaftCore,
  ReplicaId,
  Role,
  VoteRequest,
  VoteResponse,
} from './types.ts';

/**
 * # Raft, without a clock, a disk or a network
 *
 * One `Raft` is one replica's consensus state. It is told what happened and says what to do; it never does anything
 * itself. It knows write groups (`GroupMeta`), not bytes. One driver, one event loop, no call from inside a call.
 *
 * Sources: "paper" is Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm (extended version);
 * "thesis" is Ongaro, Consensus: Bridging Theory and Practice.
 *
 * ## The driver's duties
 *
 *  1. Start: recover the log (everything in `log` is on stable storage), the hard state and an index that is known to be
 *     committed (that of the restored state). Construct, then `tick` before anything else.
 *  2. `tick` first in every turn, with a monotonic clock, and at least every heartbeatIntervalMs / 2. A process that slept
 *     must tick before it steps what piled up meanwhile: so a leader that was paused steps down before it counts old answers.
 *  3. After each turn's events call `takeEffects` once and carry it out in the order of its fields.
 *  4. `hardState` is durable before any message of the same or a later `takeEffects` leaves. The log's writes need not wait
 *     for it, nor it for them.
 *  5. `store`: cut, then append, through one queue to the disk that keeps their order. When a write is durable call
 *     `stored` with its last index and that entry's term. A write that a later cut overlaps is never reported, not even
 *     when the same index and term was written again since: only the last one counts.
 *  6. The leader's own groups: lay one at `log.lastIndex + 1` in the current term, call `propose`, and write it as in 5.
 *     The messages of the next `takeEffects` name its range: the same memory goes to disk and peers, in parallel.
 *  7. `roleChange` to leader: lay a no-op group at once. Nothing of older terms commits and no read is served before it does.
 *  8. `messages` go out in order per peer; losing, delaying, doubling some is allowed. An appendRequest names a range of
 *     whole groups: add their bytes. On arrival decode `groups` from the bytes; a message that fails its checksum is dropped.
 *  9. `commitIndex`: apply in order up to it. It may be ahead of the own disk.
 * 10. `install`: fetch the state at that index, make it durable in place of the log, restore it, then `installed`; else
 *     `installFailed`. At the leader a snapshotRequest starts the transfer; one that repeats a transfer under way is ignored.
 * 11. `peerReset` when a peer's connection broke, or nothing can be sent to it: at the leader whatever was in flight is lost.
 * 12. The disk failed: `stepDown`. Nothing is reported as stored that is not. (A leader whose disk merely stands still for an
 *     election timeout steps down by itself, and does not campaign before its disk has caught up.)
 *
 * ## The loop
 *
 * ```ts
 * on wake-up (timer, socket, disk, proposals):
 *   raft.tick(clock.monotonicMs());
 *   for (const message of arrived) raft.step(message);
 *   for (const write of finished) raft.stored(write.lastIndex, write.term);
 *   if (openGroup !== null && raft.propose(openGroup)) disk.write(openGroup);
 *   const effects = raft.takeEffects();
 *   if (effects.hardState !== null) hardState.write(effects.hardState);   // outbound messages queue behind it
 *   for (const change of effects.store) disk.cutAndAppend(change);
 *   links.send(effects.messages);
 *   if (effects.commitIndex !== null) stateMachine.applyUpTo(effects.commitIndex);
 *   for (const read of effects.reads) reads.answer(read);
 *   if (effects.roleChange !== null) onRole(effects.roleChange);          // leader: lay the no-op
 *   if (effects.install !== null) startInstall(effects.install);
 * ```
 */
export class Raft implements RaftCore {
  readonly #core: CoreState;
  readonly #election: Election;
  readonly #follower: Follower;
  #leading: Leader | null = null;
  #ticked: boolean = false;
  elections = 0;

  /**
   * @param log what is on stable storage; the core owns it from now on
   * @param committedIndex known to be committed: that of the restored state, at least log.startIndex
   */
  constructor(config: RaftConfig, hardState: HardState, log: GroupIndex, committedIndex: number) {
    assert(committedIndex >= log.startIndex && committedIndex <= log.lastIndex, `commit index ${committedIndex} is outside the log`);
    assert(config.electionTimeoutMs > config.heartbeatIntervalMs, 'electionTimeoutMs must be above heartbeatIntervalMs');
    const base = { index: config.membershipIndex ?? 0, membership: config.membership };
    const memberships = new Memberships(base, config.laterMemberships);
    memberships.committed(committedIndex);
    // A term that only the log knows was heard from its leader, whose vote request never came here: nothing was voted in it.
    const known = hardState.term >= log.lastTerm ? hardState : { term: log.lastTerm, votedFor: 0 };
    this.#core = {
      config,
      memberships,
      quorum: new Quorum(memberships.current),
      others: [],
      log,
      outbox: new Outbox(hardState, committedIndex),
      nowMs: 0,
      term: known.term,
      votedFor: known.votedFor,
      role: 'follower',
      leader: 0,
      commitIndex: committedIndex,
      storedIndex: log.lastIndex,
    };
    membershipChanged(this.#core);
    this.#election = new Election(this.#core);
    this.#follower = new Follower(this.#core);
  }

  get role(): Role {
    return this.#core.role;
  }
  get term(): number {
    return this.#core.term;
  }
  get leader(): ReplicaId {
    return this.#core.leader;
  }
  get votedFor(): ReplicaId {
    return this.#core.votedFor;
  }
  get commitIndex(): number {
    return this.#core.commitIndex;
  }
  get storedIndex(): number {
    return this.#core.storedIndex;
  }
  get transferTarget(): ReplicaId {
    return this.#leading?.transferTarget ?? 0;
  }
  get isVoter(): boolean {
    const { quorum, config, memberships } = this.#core;
    return quorum.isVoter(config.id) && (config.isSelf?.(memberships.current) ?? true);
  }
  get holdsCommitted(): boolean {
    return this.#core.role === 'leader' || this.#follower.holdsCommitted;
  }
  get isSingleVoter(): boolean {
    const { voters } = this.#core.quorum;
    return voters.length === 1 && voters[0] === this.#core.config.id;
  }

  get membership(): Membership {
    return this.#core.memberships.current;
  }
  get membershipIndex(): number {
    return this.#core.memberships.index;
  }
  get mayChangeMembership(): boolean {
    return this.#leading?.mayChangeMembership ?? false;
  }

  tick(nowMs: number): void {
    const core = this.#core;
    assert(!this.#ticked || nowMs >= core.nowMs, `the monotonic clock went back from ${core.nowMs} to ${nowMs}`);
    core.nowMs = nowMs;
    if (!this.#ticked) {
      this.#ticked = true;
      // Alone, there is nobody to wait for.
      if (this.isSingleVoter && this.#election.mayCampaign) this.#campaign(false);
      else this.#election.restartTimer();
      return;
    }
    if (this.#leading !== null) {
      const verdict = this.#leading.tick();
      if (verdict === 'quorumSilent') this.#becomeFollower(core.term, 0);
      if (verdict === 'diskStuck') {
        this.#election.diskStuck = true;
        this.#leading.handOver();
        this.#becomeFollower(core.term, 0);
      }
      return;
    }
    if (!this.#election.isDue) return;
    if (this.#election.mayCampaign && !this.#follower.isInstalling) this.#preCampaign();
    else this.#election.restartTimer();
  }

  step(message: Message): void {
    const core = this.#core;
    // Not only from members: who is behind does not know yet that its leader, or a candidate, belongs to the group (thesis 4.1).
    if (message.to !== core.config.id || message.from === core.config.id || !isReplicaId(message.from)) return;
    if (message.term < core.term) {
      this.#answerOlderTerm(message);
      return;
    }
    if (message.term > core.term && !this.#adoptTerm(message)) return;
    this.#dispatch(message);
  }

  propose(group: GroupMeta): boolean {
    return this.#leading?.propose(group) ?? false;
  }

  canPropose(sizeBytes: number): boolean {
    return this.#leading?.canPropose(sizeBytes) ?? false;
  }

  stored(lastIndex: number, term: number): void {
    const core = this.#core;
    if (lastIndex <= core.storedIndex || core.log.termAt(lastIndex) !== term) return;
    core.storedIndex = lastIndex;
    if (lastIndex === core.log.lastIndex) this.#election.diskStuck = false;
    if (this.#leading !== null) this.#leading.advanceCommit();
    else this.#follower.stored();
  }

  readIndex(context: number): void {
    if (this.#leading !== null) this.#leading.readIndex(context);
    else this.#core.outbox.reads.push({ context, index: null });
  }

  transferLeadership(to: ReplicaId): boolean {
    return this.#leading?.transfer(to) ?? false;
  }

  peerReset(id: ReplicaId): void {
    if (this.#leading !== null) {
      this.#leading.connectionLost(id);
      return;
    }
    if (this.#core.role !== 'follower' || this.#core.leader !== id) return;
    this.#follower.connectionLost();
    this.#core.leader = 0;
    this.#election.leaderSuspected(id);
  }

  stepDown(_reason: string): void {
    this.#election.barred = true;
    if (this.#core.role === 'follower') return;
    this.#leading?.handOver();
    this.#becomeFollower(this.#core.term, 0);
  }

  allowCampaign(): void {
    this.#election.barred = false;
  }

  setVoteFloor(index: number | null, term = 0): void {
    this.#election.voteFloor = index;
    this.#election.voteFloorTerm = term;
  }

  installed(index: number, term: number, position: number, membership?: MembershipAt): void {
    this.#follower.installed(index, term, position, membership);
    this.#election.diskStuck = false;
  }

  installFailed(index: number): void {
    this.#follower.installFailed(index);
  }

  cutHead(startIndex: number, startTerm: number, startPosition: number): void {
    assert(startIndex <= this.#core.commitIndex, `cut at ${startIndex}, beyond the commit index ${this.#core.commitIndex}`);
    this.#core.log.cutTo(startIndex, startTerm, startPosition);
  }

  takeEffects(): Effects {
    if (this.#leading?.isRemoved) {
      this.#leading.flush(); // the others learn that it is committed
      this.#leading.handOver();
      this.#becomeFollower(this.#core.term, 0);
    }
    if (this.#leading !== null) this.#leading.flush();
    else this.#follower.flush();
    const { outbox, term, votedFor, commitIndex, role, leader } = this.#core;
    return outbox.take(term, votedFor, commitIndex, role, leader);
  }

  progress(): readonly PeerStatus[] {
    return this.#leading?.progress() ?? [];
  }

  get uncommittedBytes(): number {
    return this.#leading?.uncommittedBytes ?? 0;
  }

  quorumFresh(nowMs: number): boolean {
    return this.#leading?.quorumFresh(nowMs) ?? false;
  }

  /**
   * Somebody is behind in terms. Answering with the own term is what frees a replica that is ahead in terms and therefore
   * deaf to its leader: with pre-vote it could not campaign, with check-quorum nobody would grant it a vote.
   */
  #answerOlderTerm(message: Message): void {
    const { outbox, config, term } = this.#core;
    const reply = { from: config.id, to: message.from, term };
    switch (message.type) {
      case 'appendRequest':
        outbox.messages.push({
          ...reply,
          type: 'appendResponse',
          success: false,
          lastIndex: 0,
          hintTerm: 0,
          rejectedIndex: message.prevIndex,
        });
        return;
      case 'heartbeatRequest':
        outbox.messages.push({ ...reply, type: 'heartbeatResponse', readContext: 0 });
        return;
      case 'snapshotRequest':
        outbox.messages.push({ ...reply, type: 'snapshotResponse', index: message.index, success: false });
        return;
      case 'preVoteRequest':
        outbox.messages.push({ ...reply, type: 'preVoteResponse', granted: false });
        return;
      case 'voteRequest':
        outbox.messages.push({ ...reply, type: 'voteResponse', granted: false });
        return;
      default:
        return; // an answer or an order from the past
    }
  }

  /** A higher term (paper, figure 2, "Rules for servers"). @returns false when the message is to be ignored. */
  #adoptTerm(message: Message): boolean {
    switch (message.type) {
      case 'preVoteRequest':
        return true; // asks about a term that does not exist yet
      case 'preVoteResponse':
        if (message.granted) return message.term === this.#core.term + 1;
        this.#becomeFollower(message.term, 0);
        return true;
      case 'voteRequest':
        if (this.#election.hasLiveLeader && !message.transfer) return false;
        this.#becomeFollower(message.term, 0);
        return true;
      case 'appendRequest':
      case 'heartbeatRequest':
      case 'snapshotRequest':
        this.#becomeFollower(message.term, message.from);
        return true;
      default:
        this.#becomeFollower(message.term, 0);
        return true;
    }
  }

  #dispatch(message: Message): void {
    switch (message.type) {
      case 'preVoteRequest':
        this.#onPreVoteRequest(message);
        return;
      case 'voteRequest':
        this.#onVoteRequest(message);
        return;
      case 'preVoteResponse':
      case 'voteResponse':
        this.#onVoteAnswer(message);
        return;
      case 'appendRequest':
        this.#heardLeader(message.from);
        this.#follower.append(message);
        return;
      case 'heartbeatRequest':
        this.#heardLeader(message.from);
        this.#follower.heartbeat(message);
        return;
      case 'snapshotRequest':
        this.#heardLeader(message.from);
        this.#follower.snapshot(message);
        return;
      case 'appendResponse':
        this.#leading?.appendResponse(message);
        return;
      case 'heartbeatResponse':
        this.#leading?.heartbeatResponse(message);
        return;
      case 'snapshotResponse':
        this.#leading?.snapshotResponse(message);
        return;
      case 'timeoutNow':
        if (this.#core.role === 'follower' && this.#election.mayCampaign && !this.#follower.isInstalling) this.#campaign(true);
        return;
      default:
        unreachable(message);
    }
  }

  /** Any message of this term's leader counts as contact, also an append that is going to be rejected. */
  #heardLeader(from: ReplicaId): void {
    assert(this.#core.role !== 'leader', `two leaders in term ${this.#core.term}: ${this.#core.config.id} and ${from}`);
    this.#becomeFollower(this.#core.term, from);
    this.#election.leaderHeard();
  }

  #onPreVoteRequest(message: PreVoteRequest): void {
    const { outbox, config, term } = this.#core;
    const granted = message.term > term && !this.#election.hasLiveLeader && this.#election.mayGrant(message.lastIndex, message.lastTerm);
    outbox.messages.push({
      type: 'preVoteResponse',
      from: config.id,
      to: message.from,
      term: granted ? message.term : term,
      granted,
    });
  }

  #onVoteRequest(message: VoteRequest): void {
    const core = this.#core;
    const free = core.votedFor === message.from || (core.votedFor === 0 && core.leader === 0);
    const granted = free && this.#election.mayGrant(message.lastIndex, message.lastTerm);
    if (granted) {
      core.votedFor = message.from;
      this.#election.restartTimer();
    }
    core.outbox.messages.push({ type: 'voteResponse', from: core.config.id, to: message.from, term: core.term, granted });
  }

  #onVoteAnswer(message: PreVoteResponse | VoteResponse): void {
    const core = this.#core;
    const wanted: Role = message.type === 'voteResponse' ? 'candidate' : 'preCandidate';
    if (core.role !== wanted || !core.quorum.isVoter(message.from)) return;
    this.#election.count(message.from, message.granted);
    const outcome = this.#election.outcome();
    if (outcome === 'lost') this.#becomeFollower(core.term, 0);
    else if (outcome === 'won' && core.role === 'candidate') this.#becomeLeader();
    else if (outcome === 'won') this.#campaign(false);
  }

  /** Thesis 9.6: asks whether an election could be won before a term is spent on it. */
  #preCampaign(): void {
    const core = this.#core;
    core.role = 'preCandidate';
    core.leader = 0;
    this.#election.beginRound(true);
    if (this.#election.outcome() === 'won') {
      this.#campaign(false);
      return;
    }
    this.#askVoters('preVoteRequest', core.term + 1, false);
  }

  #campaign(transfer: boolean): void {
    const core = this.#core;
    this.elections++;
    core.role = 'candidate';
    core.leader = 0;
    core.term += 1;
    core.votedFor = core.config.id;
    this.#follower.forgetLeader();
    this.#election.beginRound(false);
    if (this.#election.outcome() === 'won') {
      this.#becomeLeader();
      return;
    }
    this.#askVoters('voteRequest', core.term, transfer);
  }

  #askVoters(type: 'preVoteRequest' | 'voteRequest', term: number, transfer: boolean): void {
    const { quorum, config, log, outbox } = this.#core;
    for (const to of quorum.voters) {
      if (to === config.id) continue;
      const ask = { from: config.id, to, term, lastIndex: log.lastIndex, lastTerm: log.lastTerm };
      outbox.messages.push(type === 'voteRequest' ? { ...ask, type, transfer } : { ...ask, type });
    }
  }

  #becomeLeader(): void {
    const core = this.#core;
    core.role = 'leader';
    core.leader = core.config.id;
    this.#leading = new Leader(core);
  }

  #becomeFollower(term: number, leader: ReplicaId): void {
    const core = this.#core;
    if (term > core.term) {
      core.term = term;
      core.votedFor = 0;
      this.#follower.forgetLeader();
    }
    core.role = 'follower';
    core.leader = leader;
    if (this.#leading === null) return;
    this.#leading.stop();
    this.#leading = null;
    this.#election.restartTimer();
  }
}

function isReplicaId(id: ReplicaId): boolean {
  return Number.isInteger(id) && id >= 1 && id <= MAX_REPLICAS;
}
