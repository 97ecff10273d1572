import { equalBytes } from '../base/bytes.ts';
import type { Merged } from './record-table.ts';
import { type BrokerKey, type BrokerRecord, brokerKeyOf, type HostPort, type MemberState } from './records.ts';

/** Of a cluster of 30 groups of 5 there are 150; 500 an hour that come and go leave 125 dead in 15 minutes. */
export const MAX_MEMBERS = 1_024;
/** Accusers that are told apart; more make no suspicion more certain. */
const MAX_ACCUSERS = 8;

export interface Suspicion {
  readonly sinceMs: number;
  /** Who said so, this broker among them or not. */
  readonly accusers: Set<string>;
  /** A connection was reset. */
  reset: boolean;
}

export interface MemberRow {
  readonly key: string;
  record: BrokerRecord;
  /** The record as its owner encoded it. */
  bytes: Uint8Array;
  state: MemberState;
  /** The version that `state` is about: that of the record, or of a later one that only its death was heard of. */
  stateVersion: number;
  /** When it came to its state, by this broker's monotonic clock. */
  sinceMs: number;
  suspicion: Suspicion | null;
  /** Where its newest datagram came from; null: the address in its record is used. */
  heardFrom: HostPort | null;
  /** Of its newest datagram: an address is not learned from an older one. */
  generation: number;
  sequence: number;
  /** This broker slept: not told to others, and gone unless somebody confirms it. */
  stale: boolean;
}

/** One change of a row, after it. `was` null: the row is new. */
export type MemberChanged = (row: MemberRow, was: MemberState | null) => void;

const RANK: Readonly<Record<MemberState, number>> = { alive: 0, suspect: 1, dead: 2 };

/**
 * SWIM's table (Das, Gupta, Motivala 2002, section 4.2): of two words about a broker the higher version wins, and of the same
 * version dead beats suspect beats alive. Only the broker itself makes versions, so only it can refute.
 */
export class MemberTable {
  readonly #rows = new Map<string, MemberRow>();
  readonly #onChange: MemberChanged;

  /** The own broker is not in it. */
  constructor(onChange: MemberChanged) {
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#rows.size;
  }

  values(): IterableIterator<MemberRow> {
    return this.#rows.values();
  }

  get(key: string): MemberRow | undefined {
    return this.#rows.get(key);
  }

  find(broker: BrokerKey): MemberRow | undefined {
    return this.#rows.get(brokerKeyOf(broker));
  }

  mergeRecord(record: BrokerRecord, bytes: Uint8Array, nowMs: number): Merged {
    const key = brokerKeyOf(record);
    const row = this.#rows.get(key);
    if (row === undefined) return this.#add(key, record, bytes, nowMs);
    if (record.version < row.record.version) return 'older';
    if (record.version === row.record.version) return equalBytes(bytes, row.bytes) ? 'known' : 'conflict';
    row.record = record;
    row.bytes = Uint8Array.from(bytes);
    const was = row.state;
    if (record.version > row.stateVersion) {
      row.stateVersion = record.version;
      row.suspicion = null;
      if (was !== 'alive') row.sinceMs = nowMs;
      row.state = 'alive';
    }
    this.#onChange(row, was);
    return 'taken';
  }

  /** @returns whether it is news: the state changed, or one more accuser was heard */
  accuse(row: MemberRow, version: number, by: string, reset: boolean, nowMs: number): boolean {
    if (version < row.stateVersion || row.state === 'dead') return false;
    row.stateVersion = version;
    const { suspicion } = row;
    if (suspicion === null) {
      row.suspicion = { sinceMs: nowMs, accusers: new Set([by]), reset };
      this.#move(row, 'suspect', nowMs);
      return true;
    }
    if (reset) suspicion.reset = true;
    if (suspicion.accusers.has(by) || suspicion.accusers.size >= MAX_ACCUSERS) return false;
    suspicion.accusers.add(by);
    return true;
  }

  /** @returns whether it is news */
  bury(row: MemberRow, version: number, nowMs: number): boolean {
    if (version < row.stateVersion || row.state === 'dead') return false;
    row.stateVersion = version;
    row.suspicion = null;
    this.#move(row, 'dead', nowMs);
    return true;
  }

  delete(row: MemberRow): void {
    this.#rows.delete(row.key);
  }

  #move(row: MemberRow, state: MemberState, nowMs: number): void {
    const was = row.state;
    if (RANK[state] <= RANK[was]) return;
    row.state = state;
    row.sinceMs = nowMs;
    this.#onChange(row, was);
  }

  #add(key: string, record: BrokerRecord, bytes: Uint8Array, nowMs: number): Merged {
    if (this.#rows.size >= MAX_MEMBERS) return 'full';
    const row: MemberRow = {
      key,
      record,
      bytes: Uint8Array.from(bytes),
      state: 'alive',
      stateVersion: record.version,
      sinceMs: nowMs,
      suspicion: null,
      heardFrom: null,
      generation: 0,
      sequence: -1,
      stale: false,
    };
    this.#rows.set(key, row);
    this.#onChange(row, null);
    return 'taken';
  }
}
