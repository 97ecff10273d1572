import type { HistoryLine } from '../history.ts';
import { type Checker, Findings, type Operation } from './operation.ts';

interface GroupOffset {
  readonly group: string;
  readonly queue: string;
  readonly offset: number | null;
}

/** What is known of one group and queue. */
interface Known {
  /** A read that begins now shows at least this. */
  floor: number;
  floorIndex: number;
  /** Resets that may still take effect, by the index of their invocation: those under way, and those nobody knows the end of. */
  readonly resets: Map<number, number>;
  /** Resets that ended, and where: kept while another one that they overlap is under way. */
  ended: { readonly index: number; readonly offset: number }[];
  /** Index at which a reset last ended. */
  lastReset: number;
  /** Everything that somebody tried to commit, or to reset to. */
  readonly tried: Set<number>;
}

const NEVER = -1;

/**
 * A group's committed offset goes back by a reset only, and is one that somebody committed. A read that begins after a commit was
 * acknowledged, or after another read was answered, shows at least that.
 */
export class OffsetBackChecker implements Checker {
  readonly name = 'offset gone back';
  #fetches = 0;
  readonly #findings = new Findings(this.name);
  readonly #known = new Map<string, Known>();
  /** By the index of a read's invocation: the floor then. */
  readonly #floors = new Map<number, { readonly floor: number; readonly index: number }>();

  invoked({ f, value, index }: HistoryLine): void {
    if (f !== 'commit' && f !== 'fetch' && f !== 'reset') return;
    const known = this.#of(value as GroupOffset);
    const { offset } = value as GroupOffset;
    if (f === 'fetch') {
      this.#floors.set(index, { floor: Math.min(known.floor, ...known.resets.values()), index: known.floorIndex });
      return;
    }
    if (offset !== null) known.tried.add(offset);
    if (f !== 'reset') return;
    known.resets.set(index, offset ?? NEVER);
  }

  operation({ f, type, invoked, completed }: Operation): void {
    if (completed === null || type !== 'ok') return;
    const value = completed.value as GroupOffset;
    if (f === 'commit') this.#raise(this.#of(value), value.offset ?? NEVER, invoked.index, completed.index);
    else if (f === 'reset') this.#reset(this.#of(value), value.offset ?? NEVER, invoked.index, completed.index);
    else if (f === 'fetch') this.#fetched(value, invoked.index, completed.index);
  }

  end() {
    return this.#findings.all;
  }

  looked(): string {
    return `${this.#fetches} reads of ${this.#known.size} offsets`;
  }

  #fetched(value: GroupOffset, invokedIndex: number, completedIndex: number): void {
    this.#fetches++;
    const known = this.#of(value);
    const offset = value.offset ?? NEVER;
    const before = this.#floors.get(invokedIndex) ?? { floor: NEVER, index: NEVER };
    this.#floors.delete(invokedIndex);
    const where = `group ${value.group}, ${value.queue}`;
    // A reset that came in between may have moved it anywhere.
    const lowest = Math.min(before.floor, ...known.resets.values());
    if (offset < lowest && known.lastReset < invokedIndex)
      this.#findings.add(`${where}: ${offset} was read after ${before.floor}`, before.index, completedIndex);
    if (offset !== NEVER && !known.tried.has(offset))
      this.#findings.add(`${where}: ${offset} was read, and nobody committed it`, completedIndex);
    this.#raise(known, offset, invokedIndex, completedIndex);
  }

  /** Only what certainly came after the last reset says where the offset is. */
  #raise(known: Known, offset: number, invokedIndex: number, completedIndex: number): void {
    if (known.lastReset > invokedIndex || known.resets.size > 0 || offset <= known.floor) return;
    known.floor = offset;
    known.floorIndex = completedIndex;
  }

  #reset(known: Known, offset: number, invokedIndex: number, completedIndex: number): void {
    known.resets.delete(invokedIndex);
    // Of two that overlap either one may have been the last.
    known.ended = known.ended.filter(({ index }) => index > invokedIndex || known.resets.size > 0);
    const overlapping = known.ended.filter(({ index }) => index > invokedIndex).map((ended) => ended.offset);
    known.ended.push({ index: completedIndex, offset });
    known.floor = Math.min(offset, ...overlapping, ...known.resets.values());
    known.floorIndex = completedIndex;
    // What began before it ended may have come before it: only what begins from now on raises the floor.
    known.lastReset = completedIndex;
  }

  #of({ group, queue }: GroupOffset): Known {
    const name = `${group} ${queue}`;
    let known = this.#known.get(name);
    if (known === undefined) {
      known = { floor: NEVER, floorIndex: NEVER, resets: new Map(), ended: [], lastReset: NEVER, tried: new Set() };
      this.#known.set(name, known);
    }
    return known;
  }
}
