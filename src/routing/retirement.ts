import type { Clock, Timer } from '../io/clock.ts';
import type { MemberRow, MemberTable } from './member-table.ts';
import type { OwnRecord } from './own-record.ts';
import type { RecordTable } from './record-table.ts';

/** The dead are kept so long, that whoever still speaks of them as alive is told. */
export const DEAD_RETENTION_MS = 15 * 60_000;
/** A group that is down for a day has its queues in the routes still. */
const GROUP_RETENTION_MS = 24 * 3_600_000;
/** Groups without a member that are kept; beyond it the one that is without for longest is forgotten first. */
export const MAX_ORPHANED_GROUPS = 64;
const SWEEP_INTERVAL_MS = 1_000;
/** Far below the retention of the dead: who slept no longer has missed no forgetting. */
const SLEEP_MS = 60_000;
/** After waking: how long what was known waits to be said again by somebody. */
const CONFIRM_MS = 10_000;

export interface RetirementPorts {
  forget(row: MemberRow): void;
  forgetGroup(brokerName: string): void;
  /** Not told any more. */
  hide(row: MemberRow): void;
  /** This process, or the machine with it, slept. */
  slept(forMs: number): void;
}

/** Ends what nobody speaks for, so that tables stay bounded and the dead stay dead. */
export class Retirement {
  readonly #clock: Clock;
  readonly #members: MemberTable;
  readonly #table: RecordTable;
  readonly #own: OwnRecord;
  readonly #ports: RetirementPorts;
  /** Rows of each group. */
  readonly #rows = new Map<string, number>();
  /** Groups without a row, since when. */
  readonly #orphans = new Map<string, number>();
  #timer: Timer | null = null;
  #wallMs = 0;
  #monotonicMs = 0;
  #confirmByMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, members: MemberTable, table: RecordTable, own: OwnRecord, ports: RetirementPorts) {
    this.#clock = clock;
    this.#members = members;
    this.#table = table;
    this.#own = own;
    this.#ports = ports;
  }

  start(): void {
    this.#wallMs = this.#clock.wallMs();
    this.#monotonicMs = this.#clock.monotonicMs();
    this.#timer = this.#clock.setTimer(SWEEP_INTERVAL_MS, () => this.#sweep());
  }

  stop(): void {
    if (this.#timer !== null) this.#clock.clearTimer(this.#timer);
    this.#timer = null;
  }

  added(row: MemberRow): void {
    const { brokerName } = row.record;
    this.#rows.set(brokerName, (this.#rows.get(brokerName) ?? 0) + 1);
    this.#orphans.delete(brokerName);
  }

  hasMember(brokerName: string): boolean {
    return brokerName === this.#own.record.brokerName || this.#rows.has(brokerName);
  }

  /** The one that is dead for longest makes room. @returns whether there was one */
  makeRoom(): boolean {
    let oldest: MemberRow | null = null;
    for (const row of this.#members.values()) {
      if (row.state === 'dead' && (oldest === null || row.sinceMs < oldest.sinceMs)) oldest = row;
    }
    if (oldest !== null) this.#retire(oldest, this.#clock.monotonicMs());
    return oldest !== null;
  }

  #sweep(): void {
    const nowMs = this.#clock.monotonicMs();
    this.checkSleep();
    if (nowMs >= this.#confirmByMs) this.#endConfirmation(nowMs);
    for (const row of [...this.#members.values()]) {
      if (row.state === 'dead' && nowMs - row.sinceMs > DEAD_RETENTION_MS) this.#retire(row, nowMs);
    }
    for (const [brokerName, sinceMs] of [...this.#orphans]) {
      if (this.#orphans.size > MAX_ORPHANED_GROUPS || nowMs - sinceMs > GROUP_RETENTION_MS) {
        this.#orphans.delete(brokerName);
        this.#ports.forgetGroup(brokerName);
      }
    }
    this.#timer = this.#clock.setTimer(SWEEP_INTERVAL_MS, () => this.#sweep());
  }

  #retire(row: MemberRow, nowMs: number): void {
    const { brokerName } = row.record;
    this.#ports.forget(row);
    const left = (this.#rows.get(brokerName) ?? 1) - 1;
    if (left > 0) {
      this.#rows.set(brokerName, left);
      return;
    }
    this.#rows.delete(brokerName);
    const known = this.#table.groups.has(brokerName) || this.#table.topics.has(brokerName);
    if (known && brokerName !== this.#own.record.brokerName) this.#orphans.set(brokerName, nowMs);
  }

  /**
   * Before anything is told or believed: the first event after a sleep may be any.
   * The wall clock goes on while a machine sleeps, the monotonic one may not; a wall clock that was set costs a new start only.
   */
  checkSleep(): void {
    const nowMs = this.#clock.monotonicMs();
    const wallMs = this.#clock.wallMs();
    const forMs = Math.max(nowMs - this.#monotonicMs, wallMs - this.#wallMs);
    this.#wallMs = wallMs;
    this.#monotonicMs = nowMs;
    if (forMs < SLEEP_MS) return;
    for (const row of this.#members.values()) {
      row.stale = true;
      this.#ports.hide(row);
    }
    this.#confirmByMs = nowMs + CONFIRM_MS;
    this.#ports.slept(forMs);
  }

  #endConfirmation(nowMs: number): void {
    const rows = [...this.#members.values()];
    if (rows.every(({ stale }) => stale)) {
      // Still alone: nobody has spoken who could confirm anything.
      this.#confirmByMs = nowMs + CONFIRM_MS;
      return;
    }
    this.#confirmByMs = Number.POSITIVE_INFINITY;
    for (const row of rows) if (row.stale) this.#retire(row, nowMs);
  }
}
