import type { ErrorCode } from '../protocol/errors.ts';
import { ERRORS } from '../protocol/errors.ts';
import { retryTopicOf } from '../protocol/names.ts';
import { assign } from './assignment/assign.ts';
import type { AssignableMember, AssignableQueue, AssignmentPlan } from './assignment/types.ts';
import type { GatheredCommit, GroupJoin, GroupJoinBy, QueueOffset } from './commands.ts';
import { StateLimits } from './limits.ts';
import type { TopicState, Topics } from './topics.ts';
import { queueKey, topicIdOf } from './topics.ts';

export interface MemberState extends AssignableMember {
  readonly address: string;
  /** Sorted. */
  readonly topics: readonly string[];
  readonly sessionTimeoutMs: number;
  /** Index of its last join: tells sessions of the same name apart. */
  readonly joinIndex: number;
  /** It may own the group's %RETRY% queue. */
  readonly retries: boolean;
  /** What it filters by at the broker; NO_FILTER_HASH: not said. */
  readonly filterHash: number;
}

export interface OwnedQueue {
  readonly topicId: number;
  readonly queueId: number;
  /** '' = nobody. */
  owner: string;
  /** Index of the entry that made the owner: grows for ever, also over a group that was forgotten and made again. */
  ownerEpoch: number;
  /** Who should own it. Differs from the owner while it is being revoked. */
  target: string;
}

export interface GroupState {
  readonly name: string;
  /** Index of the entry of the last change of members, owners or targets. */
  epoch: number;
  /** What the members agreed on; of the last ones, when there are none. */
  plan: AssignmentPlan;
  readonly members: Map<string, MemberState>;
  readonly owned: Map<number, OwnedQueue>;
  /** Next offset to be consumed, by queue. */
  readonly offsets: Map<number, number>;
}

/** Hears of committed offsets, in log order. */
export interface OffsetListener {
  /** Everything below `offset` is done. */
  committed(group: GroupState, key: number, offset: number): void;
  /** The offset was moved either way: what is at it and behind it is to be done again. */
  reset(group: GroupState, key: number): void;
}

const OK = 0;

/** Of a group before its first member, and of joins that name nothing else. */
export const STICKY: AssignmentPlan = { strategy: 'sticky', brokerZones: [], machineRooms: [] };

/**
 * Consumer groups: members, owners and offsets, all in the log (I7; F06, F07, F18, F21).
 *
 * A queue changes hands only when its owner released it, left, expired or was revoked by time-out, and each ownership has
 * its own epoch: pulls and commits of an earlier one are refused. So there are never two valid owners, whoever sleeps.
 */
export class Groups {
  readonly #topics: Topics;
  readonly #brokerName: string;
  readonly #byName = new Map<string, GroupState>();
  readonly #listener: OffsetListener;
  /** Offsets over all groups: bounded. */
  #offsetCount = 0;

  constructor(topics: Topics, brokerName: string, listener: OffsetListener) {
    this.#topics = topics;
    this.#brokerName = brokerName;
    this.#listener = listener;
  }

  named(group: string): GroupState | undefined {
    return this.#byName.get(group);
  }

