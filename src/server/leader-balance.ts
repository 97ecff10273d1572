import type { BrokerConfig } from '../config.ts';
import type { Clock, Timer } from '../io/clock.ts';
import type { Io } from '../io/io.ts';
import type { Replica } from '../replica/replica.ts';
import type { Member } from '../routing/records.ts';

/** How often the cluster is looked at. */
const CHECK_INTERVAL_MS = 1_000;
/** The view of who leads what must have stood so long: gossip of the last moves has arrived, and elections are over. */
const SETTLE_MS = 2_000;
/** Added to it at random, so that leaders whose views differ do not all act in the same moment. */
const SETTLE_JITTER_MS = 500;
/** Moves of one round: this many, or this part of all groups when that is more. */
const MOVES_PER_ROUND = 4;
const GROUPS_PER_MOVE = 8;
/** A group whose leader did not make a planned move in so long is left out for a while: its target may be behind, or it balances by command only. */
const STALLED_MS = 6_000;
const PASSED_OVER_MS = 30_000;
/** Passed-over groups that are remembered; beyond, the oldest is tried again. */
const MAX_PASSED_OVER = 256;

/** A group whose leader is known, as far as balance is concerned. */
export interface LedGroup {
  readonly brokerName: string;
  readonly leader: number;
  /** Host of the leader. */
  readonly host: string;
  /** Replicas that may lead as well, with their hosts. */
  readonly targets: readonly { readonly replicaId: number; readonly host: string }[];
}

export interface Move {
  readonly brokerName: string;
  readonly from: number;
  readonly to: number;
  readonly fromHost: string;
  readonly toHost: string;
}

const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Hosts with a live broker, and the groups with a leader, from what brokers say of themselves. */
export function balanceView(members: readonly Member[]): { hosts: readonly string[]; groups: readonly LedGroup[] } {
  const live = members.filter(({ state }) => state === 'alive').map(({ broker }) => broker);
  const names = [...new Set(live.map(({ brokerName }) => brokerName))].sort(byName);
  const groups: LedGroup[] = [];
  for (const brokerName of names) {
    const replicas = live.filter((broker) => broker.brokerName === brokerName).sort((a, b) => a.replicaId - b.replicaId);
    let leader = null;
    for (const replica of replicas) {
      if (replica.role === 'leader' && (leader === null || replica.term > leader.term)) leader = replica;
    }
    if (leader === null) continue;
    const { replicaId, priority, belowReserve, machine } = leader;
    const targets = replicas.filter(
      (broker) =>
        broker.replicaId !== replicaId &&
        broker.role === 'follower' &&
        !broker.lagging &&
        (belowReserve || !broker.belowReserve) &&
        // What the operator prefers comes before the balance.
        broker.priority >= priority,
    );
    groups.push({
      brokerName,
      leader: replicaId,
      host: machine,
      targets: targets.map((to) => ({ replicaId: to.replicaId, host: to.machine })),
    });
  }
  return { hosts: [...new Set(live.map(({ machine }) => machine))].sort(byName), groups };
}

/**
 * The moves that bring the numbers of leaders of any two hosts within one, as far as the groups' targets allow, in the order in
 * which they are to be made. Every leader computes the same from the same view, so each makes its own moves without asking, and
 * two never count on the same place.
 *
 * One step: the shortest way over hosts from one with more leaders to one with at least two fewer (breadth first; a host leads
 * to another when it leads a group that can move there), and of this way the last move, so that no host gets more than it has
 * to have. Each whole way makes the sum of squares smaller, so it ends.
 */
export function planMoves(hosts: readonly string[], groups: readonly LedGroup[], passedOver: ReadonlySet<string> = new Set()): Move[] {
  let led = [...groups];
  const moves: Move[] = [];
  const moved = new Set<string>();
  for (let step = 0; step < groups.length * 2; step++) {
    const move = nextMove(hosts, led, moved, passedOver);
    if (move === null) break;
    moves.push(move);
    // A group moves once in a plan: what comes after is planned again from what came of it.
    moved.add(move.brokerName);
    led = led.map((group) => (group.brokerName === move.brokerName ? { ...group, leader: move.to, host: move.toHost } : group));
  }
  return moves;
}

function nextMove(
  hosts: readonly string[],
  groups: readonly LedGroup[],
  moved: ReadonlySet<string>,
  passedOver: ReadonlySet<string>,
): Move | null {
  const counts = new Map(hosts.map((host) => [host, 0]));
  for (const { host } of groups) counts.set(host, (counts.get(host) ?? 0) + 1);
  const edges = new Map<string, Move[]>();
  for (const { brokerName, leader, host, targets } of groups) {
    if (moved.has(brokerName)) continue;
    for (const target of targets) {
      const move = { brokerName, from: leader, to: target.replicaId, fromHost: host, toHost: target.host };
      if (target.host === host || passedOver.has(brokerName)) continue;
      const known = edges.get(host);
      if (known === undefined) edges.set(host, [move]);
      else known.push(move);
    }
  }
  const most = [...counts].sort(([a, x], [b, y]) => y - x || byName(a, b));
  for (const [start, count] of most) {
    const last = shortestWay(start, edges, counts, count - 2);
    if (last !== null) return last;
  }
  return null;
}

