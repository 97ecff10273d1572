import { assert } from '../base/assert.ts';
import { type CoreState, membershipChanged } from './core-state.ts';
import type { MembershipAt } from './memberships.ts';
import type { AppendRequest, GroupMeta, HeartbeatRequest, SnapshotRequest } from './types.ts';

/** The receiver's side of AppendEntries (paper, figure 2), heartbeats and snapshots. The caller has dealt with terms. */
export class Follower {
  readonly #core: CoreState;
  /** Up to here the own log equals that of the leader of this term. Only this much may be acknowledged or committed. */
  #matchedIndex = 0;
  /** Last index acknowledged to this leader over this connection. */
  #acknowledgedIndex = -1;
  #ackDue: boolean = false;
  /** Commit index that this term's leader told with an append, whatever is held of it here; -1: it sent none. */
  #leaderCommitIndex = -1;
  #installing: { readonly index: number; readonly lastTerm: number } | null = null;

  constructor(core: CoreState) {
    this.#core = core;
  }

  get isInstalling(): boolean {
    return this.#installing !== null;
  }

  /** Everything is here that the leader knew to be committed when it last spoke of its log. */
  get holdsCommitted(): boolean {
    return this.#leaderCommitIndex >= 0 && this.#core.commitIndex >= this.#leaderCommitIndex;
  }

  /** A new term: nothing is known about its leader's log. */
  forgetLeader(): void {
    this.#leaderCommitIndex = -1;
    this.#matchedIndex = 0;
    this.#acknowledgedIndex = -1;
    this.#ackDue = false;
  }

  /** The connection broke: an acknowledgement may be lost, so the next append is answered whatever it says. */
  connectionLost(): void {
    this.#acknowledgedIndex = -1;
  }

