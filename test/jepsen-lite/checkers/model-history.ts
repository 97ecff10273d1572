import { Prng } from '../../sim/prng.ts';
import type { HistoryLine, LineType } from '../history.ts';

/** A message at its place, as something was said of it. */
export interface Placed {
  readonly stream: string;
  readonly n: number;
  queue: string;
  offset: number | null;
  logMs?: number;
}

/** A line whose runs are still single messages: easier to make wrong. */
export interface ModelLine {
  time: number;
  readonly type: LineType;
  readonly process: number;
  readonly f: string;
  /** Without runs. */
  readonly value: Record<string, unknown>;
  /** Of sends: asked for, stored, unknown, refused. Of reads: what was read. */
  sent?: Placed[];
  stored?: Placed[];
  unknown?: Placed[];
  failed?: Placed[];
  read?: Placed[];
  polls?: { queue: string; token: number; read: Placed[] }[];
}

interface Ownership {
  member: string;
  token: number;
  next: number;
  committed: number;
}

interface Step {
  /** What the operation does, at one moment between its invocation and its end. */
  apply(): void;
  /** Its last line. */
  end(): Omit<ModelLine, 'time' | 'process' | 'f'>;
}

interface Opened {
  readonly process: number;
  readonly f: string;
  readonly step: Step;
  isApplied: boolean;
}

/** A delayed message. */
interface Waiting {
  readonly message: Placed;
  readonly dueMs: number;
}

export const TOPIC = 'T';
export const DELAYED_TOPIC = 'D';
export const GROUP = 'readers';
const QUEUES = 2;
const KEYS = 3;
const LEVEL_MS = [0, 1_000, 5_000];
/** Of the model's time between two steps, in ns. */
const STEP_NS = 7_000_000;

/**
 * A broker that is right by construction, and clients of it: each operation is invoked, takes effect at a later moment and ends at a
 * still later one, beside the others. What it writes is a right history.
 */
export class ModelHistory {
  readonly lines: ModelLine[] = [];
  readonly prng: Prng;
  /** Everything that is stored, by queue and offset. */
  readonly logs = new Map<string, Placed[]>();
  readonly #next = new Map<string, number>();
  readonly #delayed: Waiting[] = [];
  readonly #owners = new Map<string, Ownership>();
  readonly #offsets = new Map<string, number>();
  readonly #topics = new Map<string, { queues: number; perm: number }>();
  readonly #open: Opened[] = [];
  readonly #half: Placed[] = [];
  readonly #lastPlan = new Map<number, number>();
  #members = 0;
  #tokens = 0;
  #process = 0;
  #time = 0;
  #effects = 0;

  constructor(seed: number, steps: number) {
    this.prng = new Prng(seed);
    for (let queue = 0; queue < QUEUES; queue++) {
      this.logs.set(`${TOPIC}/a/${queue}`, []);
      this.logs.set(`${DELAYED_TOPIC}/a/${queue}`, []);
    }
    for (let at = 0; at < steps; at++) this.#step();
    while (this.#open.length > 0) this.#advance(0);
    for (const { message, dueMs } of this.#delayed.splice(0)) {
      this.#time += Math.max(0, dueMs - this.#logMs + 1) * 1e6;
      this.#append(message);
    }
    this.#finish();
  }

  get #logMs(): number {
    return 1_000_000 + Math.floor(this.#time / 1e6);
  }

  #step(): void {
    for (let at = this.#delayed.length - 1; at >= 0; at--) {
      const { message, dueMs } = this.#delayed[at] as Waiting;
      if (dueMs > this.#logMs || this.prng.chance(0.5)) continue;
      this.#delayed.splice(at, 1);
      this.#append(message);
    }
    if (this.#open.length > 0 && (this.#open.length > 5 || this.prng.chance(0.6)))
      this.#advance(this.prng.between(0, this.#open.length - 1));
    else this.#begin();
  }

  #begin(): void {
    const kinds = [
      () => this.#send(),
      () => this.#send(),
      () => this.#sendDelayed(),
      () => this.#poll(),
      () => this.#poll(),
      () => this.#transaction(),
      () => this.#commit(),
      () => this.#fetch(),
      () => this.#reset(),
      () => this.#topic(),
      () => this.#describe(),
    ];
    this.prng.pick(kinds)();
  }

  #advance(at: number): void {
    const open = this.#open[at] as Opened;
    if (!open.isApplied) {
      open.isApplied = true;
      open.step.apply();
      return;
    }
    this.#open.splice(at, 1);
    this.#write({ process: open.process, f: open.f, ...open.step.end() });
  }

