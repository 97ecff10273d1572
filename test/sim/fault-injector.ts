import type { FaultKind, FaultPlan } from './fault-plan.ts';
import type { SimNet } from './net.ts';
import type { Prng } from './prng.ts';
import type { Death, SimProcess } from './process.ts';
import { EventKind, type SimScheduler } from './scheduler.ts';

/** What the injector may do to the world besides links, disks and clocks. */
export interface Victims {
  /** Replicas of each broker group. */
  groups(): readonly (readonly SimProcess[])[];
  readonly clients: readonly SimProcess[];
  kill(victim: SimProcess, death: Death): void;
  start(victim: SimProcess): void;
  transfer(): void;
  /** Cold bytes of a replica's disk go bad. */
  rot(victim: SimProcess): void;
  /** An operator adds, removes or replaces replicas of the group that this one belongs to. */
  reshape(victim: SimProcess): void;
  /** The machine comes back with an empty disk, when the others can do without what it had. */
  empty(victim: SimProcess): void;
}

const HOUR_MS = 3_600_000;

/** Carries out a fault plan: each kind at random times, each fault undone after a while. */
export class FaultInjector {
  readonly #scheduler: SimScheduler;
  readonly #net: SimNet;
  readonly #prng: Prng;
  readonly #plan: FaultPlan;
  readonly #victims: Victims;
  #stopped = false;
  count = 0;

  constructor(scheduler: SimScheduler, net: SimNet, plan: FaultPlan, victims: Victims) {
    this.#scheduler = scheduler;
    this.#net = net;
    this.#prng = scheduler.prng.fork();
    this.#plan = plan;
    this.#victims = victims;
  }