  /** By name, so that whatever walks them does it alike on every replica. */
  all(): GroupState[] {
    return [...this.#byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Group of that name; null when the bound on groups is reached. */
  #demand(name: string): GroupState | null {
    let group = this.#byName.get(name);
    if (group === undefined) {
      if (this.#byName.size >= StateLimits.maxGroups) return null;
      group = { name, epoch: 0, plan: STICKY, members: new Map(), owned: new Map(), offsets: new Map() };
      this.#byName.set(name, group);
    }
    return group;
  }

  join(command: GroupJoin | GroupJoinBy, index: number): ErrorCode | null {
    // One topic that is not here yet, or no more, must not keep its members from the others; it is taken in when it is made.
    if (command.topics.every((topic) => this.#topics.named(topic) === undefined)) return 'TOPIC_NOT_FOUND';
    const known = this.#byName.get(command.group);
    const member = known?.members.get(command.member);
    const plan = planOf(command);
    if (known !== undefined && !(agrees(known, command, plan) && filtersAlike(known, command))) return 'GROUP_MODE_CONFLICT';
    if (member === undefined && known !== undefined && known.members.size >= StateLimits.maxMembersPerGroup) return 'TOO_MANY';
    const group = this.#demand(command.group);
    if (group === null) return 'TOO_MANY';
    const { address, topics, sessionTimeoutMs } = command;
    const { zone, queues, retries, filterHash } = command.type === 'groupJoin' ? NO_WISHES : command;
    const wishes = { zone, queues, retries, filterHash };
    group.members.set(command.member, { name: command.member, address, topics, sessionTimeoutMs, joinIndex: index, ...wishes });
    group.plan = plan;
    this.#rebalance(group, index);
    return null;
  }

  /** @param joinIndex of the session that ended; 0 = whichever (leave). @returns whether anything changed */
  remove(groupName: string, memberName: string, joinIndex: number, index: number): boolean {
    const group = this.#byName.get(groupName);
    const member = group?.members.get(memberName);
    if (group === undefined || member === undefined || (joinIndex !== 0 && member.joinIndex !== joinIndex)) return false;
    group.members.delete(memberName);
    group.epoch = index;
    this.#rebalance(group, index);
    return true;
  }

  /** The owner hands queues back with its final offsets. @returns one error number per queue, in order */
  release(groupName: string, member: string, queues: readonly QueueOffset[], index: number): number[] {
    const group = this.#byName.get(groupName);
    if (group === undefined) return queues.map(() => ERRORS.GROUP_NOT_FOUND.number);
    return queues.map((entry) => {
      const error = this.#commitOne(group, member, entry);
      if (error !== OK) return error;
      const queue = group.owned.get(queueKey(entry[0], entry[1])) as OwnedQueue;
      handOver(group, queue, index);
      return OK;
    });
  }

  revokeTimedOut(groupName: string, topicId: number, queueId: number, epoch: number, index: number): boolean {
    const group = this.#byName.get(groupName);
    const queue = group?.owned.get(queueKey(topicId, queueId));
    if (group === undefined || queue === undefined || queue.ownerEpoch !== epoch || queue.owner === queue.target) return false;
    handOver(group, queue, index);
    return true;
  }

  /** @returns one error number per offset, in order */
  commit(commit: GatheredCommit): number[] {
    const [groupName, member, offsets] = commit;
    const known = this.#byName.get(groupName);
    if (known === undefined && member !== '') return offsets.map(() => ERRORS.UNKNOWN_MEMBER.number);
    const group = known ?? this.#demand(groupName);
    if (group === null) return offsets.map(() => ERRORS.TOO_MANY.number);
    return offsets.map((entry) => this.#commitOne(group, member, entry));
  }

  #commitOne(group: GroupState, member: string, [topicId, queueId, offset, epoch]: QueueOffset): number {
    const queue = this.#topics.queue(topicId, queueId);
    if (queue === undefined) return ERRORS.QUEUE_NOT_FOUND.number;
    // Each member is somewhere else in the queue: an offset of all of them would be nobody's (F18).
    if (member !== '' && group.plan.strategy === 'broadcasting') return ERRORS.GROUP_MODE_CONFLICT.number;
    const refusal = ownership(group, member, topicId, queueId, epoch);
    if (refusal !== null) return ERRORS[refusal].number;
    if (offset > queue.nextOffset) return ERRORS.OFFSET_OUT_OF_RANGE.number;
    // A release without an offset: taking it for 0 would have the next owner begin at the first message, whatever it asked for.
    if (offset < 0) return OK;
    const key = queueKey(topicId, queueId);
    const old = group.offsets.get(key);
    if (old === undefined) {
      if (this.#offsetCount >= StateLimits.maxOffsets) return ERRORS.TOO_MANY.number;
      this.#offsetCount++;
    }
    // A commit never moves an offset back: it may be a late retry of an earlier one. Going back is what a reset is for.
    if (old === undefined || offset > old) {
      group.offsets.set(key, offset);
      this.#listener.committed(group, key, offset);
    }
    return OK;
  }

  /** Moves the offset either way and starts a new ownership, so that commits on their way from before are refused. */
  resetOffset(groupName: string, topicId: number, queueId: number, offset: number, index: number): ErrorCode | null {
    const place = this.#topics.queue(topicId, queueId);
    if (place === undefined) return 'QUEUE_NOT_FOUND';
    // Above the end every message up to it would be skipped in silence, and the lag would be negative.
    if (offset > place.nextOffset) return 'OFFSET_OUT_OF_RANGE';
    const key = queueKey(topicId, queueId);
    const known = this.#byName.get(groupName);
    if (!known?.offsets.has(key) && this.#offsetCount >= StateLimits.maxOffsets) return 'TOO_MANY';
    const group = this.#demand(groupName);
    if (group === null) return 'TOO_MANY';
    if (!group.offsets.has(key)) this.#offsetCount++;
    group.offsets.set(key, offset);
    this.#listener.reset(group, key);
    const queue = group.owned.get(key);
    if (queue !== undefined && queue.owner !== '') queue.ownerEpoch = index;
    group.epoch = index;
    return null;
  }

  /** The offset of a group without members, either way. @returns TOO_MANY at a bound */
  setOffset(groupName: string, topicId: number, queueId: number, offset: number): ErrorCode | null {
    const key = queueKey(topicId, queueId);
    const isNew = this.#byName.get(groupName)?.offsets.has(key) !== true;
    if (isNew && this.#offsetCount >= StateLimits.maxOffsets) return 'TOO_MANY';
    const group = this.#demand(groupName);
    if (group === null) return 'TOO_MANY';
    if (isNew) this.#offsetCount++;
    group.offsets.set(key, offset);
    return null;
  }

  /** A topic was made, grew or went away. @returns names of the groups that changed */
  topicChanged(topic: string, index: number): string[] {
    const changed: string[] = [];
    for (const group of this.all()) {
      const first = group.members.values().next();
      if (first.done === true || !first.value.topics.includes(topic)) continue;
      if (this.#rebalance(group, index)) changed.push(group.name);
    }
    return changed;
  }

  /** The group's %RETRY% topic was made. @returns whether anything changed */
  retryTopicMade(groupName: string, index: number): boolean {
    const group = this.#byName.get(groupName);
    return group !== undefined && this.#rebalance(group, index);
  }

  dropTopic(topicId: number): void {
    for (const group of this.#byName.values()) {
      for (const key of [...group.offsets.keys()]) if (topicIdOf(key) === topicId && group.offsets.delete(key)) this.#offsetCount--;
    }
  }

  /** Brings targets, and owners where nobody holds a queue, in line with the members. */
  #rebalance(group: GroupState, index: number): boolean {
    const members = [...group.members.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    const wanted = new Set<number>();
    let changed = false;
    const share = (topicName: string, among: readonly MemberState[], plan: AssignmentPlan): void => {
      const topic = this.#topics.named(topicName);
      if (topic === undefined) return;
      // Over the queues of all broker groups, of which this one enforces its own: every leader comes to the same, so no member
      // gets more than its part of the whole, and nobody has to ask.
      const all = queuesOf(topic);
      const targets = assign(topicName, all, among, plan);
      for (let at = 0; at < all.length; at++) {
        const { brokerName, queueId } = all[at] as AssignableQueue;
        if (brokerName !== this.#brokerName) continue;
        wanted.add(queueKey(topic.id, queueId));
        changed = retarget(group, topic.id, queueId, targets[at] as string, index) || changed;
      }
    };
    if (group.plan.strategy !== 'broadcasting') {
      const retryTopic = retryTopicOf(group.name);
      for (const topicName of members[0]?.topics ?? []) if (topicName !== retryTopic) share(topicName, members, group.plan);
      // Nobody names it, and no strategy of the group's may leave it to nobody. A member of an older release would take a retry for
      // the whole batch that it lies in.
      share(
        retryTopic,
        members.filter(({ retries }) => retries),
        STICKY,
      );
    }
    for (const key of [...group.owned.keys()]) if (!wanted.has(key)) changed = group.owned.delete(key) || changed;
    if (changed) group.epoch = index;
    return changed;
  }

  restore(group: GroupState): void {
    this.#byName.set(group.name, group);
    this.#offsetCount += group.offsets.size;
  }

  clear(): void {
    this.#byName.clear();
    this.#offsetCount = 0;
  }
}

/** On all broker groups, by brokerName and queueId. */
function queuesOf({ placement }: TopicState): AssignableQueue[] {
  return placement.flatMap(({ brokerName, queues }) => Array.from({ length: queues }, (_, queueId) => ({ brokerName, queueId })));
}

/** Of a member that did not say what it filters by: a client of an older release. */
export const NO_FILTER_HASH = -1;
const NO_WISHES = { zone: '', queues: [], retries: false, filterHash: NO_FILTER_HASH } as const;

function planOf(command: GroupJoin | GroupJoinBy): AssignmentPlan {
  if (command.type === 'groupJoin') return STICKY;
  const { strategy, brokerZones, machineRooms } = command;
  return { strategy, brokerZones, machineRooms };
}

/** All members have the topics and the plan of the group; one that is alone may change its own. */
function agrees(group: GroupState, { member, topics }: GroupJoin | GroupJoinBy, plan: AssignmentPlan): boolean {
  for (const other of group.members.values()) {
    if (other.name === member) continue;
    return samePlan(group.plan, plan) && other.topics.length === topics.length && other.topics.every((topic, i) => topic === topics[i]);
  }
  return true;
}

/** A queue moves between members: what one of them filters out is done for the group. Who does not say it is believed. */
function filtersAlike(group: GroupState, command: GroupJoin | GroupJoinBy): boolean {
  if (command.type === 'groupJoin' || command.filterHash === NO_FILTER_HASH) return true;
  for (const { name, filterHash } of group.members.values()) {
    if (name !== command.member && filterHash !== NO_FILTER_HASH && filterHash !== command.filterHash) return false;
  }
  return true;
}

/** Their lists are sorted by who joins. */
function samePlan(a: AssignmentPlan, b: AssignmentPlan): boolean {
  return (
    a.strategy === b.strategy &&
    a.brokerZones.length === b.brokerZones.length &&
    a.brokerZones.every(([brokerName, zone], i) => brokerName === b.brokerZones[i]?.[0] && zone === b.brokerZones[i]?.[1]) &&
    a.machineRooms.length === b.machineRooms.length &&
    a.machineRooms.every((room, i) => room === b.machineRooms[i])
  );
}

/** May this member act on the queue now? An empty member may while the group has none, any member where none owns (F18). */
export function ownership(group: GroupState, member: string, topicId: number, queueId: number, epoch: number): ErrorCode | null {
  if (member === '') return group.members.size === 0 ? null : 'NOT_OWNER';
  if (!group.members.has(member)) return 'UNKNOWN_MEMBER';
  if (group.plan.strategy === 'broadcasting') return null;
  const queue = group.owned.get(queueKey(topicId, queueId));
  if (queue === undefined || queue.owner !== member) return 'NOT_OWNER';
  return queue.ownerEpoch === epoch ? null : 'FENCED';
}

function retarget(group: GroupState, topicId: number, queueId: number, target: string, index: number): boolean {
  const key = queueKey(topicId, queueId);
  let queue = group.owned.get(key);
  let changed = false;
  if (queue === undefined) {
    queue = { topicId, queueId, owner: '', ownerEpoch: 0, target: '' };
    group.owned.set(key, queue);
    changed = true;
  }
  if (queue.target !== target) {
    queue.target = target;
    changed = true;
  }
  if (queue.owner !== '' && !group.members.has(queue.owner)) {
    queue.owner = '';
    changed = true;
  }
  if (queue.owner === '' && target !== '') {
    queue.owner = target;
    queue.ownerEpoch = index;
    changed = true;
  }
  return changed;
}

function handOver(group: GroupState, queue: OwnedQueue, index: number): void {
  queue.owner = queue.target;
  queue.ownerEpoch = index;
  group.epoch = index;
}
