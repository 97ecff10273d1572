/** An operation on one object: it took effect at one moment between the two times, or (`maybe`) at any later one, or never. */
export interface TimedOperation<O> {
  readonly operation: O;
  readonly invokedAt: number;
  /** Infinity with `maybe`. */
  readonly completedAt: number;
  readonly maybe: boolean;
}

/** What an object may do: the state after an operation that ended as it says; undefined when it cannot end so in that state. */
export interface Model<S, O> {
  readonly initial: S;
  step(state: S, operation: O): S | undefined;
  /** Equal for equal states. */
  key(state: S): string;
}

export interface LinearizableResult {
  /** unknown: the bound on steps was reached. */
  readonly verdict: 'linearizable' | 'not linearizable' | 'unknown';
  /** The longest beginning that could be put in order; what comes next could not. Indexes into the operations given. */
  readonly longest: readonly number[];
  readonly steps: number;
}

/** Wing, Gong: Testing and verifying concurrent objects (1993); Lowe: Testing for linearizability (2017). */
export const MAX_STEPS = 2_000_000;

/** Invocation or end of an operation in the list that the search works on. */
interface Event {
  readonly id: number;
  /** Of an invocation: its end; of an end: null. */
  readonly end: Event | null;
  before: Event | null;
  after: Event | null;
}

/**
 * Searches for an order of the operations that respects their times and the model. Configurations (what is ordered so far, and the
 * state) that were tried are remembered.
 */
export function linearizable<S, O>(model: Model<S, O>, operations: readonly TimedOperation<O>[], maxSteps = MAX_STEPS): LinearizableResult {
  const head = eventsOf(operations);
  const tried = new Set<string>();
  const done = new Uint8Array(operations.length);
  const chosen: { readonly event: Event; readonly state: S }[] = [];
  let longest: readonly number[] = [];
  let needed = operations.filter(({ maybe }) => !maybe).length;
  let state = model.initial;
  let steps = 0;
  let event = head.after;
  while (needed > 0) {
    if (steps++ >= maxSteps) return { verdict: 'unknown', longest, steps };
    if (event === null || event.end === null) {
      // An end whose operation is not ordered yet: all that could have come before it was tried, so the last choice was wrong.
      const last = chosen.pop();
      if (last === undefined) return { verdict: 'not linearizable', longest, steps };
      state = last.state;
      done[last.event.id] = 0;
      put(last.event);
      if (!(operations[last.event.id] as TimedOperation<O>).maybe) needed++;
      event = last.event.after;
      continue;
    }
    const { operation, maybe } = operations[event.id] as TimedOperation<O>;
    const next = model.step(state, operation);
    if (next !== undefined) {
      done[event.id] = 1;
      const configuration = `${model.key(next)} ${Buffer.from(done).toString('latin1')}`;
      if (!tried.has(configuration)) {
        tried.add(configuration);
        chosen.push({ event, state });
        if (chosen.length > longest.length) longest = chosen.map((choice) => choice.event.id);
        state = next;
        take(event);
        if (!maybe) needed--;
        event = head.after;
        continue;
      }
      done[event.id] = 0;
    }
    event = event.after;
  }
  return { verdict: 'linearizable', longest, steps };
}

/** @returns a head without an operation */
function eventsOf(operations: readonly TimedOperation<unknown>[]): Event {
  const timed: { readonly at: number; readonly isEnd: boolean; readonly event: Event }[] = [];
  operations.forEach(({ invokedAt, completedAt, maybe }, id) => {
    const end: Event = { id, end: null, before: null, after: null };
    timed.push({ at: invokedAt, isEnd: false, event: { id, end, before: null, after: null } });
    if (!maybe) timed.push({ at: completedAt, isEnd: true, event: end });
  });
  // At one moment an invocation comes first: then the two overlap.
  timed.sort((a, b) => a.at - b.at || Number(a.isEnd) - Number(b.isEnd));
  const head: Event = { id: -1, end: null, before: null, after: null };
  let last = head;
  for (const { event } of timed) {
    last.after = event;
    event.before = last;
    last = event;
  }
  return head;
}

function unlink(event: Event): void {
  (event.before as Event).after = event.after;
  if (event.after !== null) event.after.before = event.before;
}

function relink(event: Event): void {
  (event.before as Event).after = event;
  if (event.after !== null) event.after.before = event;
}

function take(event: Event): void {
  unlink(event);
  // The end of a `maybe` is not in the list: it has no neighbour before it.
  if (event.end?.before != null) unlink(event.end);
}

/** In the reverse order of take(), so that neighbours are the same again. */
function put(event: Event): void {
  if (event.end?.before != null) relink(event.end);
  relink(event);
}
