import type { Clock } from '../io/clock.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { RaftCore, ReplicaId } from '../raft/types.ts';
import type { PeerIdentity } from './formation.ts';
import { type GroupMembership, leaving, type Member, memberOf, promoting, removing, withLearner } from './membership.ts';

/** A voter whose place a replica with another directory has taken is given up after so long: the old one may be about to come back. */
const REPLACE_AFTER_MS = 3_000;
/** Changes that operators asked for and that wait for each other; more are refused with TOO_MANY. */
const MAX_WAITING = 16;

export interface MembershipChangesPorts {
  readonly id: ReplicaId;
  readonly clock: Clock;
  readonly raft: RaftCore;
  /** Every replica of the group can read membership entries. */
  mayChange(): boolean;
  /** Lays the entry. @returns false: not now */
  propose(membership: GroupMembership): boolean;
  /** The membership is an operator's decision that is not in the log yet. */
  readonly forced: boolean;
  /** Now it is, for good. */
  forcedIsKept(): void;
  /** Who answers under this id over both links now. */
  identity(id: ReplicaId): PeerIdentity | null;
  /** A replica that is to be added is dialled, too. */
  dial(members: readonly Pick<Member, 'replicaId' | 'host' | 'port'>[]): void;
  onEvent(name: string, fields: Record<string, string | number>): void;
}

interface Wish {
  readonly kind: 'add' | 'remove';
  readonly replicaId: ReplicaId;
  readonly address: Pick<Member, 'host' | 'port'> | null;
  resolve(): void;
  reject(error: LedgerError): void;
}

/**
 * What a leader does about its group's membership, one step at a time, each from what the log says now, so that another leader goes
 * on where this one ended: leave a joint membership; let a learner vote that holds everything; give up a voter whose directory
 * was lost and take its successor in; and what operators ask for (thesis 4.2.1, 4.3; DESIGN.md, I5).
 */
export class MembershipChanges {
  readonly #ports: MembershipChangesPorts;
  #wishes: Wish[] = [];
  /** Committed at the last look: who holds that much is in step. */
  #committedBefore = Number.POSITIVE_INFINITY;
  /** Since when another directory answers under an id, monotonic ms. */
  readonly #strangeSince = new Map<ReplicaId, number>();

  /** The decision is to be laid down; from then on the index of its entry. */
  #forced: true | number | null;

  constructor(ports: MembershipChangesPorts) {
    this.#ports = ports;
    this.#forced = ports.forced ? true : null;
  }

  /** Resolves when it votes. Rejects with NOT_LEADER, BAD_REQUEST, TOO_MANY. */
  add(member: Pick<Member, 'replicaId' | 'host' | 'port'>): Promise<void> {
    const { host, port } = member;
    return this.#wish('add', member.replicaId, { host, port });
  }

  /** Resolves when it is gone; so does removing somebody who is not there. Rejects as add(). */
  remove(replicaId: ReplicaId): Promise<void> {
    return this.#wish('remove', replicaId, null);
  }

  /** Every tick, whatever the role. */
  tick(nowMs: number): void {
    this.#settle();
    const { raft } = this.#ports;
    if (raft.role !== 'leader') {
      this.#strangeSince.clear();
      this.#committedBefore = Number.POSITIVE_INFINITY;
      for (const wish of this.#wishes.splice(0)) wish.reject(new LedgerError('NOT_LEADER', 'another replica leads now'));
      return;
    }
    if (this.#forced !== null) {
      this.#keepForced();
    } else if (raft.mayChangeMembership && this.#ports.mayChange()) {
      const next = this.#next(raft.membership as GroupMembership, nowMs);
      if (next !== null && this.#ports.propose(next)) this.#tell(next);
    }
    this.#committedBefore = raft.commitIndex;
  }

  /** Before it is in the log a restart would find the former membership there; so it comes before anything else. */
  #keepForced(): void {
    const { raft, mayChange, propose, forcedIsKept } = this.#ports;
    if (this.#forced === true) {
      if (raft.mayChangeMembership && mayChange() && propose(raft.membership as GroupMembership)) this.#forced = raft.membershipIndex;
    } else if (this.#forced !== null && raft.commitIndex >= this.#forced) {
      this.#forced = null;
      forcedIsKept();
    }
  }

  #wish(kind: Wish['kind'], replicaId: ReplicaId, address: Wish['address']): Promise<void> {
    const { raft, mayChange } = this.#ports;
    if (raft.role !== 'leader') return Promise.reject(new LedgerError('NOT_LEADER'));
    if (!mayChange()) return Promise.reject(new LedgerError('FEATURE_LEVEL', 'a replica of the group cannot read membership entries'));
    if (this.#wishes.length >= MAX_WAITING) return Promise.reject(new LedgerError('TOO_MANY', 'membership changes'));
    const refusal = this.#refusal(kind, replicaId, address);
    if (refusal !== null) return Promise.reject(new LedgerError('BAD_REQUEST', refusal));
    return new Promise((resolve, reject) => {
      this.#wishes.push({ kind, replicaId, address, resolve, reject });
      if (address !== null) this.#ports.dial([{ replicaId, ...address }]);
      this.#settle();
    });
  }

  #refusal(kind: Wish['kind'], replicaId: ReplicaId, address: Wish['address']): string | null {
    const now = this.#ports.raft.membership as GroupMembership;
    if (kind === 'remove') return now.voters.length === 1 && now.voters[0] === replicaId ? 'the last voter cannot be removed' : null;
    const known = memberOf(now, replicaId);
    const taken =
      known !== undefined && !now.replacing.includes(replicaId) && (known.host !== address?.host || known.port !== address.port);
    return taken ? `replica ${replicaId} is a member at ${known.host}:${known.port}` : null;
  }

