import type { Clock, Timer } from '../io/clock.ts';
import type { Random } from '../io/random.ts';
import type { Evidence } from './gossip-port.ts';
import type { MemberRow, MemberTable } from './member-table.ts';

/** One member is probed in each period. */
export const PROBE_INTERVAL_MS = 500;
/** A fifth of the datagrams may be lost, so a probe asks again before it asks others to ask: five pings fail once in 160 times. */
const PROBE = { pingsAtMs: [0, 120, 240, 360, 480], indirectAtMs: 480, verdictAtMs: 900 } as const;
/** After a reset connection the answer is wanted soon. */
const URGENT_PROBE = { pingsAtMs: [0, 80, 160, 240, 320], indirectAtMs: 160, verdictAtMs: 450 } as const;
const INDIRECT_MEDIATORS = 3;
/** Of one broker, at once: a period begins a probe, which lasts two at most, and suspicions add some. */
const MAX_PROBES = 64;

/** A suspect has this long to refute, among 30; with a single accuser the longer, with three more that agree the shorter time. */
const SUSPICION_MIN_MS = 3_000;
const SUSPICION_MAX_MS = 5_500;
const CONFIRMATIONS = 3;
/** Its process is known to be gone: a refutation would be here in a tenth of this. */
const RESET_SUSPICION_MS = 1_000;
const SUSPECT_PING_MS = 500;
const RESET_SUSPECT_PING_MS = 200;

/** A timer that comes so late says that this process stood still, and that what it missed says nothing about others. */
const STALL_MS = 250;
/** Lifeguard's local health (Dadgar, Phillips, Currey 2018): who finds itself slow or deaf believes its own probes less. */
const MAX_HEALTH_SCORE = 3;

export interface DetectorPorts {
  /** @param attempt 0, 1, 2 …: another way to the same broker is tried by turns */
  ping(row: MemberRow, probe: number, attempt: number): void;
  pingThrough(mediator: MemberRow, row: MemberRow, probe: number): void;
  /** This broker found no sign of life. */
  accuse(row: MemberRow, reset: boolean): void;
  /** The time to refute is over. */
  bury(row: MemberRow): void;
  /** This process stood still for so long. */
  stalled(forMs: number): void;
}

interface Probe {
  readonly id: number;
  readonly row: MemberRow;
  readonly plan: typeof PROBE | typeof URGENT_PROBE;
  readonly startedMs: number;
  readonly reset: boolean;
  attempt: number;
  indirect: boolean;
  timer: Timer | null;
  dueMs: number;
}

interface Watch {
  timer: Timer;
  dueMs: number;
  /** Time in which this broker stood still, taken off the suspect's account. */
  graceMs: number;
}

/** SWIM's failure detector (section 4.1): probes by turns, through others when there is no answer, suspicion before death. */
export class FailureDetector {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #members: MemberTable;
  readonly #ports: DetectorPorts;
  readonly #probes = new Map<number, Probe>();
  readonly #watches = new Map<MemberRow, Watch>();
  /** Who is probed next, from the end; made anew in random order when it is empty. */
  #turns: MemberRow[] = [];
  #nextProbe: number;
  #period: Timer | null = null;
  #periodDueMs = 0;
  #lastHeardMs = 0;
  #stopped = false;
  healthScore = 0;

  constructor(clock: Clock, random: Random, members: MemberTable, ports: DetectorPorts) {
    this.#clock = clock;
    this.#random = random;
    this.#members = members;
    this.#ports = ports;
    this.#nextProbe = random.u32();
  }

