import { expect } from 'vitest';
import { GroupIndex } from '../../src/raft/group-index.ts';
import type { MembershipAt } from '../../src/raft/memberships.ts';
import { Raft } from '../../src/raft/raft.ts';
import type { Effects, GroupMeta, HardState, Membership, Message, RaftConfig, ReplicaId } from '../../src/raft/types.ts';

export const BLOCK = 4096;

/** A group with what stands for its bytes: unique per proposal. */
export interface TaggedGroup extends GroupMeta {
  readonly tag: string;
}

export interface StoredLog {
  startIndex: number;
  startTerm: number;
  startPosition: number;
  /** The newest membership at or before the start: a snapshot carries it. */
  base: MembershipAt;
  groups: TaggedGroup[];
}

interface LogWrite {
  readonly truncateFrom: number | null;
  readonly groups: readonly TaggedGroup[];
  /** A later cut overlaps: never reported (driver's duty 5). */
  overtaken: boolean;
}

interface Outgoing {
  readonly message: Message;
  /** Hard state writes that must be durable before. */
  readonly afterHardState: number;
}

/** The log's start at the sender, which a real driver would ship with the state. */
export interface SnapshotPayload {
  readonly startPosition: number;
  readonly base: MembershipAt;
}

export const EVERYBODY: Membership = { voters: [1, 2, 3], learners: [], outgoing: null };

export function configOf(id: ReplicaId, overrides: Partial<RaftConfig> = {}): RaftConfig {
  return {
    id,
    membership: EVERYBODY,
    electionTimeoutMs: 1000,
    heartbeatIntervalMs: 100,
    maxInflightMessages: 8,
    maxInflightBytes: 16 * BLOCK,
    maxAppendBytes: 4 * BLOCK,
    maxUncommittedBytes: 64 * BLOCK,
    random: () => 0,
    ...overrides,
  };
}

export function cutLog(log: StoredLog, from: number): void {
  log.groups = log.groups.filter((group) => group.firstIndex < from);
}

const membershipsIn = (groups: readonly TaggedGroup[]): MembershipAt[] =>
  groups.flatMap(({ lastIndex, membership }) => (membership === undefined ? [] : [{ index: lastIndex, membership }]));

export function lastIndexOf(log: StoredLog): number {
  return log.groups.at(-1)?.lastIndex ?? log.startIndex;
}

/**
 * A driver by the book for one replica, with a disk that does nothing until told: what is not synced is lost in a crash.
 * Asserts on the way that nothing leaves before what it speaks of is durable.
 */
export class Replica {
  readonly config: RaftConfig;
  raft!: Raft;
  log!: GroupIndex;
  /** The bytes in memory: what this replica would send. */
  memory!: StoredLog;
  readonly durable: StoredLog;
  durableHardState: HardState = { term: 0, votedFor: 0 };
  applied = 0;
  alive: boolean = false;
  nowMs = 0;
  /** Sees every takeEffects before it is carried out. */
  onEffects: (effects: Effects) => void = () => {};
  /** What reads were answered. */
  readonly reads: { context: number; index: number | null }[] = [];
  installing: { index: number; lastTerm: number } | null = null;
  /** Snapshots offered to this replica, by index. */
  readonly snapshots = new Map<number, SnapshotPayload>();
  #hardStates: HardState[] = [];
  #hardStatesIssued = 0;
  #hardStatesDurable = 0;
  #writes: LogWrite[] = [];
  #outgoing: Outgoing[] = [];
  #proposals = 0;
  readonly #send: (message: Message, payload: SnapshotPayload | null) => void;
  readonly #onCommit: (replica: Replica, index: number) => void;
  readonly #limits: { exactGroups: number; markStrideBytes: number; maxMarks: number } | undefined;
  /** Off: the test lays the no-op itself. */
  autoNoop = true;

  constructor(
    config: RaftConfig,
    send: (message: Message, payload: SnapshotPayload | null) => void,
    onCommit: (replica: Replica, index: number) => void = () => {},
    limits?: { exactGroups: number; markStrideBytes: number; maxMarks: number },
  ) {
    this.config = config;
    this.durable = { startIndex: 0, startTerm: 0, startPosition: 0, base: { index: 0, membership: config.membership }, groups: [] };
    this.#send = send;
    this.#onCommit = onCommit;
    this.#limits = limits;
  }

