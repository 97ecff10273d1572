import type { ErrorCode } from '../protocol/errors.ts';
import { errorCodeOf } from '../protocol/errors.ts';
import { noTopicText } from '../protocol/names.ts';
import type { Assignment, GroupHeartbeatRequest, GroupJoinRequest, GroupMemberRequest, GroupReleaseRequest } from '../protocol/requests.ts';
import { Op, PushKind } from '../protocol/requests.ts';
import type { QueueOffset } from './commands.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { joinCommand, joinRefusal } from './group-join.ts';
import type { GroupState } from './groups.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { Session } from './session.ts';
import { queueKey } from './topics.ts';

/** A release before the member knew where to start: the queue goes, no offset goes with it. */
const NO_OFFSET = -1;

/** A refused expiry or revocation is proposed again after this. */
const RETRY_MS = 1_000;

/** A member that this leader hears of. */
class Membership implements Deadline {
  readonly group: string;
  readonly member: string;
  readonly #expire: (membership: Membership) => void;
  joinIndex: number;
  timeoutMs: number;
  /** null: not heard since this leader began. */
  session: Session | null = null;
  /** Epoch of the assignment that the member was told last. */
  toldEpoch = 0;
  dueMs = 0;
  slot = -1;

  constructor(group: string, member: string, joinIndex: number, timeoutMs: number, expire: (membership: Membership) => void) {
    this.group = group;
    this.member = member;
    this.joinIndex = joinIndex;
    this.timeoutMs = timeoutMs;
    this.#expire = expire;
  }

  due(): void {
    this.#expire(this);
  }
}

/** A queue whose owner was told to let go. */
class Revocation implements Deadline {
  readonly group: string;
  readonly topicId: number;
  readonly queueId: number;
  readonly epoch: number;
  readonly #expire: (revocation: Revocation) => void;
  dueMs = 0;
  slot = -1;

  constructor(group: string, topicId: number, queueId: number, epoch: number, expire: (revocation: Revocation) => void) {
    this.group = group;
    this.topicId = topicId;
    this.queueId = queueId;
    this.epoch = epoch;
    this.#expire = expire;
  }

  due(): void {
    this.#expire(this);
  }
}

/**
 * Sessions of consumer group members: the leader's memory (I7; F06, F07). The log says who is a member; this says who is
 * still heard of, and proposes what follows. A new leader grants everybody one full session.
 */
export class GroupSessions {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #memberships = new Map<string, Map<string, Membership>>();
  /** So that a closed connection costs its own members, not all. */
  readonly #bySession = new Map<Session, Set<Membership>>();
  readonly #revocations = new Map<string, Map<number, Revocation>>();
  readonly #changed = new Set<string>();

  constructor(context: BrokerContext, commands: PendingCommands) {
    this.#context = context;
    this.#commands = commands;
  }

