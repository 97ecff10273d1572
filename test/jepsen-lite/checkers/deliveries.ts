import type { HistoryLine, ReadRun } from '../history.ts';
import { GrowingInts } from './growing.ts';
import type { Checker, Operation } from './operation.ts';

/** What a group was given of a queue. */
export interface Delivered {
  readonly group: string;
  readonly queue: string;
  /** By offset: where in the history it was first given to a member; −1 = it was not. */
  readonly firstAt: GrowingInts;
  /** One past the highest offset that was given. */
  end: number;
  /** The group's committed offset when it had drained the queue; −1 = not said. */
  drained: number;
}

/** Messages given to groups' members; to be given one again is allowed and counted (delivery is at least once). */
export class Deliveries implements Checker {
  readonly name = 'deliveries';
  readonly byQueue = new Map<string, Delivered>();
  /** Different messages, and those that came again, by group. */
  readonly counts = new Map<string, { messages: number; redelivered: number }>();
  /** Groups whose drain did not come to its end. */
  readonly undrained = new Map<string, string>();

  operation({ f, type, completed }: Operation): void {
    if (completed === null) return;
    if (f === 'poll' && type === 'ok') this.#poll(completed);
    if (f === 'drain') this.#drain(type, completed);
  }

  end(): readonly [] {
    return [];
  }

  #poll(line: HistoryLine): void {
    const { group, polls } = line.value as { group: string; polls: readonly { queue: string; runs: readonly ReadRun[] }[] };
    const counts = this.counts.get(group) ?? { messages: 0, redelivered: 0 };
    this.counts.set(group, counts);
    for (const { queue, runs } of polls) {
      const delivered = this.#of(group, queue);
      for (const [offset, count] of runs) {
        for (let at = offset; at < offset + count; at++) {
          if (delivered.firstAt.get(at) >= 0) counts.redelivered++;
          else {
            delivered.firstAt.set(at, line.index);
            counts.messages++;
          }
        }
        delivered.end = Math.max(delivered.end, offset + count);
      }
    }
  }

  #drain(type: Operation['type'], { value, error }: HistoryLine): void {
    const { group, committed } = value as { group: string; committed?: Readonly<Record<string, number>> };
    if (type !== 'ok') {
      this.undrained.set(group, error ?? 'not drained');
      return;
    }
    // The last member to leave saw it through.
    this.undrained.delete(group);
    for (const [queue, offset] of Object.entries(committed ?? {})) {
      const delivered = this.#of(group, queue);
      delivered.drained = Math.max(delivered.drained, offset);
    }
  }

  #of(group: string, queue: string): Delivered {
    const name = `${group} ${queue}`;
    let found = this.byQueue.get(name);
    if (found === undefined) {
      found = { group, queue, firstAt: new GrowingInts(-1), end: 0, drained: -1 };
      this.byQueue.set(name, found);
    }
    return found;
  }
}
