import { ERRORS, type ErrorCode } from '../protocol/errors.ts';
import type { AppliedEntry } from '../replica/types.ts';
import type { Carry, Command } from './commands.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { StateLimits } from './limits.ts';
import type { Segments } from './segments.ts';
import type { CommandHandler, CommandResult, StateTable } from './state-table.ts';

/** What the table needs of the state machine. */
export interface CarriedPorts {
  readonly segments: Segments;
  featureLevel(): number;
  /** Index of the entry that is being applied. */
  appliedIndex(): number;
}

/** Where the bytes of what was stored at another position are. */
interface Place {
  readonly position: number;
  /** Log time at which it was stored first, ms. */
  readonly storedMs: number;
}

const COLUMNS = 3;
const FIELDS = 3;
const refused = (code: ErrorCode): CommandResult => ({ error: ERRORS[code].number, results: [] });

/**
 * What was carried to the log's head, because something still refers to it where the log is cut (F34).
 *
 * Rows in queues cannot be changed: the position that they refer to is a name, and this table says where the bytes of a name are now;
 * all others lie where their name says. What waits for its time waits again instead, as a row at the head that refers to the copy: its
 * unit must lie in the log that is retained, or a queue that is built anew would not have it. This table knows the units that do not
 * count any more until the cut takes them.
 */
export class Carried implements StateTable, CommandHandler {
  readonly name = 'carried';
  readonly level = FEATURE_LEVELS.carrying;
  readonly #ports: CarriedPorts;
  readonly #places = new Map<number, Place>();
  /** Place → name. */
  readonly #names = new Map<number, number>();
  /** Bases of segments that were cut and that names lie in, ascending. */
  #goneBases: number[] = [];
  /** Positions of waiting units that wait at the head now. */
  readonly #moved = new Set<number>();
  /** Base of a retained segment → index of the newest entry that referred to something there from elsewhere. */
  readonly #referred = new Map<number, number>();
  /** How often something was placed elsewhere since this process started: who looked up a place before looks again. Not part of the state. */
  changes = 0;
  /** The leader's, while it gathers what is to be carried. Not part of the state. */
  onRefer: ((name: number, place: number, sizeBytes: number) => void) | null = null;

  constructor(ports: CarriedPorts) {
    this.#ports = ports;
  }

  get size(): number {
    return this.#places.size;
  }

  /** How many more fit. */
  get room(): number {
    return StateLimits.maxCarried - this.size - this.#moved.size;
  }

  clear(): void {
    this.#places.clear();
    this.#names.clear();
    this.#goneBases = [];
    this.#moved.clear();
    this.#referred.clear();
  }