  #invoke(f: string, invocation: Pick<ModelLine, 'value' | 'sent'>, step: Step): void {
    const process = this.#process++;
    this.#write({ type: 'invoke', process, f, ...invocation });
    this.#open.push({ process, f, step, isApplied: false });
  }

  #write(line: Omit<ModelLine, 'time'>): void {
    this.#time += STEP_NS;
    this.lines.push({ ...line, time: this.#time });
  }

  #append(message: Placed): Placed {
    const log = this.logs.get(message.queue) as Placed[];
    message.offset = log.length;
    message.logMs = this.#logMs;
    log.push(message);
    return message;
  }

  /** Keys of three producers; a key lies in one queue. */
  #take(topic: string, count: number): Placed[] {
    const key = this.prng.between(0, KEYS);
    const stream = `${topic}.p${this.prng.between(0, 2)}/${key === 0 ? '-' : `k${key}`}`;
    const first = this.#next.get(stream) ?? 0;
    this.#next.set(stream, first + count);
    const queue = `${topic}/a/${(key === 0 ? this.prng.u32() : key) % QUEUES}`;
    return Array.from({ length: count }, (_, at) => ({ stream, n: first + at, queue, offset: null }));
  }

  #send(): void {
    const messages = this.#take(TOPIC, this.prng.between(1, 4));
    const value = { topic: TOPIC, mode: 'async' };
    const stored: Placed[] = [];
    const fate = this.prng.pick(['ok', 'ok', 'ok', 'ok', 'fail', 'info'] as const);
    // Of what nobody knows the outcome of, any first part may be stored.
    const storedCount = fate === 'ok' ? messages.length : fate === 'fail' ? 0 : this.prng.between(0, messages.length);
    const known = this.prng.between(0, storedCount);
    this.#serialized(messages[0]?.stream as string, () =>
      this.#invoke(
        'send',
        { value, sent: messages },
        {
          apply: () => stored.push(...messages.slice(0, storedCount).map((message) => this.#append(message))),
          end: () => {
            this.#streamDone(messages[0]?.stream as string);
            if (fate === 'ok') return { type: 'ok', value, stored };
            if (fate === 'fail') return { type: 'fail', value, failed: messages };
            return { type: 'info', value, stored: stored.slice(0, known), unknown: messages.slice(known) };
          },
        },
      ),
    );
  }

  readonly #busy = new Set<string>();
  readonly #queued: { readonly stream: string; readonly begin: () => void }[] = [];

  /** One producer's calls for one key come one after the other. */
  #serialized(stream: string, begin: () => void): void {
    if (this.#busy.has(stream)) this.#queued.push({ stream, begin });
    else {
      this.#busy.add(stream);
      begin();
    }
  }

  #streamDone(stream: string): void {
    this.#busy.delete(stream);
    const at = this.#queued.findIndex((each) => each.stream === stream);
    if (at < 0) return;
    const [next] = this.#queued.splice(at, 1);
    this.#busy.add(stream);
    next?.begin();
  }

  #sendDelayed(): void {
    const messages = this.#take(DELAYED_TOPIC, this.prng.between(1, 2)).map((message) => ({
      ...message,
      stream: `${message.stream.split('/')[0]}.d/-`,
    }));
    const stream = messages[0]?.stream as string;
    const first = this.#next.get(stream) ?? 0;
    this.#next.set(stream, first + messages.length);
    const numbered = messages.map((message, at) => ({ ...message, n: first + at }));
    const kind = this.prng.pick(['delayMs', 'delayTimeLevel', 'deliverAt', 'none'] as const);
    const delayMs = this.prng.between(10, 3_000);
    const level = this.prng.between(1, 2);
    const deferral =
      kind === 'delayMs'
        ? { delayMs }
        : kind === 'delayTimeLevel'
          ? { delayTimeLevel: level }
          : kind === 'deliverAt'
            ? { deliverAt: this.#logMs + delayMs }
            : {};
    const value = { topic: DELAYED_TOPIC, mode: 'batch', ...deferral };
    const told = numbered.map((message) => ({ ...message }));
    this.#invoke(
      'send',
      { value, sent: told },
      {
        apply: () => {
          const waitMs = kind === 'delayMs' ? delayMs : kind === 'delayTimeLevel' ? (LEVEL_MS[level] as number) : 0;
          const dueMs = kind === 'deliverAt' ? ((value as { deliverAt?: number }).deliverAt ?? 0) : this.#logMs + waitMs;
          numbered.forEach((message, at) => {
            if (kind === 'none') (told[at] as Placed).offset = this.#append(message).offset;
            else this.#delayed.push({ message, dueMs });
          });
        },
        end: () => ({ type: 'ok', value, stored: told }),
      },
    );
  }

  /** Half a message, and then its end by its producer or by who is asked. */
  #transaction(): void {
    const producer = this.prng.between(0, 1);
    const n = this.#lastPlan.get(producer) ?? 0;
    this.#lastPlan.set(producer, n + 1);
    const message: Placed = { stream: `${TOPIC}.t${producer}/-`, n, queue: `${TOPIC}/a/${this.prng.between(0, QUEUES - 1)}`, offset: null };
    const plan = this.prng.pick(['commit', 'rollback']);
    const value = { topic: TOPIC, plan };
    const told = { ...message };
    this.#invoke(
      'begin',
      { value, sent: [told] },
      {
        apply: () => this.#half.push(message),
        end: () => {
          const f = this.prng.pick(['end', 'check']);
          const ended = { topic: TOPIC, message: [message.stream, n], outcome: plan };
          this.#invoke(
            f,
            { value: ended },
            {
              apply: () => {
                if (plan === 'commit') this.#append(message);
              },
              end: () => ({ type: 'ok', value: ended, ...(f === 'end' && plan === 'commit' ? { stored: [message] } : {}) }),
            },
          );
          return { type: 'ok', value, sent: [told] };
        },
      },
    );
  }

  /** Members take queues from each other; what was given and not committed is given again. */
  #poll(): void {
    const queue = this.prng.pick([...this.logs.keys()]);
    let owner = this.#owners.get(queue);
    if (owner === undefined || this.prng.chance(0.15)) {
      owner = { member: `m${this.#members++}`, token: this.#tokens++, next: owner?.committed ?? 0, committed: owner?.committed ?? 0 };
      this.#owners.set(queue, owner);
    }
    const { member, token } = owner;
    const own = owner;
    let read: Placed[] = [];
    const said = { group: GROUP, member };
    this.#invoke(
      'poll',
      { value: said },
      {
        apply: () => {
          // Replaced meanwhile: it is given nothing more.
          if (this.#owners.get(queue) !== own) return;
          const log = this.logs.get(queue) as Placed[];
          read = log.slice(own.next, own.next + this.prng.between(1, 5)).map((message) => ({ ...message }));
          if (read.length === 0) return;
          this.#effect(queue, own, read);
          own.next += read.length;
          if (this.prng.chance(0.7)) own.committed = own.next;
        },
        end: () => ({ type: 'ok', value: said, polls: read.length === 0 ? [] : [{ queue, token, read }] }),
      },
    );
  }

  #effect(queue: string, { member, token }: Ownership, read: readonly Placed[]): void {
    const value = { group: GROUP, member, queue, token, offset: read[0]?.offset, count: read.length };
    const process = this.#process++;
    this.#write({ type: 'invoke', process, f: 'effect', value });
    this.#write({ type: 'ok', process, f: 'effect', value: { ...value, at: this.#effects++ } });
  }

  #commit(): void {
    const value = { group: 'offsets', queue: `${TOPIC}/a/0`, offset: this.prng.between(1, 200) };
    const isKnown = this.prng.chance(0.8);
    const isDone = isKnown || this.prng.chance(0.5);
    this.#invoke(
      'commit',
      { value },
      {
        apply: () => {
          if (isDone) this.#offsets.set(value.group, Math.max(value.offset, this.#offsets.get(value.group) ?? -1));
        },
        end: () => ({ type: isKnown ? 'ok' : 'info', value }),
      },
    );
  }

  #fetch(): void {
    const group = this.prng.pick(['offsets', 'reset']);
    const value = { group, queue: `${TOPIC}/a/0`, offset: null };
    let offset: number | null = null;
    this.#invoke(
      'fetch',
      { value },
      {
        apply: () => {
          offset = this.#offsets.get(group) ?? null;
        },
        end: () => ({ type: 'ok', value: { ...value, offset } }),
      },
    );
  }

  #reset(): void {
    const value = { group: 'reset', queue: `${TOPIC}/a/0`, offset: this.prng.between(0, 100) };
    const isKnown = this.prng.chance(0.8);
    const isDone = isKnown || this.prng.chance(0.5);
    this.#invoke(
      'reset',
      { value },
      {
        apply: () => {
          if (isDone) this.#offsets.set('reset', value.offset);
        },
        end: () => ({ type: isKnown ? 'ok' : 'info', value }),
      },
    );
  }

  #topic(): void {
    const topic = this.prng.pick(['X', 'Y']);
    const f = this.prng.pick(['create', 'update', 'delete'] as const);
    const wanted = { queues: this.prng.between(1, 4), perm: this.prng.pick([4, 6]) };
    const value = { topic, broker: 'a', ...(f === 'delete' ? {} : wanted) };
    const isKnown = this.prng.chance(0.8);
    let type: LineType = 'ok';
    this.#invoke(
      f,
      { value },
      {
        apply: () => {
          const state = this.#topics.get(topic);
          const same = state !== undefined && state.queues === wanted.queues && state.perm === wanted.perm;
          const isPossible =
            f === 'create' ? state === undefined || same : f === 'update' ? state !== undefined && wanted.queues >= state.queues : true;
          if (!isPossible) type = 'fail';
          else if (f === 'delete') this.#topics.delete(topic);
          else this.#topics.set(topic, wanted);
        },
        end: () => ({ type: isKnown ? type : 'info', value }),
      },
    );
  }

  #describe(): void {
    const value = { topic: this.prng.pick(['X', 'Y']), broker: 'a' };
    let found: object | null = null;
    this.#invoke(
      'describe',
      { value },
      {
        apply: () => {
          found = this.#topics.get(value.topic) ?? null;
        },
        end: () => ({ type: 'ok', value: { ...value, found } }),
      },
    );
  }

  /** Everything is consumed, has its outcome, and is read. */
  #finish(): void {
    for (const [queue, log] of this.logs) {
      const owner = this.#owners.get(queue) ?? { member: `m${this.#members++}`, token: this.#tokens++, next: 0, committed: 0 };
      const read = log.slice(owner.next).map((message) => ({ ...message }));
      const said = { group: GROUP, member: owner.member };
      if (read.length > 0) {
        this.#effect(queue, owner, read);
        this.#atOnce('poll', said, { polls: [{ queue, token: owner.token, read }] });
      }
    }
    const committed = Object.fromEntries([...this.logs].map(([queue, log]) => [queue, log.length]));
    this.#atOnce('drain', { group: GROUP, topic: TOPIC }, { value: { group: GROUP, topic: TOPIC, committed } });
    this.#atOnce('settle', { group: 'transactions', topic: TOPIC }, {});
    for (const [queue, log] of this.logs) {
      const half = Math.ceil(log.length / 2);
      for (const [from, next] of [
        [0, half],
        [half, log.length],
      ] as const) {
        const value = { queue, from, next, min: 0, max: log.length, final: true };
        this.#atOnce('read', value, { value, read: log.slice(from, next).map((message) => ({ ...message })) });
      }
    }
  }

  #atOnce(f: string, value: Record<string, unknown>, end: Partial<ModelLine>): void {
    const process = this.#process++;
    this.#write({ type: 'invoke', process, f, value });
    this.#write({ type: 'ok', process, f, value, ...end });
  }
}