  append(message: AppendRequest): void {
    // The log is being replaced: entries have no place to go. Silence, and the leader tries again.
    if (this.#installing !== null || !isWellFormed(message)) return;
    const { log } = this.#core;
    this.#leaderCommitIndex = Math.max(this.#leaderCommitIndex, message.commitIndex);
    if (!this.#holds(message.prevIndex, message.prevTerm)) {
      this.#reject(message);
      return;
    }
    const fresh = this.#firstNotHeld(message.groups);
    if (fresh < message.groups.length) this.#take(message.groups, fresh);
    const lastNew = message.groups.length > 0 ? message.lastIndex : message.prevIndex;
    this.#matchedIndex = Math.max(this.#matchedIndex, Math.min(lastNew, log.lastIndex));
    const before = this.#core.commitIndex;
    this.#commitTo(message.commitIndex);
    if (fresh < message.groups.length) return; // answered when stored
    // The leader only told how far it committed, and knows the rest already: no answer, they would double the traffic.
    const news = message.groups.length === 0 && this.#core.commitIndex > before && this.#acknowledgedIndex >= message.prevIndex;
    if (!news) this.#ackDue = true;
  }

  heartbeat(message: HeartbeatRequest): void {
    this.#commitTo(message.commitIndex);
    const { outbox, config, term } = this.#core;
    outbox.messages.push({
      type: 'heartbeatResponse',
      from: config.id,
      to: message.from,
      term,
      readContext: message.readContext,
    });
  }

  snapshot(message: SnapshotRequest): void {
    const { log, outbox } = this.#core;
    if (this.#installing !== null) return;
    if (message.index <= this.#core.commitIndex || log.termAt(message.index) === message.lastTerm) {
      // Nothing is missing: say how far this log goes, the leader continues from there.
      this.#matchedIndex = Math.max(this.#matchedIndex, message.index);
      this.#commitTo(message.index);
      this.#ackDue = true;
      return;
    }
    this.#installing = { index: message.index, lastTerm: message.lastTerm };
    outbox.install = { from: message.from, index: message.index, lastTerm: message.lastTerm };
  }

  installed(index: number, term: number, position: number, membership: MembershipAt | undefined): void {
    const core = this.#core;
    assert(this.#installing?.index === index && this.#installing.lastTerm === term, `no snapshot at ${index} was asked for`);
    assert(index > core.commitIndex, `snapshot at ${index} would undo commits up to ${core.commitIndex}`);
    this.#installing = null;
    core.log.reset(index, term, position);
    core.storedIndex = index;
    core.commitIndex = index;
    const { memberships } = core;
    memberships.reset(membership ?? { index: Math.min(memberships.index, index), membership: memberships.current });
    membershipChanged(core);
    this.#matchedIndex = index;
    this.#answerSnapshot(index, true);
  }

  installFailed(index: number): void {
    assert(this.#installing?.index === index, `no snapshot at ${index} was asked for`);
    this.#installing = null;
    this.#answerSnapshot(index, false);
  }

  /** The own disk moved: acknowledge what is both stored and known to be equal. */
  stored(): void {
    if (Math.min(this.#core.storedIndex, this.#matchedIndex) > this.#acknowledgedIndex) this.#ackDue = true;
  }

  /** One cumulative acknowledgement for everything of this turn. */
  flush(): void {
    const { outbox, config, term, leader, storedIndex } = this.#core;
    if (!this.#ackDue || leader === 0) return;
    this.#ackDue = false;
    this.#acknowledgedIndex = Math.min(storedIndex, this.#matchedIndex);
    outbox.messages.push({
      type: 'appendResponse',
      from: config.id,
      to: leader,
      term,
      success: true,
      lastIndex: this.#acknowledgedIndex,
      hintTerm: 0,
      rejectedIndex: 0,
    });
  }

  #holds(index: number, term: number): boolean {
    const own = this.#core.log.termAt(index);
    if (index > this.#core.commitIndex) return own === term;
    // Committed here, so the leader has the same (leader completeness), also where the own log was cut already.
    assert(own === null || own === term, `committed entry ${index} has term ${own} here and ${term} at the leader`);
    return true;
  }

  #firstNotHeld(groups: readonly GroupMeta[]): number {
    const { log, commitIndex } = this.#core;
    for (let at = 0; at < groups.length; at += 1) {
      const group = groups[at] as GroupMeta;
      if (group.lastIndex <= commitIndex) continue;
      // Same index and term: the same entry, so the same group.
      if (log.termAt(group.lastIndex) !== group.term) return at;
    }
    return groups.length;
  }

  #take(groups: readonly GroupMeta[], from: number): void {
    const { log, outbox } = this.#core;
    const first = (groups[from] as GroupMeta).firstIndex;
    let truncateFrom: number | null = null;
    if (first <= log.lastIndex) {
      assert(first > this.#core.commitIndex, `the leader's log contradicts the committed entry ${first}`);
      log.truncateFrom(first);
      if (this.#core.memberships.truncateFrom(first)) membershipChanged(this.#core);
      this.#core.storedIndex = Math.min(this.#core.storedIndex, first - 1);
      truncateFrom = first;
    }
    for (let at = from; at < groups.length; at += 1) this.#append(groups[at] as GroupMeta);
    outbox.toStore(truncateFrom, from === 0 ? groups : groups.slice(from));
  }

  #append(group: GroupMeta): void {
    this.#core.log.append(group);
    if (group.membership === undefined) return;
    this.#core.memberships.append(group.lastIndex, group.membership);
    membershipChanged(this.#core);
  }

  /** Never beyond what is known to be equal: a heartbeat may outrun the entries. */
  #commitTo(index: number): void {
    const known = Math.min(index, this.#matchedIndex);
    if (known <= this.#core.commitIndex) return;
    this.#core.commitIndex = known;
    this.#core.memberships.committed(known);
  }

  /** Fast back-up (paper section 5.3): skip to the last entry here that the leader's log may hold. */
  #reject(message: AppendRequest): void {
    const { log, outbox, config, term } = this.#core;
    const hint = log.lastIndexWithTermAtMost(Math.min(message.prevIndex, log.lastIndex), message.prevTerm);
    // What is committed is held by every leader: never ask for less.
    const hintIndex = Math.max(hint, this.#core.commitIndex);
    outbox.messages.push({
      type: 'appendResponse',
      from: config.id,
      to: message.from,
      term,
      success: false,
      lastIndex: hintIndex,
      hintTerm: log.termAt(hintIndex) ?? 0,
      rejectedIndex: message.prevIndex,
    });
  }

  #answerSnapshot(index: number, success: boolean): void {
    const { outbox, config, term, leader } = this.#core;
    if (leader === 0) return;
    outbox.messages.push({ type: 'snapshotResponse', from: config.id, to: leader, term, index, success });
  }
}

/** Whole groups, back to back, as announced. Anything else comes from a broken peer and is dropped. */
function isWellFormed(message: AppendRequest): boolean {
  const { groups, firstIndex, lastIndex, prevIndex } = message;
  if (groups.length === 0) return lastIndex < firstIndex;
  let next = firstIndex;
  let position = 0;
  let term = message.prevTerm;
  for (const group of groups) {
    if (group.firstIndex !== next || group.lastIndex < next || group.position < position) return false;
    if (group.term < term || group.term > message.term) return false;
    next = group.lastIndex + 1;
    position = group.position + group.sizeBytes;
    term = group.term;
  }
  return firstIndex === prevIndex + 1 && next === lastIndex + 1;
}
