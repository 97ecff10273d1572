import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Membership, Message, ReplicaId } from '../../src/raft/types.ts';
import { configOf, lastIndexOf, Replica, type SnapshotPayload, type TaggedGroup } from './harness.ts';

interface Flying {
  readonly message: Message;
  readonly payload: SnapshotPayload | null;
}

/** Small and quick generator: fast-check shrinks the seed's run length, not every draw. */
function generator(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const LIMITS = { exactGroups: 64, markStrideBytes: 8 * 4096, maxMarks: 8 };
const MAX_FLYING = 400;

/** A cluster over a net that loses, doubles, reorders and delays, with crashes; the five properties of figure 3 at every event. */
class World {
  readonly random: () => number;
  readonly replicas = new Map<ReplicaId, Replica>();
  readonly voters: readonly ReplicaId[];
  flying: Flying[] = [];
  nowMs = 0;
  lossy: boolean = true;
  /** Swarm: each run has its own share of faults, so that quiet runs get far and wild ones get strange. */
  readonly #faults: number;
  cut = new Set<string>();
  /** term → leader (election safety). */
  readonly #leaders = new Map<number, ReplicaId>();
  /** index → group that was committed there (leader completeness, state machine safety). */
  readonly committed = new Map<number, TaggedGroup>();
  committedIndex = 0;
  /** Log of a leader at its last look (leader append-only). */
  readonly #leaderLogs = new Map<ReplicaId, { term: number; groups: readonly TaggedGroup[] }>();
  elections = 0;
  truncations = 0;
  installs = 0;
  answered = 0;
  /** Memberships that were committed. */
  changes = 0;
  readonly #changing: boolean;
  readonly #askedAt: number[] = [];

  /** @param changing membership changes all the time, among five replicas of which the first `size` vote at first */
  constructor(size: number, learners: number, seed: number, changing = false) {
    this.random = generator(seed);
    this.#faults = this.random() ** 2;
    this.#changing = changing;
    this.voters = Array.from({ length: size }, (_, at) => at + 1);
    const nobody = { voters: [], learners: [], outgoing: null };
    const strangers = changing ? [1, 2, 3, 4, 5].slice(size + learners) : [];
    const membership = { voters: this.voters, learners: Array.from({ length: learners }, (_, at) => size + at + 1), outgoing: null };
    for (const id of [...membership.voters, ...membership.learners, ...strangers]) {
      const replica = new Replica(
        configOf(id, { membership: strangers.includes(id) ? nobody : membership, random: this.random }),
        (message, payload) => this.#post(message, payload),
        (who, index) => this.#onCommit(who, index),
        LIMITS,
      );
      this.replicas.set(id, replica);
      replica.start(0);
    }
  }

  below(bound: number): number {
    return Math.floor(this.random() * bound);
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
  get all(): Replica[] {
    return [...this.replicas.values()];
  }
  get alive(): Replica[] {
    return this.all.filter((replica) => replica.alive);
  }

  #post(message: Message, payload: SnapshotPayload | null): void {
    if (this.cut.has(`${message.from}>${message.to}`)) return;
    this.flying.push({ message, payload });
    if (this.lossy && this.random() < 0.05) this.flying.push({ message, payload });
    if (this.flying.length > MAX_FLYING) this.flying.splice(this.below(this.flying.length), 1);
  }

  #onCommit(who: Replica, index: number): void {
    if (who.raft.role === 'leader') {
      const group = who.memory.groups.find((candidate) => candidate.lastIndex === index);
      if (group !== undefined && index > this.committedIndex) {
        // Nothing is committed before a majority has it on stable storage.
        const holds = (id: ReplicaId): boolean =>
          (this.replicas.get(id) as Replica).durable.groups.some((held) => held.firstIndex === group.firstIndex && held.tag === group.tag);
        const { voters, outgoing } = who.raft.membership;
        for (const set of outgoing === null ? [voters] : [voters, outgoing]) {
          expect(set.filter(holds).length, `index ${index} of voters ${set}`).toBeGreaterThan(set.length / 2);
        }
      }
    }
    for (const group of who.memory.groups) {
      if (group.firstIndex <= who.applied || group.lastIndex > index) continue;
      expect(group.firstIndex).toBe(who.applied + 1);
      const known = this.committed.get(group.firstIndex);
      if (known === undefined && group.membership !== undefined) this.changes += 1;
      // State machine safety.
      if (known === undefined) this.committed.set(group.firstIndex, group);
      else expect(known.tag).toBe(group.tag);
      who.applied = group.lastIndex;
    }
    expect(who.applied).toBe(index);
    this.committedIndex = Math.max(this.committedIndex, index);
  }

  check(): void {
    this.#checkReads();
    for (const replica of this.all) if (!replica.alive) this.#forgetUnheard(replica);
    for (const replica of this.alive) {
      expect(replica.log.lastIndex).toBe(lastIndexOf(replica.memory));
      if (replica.raft.role !== 'leader') {
        this.#leaderLogs.delete(replica.config.id);
        continue;
      }
      const { term } = replica.raft;
      // Election safety.
      const known = this.#leaders.get(term);
      if (known === undefined) {
        this.#leaders.set(term, replica.config.id);
        this.elections += 1;
        // Leader completeness.
        for (const group of this.committed.values()) {
          if (group.firstIndex <= replica.memory.startIndex || group.term >= term) continue;
          expect(replica.memory.groups.some((held) => held.tag === group.tag && held.firstIndex === group.firstIndex)).toBe(true);
        }
      } else {
        expect(known).toBe(replica.config.id);
      }
      // Leader append-only.
      const before = this.#leaderLogs.get(replica.config.id);
      if (before !== undefined && before.term === term) {
        const kept = before.groups.filter((group) => group.firstIndex > replica.memory.startIndex);
        expect(replica.memory.groups.slice(0, kept.length).map((group) => group.tag)).toEqual(kept.map((group) => group.tag));
      }
      this.#leaderLogs.set(replica.config.id, { term, groups: [...replica.memory.groups] });
    }
  }

  /** A lone voter that crashed before its term was on disk: it, or another one, leads in that term again, and nobody had heard of the first time. */
  #forgetUnheard({ config, durableHardState }: Replica): void {
    this.#leaderLogs.delete(config.id);
    for (const [term, leader] of this.#leaders) if (leader === config.id && term > durableHardState.term) this.#leaders.delete(term);
  }

  /** Log matching: equal index and term anywhere, then everything before is equal. */
  checkLogMatching(): void {
    for (const one of this.all) {
      for (const other of this.all) {
        if (one.config.id >= other.config.id || !one.alive || !other.alive) continue;
        const byFirst = new Map(other.memory.groups.map((group) => [group.firstIndex, group]));
        let agreed = false;
        for (let at = one.memory.groups.length - 1; at >= 0; at -= 1) {
          const group = one.memory.groups[at] as TaggedGroup;
          const twin = byFirst.get(group.firstIndex);
          if (twin?.term === group.term) agreed = true;
          if (agreed && twin !== undefined) expect(twin).toEqual(group);
        }
      }
    }
  }

  deliver(at: number): void {
    const [flown] = this.flying.splice(at, 1);
    if (flown === undefined) return;
    const to = this.replicas.get(flown.message.to) as Replica;
    if (!to.alive || this.cut.has(`${flown.message.from}>${flown.message.to}`)) return;
    const before = to.memory.groups.length;
    to.step(flown.message, flown.payload);
    if (to.memory.groups.length < before) this.truncations += 1;
  }

  /** One random event. */
  stir(): void {
    if (this.random() < 0.12 * this.#faults) {
      this.#fault(this.random());
      return;
    }
    const die = this.random();
    if (die < 0.5) this.deliver(this.below(this.random() < 0.8 ? Math.min(4, this.flying.length) : this.flying.length));
    else if (die < 0.62) this.passTime(this.below(70));
    else if (die < 0.76) this.#withAlive((replica) => void replica.syncLog());
    else if (die < 0.86) this.#withAlive((replica) => void replica.syncHardState());
    else if (die < 0.95) this.#propose();
    else if (die < 0.96) this.#read();
    else if (die < 0.97) this.#withAlive((replica) => this.#cutSome(replica));
    else if (die < 0.98) this.#install();
    else this.#restart();
  }

  #fault(die: number): void {
    if (die < 0.35) this.flying.splice(this.below(this.flying.length), 1);
    else if (die < 0.45) this.#withAlive((replica) => replica.raft.transferLeadership(this.pick(this.voters)));
    else if (die < 0.55) this.#withAlive((replica) => replica.raft.peerReset(this.pick(this.voters)));
    else if (die < 0.58) this.#withAlive((replica) => this.#handOver(replica));
    else if (die < 0.75) this.toggleCut();
    else if (die < 0.92) this.#withAlive((replica) => replica.crash());
    else this.passTime(this.below(4000));
  }

  /** ReadIndex is linearizable: the answer is never below what anybody knew to be committed when it was asked. */
  #read(): void {
    this.#withAlive((replica) => {
      this.#askedAt.push(this.committedIndex);
      replica.raft.readIndex(this.#askedAt.length - 1);
    });
  }

  #checkReads(): void {
    for (const replica of this.all) {
      for (const { context, index } of replica.reads) {
        if (index === null) continue;
        expect(index, 'stale read').toBeGreaterThanOrEqual(this.#askedAt[context] as number);
        this.answered += 1;
      }
      replica.reads.length = 0;
    }
  }

  #propose(): void {
    if (this.#changing && this.random() < 0.2) {
      for (const replica of this.alive) if (replica.raft.role === 'leader') replica.change(this.#nextMembership(replica.raft.membership));
      return;
    }
    for (const replica of this.alive) if (replica.raft.role === 'leader') replica.propose(1 + this.below(4), 1 + this.below(3));
  }

  /** Any step that a leader may take: leave a joint membership, add a learner, let learners vote, remove somebody, itself too. */
  #nextMembership({ voters, learners, outgoing }: Membership): Membership {
    if (outgoing !== null) return { voters, learners, outgoing: null };
    const free = [1, 2, 3, 4, 5].filter((id) => !voters.includes(id) && !learners.includes(id));
    const die = this.random();
    if (die < 0.4 && free.length > 0) return { voters, learners: [...learners, this.pick(free)], outgoing: null };
    const promoted = learners.filter(() => this.random() < 0.5);
    const kept = voters.filter(() => this.random() < 0.7);
    const next = [...kept, ...promoted];
    if (next.length === 0) return { voters, learners: [], outgoing: null };
    return { voters: next, learners: learners.filter((id) => !promoted.includes(id)), outgoing: voters };
  }

  #handOver(replica: Replica): void {
    replica.raft.stepDown('slow disk');
    replica.carryOut();
    replica.raft.allowCampaign();
  }

  passTime(byMs: number): void {
    this.nowMs += byMs;
    for (const replica of this.alive) if (this.random() < 0.9) replica.tick(this.nowMs);
  }

  #withAlive(act: (replica: Replica) => void): void {
    const { alive } = this;
    if (alive.length === 0) return;
    const replica = this.pick(alive);
    act(replica);
    if (replica.alive) replica.carryOut();
  }

  #cutSome(replica: Replica): void {
    const ready = replica.durable.groups.filter((group) => group.lastIndex <= Math.min(replica.applied, replica.raft.storedIndex));
    if (ready.length > 6 && replica.installing === null) replica.cutHead((ready[this.below(ready.length - 4)] as TaggedGroup).lastIndex);
  }

  #install(): void {
    for (const replica of this.alive) {
      if (replica.installing === null) continue;
      if (this.random() < 0.2) replica.failInstall();
      else if (replica.finishInstall()) this.installs += 1;
    }
  }

  toggleCut(): void {
    if (this.cut.size > 0 && this.random() < 0.6) {
      this.cut.clear();
      return;
    }
    const ids = [...this.replicas.keys()];
    const lone = this.pick(ids);
    const oneWay = this.random() < 0.4;
    for (const id of ids) {
      if (id === lone) continue;
      this.cut.add(`${lone}>${id}`);
      if (!oneWay) this.cut.add(`${id}>${lone}`);
    }
  }

  #restart(): void {
    const down = this.all.filter((replica) => !replica.alive);
    if (down.length > 0) this.pick(down).start(this.nowMs);
  }

  /** Everything works from now on: a new entry is committed and everybody gets it. */
  heal(): void {
    this.lossy = false;
    this.cut.clear();
    for (const replica of this.all) if (!replica.alive) replica.start(this.nowMs);
    let target = 0;
    for (let round = 0; round < 600; round += 1) {
      this.nowMs += 20;
      for (const replica of this.all) replica.tick(this.nowMs);
      for (let settled = 0; settled < 4; settled += 1) {
        for (const replica of this.all) {
          replica.syncAll();
          if (replica.installing !== null && !replica.finishInstall()) replica.failInstall();
        }
        for (let count = this.flying.length; count > 0; count -= 1) this.deliver(0);
      }
      this.check();
      const leader = this.all.findLast((replica) => replica.raft.role === 'leader');
      if (leader !== undefined && leader.raft.membership.outgoing !== null && leader.change(this.#nextMembership(leader.raft.membership))) {
        target = 0;
      }
      if (leader !== undefined && target === 0 && leader.raft.commitIndex === leader.log.lastIndex && leader.propose()) {
        target = leader.log.lastIndex;
      }
      const { voters, learners } = leader?.raft.membership ?? { voters: [], learners: [] };
      const members = [...voters, ...learners].map((id) => this.replicas.get(id) as Replica);
      if (target > 0 && members.length > 0 && members.every((replica) => replica.applied >= target)) return;
    }
    const state = this.all.map(({ config, raft, log, applied }) => `${config.id}:${raft.role} t${raft.term} ${applied}/${log.lastIndex}`);
    throw new Error(`no progress after healing: ${state.join(', ')} ${JSON.stringify(this.all.flatMap((r) => r.raft.progress()))}`);
  }
}

