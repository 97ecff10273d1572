import { UnitBatch } from '../log/consume-queue-types.ts';
import type { BrokerContext } from './context.ts';
import type { DeliveryRow } from './delivery.ts';
import type { PendingCommands } from './pending-commands.ts';
import { ProposalLoop, type ProposalSource, proposableLogTimeMs } from './proposal-loop.ts';
import { releasedBy, type WaitingRows, type WaitingUnit, withoutCancelled } from './waiting-rows.ts';

/** Of one entry: 64 KiB. */
const ROWS_PER_ENTRY = 1_024;

/** Delivers what waits in one level's queue (F13): the leader's. Goes on from where the state says that it is. */
export class LevelDelivery implements ProposalSource {
  readonly name: string;
  readonly loop: ProposalLoop;
  readonly #level: number;
  readonly #context: BrokerContext;
  readonly #rows: WaitingRows;
  #units: UnitBatch | null = null;
  /** End of what is proposed, while something is in flight. */
  #proposedTo = 0;
  /** Log time at which the first of what waits here and is not proposed yet is due; −1: nothing waits. */
  nextDueMs = -1;

  constructor(level: number, context: BrokerContext, commands: PendingCommands, rows: WaitingRows) {
    this.name = `delay level ${level}`;
    this.#level = level;
    this.#context = context;
    this.#rows = rows;
    this.loop = new ProposalLoop(context, commands, this);
  }

  get #from(): number {
    return this.loop.inFlight > 0 ? this.#proposedTo : this.#context.state.timers.levels.delivered(this.#level);
  }

  async propose(): Promise<boolean> {
    const from = this.#from;
    const queue = this.#context.state.timers.levels.known(this.#level);
    if (queue === undefined || from >= queue.nextOffset) {
      this.nextDueMs = -1;
      return false;
    }
    this.#units ??= new UnitBatch(ROWS_PER_ENTRY);
    const read = this.#units;
    const found = queue.index.readUnits(from, ROWS_PER_ENTRY, read);
    if (typeof found !== 'number') await found;
    const units = this.#dueUnits(read);
    if (units.length === 0) return false;
    const rows = this.#rows.of(units);
    const ready = Array.isArray(rows) ? rows : await rows;
    // While files were read the entries before may have come to nothing, or leadership gone and come back.
    if (this.#context.leadership.ready && this.#from === from) this.#propose(from, read, units, ready);
    return true;
  }

  restart(): void {}

  /** The first of the units read that are due. */
  #dueUnits({ length, position, sizeBytes, count, tagBloom, logTimeMs }: UnitBatch): WaitingUnit[] {
    const delayMs = this.#context.state.timers.levels.delayMs(this.#level);
    const limitMs = proposableLogTimeMs(this.#context);
    const due: WaitingUnit[] = [];
    while (due.length < length && (logTimeMs[due.length] as number) + delayMs <= limitMs) {
      const i = due.length;
      due.push({
        position: position[i] as number,
        sizeBytes: sizeBytes[i] as number,
        count: count[i] as number,
        tagBloom: tagBloom[i] as number,
      });
    }
    this.nextDueMs = length === 0 ? -1 : (logTimeMs[0] as number) + delayMs;
    if (due.length === 0 && length > 0) this.loop.sleepUntil((logTimeMs[0] as number) + delayMs);
    return due;
  }

  #propose(from: number, read: UnitBatch, found: readonly WaitingUnit[], all: readonly DeliveryRow[]): void {
    const { state, metrics, replica } = this.#context;
    const { units: taken, rows, cancelled } = withoutCancelled(found, all, state.timers.cancelled);
    const units = found.slice(0, taken);
    const last = taken - 1;
    const delayMs = state.timers.levels.delayMs(this.#level);
    const firstDueMs = (read.logTimeMs[0] as number) + delayMs;
    const dueMs = (read.logTimeMs[last] as number) + delayMs;
    const to = (read.baseOffset[last] as number) + (read.count[last] as number);
    const { position } = units[last] as WaitingUnit;
    const released = releasedBy(units, all, (at) => state.carried.baseOf(at));
    this.#proposedTo = to;
    this.loop.propose({ type: 'delayLevelDue', level: this.#level, from, to, position, dueMs, cancelled, released }, rows, (error) => {
      if (error === null) metrics.delayedDelivered(to - from, replica.logTimeMs() - firstDueMs);
    });
  }
}
