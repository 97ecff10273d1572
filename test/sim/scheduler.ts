import { drainMicrotasks } from './microtasks.ts';
import { Prng } from './prng.ts';
import { Trace, type TraceSink } from './trace.ts';

/** What an event is about: part of the trace hash and of the readable trace. */
export const EventKind = { timer: 1, defer: 2, disk: 3, net: 4, fault: 5, world: 6 } as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

export interface SimEvent {
  timeUs: number;
  sequence: number;
  readonly kind: EventKind;
  readonly owner: Owner | null;
  /** The owner's life that the event belongs to: a restarted process never sees events of its former life. */
  readonly life: number;
  run: (() => void) | null;
}

/** A process as the scheduler sees it. */
export interface Owner {
  readonly id: number;
  readonly name: string;
  /** Raised at each start and at each kill. */
  readonly life: number;
  readonly paused: boolean;
  /** Keeps an event that came while the process was paused; it runs at resume, in order. */
  hold(event: SimEvent): void;
  /** An exception out of one of its events. */
  failed(error: unknown): void;
}

/** A process that makes more of its own events at one instant goes round in a circle: time would never pass again. */
const MAX_EVENTS_AT_ONCE = 100_000;
/** Events that one turn of Node's loop runs before it looks for unhandled rejections. */
const EVENTS_PER_TURN = 4096;

/**
 * Simulated time: one heap of events ordered by (time, sequence), one random stream, no wall clock. Between two events all
 * microtasks run. Everything that happens is a function of the seed.
 */
export class SimScheduler {
  readonly prng: Prng;
  readonly trace: Trace;
  #nowUs = 0;
  #sequence = 0;
  #eventsNow = 0;
  readonly #heap: SimEvent[] = [];
  #failure: { readonly error: unknown } | null = null;

  constructor(seed: number, sink: TraceSink | null = null) {
    this.prng = new Prng(seed);
    this.trace = new Trace(sink);
  }

  /** Simulated µs since the start, an integer. */
  get nowUs(): number {
    return this.#nowUs;
  }

  /** @param owner null: an event of the world itself (faults, checks), which nobody's death stops */
  schedule(owner: Owner | null, delayUs: number, kind: EventKind, run: () => void): SimEvent {
    const event: SimEvent = {
      timeUs: this.#nowUs + Math.max(0, Math.round(delayUs)),
      sequence: this.#sequence++,
      kind,
      owner,
      life: owner === null ? 0 : owner.life,
      run,
    };
    this.#push(event);
    return event;
  }

  /** Puts events that a paused process held back to now, in their order. */
  replay(events: readonly SimEvent[]): void {
    for (const event of events) {
      if (event.run === null) continue;
      // The same object: its owner may still hold it as a timer and clear it.
      event.timeUs = this.#nowUs;
      event.sequence = this.#sequence++;
      this.#push(event);
    }
  }

  /** Ends the run: the first failure is thrown by run(). */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  say(who: string, what: string): void {
    if (this.trace.verbose) this.trace.say(this.#nowUs, who, what);
  }

  /** Runs until `untilUs`, until nothing is left, or until `stop` (asked after each event of the world) says so. */
  async run(untilUs: number, stop: () => boolean = () => false): Promise<void> {
    const rejected = (error: unknown): void => this.fail(error);
    process.on('unhandledRejection', rejected);
    try {
      let more = true;
      while (more) more = await this.#turn(untilUs, stop);
      await new Promise<void>((resolve) => setImmediate(resolve));
    } finally {
      process.off('unhandledRejection', rejected);
    }
    if (this.#failure !== null) throw this.#failure.error;
  }

  #turn(untilUs: number, stop: () => boolean): Promise<boolean> {
    // The executor runs as a callback of setImmediate, not as a microtask: else drainMicrotasks would do nothing.
    return new Promise((resolve, reject) => {
      setImmediate(() => {
        try {
          for (let n = 0; n < EVENTS_PER_TURN; n++) {
            if (!this.#step(untilUs, stop)) {
              resolve(false);
              return;
            }
          }
          resolve(true);
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #step(untilUs: number, stop: () => boolean): boolean {
    const event = this.#heap[0];
    if (event === undefined || event.timeUs > untilUs || this.#failure !== null) {
      if (this.#failure === null) this.#nowUs = Math.max(this.#nowUs, untilUs);
      return false;
    }
    this.#pop();
    this.#eventsNow = event.timeUs === this.#nowUs ? this.#eventsNow + 1 : 0;
    if (this.#eventsNow > MAX_EVENTS_AT_ONCE)
      this.fail(new Error(`busy loop: ${this.#eventsNow} events at one time, the last of ${event.owner?.name ?? 'the world'}`));
    this.#nowUs = event.timeUs;
    const run = event.run;
    const owner = event.owner;
    if (run === null || (owner !== null && owner.life !== event.life)) return true;
    if (owner?.paused === true) {
      owner.hold(event);
      return true;
    }
    event.run = null;
    this.trace.mix(event.timeUs);
    this.trace.mix((event.kind << 16) ^ (owner === null ? 0 : owner.id));
    try {
      run();
    } catch (error) {
      if (owner === null) this.fail(error);
      else owner.failed(error);
    }
    drainMicrotasks();
    return !(owner === null && stop());
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as SimEvent;
      if (!before(event, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as SimEvent;
    const size = heap.length;
    if (size === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1] as SimEvent, heap[child] as SimEvent)) child++;
      const below = heap[child] as SimEvent;
      if (!before(below, last)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: SimEvent, b: SimEvent): boolean {
  return a.timeUs < b.timeUs || (a.timeUs === b.timeUs && a.sequence < b.sequence);
}