/** The same in the form of a history, with runs. */
export function encodeHistory(lines: readonly ModelLine[]): HistoryLine[] {
  return lines.map(({ time, type, process, f, value, sent, stored, unknown, failed, read, polls }, index) => {
    const runs = stored !== undefined ? storedRuns(stored) : read !== undefined ? readRuns(read) : sentRuns(sent ?? failed);
    const all = {
      ...value,
      ...(runs === undefined ? {} : { runs }),
      ...(unknown === undefined ? {} : { unknown: sentRuns(unknown), failed: [] }),
      ...(polls === undefined ? {} : { polls: polls.map((poll) => ({ queue: poll.queue, token: poll.token, runs: readRuns(poll.read) })) }),
    };
    return { index, time, type, process, f, value: all };
  });
}

function sentRuns(messages: readonly Placed[] | undefined): unknown[] | undefined {
  return messages === undefined
    ? undefined
    : runsOf(messages, (a, b) => a.stream === b.stream && a.n + 1 === b.n).map(([first, count]) => [first.stream, first.n, count]);
}

function storedRuns(messages: readonly Placed[]): unknown[] {
  const follows = (a: Placed, b: Placed): boolean =>
    a.stream === b.stream && a.n + 1 === b.n && a.queue === b.queue && (a.offset === null ? b.offset === null : a.offset + 1 === b.offset);
  return runsOf(messages, follows).map(([first, count]) => [first.stream, first.n, count, first.queue, first.offset]);
}

function readRuns(messages: readonly Placed[]): unknown[] {
  const follows = (a: Placed, b: Placed): boolean =>
    a.stream === b.stream && a.n + 1 === b.n && (a.offset as number) + 1 === b.offset && a.logMs === b.logMs;
  return runsOf(messages, follows).map(([first, count]) => [first.offset, count, first.stream, first.n, first.logMs]);
}

function runsOf(messages: readonly Placed[], follows: (a: Placed, b: Placed) => boolean): [Placed, number][] {
  const runs: [Placed, number][] = [];
  messages.forEach((message, at) => {
    const before = messages[at - 1];
    const last = runs.at(-1);
    if (before !== undefined && last !== undefined && follows(before, message)) last[1]++;
    else runs.push([message, 1]);
  });
  return runs;
}
