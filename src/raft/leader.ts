import { assert } from '../base/assert.ts';
import { type CoreState, membershipChanged } from './core-state.ts';
import { Progress } from './progress.ts';
import { MAX_REPLICAS } from './quorum.ts';
import { ReadQueue } from './read-index.ts';
import type { AppendResponse, GroupMeta, HeartbeatResponse, PeerStatus, ReplicaId, SnapshotResponse } from './types.ts';

const NO_GROUPS: readonly GroupMeta[] = Object.freeze([]);

/** One term of leadership: replication, commit index, check-quorum, reads, transfer. Ends with the term or by stepping down. */
export class Leader {
  readonly #core: CoreState;
  #peers: readonly Progress[] = [];
  readonly #byId: (Progress | undefined)[] = [];
  readonly #match = new Float64Array(MAX_REPLICAS + 1);
  readonly #scratch = new Float64Array(MAX_REPLICAS + 1);
  readonly #reads = new ReadQueue();
  /** First index of this term: only from here on may replicas be counted (paper section 5.4.2) and reads be served. */
  readonly #termStartIndex: number;
  #heartbeatAtMs: number;
  #heartbeatDue: boolean = true;
  #transferTo: ReplicaId = 0;
  #transferDeadlineMs = 0;
  /** Own durable end at the last tick that saw it move, or saw nothing to wait for. */
  #storedSeen = 0;
  #storedSeenMs: number;

  constructor(core: CoreState) {
    this.#core = core;
    this.#termStartIndex = core.log.lastIndex + 1;
    this.#heartbeatAtMs = core.nowMs + core.config.heartbeatIntervalMs;
    this.#storedSeenMs = core.nowMs;
    this.membershipChanged();
  }