  start(nowMs: number): void {
    const { startIndex, startTerm, startPosition, base, groups } = this.durable;
    this.log = new GroupIndex({ startIndex, startTerm, startPosition }, this.#limits);
    for (const group of groups) this.log.append(group);
    this.memory = { startIndex, startTerm, startPosition, base, groups: [...groups] };
    const memberships = { membership: base.membership, membershipIndex: base.index, laterMemberships: membershipsIn(groups) };
    this.raft = new Raft({ ...this.config, ...memberships }, this.durableHardState, this.log, startIndex);
    this.applied = startIndex;
    this.alive = true;
    this.tick(nowMs);
  }

  crash(): void {
    this.alive = false;
    this.#hardStates = [];
    this.#hardStatesDurable = this.#hardStatesIssued;
    this.#writes = [];
    this.#outgoing = [];
    this.installing = null;
    this.snapshots.clear();
  }

  /** Of what it has on disk nothing is left behind an index. */
  damage(lastIndex: number): void {
    cutLog(this.durable, lastIndex + 1);
  }

  tick(nowMs: number): void {
    this.nowMs = nowMs;
    this.raft.tick(nowMs);
    this.carryOut();
  }

  step(message: Message, payload: SnapshotPayload | null = null): void {
    if (message.type === 'snapshotRequest' && payload !== null) this.snapshots.set(message.index, payload);
    this.raft.step(message);
    this.carryOut();
  }

  /** A change of membership: one entry in a group of its own. */
  change(membership: Membership): boolean {
    return this.raft.mayChangeMembership && this.propose(1, 1, `change.${this.raft.term}.${this.log.lastIndex + 1}`, membership);
  }

  propose(entries = 1, blocks = 1, tag = `${this.config.id}.${this.raft.term}.${++this.#proposals}`, membership?: Membership): boolean {
    if (this.raft.role !== 'leader') return false;
    const firstIndex = this.log.lastIndex + 1;
    const group: TaggedGroup = {
      firstIndex,
      lastIndex: firstIndex + entries - 1,
      term: this.raft.term,
      position: this.log.endPosition,
      sizeBytes: blocks * BLOCK,
      tag,
      ...(membership === undefined ? {} : { membership }),
    };
    if (!this.raft.canPropose(group.sizeBytes) || !this.raft.propose(group)) return false;
    this.memory.groups.push(group);
    this.#writes.push({ truncateFrom: null, groups: [group], overtaken: false });
    this.carryOut();
    return true;
  }

  get pendingWrites(): number {
    return this.#writes.length;
  }
  get pendingHardStates(): number {
    return this.#hardStates.length;
  }

  /** One log write reaches the disk. */
  syncLog(): boolean {
    const write = this.#writes.shift();
    if (write === undefined) return false;
    if (write.truncateFrom !== null) cutLog(this.durable, write.truncateFrom);
    for (const group of write.groups) {
      expect(group.firstIndex).toBe(lastIndexOf(this.durable) + 1);
      this.durable.groups.push(group);
    }
    const last = write.groups.at(-1);
    if (last !== undefined && !write.overtaken) this.raft.stored(last.lastIndex, last.term);
    this.carryOut();
    return true;
  }

  syncHardState(): boolean {
    const hardState = this.#hardStates.shift();
    if (hardState === undefined) return false;
    this.durableHardState = hardState;
    this.#hardStatesDurable += 1;
    this.#release();
    return true;
  }

  syncAll(): void {
    while (this.syncHardState() || this.syncLog());
  }

  /** The snapshot that was asked for is fetched and durable. */
  finishInstall(): boolean {
    const install = this.installing;
    const payload = install === null ? undefined : this.snapshots.get(install.index);
    if (install === null || payload === undefined) return false;
    this.installing = null;
    this.#writes = [];
    const { startPosition, base } = payload;
    const start = { startIndex: install.index, startTerm: install.lastTerm, startPosition, base };
    Object.assign(this.durable, start, { groups: [] });
    this.memory = { ...start, groups: [] };
    this.applied = install.index;
    this.raft.installed(install.index, install.lastTerm, startPosition, base);
    this.carryOut();
    return true;
  }

  failInstall(): void {
    const { index } = this.installing as { index: number };
    this.installing = null;
    this.raft.installFailed(index);
    this.carryOut();
  }

  /** Retention: drops everything up to the end of the group before `firstIndex`. Only what is durable and committed goes. */
  cutHead(startIndex: number): void {
    const group = this.memory.groups.find((candidate) => candidate.lastIndex === startIndex) as TaggedGroup;
    const startPosition = group.position + group.sizeBytes;
    const base = membershipsIn(this.memory.groups).findLast(({ index }) => index <= startIndex) ?? this.memory.base;
    for (const log of [this.memory, this.durable]) {
      log.groups = log.groups.filter((candidate) => candidate.firstIndex > startIndex);
      Object.assign(log, { startIndex, startTerm: group.term, startPosition, base });
    }
    this.raft.cutHead(startIndex, group.term, startPosition);
    this.carryOut();
  }

  carryOut(): void {
    const effects = this.raft.takeEffects();
    this.onEffects(effects);
    if (effects.hardState !== null) {
      this.#hardStates.push(effects.hardState);
      this.#hardStatesIssued += 1;
    }
    for (const { truncateFrom, groups } of effects.store) {
      if (truncateFrom !== null) {
        cutLog(this.memory, truncateFrom);
        for (const write of this.#writes) if ((write.groups.at(-1)?.lastIndex ?? 0) >= truncateFrom) write.overtaken = true;
      }
      this.memory.groups.push(...(groups as TaggedGroup[]));
      this.#writes.push({ truncateFrom, groups: groups as TaggedGroup[], overtaken: false });
    }
    for (const message of effects.messages) {
      const filled =
        message.type === 'appendRequest' ? { ...message, groups: this.#range(message.firstIndex, message.lastIndex) } : message;
      this.#outgoing.push({ message: filled, afterHardState: this.#hardStatesIssued });
    }
    this.#release();
    if (effects.commitIndex !== null) this.#onCommit(this, effects.commitIndex);
    this.reads.push(...effects.reads);
    if (effects.install !== null) this.installing = effects.install;
    if (effects.roleChange?.role === 'leader' && this.autoNoop) this.propose(1, 1, `noop.${this.raft.term}`);
  }

  #range(firstIndex: number, lastIndex: number): TaggedGroup[] {
    const groups = this.memory.groups.filter((group) => group.firstIndex >= firstIndex && group.lastIndex <= lastIndex);
    if (lastIndex >= firstIndex) {
      expect(groups[0]?.firstIndex).toBe(firstIndex);
      expect(groups.at(-1)?.lastIndex).toBe(lastIndex);
    }
    return groups;
  }

  #release(): void {
    while (this.#outgoing.length > 0 && (this.#outgoing[0] as Outgoing).afterHardState <= this.#hardStatesDurable) {
      const { message } = this.#outgoing.shift() as Outgoing;
      this.#checkDurable(message);
      const payload = message.type === 'snapshotRequest' ? { startPosition: this.memory.startPosition, base: this.memory.base } : null;
      this.#send(message, payload);
    }
  }

  /** I2, FAULTS 1: nothing is said before what it speaks of is on stable storage. */
  #checkDurable(message: Message): void {
    const { term, votedFor } = this.durableHardState;
    if (message.type === 'preVoteRequest' || message.type === 'preVoteResponse') return;
    expect(term, `${message.type} speaks of term ${message.term} before it is durable`).toBeGreaterThanOrEqual(message.term);
    if (message.type === 'voteResponse' && message.granted && term === message.term) expect(votedFor).toBe(message.to);
    if (message.type === 'voteRequest' && term === message.term) expect(votedFor).toBe(message.from);
    if (message.type === 'appendResponse' && message.success) {
      expect(lastIndexOf(this.durable), 'acknowledged before it is durable').toBeGreaterThanOrEqual(message.lastIndex);
      const held = this.memory.groups.filter((group) => group.lastIndex <= message.lastIndex);
      expect(this.durable.groups.filter((group) => group.lastIndex <= message.lastIndex)).toEqual(held);
    }
  }
}