const totals = { elections: 0, committed: 0, truncations: 0, installs: 0, reads: 0, changes: 0 };

function run(seed: number, size: number, learners: number, events: number, changing = false): void {
  const world = new World(size, learners, seed, changing);
  for (let event = 0; event < events; event += 1) {
    world.stir();
    world.check();
    if (event % 50 === 0) world.checkLogMatching();
  }
  world.checkLogMatching();
  world.heal();
  world.checkLogMatching();
  totals.elections += world.elections;
  totals.committed += world.committed.size;
  totals.truncations += world.truncations;
  totals.installs += world.installs;
  totals.reads += world.answered;
  totals.changes += world.changes;
}

describe('raft under a hostile net', () => {
  test('F35 election safety, leader append-only, log matching, leader completeness, state machine safety; then liveness', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.constantFrom(3, 3, 4, 5),
        fc.constantFrom(0, 0, 1),
        fc.integer({ min: 50, max: 4000 }),
        (seed, size, learners, events) => run(seed, size, learners, events),
      ),
      {
        numRuns: Number(process.env['RAFT_RUNS'] ?? 150),
      },
    );
    if (process.env['RAFT_RUNS'] !== undefined) console.log(totals);
    // The run means something only when the hard cases came up.
    expect(totals.elections).toBeGreaterThan(150);
    expect(totals.committed).toBeGreaterThan(1000);
    expect(totals.truncations).toBeGreaterThan(10);
    expect(totals.installs).toBeGreaterThan(5);
    expect(totals.reads).toBeGreaterThan(100);
  });

  test('F35 FAULTS 13 the same while the membership changes: 1 to 5 voters, learners, joint memberships, leaders that remove themselves', () => {
    const before = totals.changes;
    fc.assert(
      fc.property(
        fc.integer(),
        fc.constantFrom(1, 2, 3),
        fc.constantFrom(0, 1),
        fc.integer({ min: 50, max: 4000 }),
        (seed, size, learners, events) => run(seed, size, learners, events, true),
      ),
      { numRuns: Number(process.env['RAFT_RUNS'] ?? 100) },
    );
    if (process.env['RAFT_RUNS'] !== undefined) console.log(totals);
    expect(totals.changes - before).toBeGreaterThan(100);
  });
});
