import type { Clock, Timer } from '../io/clock.ts';

/** Something that is due at a time. Owned by one Deadlines at most. */
export interface Deadline {
  /** Monotonic, ms. Set before add(). */
  dueMs: number;
  /** Place in the heap; −1 while it is not in one. */
  slot: number;
  /** Called once, after it left the heap. */
  due(): void;
}

/**
 * Many deadlines, one timer: a binary heap whose members know their place, so that a waiter that is woken leaves at once.
 * 10,000 held pulls cost one armed timer and no work while nothing happens (F17).
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #heap: Deadline[] = [];
  #timer: Timer | null = null;
  #armedMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#heap.length;
  }

  /** Adds it, or moves it when it is in already. */
  set(deadline: Deadline, delayMs: number): void {
    this.remove(deadline);
    deadline.dueMs = this.#clock.monotonicMs() + delayMs;
    deadline.slot = this.#heap.length;
    this.#heap.push(deadline);
    this.#up(deadline.slot);
    if (deadline.dueMs < this.#armedMs) this.#arm();
  }

  /** Missing is fine. */
  remove(deadline: Deadline): void {
    const at = deadline.slot;
    if (at < 0) return;
    deadline.slot = -1;
    const last = this.#heap.pop() as Deadline;
    if (last === deadline) return;
    this.#heap[at] = last;
    last.slot = at;
    this.#up(at);
    this.#down(last.slot);
  }

  /** Empties it without calling anybody. */
  clear(): void {
    for (const deadline of this.#heap) deadline.slot = -1;
    this.#heap.length = 0;
    this.#disarm();
  }

  #disarm(): void {
    if (this.#timer !== null) this.#clock.clearTimer(this.#timer);
    this.#timer = null;
    this.#armedMs = Number.POSITIVE_INFINITY;
  }

  #arm(): void {
    this.#disarm();
    const first = this.#heap[0];
    if (first === undefined) return;
    this.#armedMs = first.dueMs;
    this.#timer = this.#clock.setTimer(Math.max(0, first.dueMs - this.#clock.monotonicMs()), () => this.#fire());
  }

  #fire(): void {
    this.#timer = null;
    this.#armedMs = Number.POSITIVE_INFINITY;
    const now = this.#clock.monotonicMs();
    for (let first = this.#heap[0]; first !== undefined && first.dueMs <= now; first = this.#heap[0]) {
      this.remove(first);
      first.due();
    }
    if (this.#timer === null) this.#arm();
  }

  #up(from: number): void {
    let at = from;
    while (at > 0) {
      const up = (at - 1) >> 1;
      if ((this.#heap[up] as Deadline).dueMs <= (this.#heap[at] as Deadline).dueMs) return;
      this.#swap(at, up);
      at = up;
    }
  }

  #down(from: number): void {
    for (let at = from; ; ) {
      let least = at;
      for (let child = 2 * at + 1; child <= 2 * at + 2 && child < this.#heap.length; child++) {
        if ((this.#heap[child] as Deadline).dueMs < (this.#heap[least] as Deadline).dueMs) least = child;
      }
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #swap(a: number, b: number): void {
    const one = this.#heap[a] as Deadline;
    const other = this.#heap[b] as Deadline;
    this.#heap[a] = other;
    this.#heap[b] = one;
    other.slot = a;
    one.slot = b;
  }
}
