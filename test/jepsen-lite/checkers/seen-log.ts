import { type HistoryLine, type ReadRun, type SentRun, type StoredRun, UNREADABLE } from '../history.ts';
import { GrowingInts } from './growing.ts';
import { type Checker, type Operation, shownBy } from './operation.ts';

/** Messages of one producer and key. */
export interface Stream {
  readonly id: number;
  readonly name: string;
  /** Its order is promised. */
  readonly keyed: boolean;
  /** Messages below this were begun. */
  begun: number;
  /** By number: the queue and the offset where it was first read; −1 = not read. */
  readonly queueOf: GrowingInts;
  readonly offsetOf: GrowingInts;
  /** By number: where in the history its send was refused; −1 = it was not. */
  readonly refusedAt: GrowingInts;
}

/** A queue as all readers together saw it. */
export interface SeenQueue {
  readonly id: number;
  readonly name: string;
  /** By offset: stream and number of what was read there, and where in the history that was first. */
  readonly streamAt: GrowingInts;
  readonly numberAt: GrowingInts;
  readonly readAt: GrowingInts;
  /** One past the highest offset that was read. */
  end: number;
  readonly acknowledged: AcknowledgedRun[];
  /** The reading of the whole queue at the end of the run. */
  final: FinalRead | null;
}

/** Messages that were acknowledged one behind the other. */
export interface AcknowledgedRun {
  readonly stream: Stream;
  readonly n: number;
  readonly count: number;
  /** Of the first; null: acknowledged without a place. */
  readonly offset: number | null;
  readonly invoked: HistoryLine;
  readonly completed: HistoryLine;
}

export interface FinalRead {
  readonly min: number;
  next: number;
  max: number;
  /** When the last part of it began: what was acknowledged before must be in it. */
  beganTime: number;
}

/** The same offset held two messages, or the same message two places. */
export interface Clash {
  readonly text: string;
  readonly indexes: readonly number[];
}

export const message = (stream: string, n: number | string): string => `${stream}:${n}`;

/** What was sent, acknowledged and read, by place and by message: what most checkers look at. */
export class SeenLog implements Checker {
  readonly name = 'log';
  readonly streams = new Map<string, Stream>();
  readonly streamList: Stream[] = [];
  readonly queues = new Map<string, SeenQueue>();
  readonly queueList: SeenQueue[] = [];
  /** Acknowledged without an offset: what is delayed. */
  readonly placeless: AcknowledgedRun[] = [];
  readonly twice: Clash[] = [];
  readonly reused: Clash[] = [];
  readonly fabricated: Clash[] = [];
  acknowledgedMessages = 0;
  /** Places at which something was read. */
  readMessages = 0;
  readonly #halfSince = new Map<string, HistoryLine>();

  invoked(line: HistoryLine): void {
    if (line.f !== 'send' && line.f !== 'begin') return;
    for (const [name, n, count] of (line.value as { runs: readonly SentRun[] }).runs) {
      const stream = this.stream(name);
      stream.begun = Math.max(stream.begun, n + count);
      if (line.f === 'begin') this.#halfSince.set(message(name, n), line);
    }
  }

  operation(operation: Operation): void {
    const { f, type, invoked, completed } = operation;
    if (completed === null) return;
    if (f === 'send') this.#sent(type, invoked, completed);
    else if (f === 'begin' && type === 'fail') this.#refused(completed, (completed.value as { runs: readonly SentRun[] }).runs);
    else if (f === 'end' && type === 'ok') this.#ended(completed, (completed.value as { runs?: readonly StoredRun[] }).runs ?? []);
    else if (type === 'ok' && f === 'read') this.#wholeRead(invoked, completed);
    else for (const { queue, runs } of shownBy(operation)) this.#read(this.queue(queue), runs, completed.index, false);
  }

  /** It finds nothing itself: the checkers of what it holds do. */
  end(): readonly [] {
    return [];
  }

  stream(name: string): Stream {
    let found = this.streams.get(name);
    if (found === undefined) {
      found = {
        id: this.streamList.length,
        name,
        keyed: !name.endsWith('/-'),
        begun: 0,
        queueOf: new GrowingInts(-1),
        offsetOf: new GrowingInts(-1),
        refusedAt: new GrowingInts(-1),
      };
      this.streams.set(name, found);
      this.streamList.push(found);
    }
    return found;
  }

  queue(name: string): SeenQueue {
    let found = this.queues.get(name);
    if (found === undefined) {
      const places = { streamAt: new GrowingInts(-1), numberAt: new GrowingInts(-1), readAt: new GrowingInts(-1) };
      found = { id: this.queueList.length, name, ...places, end: 0, acknowledged: [], final: null };
      this.queues.set(name, found);
      this.queueList.push(found);
    }
    return found;
  }

