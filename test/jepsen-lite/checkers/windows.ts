import type { HistoryLine, NemesisValue, StoredRun } from '../history.ts';
import type { Checker, Operation } from './operation.ts';

const NS_PER_S = 1e9;
/** After the end of a fault: an election, reconnecting and catching up belong to the fault. */
export const SETTLE_S = 5;
/** Shorter pauses between faults say nothing of throughput. */
export const MIN_WINDOW_S = 1;

/** A fault as it was carried out. */
export interface FaultSpan {
  readonly id: number | string;
  readonly name: string;
  readonly beginNs: number;
  /** null: it did not end. */
  endNs: number | null;
  readonly targets: unknown;
  readonly index: number;
}

/** When faults began and ended, and how many messages were acknowledged in each second. */
export class Windows implements Checker {
  readonly name = 'windows';
  readonly spans: FaultSpan[] = [];
  readonly notes: { readonly timeNs: number; readonly name: string; readonly text: string }[] = [];
  /** Messages acknowledged, by second of the run. */
  readonly perSecond: number[] = [];
  #firstSendNs = Number.POSITIVE_INFINITY;
  #lastSendNs = 0;

  nemesis({ f, value, time, index, error }: HistoryLine): void {
    const { phase, id, targets } = value as NemesisValue;
    if (phase === 'begin') this.spans.push({ id, name: f, beginNs: time, endNs: null, targets, index });
    else if (phase === 'end') {
      const span = this.spans.findLast((each) => each.id === id && each.name === f);
      if (span !== undefined) span.endNs = time;
    } else this.notes.push({ timeNs: time, name: f, text: error ?? JSON.stringify(value) });
  }

  invoked({ f, time }: HistoryLine): void {
    if (f !== 'send') return;
    this.#firstSendNs = Math.min(this.#firstSendNs, time);
    this.#lastSendNs = Math.max(this.#lastSendNs, time);
  }

  operation({ f, type, completed }: Operation): void {
    if (f !== 'send' || type === 'fail' || completed === null) return;
    const second = Math.floor(completed.time / NS_PER_S);
    for (const [, , count] of (completed.value as { runs: readonly StoredRun[] }).runs)
      this.perSecond[second] = (this.perSecond[second] ?? 0) + count;
  }

  end(): readonly [] {
    return [];
  }

  /** Times in which messages were sent and no fault was at work, whole seconds only: [from, to) of the run. */
  faultFree(): readonly (readonly [fromS: number, toS: number])[] {
    const windows: [number, number][] = [];
    let from = Math.ceil(this.#firstSendNs / NS_PER_S);
    const last = Math.floor(this.#lastSendNs / NS_PER_S);
    for (const { beginNs, endNs } of this.spans.toSorted((a, b) => a.beginNs - b.beginNs)) {
      const to = Math.min(last, Math.floor(beginNs / NS_PER_S));
      if (to - from >= MIN_WINDOW_S) windows.push([from, to]);
      from = Math.max(from, endNs === null ? Number.POSITIVE_INFINITY : Math.ceil(endNs / NS_PER_S) + SETTLE_S);
    }
    if (last - from >= MIN_WINDOW_S) windows.push([from, last]);
    return windows;
  }

  /** Messages per second in the fault-free windows; null when there is none. */
  faultFreeMsgsPerS(): number | null {
    let messages = 0;
    let seconds = 0;
    for (const [from, to] of this.faultFree()) {
      seconds += to - from;
      for (let second = from; second < to; second++) messages += this.perSecond[second] ?? 0;
    }
    return seconds === 0 ? null : messages / seconds;
  }
}
