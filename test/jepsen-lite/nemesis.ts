import { setTimeout as sleep } from 'node:timers/promises';
import { Prng } from '../sim/prng.ts';
import type { FaultTally } from './checkers/check.ts';
import type { ChaosCluster } from './cluster/chaos-cluster.ts';
import { CLOCK_FAULTS } from './faults/clock.ts';
import { DAMAGE_FAULTS } from './faults/damage.ts';
import { DISK_FAULTS } from './faults/disk.ts';
import type { Evidence, StartFault } from './faults/fault.ts';
import { MEMBER_FAULTS } from './faults/members.ts';
import { NETWORK_FAULTS } from './faults/network.ts';
import { PROCESS_FAULTS } from './faults/processes.ts';
import type { HistoryWriter } from './history.ts';
import { type PlannedFault, plannedCounts, type Round, type Schedule } from './schedule.ts';

const START: Readonly<Record<string, StartFault>> = {
  ...NETWORK_FAULTS,
  ...PROCESS_FAULTS,
  ...CLOCK_FAULTS,
  ...DISK_FAULTS,
  ...DAMAGE_FAULTS,
  ...MEMBER_FAULTS,
};
/** A group that is healed serves again within this, also on a machine that does other things; a replica may have to fetch all of the log. */
const RECOVERY_TIMEOUT_MS = 120_000;

export interface NemesisReport {
  readonly faults: Readonly<Record<string, FaultTally>>;
  /** What a group must not do whatever the faults were: not come back, end by itself. */
  readonly problems: readonly string[];
  readonly roundsDone: number;
  readonly recoveryMs: readonly number[];
}

/** Carries out a schedule of faults, and writes down when each began and ended and what shows that it was there. */
export class Nemesis {
  readonly #cluster: ChaosCluster;
  readonly #schedule: Schedule;
  readonly #history: HistoryWriter;
  readonly #say: (text: string) => void;
  readonly #stop: AbortSignal;
  readonly #tallies = new Map<string, { planned: number; fired: number; evidence: string[] }>();
  readonly #problems: string[] = [];
  readonly #recoveryMs: number[] = [];

  constructor(cluster: ChaosCluster, schedule: Schedule, history: HistoryWriter, say: (text: string) => void, stop: AbortSignal) {
    this.#cluster = cluster;
    this.#schedule = schedule;
    this.#history = history;
    this.#say = say;
    this.#stop = stop;
    for (const [name, planned] of plannedCounts(schedule)) this.#tallies.set(name, { planned, fired: 0, evidence: [] });
  }

  /** Ends with the last round, when the group does not come back, or when it is told to stop. */
  async run(): Promise<NemesisReport> {
    const startMs = performance.now();
    const { rounds } = this.#schedule;
    let roundsDone = 0;
    let calmMs = 0;
    for (const round of rounds) {
      await this.#pause(Math.max(calmMs, round.atMs - (performance.now() - startMs)));
      if (this.#stop.aborted) break;
      await this.#round(round);
      if (!(await this.#recovered())) break;
      roundsDone++;
      calmMs = round.calmMs;
    }
    if (roundsDone === rounds.length) await this.#pause(calmMs);
    return { faults: Object.fromEntries(this.#tallies), problems: this.#problems, roundsDone, recoveryMs: this.#recoveryMs };
  }

  async #round(round: Round): Promise<void> {
    const leader = await this.#cluster.leader();
    await Promise.all(round.faults.map((planned) => this.#fault(planned, leader)));
  }

  async #fault(planned: PlannedFault, leader: number | null): Promise<void> {
    const { id, fault, holdMs, leaderFirst } = planned;
    const ids = leaderFirst && leader !== null ? [leader, ...planned.order.filter((each) => each !== leader)] : planned.order;
    const order = ids.map((each) => this.#cluster.replica(each));
    await this.#pause(planned.afterMs);
    const line = (phase: 'begin' | 'end' | 'note', more: object): void =>
      this.#history.line('info', 'nemesis', fault, { phase, id, ...more });
    line('begin', { targets: order.map(({ name }) => name), holdMs, leader });
    let evidence: Evidence;
    try {
      const active = await (START[fault] as StartFault)({ cluster: this.#cluster, order, prng: new Prng(planned.seed), holdMs });
      line('note', { targets: active.targets });
      this.#say(`${fault} ${active.targets.join(' ')}`);
      if (active.over === undefined) await this.#pause(holdMs);
      else await active.over;
      evidence = await active.end();
    } catch (error) {
      // Of the harness: the fault counts as one that was not there, and the rest goes on.
      this.#cluster.startAll();
      evidence = { fired: false, text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    line('end', { targets: order.map(({ name }) => name), ...evidence });
    this.#say(`${fault} ended: ${evidence.fired ? '' : 'NOT FIRED: '}${evidence.text}`);
    const tally = this.#tallies.get(fault);
    tally?.evidence.push(evidence.text);
    if (tally !== undefined && evidence.fired) tally.fired++;
  }

  async #recovered(): Promise<boolean> {
    const sinceMs = performance.now();
    const trouble = await this.#cluster.waitRecovered(RECOVERY_TIMEOUT_MS, this.#stop);
    const tookMs = Math.round(performance.now() - sinceMs);
    for (const { replica, code, signal } of this.#cluster.unexpectedExits.splice(0)) {
      this.#problem(`${replica} ended by itself (${signal ?? code}); see its log`);
    }
    if (this.#stop.aborted) return false;
    if (trouble !== null) this.#problem(`not as before ${tookMs} ms after the last fault ended: ${trouble}`);
    else {
      this.#recoveryMs.push(tookMs);
      this.#history.line('info', 'nemesis', 'recovery', { phase: 'note', id: 0, tookMs });
    }
    return trouble === null;
  }

  #problem(text: string): void {
    this.#problems.push(text);
    this.#history.line('info', 'nemesis', 'problem', { phase: 'note', id: 0 }, text);
    this.#say(`PROBLEM: ${text}`);
  }

  async #pause(ms: number): Promise<void> {
    await sleep(Math.max(0, ms), undefined, { signal: this.#stop }).catch(() => undefined);
  }
}