/** @returns the last move of the shortest way from `start` to a host with at most `maxCount` leaders; of several such hosts to the one with fewest */
function shortestWay(
  start: string,
  edges: ReadonlyMap<string, readonly Move[]>,
  counts: ReadonlyMap<string, number>,
  maxCount: number,
): Move | null {
  const countOf = ({ toHost }: Move): number => counts.get(toHost) ?? 0;
  const seen = new Set([start]);
  let reached = [start];
  while (reached.length > 0) {
    const next: string[] = [];
    let best: Move | null = null;
    for (const host of reached) {
      for (const move of edges.get(host) ?? []) {
        if (countOf(move) <= maxCount && (best === null || countOf(move) < countOf(best))) best = move;
        if (seen.has(move.toHost)) continue;
        seen.add(move.toHost);
        next.push(move.toHost);
      }
    }
    if (best !== null) return best;
    reached = next;
  }
  return null;
}

export interface LeaderBalanceOptions {
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly brokerName: string;
  readonly replicaId: number;
  /** Setting `leaderBalance`: false leaves moves to the command. */
  readonly automatic: boolean;
  members(): readonly Member[];
  leads(): boolean;
  /** Replicas of the own group that may lead as well, by the leader's own knowledge. */
  targets(): readonly number[];
  /** @returns false: not now */
  handOver(to: number): boolean;
}

/** F49: spreads leaders over hosts. Runs on every replica, acts where its group's leader is the one to move. */
export class LeaderBalance {
  readonly #options: LeaderBalanceOptions;
  /** Group → since when a move of it has been due. */
  readonly #dueSinceMs = new Map<string, number>();
  /** Group → when it may be planned again. */
  readonly #passedOver = new Map<string, number>();
  #hosts = '';
  readonly #leaders = new Map<string, number>();
  /** Groups of the last plan: that their leaders change is what was waited for. */
  #planned: ReadonlySet<string> = new Set();
  #viewSinceMs = 0;
  #settleMs = SETTLE_MS;
  #timer: Timer | null = null;
  #stopped = false;

  constructor(options: LeaderBalanceOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = this.#options.clock.setTimer(CHECK_INTERVAL_MS, () => {
      this.check();
      if (!this.#stopped) this.start();
    });
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) this.#options.clock.clearTimer(this.#timer);
  }

  /** @returns the move that was begun */
  check(): Move | null {
    const { clock, automatic, members, random, leads } = this.#options;
    // A new leader has looked at nothing yet: its first view has to settle, too.
    if (!automatic || !leads()) return null;
    const nowMs = clock.monotonicMs();
    const { hosts, groups } = balanceView(members());
    if (this.#surprised(hosts, groups)) {
      this.#viewSinceMs = nowMs;
      this.#settleMs = SETTLE_MS + SETTLE_JITTER_MS * random();
      this.#dueSinceMs.clear();
    }
    for (const [key, untilMs] of this.#passedOver) if (nowMs >= untilMs) this.#passedOver.delete(key);
    const plan = planMoves(hosts, groups, new Set(this.#passedOver.keys()));
    this.#planned = new Set(plan.map(({ brokerName }) => brokerName));
    if (nowMs - this.#viewSinceMs < this.#settleMs) return null;
    const round = plan.slice(0, Math.max(MOVES_PER_ROUND, Math.ceil(groups.length / GROUPS_PER_MOVE)));
    this.#passOverStalled(round, nowMs);
    const mine = round.find((move) => this.#isMine(move));
    return mine !== undefined && this.#options.handOver(mine.to) ? mine : null;
  }

  #isMine({ brokerName, from, to }: Move): boolean {
    const { replicaId, leads, targets } = this.#options;
    return brokerName === this.#options.brokerName && from === replicaId && leads() && targets().includes(to);
  }

  /** Something else has changed than what the last plan moves: hosts, groups, an election. */
  #surprised(hosts: readonly string[], groups: readonly LedGroup[]): boolean {
    let surprised = false;
    const named = hosts.join();
    if (named !== this.#hosts || groups.length !== this.#leaders.size) surprised = true;
    for (const { brokerName, leader } of groups) {
      const before = this.#leaders.get(brokerName);
      if (before !== leader && !this.#planned.has(brokerName)) surprised = true;
    }
    this.#hosts = named;
    this.#leaders.clear();
    for (const { brokerName, leader } of groups) this.#leaders.set(brokerName, leader);
    return surprised;
  }

  /** A move that nobody makes must not hold up the others. */
  #passOverStalled(round: readonly Move[], nowMs: number): void {
    const due = new Set(round.map(({ brokerName }) => brokerName));
    for (const brokerName of this.#dueSinceMs.keys()) if (!due.has(brokerName)) this.#dueSinceMs.delete(brokerName);
    for (const brokerName of due) {
      const sinceMs = this.#dueSinceMs.get(brokerName) ?? nowMs;
      this.#dueSinceMs.set(brokerName, sinceMs);
      if (nowMs - sinceMs < STALLED_MS) continue;
      this.#dueSinceMs.delete(brokerName);
      if (this.#passedOver.size >= MAX_PASSED_OVER) this.#passedOver.delete(this.#passedOver.keys().next().value as string);
      this.#passedOver.set(brokerName, nowMs + PASSED_OVER_MS);
    }
  }
}

/** The balance of one server, running. @param members from gossip */
export function startLeaderBalance(config: BrokerConfig, io: Io, replica: Replica, members: () => readonly Member[]): LeaderBalance {
  const balance = new LeaderBalance({
    clock: io.clock,
    random: () => io.random.unit(),
    brokerName: config.brokerName,
    replicaId: config.replicaId,
    automatic: config.leaderBalance === 'on',
    members,
    leads: () => replica.role().role === 'leader',
    targets: () => replica.handOverTargets(),
    handOver: (to) => replica.handOver(to, 'balance'),
  });
  balance.start();
  return balance;
}