  /** What was read at an offset, in words; null when nothing was. */
  messageAt(queue: SeenQueue, offset: number): string | null {
    const stream = queue.streamAt.get(offset);
    return stream < 0 ? null : message((this.streamList[stream] as Stream).name, queue.numberAt.get(offset));
  }

  #sent(type: Operation['type'], invoked: HistoryLine, completed: HistoryLine): void {
    const { runs, failed = [] } = completed.value as { runs: readonly (SentRun | StoredRun)[]; failed?: readonly SentRun[] };
    if (type === 'fail') this.#refused(completed, runs as readonly SentRun[]);
    else this.#acknowledged(invoked, completed, runs as readonly StoredRun[]);
    this.#refused(completed, failed);
  }

  /** From its beginning on it may have been committed: by the answer to a check, which may come before its producer's own word. */
  #ended(completed: HistoryLine, runs: readonly StoredRun[]): void {
    for (const run of runs) {
      const half = message(run[0], run[1]);
      this.#acknowledged(this.#halfSince.get(half) ?? completed, completed, [run]);
      this.#halfSince.delete(half);
    }
  }

  #refused(line: HistoryLine, runs: readonly SentRun[]): void {
    for (const [name, first, count] of runs) {
      const stream = this.stream(name);
      for (let n = first; n < first + count; n++) stream.refusedAt.set(n, line.index);
    }
  }

  #acknowledged(invoked: HistoryLine, completed: HistoryLine, runs: readonly StoredRun[]): void {
    for (const [name, n, count, queue, offset] of runs) {
      const run = { stream: this.stream(name), n, count, offset, invoked, completed };
      this.acknowledgedMessages += count;
      if (offset === null) this.placeless.push(run);
      else this.queue(queue).acknowledged.push(run);
    }
  }

  #wholeRead(invoked: HistoryLine, completed: HistoryLine): void {
    const { queue: name, from, next, min, max, final, runs } = completed.value as WholeRead;
    const queue = this.queue(name);
    this.#read(queue, runs, completed.index, final === true);
    if (final !== true) return;
    // A part that does not begin where the last one ended is the beginning of another reading.
    if (queue.final?.next !== from) queue.final = { min: Math.max(from, min), next, max, beganTime: invoked.time };
    else Object.assign(queue.final, { next, max, beganTime: invoked.time });
  }

  #read(queue: SeenQueue, runs: readonly ReadRun[], index: number, final: boolean): void {
    for (const [offset, count, name, n] of runs) {
      if (name === UNREADABLE || typeof n !== 'number') {
        this.fabricated.push({ text: `${queue.name}@${offset} holds bytes that nobody sent: ${n}`, indexes: [index] });
        continue;
      }
      const stream = this.stream(name);
      if (n + count > stream.begun)
        this.fabricated.push({
          text: `${queue.name}@${offset + count - 1} holds ${message(name, n + count - 1)}, which was not sent yet`,
          indexes: [index],
        });
      for (let at = 0; at < count; at++) this.#place(queue, offset + at, stream, n + at, index, final);
      queue.end = Math.max(queue.end, offset + count);
    }
  }

  #place(queue: SeenQueue, offset: number, stream: Stream, n: number, index: number, final: boolean): void {
    const before = queue.streamAt.get(offset);
    if (before === stream.id && queue.numberAt.get(offset) === n) return;
    if (before >= 0) {
      const text = `${queue.name}@${offset} held ${this.messageAt(queue, offset)}, then ${message(stream.name, n)}`;
      this.reused.push({ text, indexes: [queue.readAt.get(offset), index] });
    }
    // Of two the one that stayed is what all else is held against.
    if (before < 0) this.readMessages++;
    if (before < 0 || final) {
      queue.streamAt.set(offset, stream.id);
      queue.numberAt.set(offset, n);
      queue.readAt.set(offset, index);
    }
    const first = stream.queueOf.get(n);
    if (first < 0) {
      stream.queueOf.set(n, queue.id);
      stream.offsetOf.set(n, offset);
      return;
    }
    if (before >= 0) return;
    const place = `${(this.queueList[first] as SeenQueue).name}@${stream.offsetOf.get(n)}`;
    this.twice.push({ text: `${message(stream.name, n)} is stored at ${place} and at ${queue.name}@${offset}`, indexes: [index] });
  }
}

interface WholeRead {
  readonly queue: string;
  readonly from: number;
  readonly next: number;
  readonly min: number;
  readonly max: number;
  readonly final?: boolean;
  readonly runs: readonly ReadRun[];
}