  start(): void {
    this.#armPeriod(this.#random.unit() * PROBE_INTERVAL_MS);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#period !== null) this.#clock.clearTimer(this.#period);
    this.#abandonProbes();
    for (const { timer } of this.#watches.values()) this.#clock.clearTimer(timer);
    this.#watches.clear();
  }

  /** Any datagram of anybody. */
  heard(): void {
    this.#lastHeardMs = this.#clock.monotonicMs();
  }

  /** @returns whether it was one of these probes */
  answered(probeId: number, key: string): boolean {
    const probe = this.#probes.get(probeId);
    if (probe === undefined || probe.row.key !== key) return false;
    this.#end(probe);
    if (this.healthScore > 0 && probe.attempt <= 1) this.healthScore--;
    return true;
  }

  /** A row is new, or its state changed. */
  changed(row: MemberRow): void {
    if (row.state === 'suspect') {
      if (!this.#watches.has(row)) this.#armWatch(row, 0, this.#pingDelayMs(row));
      return;
    }
    this.#endWatch(row);
    if (row.state === 'dead') {
      for (const probe of this.#probes.values()) if (probe.row === row) this.#end(probe);
    } else if (!this.#turns.includes(row)) {
      this.#turns.splice(Math.floor(this.#random.unit() * (this.#turns.length + 1)), 0, row);
    }
  }

  /** A row is gone from the table. */
  forget(row: MemberRow): void {
    this.#endWatch(row);
    for (const probe of this.#probes.values()) if (probe.row === row) this.#end(probe);
    const at = this.#turns.indexOf(row);
    if (at !== -1) this.#turns.splice(at, 1);
  }

  look(row: MemberRow, evidence: Evidence): void {
    if (row.state === 'dead') return;
    const reset = evidence === 'reset';
    // Both replicas of a group and each broken connection say the same: one probe is enough.
    for (const probe of this.#probes.values()) if (probe.row === row && (probe.reset || !reset)) return;
    this.#probe(row, URGENT_PROBE, reset);
  }

  // ---- probes ----------------------------------------------------------------------------------------------------------

  #armPeriod(delayMs: number): void {
    if (this.#stopped) return;
    this.#periodDueMs = this.#clock.monotonicMs() + delayMs;
    this.#period = this.#clock.setTimer(delayMs, () => this.#onPeriod());
  }

  #onPeriod(): void {
    this.#checkStall(this.#periodDueMs);
    const row = this.#nextTurn();
    if (row !== null) this.#probe(row, PROBE, false);
    this.#armPeriod(PROBE_INTERVAL_MS * (1 + this.healthScore * 0.5) * (0.9 + 0.2 * this.#random.unit()));
  }

  #nextTurn(): MemberRow | null {
    for (let tries = 0; tries < 2; tries++) {
      for (let row = this.#turns.pop(); row !== undefined; row = this.#turns.pop()) {
        if (row.state !== 'dead') return row;
      }
      this.#turns = [...this.#members.values()].filter(({ state }) => state !== 'dead');
      shuffle(this.#turns, this.#random);
    }
    return null;
  }

  #probe(row: MemberRow, plan: Probe['plan'], reset: boolean): void {
    if (this.#stopped || this.#probes.size >= MAX_PROBES) return;
    const id = this.#nextProbe;
    this.#nextProbe = (id + 1) >>> 0;
    const startedMs = this.#clock.monotonicMs();
    const probe: Probe = { id, row, plan, startedMs, reset, attempt: 0, indirect: false, timer: null, dueMs: startedMs };
    this.#probes.set(id, probe);
    this.#step(probe);
  }

  #step(probe: Probe): void {
    const { plan, row, id } = probe;
    const elapsedMs = this.#clock.monotonicMs() - probe.startedMs;
    if (this.#checkStall(probe.dueMs)) return;
    if (elapsedMs >= this.#stretched(plan.verdictAtMs)) {
      this.#end(probe);
      this.#unanswered(probe);
      return;
    }
    if (elapsedMs >= this.#stretched(plan.pingsAtMs[probe.attempt] ?? Number.POSITIVE_INFINITY)) this.#ports.ping(row, id, probe.attempt++);
    if (!probe.indirect && elapsedMs >= this.#stretched(plan.indirectAtMs)) {
      probe.indirect = true;
      for (const mediator of this.#mediators(row)) this.#ports.pingThrough(mediator, row, id);
    }
    const nextMs = probe.startedMs + this.#stretched(plan.pingsAtMs[probe.attempt] ?? plan.verdictAtMs);
    probe.dueMs = nextMs;
    // Whole milliseconds: a rest of 10^-13 ms would never pass.
    probe.timer = this.#clock.setTimer(Math.max(1, Math.ceil(nextMs - this.#clock.monotonicMs())), () => this.#step(probe));
  }

  #stretched(ms: number): number {
    return ms * (1 + this.healthScore * 0.5);
  }

  #unanswered(probe: Probe): void {
    // Deaf rather than alone, perhaps: slower from now on.
    if (this.#lastHeardMs < probe.startedMs) this.#worse();
    this.#ports.accuse(probe.row, probe.reset);
  }

  #mediators(row: MemberRow): MemberRow[] {
    const others = [...this.#members.values()].filter((other) => other !== row && other.state === 'alive');
    shuffle(others, this.#random, INDIRECT_MEDIATORS);
    return others.slice(0, INDIRECT_MEDIATORS);
  }

  #end(probe: Probe): void {
    if (probe.timer !== null) this.#clock.clearTimer(probe.timer);
    this.#probes.delete(probe.id);
  }

  #abandonProbes(): void {
    for (const probe of this.#probes.values()) this.#end(probe);
  }

  /** @returns whether this process stood still: then every probe under way is void */
  #checkStall(dueMs: number): boolean {
    const lateMs = this.#clock.monotonicMs() - dueMs;
    if (lateMs < STALL_MS) return false;
    this.#worse();
    this.#abandonProbes();
    for (const watch of this.#watches.values()) watch.graceMs += lateMs + SUSPECT_PING_MS;
    this.#ports.stalled(lateMs);
    return true;
  }

  #worse(): void {
    this.healthScore = Math.min(MAX_HEALTH_SCORE, this.healthScore + 1);
  }

  // ---- suspects --------------------------------------------------------------------------------------------------------

  #armWatch(row: MemberRow, graceMs: number, delayMs: number): void {
    const watch: Watch = {
      graceMs,
      dueMs: this.#clock.monotonicMs() + delayMs,
      timer: this.#clock.setTimer(delayMs, () => this.#onWatch(row, watch)),
    };
    this.#watches.set(row, watch);
  }

  /** A suspect is told of the suspicion by each who holds it, again and again: what spreads by chance may miss somebody. */
  #onWatch(row: MemberRow, watch: Watch): void {
    if (row.suspicion === null) return;
    this.#checkStall(watch.dueMs);
    const leftMs = row.suspicion.sinceMs + this.#suspicionMs(row) + watch.graceMs - this.#clock.monotonicMs();
    if (leftMs <= 0) {
      this.#watches.delete(row);
      this.#ports.bury(row);
      return;
    }
    this.#ports.ping(row, this.#nextProbe, 0);
    this.#armWatch(row, watch.graceMs, Math.ceil(Math.min(leftMs, this.#pingDelayMs(row))));
  }

  #endWatch(row: MemberRow): void {
    const watch = this.#watches.get(row);
    if (watch === undefined) return;
    this.#clock.clearTimer(watch.timer);
    this.#watches.delete(row);
  }

  #pingDelayMs(row: MemberRow): number {
    const ms = row.suspicion?.reset ? RESET_SUSPECT_PING_MS : SUSPECT_PING_MS;
    return ms * this.#scale() * (0.7 + 0.6 * this.#random.unit());
  }

  /** Lifeguard, section IV.B: from the longer to the shorter time by the logarithm of those who agree. */
  #suspicionMs(row: MemberRow): number {
    const scale = this.#scale();
    if (row.suspicion?.reset) return RESET_SUSPICION_MS * scale;
    const wanted = Math.min(CONFIRMATIONS, this.#members.size - 1);
    if (wanted <= 0) return SUSPICION_MIN_MS * scale;
    const agreed = Math.min(wanted, (row.suspicion?.accusers.size ?? 1) - 1);
    const range = SUSPICION_MAX_MS - SUSPICION_MIN_MS;
    return scale * (SUSPICION_MAX_MS - (range * Math.log(agreed + 1)) / Math.log(wanted + 1));
  }

  /** News takes longer to reach more than 30. */
  #scale(): number {
    return Math.max(1, Math.log2(this.#members.size + 2) / 5);
  }
}

/** Fisher and Yates; the first `count` places are enough. */
export function shuffle<T>(list: T[], random: Random, count = list.length): void {
  for (let at = 0; at < Math.min(count, list.length); at++) {
    const other = at + Math.floor(random.unit() * (list.length - at));
    [list[at], list[other]] = [list[other] as T, list[at] as T];
  }
}
