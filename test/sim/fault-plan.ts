import type { Prng } from './prng.ts';

/** Everything that can go wrong. A run switches a random subset on (swarm testing: rare mixtures come up, too). */
export const FAULT_KINDS = [
  'kill',
  'powerLoss',
  'sleep',
  'pause',
  'isolate',
  'halves',
  'ring',
  'bridge',
  'oneWay',
  'slowLink',
  'loss',
  'duplication',
  'reset',
  'slowDisk',
  'frozenDisk',
  'diskError',
  'diskFull',
  'rot',
  'clockJump',
  'clockDrift',
  'transfer',
  'clientCrash',
  'members',
  'emptied',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Mean ms between two faults of a kind, for the kinds that are on. */
export type FaultPlan = ReadonlyMap<FaultKind, number>;

const ON = 0.3;
const SHORTEST_MEAN_MS = 800;
const LONGEST_MEAN_MS = 15_000;
const OFTEN_MEAN_MS = 1_500;

/** Who belongs to a group changes: drawn apart, since a run with a change now and then is another one than a run without any. */
const MEMBERSHIP_KINDS: readonly FaultKind[] = ['members', 'emptied'];
const SHORTEST_CHANGE_MEAN_MS = 500;
const LONGEST_CHANGE_MEAN_MS = 5_000;

/** @param apart for the changes of membership @param always kinds that are on, often, whatever is drawn */
export function drawFaultPlan(prng: Prng, apart: Prng, always: readonly FaultKind[] = []): FaultPlan {
  const plan = new Map<FaultKind, number>();
  // One run in twenty is without faults: it shows what does not come from them.
  const calm = prng.chance(0.05);
  for (const kind of MEMBERSHIP_KINDS) {
    const on = apart.chance(ON);
    const meanMs = SHORTEST_CHANGE_MEAN_MS * (LONGEST_CHANGE_MEAN_MS / SHORTEST_CHANGE_MEAN_MS) ** apart.unit();
    if (on) plan.set(kind, meanMs);
  }
  for (const kind of FAULT_KINDS) {
    if (MEMBERSHIP_KINDS.includes(kind)) continue;
    const on = prng.chance(ON);
    const meanMs = SHORTEST_MEAN_MS * (LONGEST_MEAN_MS / SHORTEST_MEAN_MS) ** prng.unit();
    if (on && !calm) plan.set(kind, meanMs);
  }
  for (const kind of always) plan.set(kind, OFTEN_MEAN_MS);
  return plan;
}

export function describePlan(plan: FaultPlan): string {
  return plan.size === 0 ? 'none' : [...plan].map(([kind, meanMs]) => `${kind}/${(meanMs / 1000).toFixed(1)}s`).join(' ');
}