  join(session: Session, requestId: number, request: GroupJoinRequest): void {
    const { limits } = this.#context;
    const refusal = joinRefusal(request);
    if (refusal !== null) {
      session.refuse(requestId, refusal.code, refusal.detail);
      return;
    }
    const wantedMs = request.sessionTimeoutMs === 0 ? limits.defaultSessionTimeoutMs : request.sessionTimeoutMs;
    const sessionTimeoutMs = Math.min(Math.max(wantedMs, limits.minSessionTimeoutMs), limits.maxSessionTimeoutMs);
    const { group, member } = request;
    const command = joinCommand(request, session, sessionTimeoutMs, this.#context.state.featureLevel);
    const { topics } = command;
    const arrivedMs = this.#context.clock.monotonicMs();
    const isNew = this.#context.state.groups.named(group) === undefined;
    this.#commands.propose(command, (error, _, index) => {
      if (error !== null) {
        session.refuse(requestId, error, error === 'TOPIC_NOT_FOUND' ? topics.map(noTopicText).join(', ') : undefined);
        return;
      }
      if (isNew) this.#context.metrics.groupCreatedMs(this.#context.clock.monotonicMs() - arrivedMs);
      const membership = this.#membership(group, member, index, sessionTimeoutMs);
      membership.joinIndex = index;
      this.#heard(membership, session);
      const assignment = this.#assignment(group, member);
      membership.toldEpoch = assignment?.epoch ?? 0;
      if (assignment === null) session.refuse(requestId, 'UNKNOWN_MEMBER');
      else session.respond(Op.groupJoin, requestId, assignment);
    });
  }

  /** Sessions of the members that are connected here. */
  *connected(): Generator<{ readonly group: string; readonly session: Session }> {
    for (const [group, members] of this.#memberships) {
      for (const { session } of members.values()) if (session !== null) yield { group, session };
    }
  }

  heartbeat(session: Session, requestId: number, request: GroupHeartbeatRequest): void {
    const refusal = this.#context.leadership.refusal();
    const { groups, featureLevel } = this.#context.state;
    const member = groups.named(request.group)?.members.get(request.member);
    // It joined before the group's level was raised: joining again under its name changes nothing else.
    const outgrown = request.retries === true && member?.retries === false && featureLevel >= FEATURE_LEVELS.messaging;
    if (refusal !== null || member === undefined || outgrown) {
      session.refuse(requestId, refusal ?? 'UNKNOWN_MEMBER');
      return;
    }
    const membership = this.#membership(request.group, request.member, member.joinIndex, member.sessionTimeoutMs);
    this.#heard(membership, session);
    const assignment = this.#assignment(request.group, request.member);
    const news = assignment !== null && assignment.epoch !== request.epoch ? assignment : null;
    membership.toldEpoch = assignment?.epoch ?? 0;
    session.respond(Op.groupHeartbeat, requestId, { assignment: news });
  }

  leave(session: Session, requestId: number, request: GroupMemberRequest): void {
    const { group, member } = request;
    this.#commands.propose({ type: 'groupLeave', group, member }, (error) => {
      if (error !== null) session.refuse(requestId, error);
      else session.respond(Op.groupLeave, requestId, {});
    });
  }

  release(session: Session, requestId: number, request: GroupReleaseRequest): void {
    const { state } = this.#context;
    const queues: QueueOffset[] = [];
    for (const { topic: name, queueId, offset, epoch } of request.queues) {
      const topic = state.topics.named(name);
      if (topic === undefined || !Number.isSafeInteger(offset) || offset < NO_OFFSET) {
        if (topic === undefined) session.refuse(requestId, 'TOPIC_NOT_FOUND', noTopicText(name));
        else session.refuse(requestId, 'BAD_REQUEST');
        return;
      }
      queues.push([topic.id, queueId, offset, epoch]);
    }
    this.#commands.propose({ type: 'groupRelease', group: request.group, member: request.member, queues }, (error, results) => {
      const code = error ?? refusedRelease(results);
      if (code !== null) session.refuse(requestId, code);
      else session.respond(Op.groupRelease, requestId, {});
    });
  }

  /** Silence may be a lost connection that comes back: the member has a grace to be heard over another one. */
  closed(session: Session): void {
    const { closeGraceMs } = this.#context.limits;
    const now = this.#context.clock.monotonicMs();
    for (const membership of this.#bySession.get(session) ?? []) {
      membership.session = null;
      if (membership.dueMs - now > closeGraceMs) this.#context.deadlines.set(membership, closeGraceMs);
    }
    this.#bySession.delete(session);
  }

  /** From apply. The members are told at the end of the run. */
  groupChanged(group: string): void {
    this.#changed.add(group);
  }

  runApplied(): void {
    if (this.#changed.size === 0) return;
    const changed = [...this.#changed];
    this.#changed.clear();
    if (!this.#context.leadership.ready) return;
    for (const name of changed) this.#follow(name);
  }

  /** Full sessions for all members, full time-outs for all revocations under way. */
  becameReady(): void {
    for (const group of this.#context.state.groups.all()) this.#follow(group.name);
  }

  leadershipLost(): void {
    for (const members of this.#memberships.values()) for (const membership of members.values()) this.#context.deadlines.remove(membership);
    for (const queues of this.#revocations.values()) for (const revocation of queues.values()) this.#context.deadlines.remove(revocation);
    this.#memberships.clear();
    this.#bySession.clear();
    this.#revocations.clear();
    this.#changed.clear();
  }

  /** Brings the leader's memory of a group in line with the log's. */
  #follow(name: string): void {
    const group = this.#context.state.groups.named(name);
    if (group === undefined) return;
    for (const membership of [...(this.#memberships.get(name)?.values() ?? [])]) {
      if (!group.members.has(membership.member)) this.#forget(membership);
    }
    for (const member of group.members.values()) {
      const membership = this.#membership(name, member.name, member.joinIndex, member.sessionTimeoutMs);
      if (membership.session === null || membership.session.closed || membership.toldEpoch === group.epoch) continue;
      const assignment = this.#assignment(name, member.name);
      if (assignment === null) continue;
      membership.toldEpoch = assignment.epoch;
      membership.session.push(PushKind.assignment, assignment);
    }
    this.#followRevocations(group);
  }

  #followRevocations(group: GroupState): void {
    const known = this.#revocations.get(group.name) ?? new Map<number, Revocation>();
    for (const { topicId, queueId, owner, ownerEpoch, target } of group.owned.values()) {
      const key = queueKey(topicId, queueId);
      const old = known.get(key);
      const revoking = owner !== target;
      if (old !== undefined && (!revoking || old.epoch !== ownerEpoch)) {
        this.#context.deadlines.remove(old);
        known.delete(key);
      }
      if (!revoking || old?.epoch === ownerEpoch) continue;
      const revocation = new Revocation(group.name, topicId, queueId, ownerEpoch, (late) => this.#revokeTimedOut(late));
      known.set(key, revocation);
      this.#context.deadlines.set(revocation, this.#context.limits.revokeTimeoutMs);
    }
    if (known.size === 0) this.#revocations.delete(group.name);
    else this.#revocations.set(group.name, known);
  }

  #revokeTimedOut({ group, topicId, queueId, epoch }: Revocation): void {
    const key = queueKey(topicId, queueId);
    this.#commands.propose({ type: 'groupRevokeTimeout', group, topicId, queueId, epoch }, (error) => {
      const late = this.#revocations.get(group)?.get(key);
      if (error !== null && late !== undefined && late.epoch === epoch) this.#context.deadlines.set(late, RETRY_MS);
    });
  }

  #expired(membership: Membership): void {
    const { group, member, joinIndex } = membership;
    this.#context.metrics.event('group member expired', { group, member });
    this.#commands.propose({ type: 'groupExpire', group, member, joinIndex }, (error) => {
      const same = this.#memberships.get(group)?.get(member) === membership;
      if (error !== null && same && membership.slot < 0) this.#context.deadlines.set(membership, RETRY_MS);
    });
  }

  #membership(group: string, member: string, joinIndex: number, timeoutMs: number): Membership {
    let members = this.#memberships.get(group);
    if (members === undefined) {
      members = new Map();
      this.#memberships.set(group, members);
    }
    let membership = members.get(member);
    if (membership === undefined) {
      membership = new Membership(group, member, joinIndex, timeoutMs, (late) => this.#expired(late));
      members.set(member, membership);
      this.#context.deadlines.set(membership, timeoutMs);
    }
    membership.timeoutMs = timeoutMs;
    membership.joinIndex = joinIndex;
    return membership;
  }

  #heard(membership: Membership, session: Session): void {
    if (session.closed) return;
    if (membership.session !== session) this.#bind(membership, session);
    this.#context.deadlines.set(membership, membership.timeoutMs);
  }

  #bind(membership: Membership, session: Session | null): void {
    const before = membership.session;
    const others = before === null ? undefined : this.#bySession.get(before);
    if (before !== null && others?.delete(membership) === true && others.size === 0) this.#bySession.delete(before);
    membership.session = session;
    if (session === null) return;
    const members = this.#bySession.get(session);
    if (members === undefined) this.#bySession.set(session, new Set([membership]));
    else members.add(membership);
  }

  #forget(membership: Membership): void {
    this.#context.deadlines.remove(membership);
    this.#bind(membership, null);
    const members = this.#memberships.get(membership.group);
    members?.delete(membership.member);
    if (members?.size === 0) this.#memberships.delete(membership.group);
  }

  #assignment(groupName: string, member: string): Assignment | null {
    const group = this.#context.state.groups.named(groupName);
    if (group?.members.has(member) !== true) return null;
    const mine = [...group.owned.values()].filter(({ owner }) => owner === member);
    const topicOf = (topicId: number): string => this.#context.state.topics.withId(topicId)?.name ?? '';
    return {
      group: groupName,
      member,
      epoch: group.epoch,
      queues: mine.map(({ topicId, queueId, ownerEpoch }) => ({
        topic: topicOf(topicId),
        queueId,
        committedOffset: group.offsets.get(queueKey(topicId, queueId)) ?? -1,
        epoch: ownerEpoch,
      })),
      revoking: mine.filter(({ target }) => target !== member).map(({ topicId, queueId }) => ({ topic: topicOf(topicId), queueId })),
    };
  }
}

/** A queue that is somebody else's by now was let go in time or revoked: the release is done, but its offset was not taken. */
function refusedRelease(results: readonly number[]): ErrorCode | null {
  const error = results.find((result) => result !== 0);
  return error === undefined ? null : errorCodeOf(error);
}