  start(): void {
    for (const [kind, meanMs] of this.#plan) this.#next(kind, meanMs);
  }

  /** No further faults, and none of the pending undoings: what is broken stays broken until the world heals it. */
  stop(): void {
    this.#stopped = true;
  }

  #next(kind: FaultKind, meanMs: number): void {
    this.#after(this.#prng.exponential(meanMs), () => {
      this.count++;
      this.#inject(kind);
      this.#next(kind, meanMs);
    });
  }

  get #replicas(): readonly SimProcess[] {
    return this.#victims.groups().flat();
  }

  #after(delayMs: number, act: () => void): void {
    this.#scheduler.schedule(null, delayMs * 1000, EventKind.fault, () => {
      if (!this.#stopped) act();
    });
  }

  #inject(kind: FaultKind): void {
    const prng = this.#prng;
    const group = prng.pick(this.#victims.groups());
    const victim = prng.pick(group);
    const forMs = 50 + prng.exponential(2000);
    this.#scheduler.say(victim.name, `fault: ${kind} for ${forMs.toFixed(0)} ms`);
    switch (kind) {
      case 'kill':
      case 'powerLoss':
        this.#crash(victim, kind === 'kill' ? 'kill' : 'power', forMs);
        // Sometimes a majority at once, or all.
        if (prng.chance(0.15))
          for (const other of group) if (prng.chance(0.7)) this.#crash(other, prng.chance(0.5) ? 'kill' : 'power', forMs * prng.unit());
        return;
      case 'sleep':
        // Long enough for the others to cut their logs: it comes back behind their start.
        this.#crash(victim, 'kill', 4_000 + 3 * forMs);
        return;
      case 'pause':
        victim.pause();
        this.#after(forMs, () => victim.resume());
        return;
      case 'isolate':
      case 'halves':
      case 'ring':
      case 'bridge':
      case 'oneWay':
        this.#cut(kind, victim, group, forMs);
        return;
      case 'slowLink':
        this.#eachLink((from, to) => prng.chance(0.5) && this.#change(from, to, { delayMs: prng.exponential(30) }, { delayMs: 0 }, forMs));
        return;
      case 'loss':
        this.#eachLink((from, to) => prng.chance(0.5) && this.#change(from, to, { lossRate: prng.unit() * 0.3 }, { lossRate: 0 }, forMs));
        return;
      case 'duplication':
        this.#eachLink((from, to) => this.#change(from, to, { duplicateRate: prng.unit() }, { duplicateRate: 0 }, forMs));
        return;
      case 'reset':
        for (const other of [...this.#replicas, ...this.#victims.clients]) this.#net.resetBetween(victim.name, other.name, 0.5);
        return;
      case 'slowDisk':
        victim.disk.faults.latencyMs = 0.3 + prng.exponential(20);
        this.#after(forMs, () => {
          victim.disk.faults.latencyMs = 0.3;
        });
        return;
      case 'frozenDisk':
        victim.disk.faults.frozenUntilUs = this.#scheduler.nowUs + Math.round(forMs * 1000);
        return;
      case 'diskError':
        victim.disk.faults.errorRate = prng.pick([1, 0.1, 0.01]);
        this.#after(forMs / 4, () => {
          victim.disk.faults.errorRate = 0;
        });
        return;
      case 'diskFull':
        victim.disk.faults.full = true;
        this.#after(forMs, () => {
          victim.disk.faults.full = false;
        });
        return;
      case 'rot':
        this.#victims.rot(victim);
        return;
      case 'members':
        this.#victims.reshape(victim);
        return;
      case 'emptied':
        this.#victims.empty(victim);
        return;
      case 'clockJump':
        victim.clock?.jump((prng.unit() - 0.5) * 2 * prng.pick([1_000, 60_000, HOUR_MS]));
        return;
      case 'clockDrift':
        victim.clock?.drift(prng.pick([-1, 1]) * prng.pick([1e-4, 1e-2, 0.2]));
        return;
      case 'transfer':
        this.#victims.transfer();
        return;
      case 'clientCrash':
        this.#crash(prng.pick(this.#victims.clients), 'kill', forMs);
    }
  }

  #crash(victim: SimProcess, death: Death, forMs: number): void {
    if (!victim.alive) return;
    this.#victims.kill(victim, death);
    this.#after(forMs, () => this.#victims.start(victim));
  }

  #cut(kind: 'isolate' | 'halves' | 'ring' | 'bridge' | 'oneWay', victim: SimProcess, group: readonly SimProcess[], forMs: number): void {
    const prng = this.#prng;
    // A cut goes through one group, or through all of them.
    const order = prng.shuffle(prng.chance(0.7) ? group : this.#replicas);
    const half = Math.ceil(order.length / 2);
    const [bridge] = order;
    const clientsToo = prng.chance(0.5);
    this.#eachLink((from, to) => {
      const [a, b] = [order.indexOf(from), order.indexOf(to)];
      if ((a < 0 || b < 0) && !(clientsToo && kind === 'isolate')) return;
      const distance = Math.abs(a - b);
      const cut = {
        isolate: from === victim || to === victim,
        halves: a < half !== b < half,
        ring: distance !== 1 && distance !== order.length - 1,
        bridge: from !== bridge && to !== bridge && a % 2 !== b % 2,
        oneWay: from === victim,
      }[kind];
      if (cut) this.#change(from, to, { cut: true }, { cut: false }, forMs);
    });
    if (prng.chance(0.3))
      this.#after(forMs / 2, () =>
        this.#eachLink((from, to) => this.#net.links.of(from.name, to.name).cut && this.#net.resetBetween(from.name, to.name, 0.5)),
      );
  }

  #change(from: SimProcess, to: SimProcess, fault: object, undo: object, forMs: number): void {
    this.#net.links.set(from.name, to.name, fault);
    this.#after(forMs, () => {
      this.#net.links.set(from.name, to.name, undo);
      this.#net.nudge();
    });
  }

  #eachLink(act: (from: SimProcess, to: SimProcess) => void): void {
    const all = [...this.#replicas, ...this.#victims.clients];
    for (const from of all) {
      for (const to of this.#replicas) {
        if (from === to) continue;
        act(from, to);
        if (this.#victims.clients.includes(from)) act(to, from);
      }
    }
  }
}