  /** Who stays keeps what is known of him; who comes is probed; who goes is forgotten, and what he stored does not count. */
  membershipChanged(): void {
    const { config, others, memberships, log, nowMs } = this.#core;
    const { learners } = memberships.current;
    this.#peers = others.map((id) => this.#byId[id] ?? new Progress(id, false, log.lastIndex + 1, config.maxInflightMessages, nowMs));
    this.#byId.length = 0;
    for (const peer of this.#peers) {
      this.#byId[peer.id] = peer;
      peer.learner = learners.includes(peer.id);
    }
    for (let id = 0; id < this.#match.length; id++) this.#match[id] = this.#byId[id]?.matchIndex ?? 0;
    if (this.#transferTo !== 0 && !this.#core.quorum.isVoter(this.#transferTo)) this.#transferTo = 0;
    this.advanceCommit();
    // Who is left may have answered already, or be this replica alone: nobody else would end the round, and all later reads wait for it.
    this.#finishReads();
  }

  /** Thesis 4.1, and the correction to it: without a committed entry of this term two leaders could change in turns and split the group. */
  get mayChangeMembership(): boolean {
    const { commitIndex, memberships } = this.#core;
    return this.#transferTo === 0 && commitIndex >= this.#termStartIndex && memberships.index <= commitIndex;
  }

  /** A committed membership without this replica: its work is done (thesis 4.2.2). */
  get isRemoved(): boolean {
    const { quorum, config, memberships, commitIndex } = this.#core;
    return !quorum.isVoter(config.id) && memberships.index <= commitIndex;
  }

  get transferTarget(): ReplicaId {
    return this.#transferTo;
  }

  /**
   * @returns why the leader must step down: a quorum was silent for an election timeout (thesis 6.2), or the own disk stored
   * nothing of what it was given for as long, and holds up everybody who waits for this leader's writes.
   */
  tick(): 'ok' | 'quorumSilent' | 'diskStuck' {
    const { nowMs, config, storedIndex, log } = this.#core;
    if (!this.quorumFresh(nowMs)) return 'quorumSilent';
    if (storedIndex === log.lastIndex || storedIndex !== this.#storedSeen) {
      this.#storedSeen = storedIndex;
      this.#storedSeenMs = nowMs;
    } else if (nowMs - this.#storedSeenMs >= config.electionTimeoutMs) {
      return 'diskStuck';
    }
    // Thesis 3.10: a target that did not take over in an election timeout is given up, and clients are served again.
    if (this.#transferTo !== 0 && nowMs >= this.#transferDeadlineMs) this.#transferTo = 0;
    if (nowMs >= this.#heartbeatAtMs) {
      this.#heartbeatDue = true;
      this.#heartbeatAtMs = nowMs + config.heartbeatIntervalMs;
    }
    return 'ok';
  }

  quorumFresh(nowMs: number): boolean {
    const { config, quorum } = this.#core;
    for (const peer of this.#peers) this.#scratch[peer.id] = peer.lastContactMs;
    this.#scratch[config.id] = nowMs;
    return quorum.reached(this.#scratch) > nowMs - config.electionTimeoutMs;
  }

  /** Bytes in the log that wait for their commit. */
  get uncommittedBytes(): number {
    const { log, commitIndex } = this.#core;
    return commitIndex === log.lastIndex ? 0 : log.endPosition - log.positionAtOrBelow(commitIndex + 1);
  }

  canPropose(sizeBytes: number): boolean {
    const { log, commitIndex, config } = this.#core;
    if (log.lastIndex < this.#termStartIndex) return true; // without the no-op nothing of older terms commits
    if (this.#transferTo !== 0) return false;
    if (commitIndex === log.lastIndex) return true;
    if (this.uncommittedBytes + sizeBytes > config.maxUncommittedBytes) return false;
    // Truncation needs exact group starts: no tail may grow out of the exact window.
    return log.exactGroupsAfter(commitIndex) < log.exactCapacity >> 1;
  }

  propose(group: GroupMeta): boolean {
    assert(group.term === this.#core.term, `proposal of term ${group.term} in term ${this.#core.term}`);
    // The bounds are for what is not laid yet (canPropose): a group that the log holds cannot be refused any more.
    this.#core.log.append(group);
    if (group.membership !== undefined) {
      assert(this.mayChangeMembership, `a second change of membership at ${group.firstIndex}`);
      this.#core.memberships.append(group.lastIndex, group.membership);
      membershipChanged(this.#core);
      this.membershipChanged();
    }
    return true;
  }

  /** Moves the commit index to what a majority stores, the own disk included, for entries of this term. */
  advanceCommit(): void {
    const core = this.#core;
    this.#match[core.config.id] = core.storedIndex;
    const index = core.quorum.reached(this.#match);
    if (index <= core.commitIndex || index < this.#termStartIndex) return;
    core.commitIndex = index;
    core.memberships.committed(index);
  }

  appendResponse(message: AppendResponse): void {
    const peer = this.#heard(message.from);
    if (peer === undefined) return;
    if (message.success) this.#acknowledged(peer, message.lastIndex);
    else this.#rejected(peer, message);
  }

  heartbeatResponse(message: HeartbeatResponse): void {
    const peer = this.#heard(message.from);
    if (peer === undefined) return;
    const { nowMs, config, log } = this.#core;
    // probe: its answer must be lost by now
    if (nowMs - peer.progressMs >= config.heartbeatIntervalMs) peer.waiting = false;
    if (message.readContext > peer.readRound) {
      peer.readRound = message.readContext;
      this.#finishReads();
    }
    if (peer.state === 'snapshot' && nowMs - peer.snapshotSentMs >= config.electionTimeoutMs) this.#requestSnapshot(peer);
    if (peer.state === 'replicate' && peer.matchIndex < log.lastIndex && nowMs - peer.progressMs >= config.heartbeatIntervalMs) {
      peer.nudgeDue = true;
      peer.progressMs = nowMs;
    }
    if (peer.id === this.#transferTo) this.#finishTransfer(peer);
  }

  snapshotResponse(message: SnapshotResponse): void {
    const peer = this.#heard(message.from);
    if (peer === undefined || peer.state !== 'snapshot' || message.index !== peer.snapshotIndex) return;
    if (message.success) {
      this.#acknowledged(peer, message.index);
    } else {
      // Asked again after the next heartbeat answer, not at once: the reason may last.
      peer.becomeProbe(message.index);
      peer.waiting = true;
      peer.progressMs = this.#core.nowMs;
    }
  }

  readIndex(context: number): void {
    // Before an own entry is committed, the commit index may lag behind what older leaders acknowledged (thesis 6.4).
    if (this.#core.commitIndex < this.#termStartIndex || !this.#reads.add(context)) {
      this.#core.outbox.reads.push({ context, index: null });
    }
  }

  transfer(to: ReplicaId): boolean {
    const peer = this.#byId[to];
    if (peer === undefined || !this.#core.quorum.isVoter(to) || this.#transferTo !== 0) return false;
    this.#transferTo = to;
    this.#transferDeadlineMs = this.#core.nowMs + this.#core.config.electionTimeoutMs;
    this.#finishTransfer(peer);
    return true;
  }

  /** Gives the lead away without waiting: to the voter that holds most. */
  handOver(): void {
    let best: Progress | null = null;
    for (const peer of this.#peers) {
      if (this.#core.quorum.isVoter(peer.id) && (best === null || peer.matchIndex > best.matchIndex)) best = peer;
    }
    if (best !== null) this.#sendTimeoutNow(best);
  }

  /** What was in flight to `id` is lost. */
  connectionLost(id: ReplicaId): void {
    const peer = this.#byId[id];
    if (peer !== undefined) peer.becomeProbe(Math.max(peer.matchIndex + 1, 1));
  }

  stop(): void {
    this.#reads.refuseAll(this.#core.outbox.reads);
  }

  progress(): PeerStatus[] {
    return this.#peers.map((peer) => peer.status());
  }

  /** End of a turn: everything that may be sent now. */
  flush(): void {
    this.#beginReads();
    for (const peer of this.#peers) {
      if (this.#heartbeatDue) this.#sendHeartbeat(peer);
      if (peer.state === 'probe') this.#probe(peer);
      else if (peer.state === 'replicate') this.#replicate(peer);
    }
    this.#heartbeatDue = false;
  }

  #heard(id: ReplicaId): Progress | undefined {
    const peer = this.#byId[id];
    if (peer !== undefined) peer.lastContactMs = this.#core.nowMs;
    return peer;
  }

  #acknowledged(peer: Progress, lastIndex: number): void {
    if (lastIndex > this.#core.log.lastIndex) return; // from a broken peer: nobody stores what was never laid
    const news = peer.acknowledged(lastIndex);
    if (peer.state === 'probe' && lastIndex >= peer.matchIndex) peer.becomeReplicate();
    if (peer.state === 'snapshot' && peer.matchIndex >= peer.snapshotIndex) peer.becomeReplicate();
    if (!news) return;
    peer.progressMs = this.#core.nowMs;
    this.#match[peer.id] = lastIndex;
    this.advanceCommit();
    if (peer.id === this.#transferTo) this.#finishTransfer(peer);
  }

  #rejected(peer: Progress, message: AppendResponse): void {
    const answersProbe = peer.state === 'probe' && peer.waiting && message.rejectedIndex === peer.probedIndex;
    if (message.rejectedIndex <= peer.matchIndex) {
      // Older than what it has acknowledged since, or it has lost that: damage took the end of its log, and it has a floor for votes (I4).
      if (!answersProbe) return;
      peer.lost();
      this.#match[peer.id] = 0;
    }
    if (peer.state === 'replicate') {
      peer.becomeProbe(peer.matchIndex + 1);
    } else if (answersProbe) {
      const { log } = this.#core;
      const agreed = log.lastIndexWithTermAtMost(message.lastIndex, message.hintTerm);
      peer.becomeProbe(Math.max(peer.matchIndex + 1, Math.min(message.rejectedIndex, agreed + 1)));
    }
  }

  #beginReads(): void {
    if (!this.#reads.canBegin) return;
    this.#reads.begin(this.#core.commitIndex);
    this.#heartbeatDue = true;
    this.#finishReads();
  }

  #finishReads(): void {
    const round = this.#reads.openRound;
    if (round === 0) return;
    for (const peer of this.#peers) this.#scratch[peer.id] = peer.readRound;
    this.#scratch[this.#core.config.id] = round;
    if (this.#core.quorum.reached(this.#scratch) >= round) this.#reads.finish(this.#core.outbox.reads);
  }

  #finishTransfer(peer: Progress): void {
    if (peer.matchIndex === this.#core.log.lastIndex) this.#sendTimeoutNow(peer);
  }

  #sendTimeoutNow(peer: Progress): void {
    const { outbox, config, term } = this.#core;
    outbox.messages.push({ type: 'timeoutNow', from: config.id, to: peer.id, term });
  }

  #sendHeartbeat(peer: Progress): void {
    const { outbox, config, term, commitIndex } = this.#core;
    const usable = Math.min(peer.matchIndex, commitIndex);
    peer.sentCommit = Math.max(peer.sentCommit, usable);
    outbox.messages.push({
      type: 'heartbeatRequest',
      from: config.id,
      to: peer.id,
      term,
      commitIndex: usable,
      readContext: this.#reads.openRound,
    });
  }

  #probe(peer: Progress): void {
    const { log, config, nowMs } = this.#core;
    // The first probe of a term takes the no-op along: the driver lays it in the same turn.
    if (peer.waiting || log.lastIndex < this.#termStartIndex) return;
    if (peer.nextIndex < log.firstIndex) {
      this.#requestSnapshot(peer);
      return;
    }
    const from = log.boundaryAtOrBelow(peer.nextIndex);
    peer.waiting = true;
    peer.progressMs = nowMs;
    peer.probedIndex = from - 1;
    this.#sendAppend(peer, from, from > log.lastIndex ? from - 1 : log.rangeEnd(from, config.maxAppendBytes));
  }

  #replicate(peer: Progress): void {
    const { log, config, commitIndex } = this.#core;
    let sent = false;
    while (peer.nextIndex <= log.lastIndex && !peer.windowIsFull) {
      if (peer.nextIndex < log.firstIndex) {
        this.#requestSnapshot(peer);
        return;
      }
      // Rounds down when a slow follower's next group has left the exact window: it ignores what it holds.
      const from = log.boundaryAtOrBelow(peer.nextIndex);
      const roomBytes = config.maxInflightBytes - peer.inflightBytes;
      const to = log.rangeEnd(from, Math.min(config.maxAppendBytes, Math.max(roomBytes, 0)));
      const sizeBytes = log.rangeBytes(from, to);
      // A single group larger than the window goes when nothing else is out.
      if (sizeBytes > roomBytes && peer.inflightMessages > 0) break;
      this.#sendAppend(peer, from, to);
      peer.sent(to, sizeBytes);
      sent = true;
    }
    const usable = Math.min(commitIndex, peer.nextIndex - 1);
    if (!sent && (peer.nudgeDue || usable > peer.sentCommit)) {
      if (peer.nextIndex < log.firstIndex) this.#requestSnapshot(peer);
      else this.#sendAppend(peer, peer.nextIndex, peer.nextIndex - 1);
    }
    peer.nudgeDue = false;
  }

  #sendAppend(peer: Progress, firstIndex: number, lastIndex: number): void {
    const { outbox, config, term, log, commitIndex } = this.#core;
    const prevTerm = log.termAt(firstIndex - 1);
    assert(prevTerm !== null, `no term is known at ${firstIndex - 1}`);
    peer.sentCommit = Math.max(peer.sentCommit, Math.min(commitIndex, lastIndex));
    outbox.messages.push({
      type: 'appendRequest',
      from: config.id,
      to: peer.id,
      term,
      prevIndex: firstIndex - 1,
      prevTerm,
      firstIndex,
      lastIndex,
      commitIndex,
      groups: NO_GROUPS,
    });
  }

  #requestSnapshot(peer: Progress): void {
    const { outbox, config, term, log, nowMs } = this.#core;
    peer.becomeSnapshot(log.startIndex, nowMs);
    outbox.messages.push({
      type: 'snapshotRequest',
      from: config.id,
      to: peer.id,
      term,
      index: log.startIndex,
      lastTerm: log.startTerm,
    });
  }
}