  pack(): unknown {
    const numbers = new Float64Array(COLUMNS * this.size);
    let at = 0;
    for (const [name, { position, storedMs }] of [...this.#places].sort(([a], [b]) => a - b)) {
      numbers[at] = name;
      numbers[at + 1] = position;
      numbers[at + 2] = storedMs;
      at += COLUMNS;
    }
    const moved = Float64Array.from(this.#moved).sort();
    const referred = [...this.#referred].sort(([a], [b]) => a - b).flat();
    return [new Uint8Array(numbers.buffer), this.#goneBases, referred, new Uint8Array(moved.buffer)];
  }

  unpack(packed: unknown): void {
    const [bytes, goneBases, referred, moved] = packed as [Uint8Array, number[], number[], Uint8Array];
    const numbers = numbersOf(bytes);
    for (let at = 0; at < numbers.length; at += COLUMNS)
      this.#put(numbers[at] as number, { position: numbers[at + 1] as number, storedMs: numbers[at + 2] as number });
    this.#goneBases = [...goneBases];
    for (const position of numbersOf(moved)) this.#moved.add(position);
    for (let at = 0; at < referred.length; at += 2) this.#referred.set(referred[at] as number, referred[at + 1] as number);
  }

  /** Where the bytes of a name are. Below the log's start: nowhere any more. */
  placeOf(name: number): number {
    return this.#places.get(name)?.position ?? name;
  }

  /** Of a carried copy: what it is a copy of; undefined: a newer one counts, or nothing refers to it. */
  nameAt(place: number): { readonly name: number; readonly storedMs: number } | undefined {
    const name = this.#names.get(place);
    return name === undefined ? undefined : { name, storedMs: (this.#places.get(name) as Place).storedMs };
  }

  /** Base of the segment that a name lies in; also of one that was cut, as long as something of it was carried. */
  baseOf(name: number): number {
    if (name >= this.#ports.segments.startPosition) return this.#ports.segments.baseOf(name);
    return this.#goneBases.findLast((base) => base <= name) ?? 0;
  }

  /** A row that is being applied refers to a batch: what was gathered before is not all any more. */
  refer(name: number, sizeBytes: number): void {
    if (this.#ports.featureLevel() < this.level) return;
    const place = this.placeOf(name);
    this.#referred.set(this.#ports.segments.baseOf(place), this.#ports.appliedIndex());
    this.onRefer?.(name, place, sizeBytes);
  }

  /** Whether the waiting unit at a position does not count any more: what is cut waits elsewhere, or was delivered. */
  isMoved(position: number): boolean {
    return position < this.#ports.segments.startPosition || this.#moved.has(position);
  }

  moved(position: number): void {
    this.#moved.add(position);
    this.changes++;
  }

  /** What was due at a level waits at the head now. */
  waitsAgain(): void {
    this.changes++;
  }

  handle(command: Command, entry: AppliedEntry): CommandResult {
    return command.type === 'carry' ? this.#carry(command, entry) : refused('UNKNOWN_OPERATION');
  }

  #carry({ batches }: Carry, entry: AppliedEntry): CommandResult {
    const { startPosition } = this.#ports.segments;
    if (batches.length % FIELDS !== 0) return refused('BAD_REQUEST');
    if (batches.length / FIELDS > this.room) return refused('TOO_MANY');
    for (let at = 0; at < batches.length; at += FIELDS) {
      const [name, position, storedMs] = batches.slice(at, at + FIELDS) as [number, number, number];
      // Of a leader that was late: the log was cut behind its copy.
      if (name < position && position >= startPosition && position < entry.position) this.#put(name, { position, storedMs });
    }
    return { error: 0, results: [] };
  }

  #put(name: number, place: Place): void {
    const before = this.#places.get(name);
    if (before !== undefined) this.#names.delete(before.position);
    this.#places.set(name, place);
    this.#names.set(place.position, name);
    this.changes++;
  }

  /** Whether nothing before `position` was referred to anew behind `asOf`, as of which whoever proposes the cut has carried everything. */
  mayCut(position: number, asOf: number): boolean {
    for (const [base, index] of this.#referred) if (base < position && index > asOf) return false;
    return true;
  }

  /** The log is being cut; names whose bytes lay before are no longer referred to. */
  cut(position: number): void {
    if (this.#ports.featureLevel() < this.level) return;
    for (const base of [...this.#referred.keys()]) if (base < position) this.#referred.delete(base);
    for (const moved of this.#moved) if (moved < position) this.#moved.delete(moved);
    if (this.size === 0) return;
    const { startPosition, starts } = this.#ports.segments;
    const bases = [...this.#goneBases, startPosition, ...starts.map((start) => start.position).filter((start) => start < position)];
    const used = new Set<number>();
    for (const [name, place] of this.#places) {
      if (place.position < position) {
        this.#places.delete(name);
        this.#names.delete(place.position);
      } else if (name < position) used.add(bases.findLast((base) => base <= name) as number);
    }
    this.#goneBases = bases.filter((base) => used.has(base));
  }
}

/** A copy: the packed bytes lie at any address, numbers at multiples of 8. */
function numbersOf(bytes: Uint8Array): Float64Array {
  return new Float64Array(Uint8Array.from(bytes).buffer);
}
