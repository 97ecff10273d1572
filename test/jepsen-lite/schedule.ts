import { Prng } from '../sim/prng.ts';
import { type FaultKind, faultKind, goTogether } from './faults/catalogue.ts';

/** Nothing is drawn while it runs: who is struck, and how, is drawn from `seed` of each fault, the leader being whoever leads then. */
export interface PlannedFault {
  readonly id: number;
  readonly fault: string;
  /** After the round's begin. */
  readonly afterMs: number;
  readonly holdMs: number;
  /** Replicas 1…3 in the order in which they are struck. */
  readonly order: readonly number[];
  /** Whoever leads comes first. */
  readonly leaderFirst: boolean;
  readonly seed: number;
}

/** Faults that are there at once, then time without any. */
export interface Round {
  /** Planned begin, after the begin of the schedule; later when the round before took longer to get over. */
  readonly atMs: number;
  readonly faults: readonly PlannedFault[];
  readonly calmMs: number;
}

export interface Schedule {
  readonly version: 1;
  readonly seed: number;
  readonly minutes: number;
  readonly faults: readonly string[];
  readonly rounds: readonly Round[];
}

/** Time without faults before the first round. */
export const OPENING_MS = 12_000;
/** Replicas start again, elect and catch up within about this; a longer time is waited for, and shifts what follows. */
const GETTING_OVER_MS = 2_500;
const CALM_MS = [1_000, 2_000] as const;
/** Now and then long enough to say how much goes through. */
const LONG_CALM_MS = 8_000;
const ROUNDS_BETWEEN_LONG_CALMS = 10;
/** Swarm: of the faults only some for a while, so that the same few meet often. */
const ROUNDS_OF_A_SWARM = 6;
const SWARM_SHARE = 0.5;
const PAIR_CHANCE = 0.7;
/** Uses that the second of a pair may have above the first. */
const MAX_AHEAD = 1;
/** Longer than sessions, suspicions and retries last, now and then. */
const LONG_HOLD_CHANCE = 0.04;
export const LONG_HOLD_TIMES = 4;
const SECOND_WITHIN_MS = 1_500;
const REPLICAS = [1, 2, 3];

/** The same arguments give the same schedule, on every machine. @param faults names of the catalogue, at least one */
export function makeSchedule(seed: number, minutes: number, faults: readonly string[]): Schedule {
  const prng = new Prng(Math.imul(seed, 0x9e3779b1) + Math.round(minutes * 1000));
  const kinds = faults.map(faultKind);
  const uses = new Map(kinds.map(({ name }) => [name, 0]));
  const endMs = minutes * 60_000;
  const rounds: Round[] = [];
  let id = 0;
  let swarm: FaultKind[] = [];
  for (let atMs = OPENING_MS; ; ) {
    if (rounds.length % ROUNDS_OF_A_SWARM === 0) swarm = drawSwarm(prng, kinds, uses);
    const planned = drawFaults(prng, swarm, uses).map((kind, at) => planOf(prng, ++id, kind, at));
    const lastsMs = Math.max(...planned.map(({ afterMs, holdMs }) => afterMs + holdMs));
    const longCalm = (rounds.length + 1) % ROUNDS_BETWEEN_LONG_CALMS === 0;
    const calmMs = longCalm ? LONG_CALM_MS : prng.between(...CALM_MS);
    const nextMs = atMs + lastsMs + GETTING_OVER_MS + calmMs;
    // At least one round, however short the run.
    if (nextMs > endMs && rounds.length > 0) break;
    for (const { fault } of planned) uses.set(fault, (uses.get(fault) as number) + 1);
    rounds.push({ atMs, faults: planned, calmMs });
    atMs = nextMs;
  }
  return { version: 1, seed, minutes, faults, rounds };
}

/** Those that were used least, chance among equals. */
function drawSwarm(prng: Prng, kinds: readonly FaultKind[], uses: ReadonlyMap<string, number>): FaultKind[] {
  return leastUsed(prng, kinds, uses).slice(0, Math.max(Math.min(2, kinds.length), Math.ceil(kinds.length * SWARM_SHARE)));
}

function drawFaults(prng: Prng, swarm: readonly FaultKind[], uses: ReadonlyMap<string, number>): FaultKind[] {
  const [first, ...others] = leastUsed(prng, swarm, uses) as [FaultKind, ...FaultKind[]];
  if (!prng.chance(PAIR_CHANCE)) return [first];
  // One that goes with everything is not to take the turns of those that do not.
  const used = (kind: FaultKind): number => uses.get(kind.name) as number;
  const second = others.find((kind) => goTogether(first, kind) && used(kind) <= used(first) + MAX_AHEAD);
  return second === undefined ? [first] : [first, second];
}

function leastUsed(prng: Prng, kinds: readonly FaultKind[], uses: ReadonlyMap<string, number>): FaultKind[] {
  return prng.shuffle(kinds).sort((left, right) => (uses.get(left.name) as number) - (uses.get(right.name) as number));
}

function planOf(prng: Prng, id: number, kind: FaultKind, at: number): PlannedFault {
  return {
    id,
    fault: kind.name,
    afterMs: at === 0 ? 0 : prng.between(0, SECOND_WITHIN_MS),
    holdMs: prng.between(...kind.holdMs) * (prng.chance(LONG_HOLD_CHANCE) ? LONG_HOLD_TIMES : 1),
    order: prng.shuffle(REPLICAS),
    leaderFirst: at === 0 && prng.chance(0.5),
    seed: prng.u32(),
  };
}

/** How often each fault is planned. */
export function plannedCounts({ faults, rounds }: Schedule): Map<string, number> {
  const counts = new Map(faults.map((name) => [name, 0]));
  for (const { fault } of rounds.flatMap((round) => round.faults)) counts.set(fault, (counts.get(fault) ?? 0) + 1);
  return counts;
}