  #settle(): void {
    const now = this.#ports.raft.membership as GroupMembership;
    if (now.outgoing !== null || this.#ports.raft.membershipIndex > this.#ports.raft.commitIndex) return;
    const done = ({ kind, replicaId }: Wish): boolean =>
      kind === 'add' ? now.voters.includes(replicaId) : !now.voters.includes(replicaId) && !now.learners.includes(replicaId);
    const finished = this.#wishes.filter(done);
    this.#wishes = this.#wishes.filter((wish) => !done(wish));
    for (const wish of finished) wish.resolve();
  }

  /** The next step from here, null: everything is as it should be. */
  #next(now: GroupMembership, nowMs: number): GroupMembership | null {
    if (now.outgoing !== null) return leaving(now);
    return this.#wished(now) ?? this.#promoted(now) ?? this.#replaced(now, nowMs) ?? this.#returned(now);
  }

  #wished(now: GroupMembership): GroupMembership | null {
    for (const wish of [...this.#wishes]) {
      const { kind, replicaId, address } = wish;
      // Asked again: what was allowed when it was wished for may by now leave nobody.
      const refusal = this.#refusal(kind, replicaId, address);
      if (refusal !== null) {
        this.#wishes.splice(this.#wishes.indexOf(wish), 1);
        wish.reject(new LedgerError('BAD_REQUEST', refusal));
        continue;
      }
      if (kind === 'remove') return removing(now, replicaId, false);
      const identity = this.#ports.identity(replicaId);
      if (address === null || now.voters.includes(replicaId) || now.learners.includes(replicaId)) continue;
      if (identity === null) {
        // A membership that came since has only its members dialled.
        this.#ports.dial([{ replicaId, ...address }]);
        continue;
      }
      return withLearner(now, { replicaId, incarnation: identity.incarnation, ...address });
    }
    return null;
  }

  /** A learner that holds what was committed a moment ago keeps up: with its vote the group does not stop to wait for it. */
  #promoted(now: GroupMembership): GroupMembership | null {
    const ready = this.#ports.raft
      .progress()
      .find(
        ({ id, learner, state, matchIndex }) =>
          learner && state === 'replicate' && matchIndex >= this.#committedBefore && this.#is(now, id),
      );
    return ready === undefined ? null : promoting(now, ready.id);
  }

  /** The member itself answers under its id. */
  #is(now: GroupMembership, id: ReplicaId): boolean {
    return this.#ports.identity(id)?.incarnation === memberOf(now, id)?.incarnation;
  }

  /** Somebody else answers under a member's id: its directory was emptied or shortened, and what it acknowledged may be gone. */
  #replaced(now: GroupMembership, nowMs: number): GroupMembership | null {
    for (const id of [...now.voters, ...now.learners]) {
      if (id === this.#ports.id || this.#ports.identity(id) === null || this.#is(now, id)) {
        this.#strangeSince.delete(id);
        continue;
      }
      const since = this.#strangeSince.get(id) ?? nowMs;
      this.#strangeSince.set(id, since);
      if (nowMs - since >= REPLACE_AFTER_MS) return removing(now, id, true);
    }
    return null;
  }

  #returned(now: GroupMembership): GroupMembership | null {
    for (const id of now.replacing) {
      const identity = this.#ports.identity(id);
      const before = memberOf(now, id);
      if (identity === null || before === undefined || now.voters.includes(id) || now.learners.includes(id)) continue;
      return withLearner(now, { ...before, incarnation: identity.incarnation });
    }
    return null;
  }

  #tell({ voters, learners, outgoing }: GroupMembership): void {
    const list = (ids: readonly number[]): string => ids.join(',');
    this.#ports.onEvent('membership', { voters: list(voters), learners: list(learners), outgoing: list(outgoing ?? []) });
  }
}
