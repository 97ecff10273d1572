import type { Anomaly } from '../checkers/operation.ts';
import type { HistoryLine, StoredRun } from '../history.ts';

const NS_PER_S = 1e9;
const NS_PER_MS = 1e6;
/** No acknowledgement for so long is shown as a gap. */
export const GAP_MS = 500;
/** Lines shown before and behind each line of an anomaly. */
const AROUND = 4;

export interface Second {
  /** Messages acknowledged. */
  messages: number;
  /** Of sends that ended in it, in ms; null: none did. */
  p50Ms: number | null;
  p99Ms: number | null;
}

/** No send was acknowledged between these two. */
export interface Gap {
  readonly fromNs: number;
  readonly toNs: number;
}

/** What the page shows of the history itself. */
export interface Series {
  readonly seconds: readonly Second[];
  readonly gaps: readonly Gap[];
  readonly durationNs: number;
  readonly lines: number;
  /** Lines that anomalies point at, and those around them, by index. */
  readonly shown: ReadonlyMap<number, HistoryLine>;
}

/** Reads the history once more: per-second figures, and the lines that anomalies point at. */
export function seriesOf(history: Iterable<HistoryLine>, anomalies: readonly Anomaly[]): Series {
  const wanted = new Set(anomalies.flatMap(({ indexes }) => indexes).flatMap((index) => around(index)));
  const shown = new Map<number, HistoryLine>();
  const begun = new Map<number, number>();
  const messages: number[] = [];
  const latencies: number[][] = [];
  const gaps: Gap[] = [];
  let lastAckNs = -1;
  let durationNs = 0;
  let lines = 0;
  for (const line of history) {
    lines++;
    durationNs = Math.max(durationNs, line.time);
    if (wanted.has(line.index)) shown.set(line.index, line);
    if (line.f !== 'send' || line.process === 'nemesis') continue;
    if (line.type === 'invoke') {
      begun.set(line.process, line.time);
      continue;
    }
    const beganNs = begun.get(line.process) ?? line.time;
    begun.delete(line.process);
    if (line.type !== 'ok') continue;
    const second = Math.floor(line.time / NS_PER_S);
    for (const [, , count] of (line.value as { runs: readonly StoredRun[] }).runs) messages[second] = (messages[second] ?? 0) + count;
    latencies[second] ??= [];
    latencies[second].push((line.time - beganNs) / NS_PER_MS);
    if (lastAckNs >= 0 && line.time - lastAckNs >= GAP_MS * NS_PER_MS) gaps.push({ fromNs: lastAckNs, toNs: line.time });
    lastAckNs = line.time;
  }
  const seconds = Array.from({ length: Math.ceil(durationNs / NS_PER_S) }, (_, at) => {
    const sorted = (latencies[at] ?? []).sort((a, b) => a - b);
    return { messages: messages[at] ?? 0, p50Ms: quantile(sorted, 0.5), p99Ms: quantile(sorted, 0.99) };
  });
  return { seconds, gaps, durationNs, lines, shown };
}

export function around(index: number): number[] {
  return Array.from({ length: 2 * AROUND + 1 }, (_, at) => index - AROUND + at);
}

function quantile(sorted: readonly number[], part: number): number | null {
  return sorted.length === 0 ? null : (sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] as number);
}
