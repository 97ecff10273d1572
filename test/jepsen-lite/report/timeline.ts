import type { FaultSpan } from '../checkers/windows.ts';
import { clock, escaped, exactClock, grouped, shortMs } from './html.ts';
import type { Second, Series } from './series.ts';

const NS_PER_S = 1e9;
const WIDTH = 1_100;
const LEFT = 150;
const RIGHT = 14;
const LANE = 18;
const CHART = 130;
const BETWEEN = 34;
const TOP = 22;
const MIN_BAR = 2;
/** Steps between marks of time: the first that leaves at most MAX_MARKS. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800];
const MAX_MARKS = 13;

/** Faults, throughput and latency over one axis of time. */
export function timeline(series: Series, spans: readonly FaultSpan[], anomalyTimesNs: readonly number[]): string {
  const durationS = Math.max(1, series.durationNs / NS_PER_S);
  const x = (seconds: number): number => round(LEFT + (seconds / durationS) * (WIDTH - LEFT - RIGHT));
  const names = [...new Set(spans.map(({ name }) => name))];
  const lanesEnd = TOP + names.length * LANE;
  const throughputTop = lanesEnd + BETWEEN;
  const latencyTop = throughputTop + CHART + BETWEEN;
  const bottom = latencyTop + CHART;
  const parts = [
    marks(durationS, x, TOP - 4, bottom),
    ...spans.map(({ beginNs, endNs }) => {
      const left = x(beginNs / NS_PER_S);
      const width = Math.max(MIN_BAR, x((endNs ?? series.durationNs) / NS_PER_S) - left);
      return `<rect class="band" x="${left}" y="${throughputTop}" width="${round(width)}" height="${bottom - throughputTop}"/>`;
    }),
    ...series.gaps.map(({ fromNs, toNs }) => {
      const left = x(fromNs / NS_PER_S);
      const width = Math.max(MIN_BAR, x(toNs / NS_PER_S) - left);
      const title = `no acknowledgement for ${shortMs((toNs - fromNs) / 1e6)} from ${exactClock(fromNs)}`;
      return `<rect class="gap" x="${left}" y="${throughputTop}" width="${round(width)}" height="${bottom - throughputTop}"><title>${title}</title></rect>`;
    }),
    ...names.map((name, at) =>
      lane(
        name,
        TOP + at * LANE,
        spans.filter((span) => span.name === name),
        series.durationNs,
        x,
      ),
    ),
    throughput(series.seconds, throughputTop, x),
    latency(series.seconds, latencyTop, x),
    ...anomalyTimesNs.map((timeNs) => {
      const at = x(timeNs / NS_PER_S);
      return `<line class="anomaly" x1="${at}" x2="${at}" y1="${TOP - 4}" y2="${bottom}"><title>anomaly at ${exactClock(timeNs)}</title></line>`;
    }),
  ];
  return `<div class="wide"><svg viewBox="0 0 ${WIDTH} ${bottom + 24}" role="img" aria-label="Faults, throughput and latency over time">\n${parts.join('\n')}\n</svg></div>`;
}

function marks(durationS: number, x: (seconds: number) => number, top: number, bottom: number): string {
  const step = STEPS_S.find((each) => durationS / each <= MAX_MARKS) ?? 3_600;
  const out: string[] = [];
  for (let second = 0; second <= durationS; second += step) {
    out.push(`<line class="axis" x1="${x(second)}" x2="${x(second)}" y1="${top}" y2="${bottom}"/>`);
    out.push(`<text x="${x(second)}" y="${bottom + 16}" text-anchor="middle">${clock(second)}</text>`);
  }
  return out.join('');
}

function lane(name: string, top: number, spans: readonly FaultSpan[], durationNs: number, x: (seconds: number) => number): string {
  const bars = spans.map(({ beginNs, endNs, targets, id }) => {
    const left = x(beginNs / NS_PER_S);
    const width = Math.max(MIN_BAR, x((endNs ?? durationNs) / NS_PER_S) - left);
    const title = `${name} ${id}: ${exactClock(beginNs)} – ${endNs === null ? 'not ended' : exactClock(endNs)}${targets === undefined ? '' : `, ${JSON.stringify(targets)}`}`;
    return `<rect class="lane" x="${left}" y="${top + 3}" width="${round(width)}" height="${LANE - 6}" rx="2"><title>${escaped(title)}</title></rect>`;
  });
  const row = `<rect class="row" x="${LEFT}" y="${top + LANE / 2 - 0.5}" width="${WIDTH - LEFT - RIGHT}" height="1"/>`;
  return `${row}<text x="${LEFT - 8}" y="${top + 13}" text-anchor="end">${escaped(name)}</text>${bars.join('')}`;
}

function throughput(seconds: readonly Second[], top: number, x: (seconds: number) => number): string {
  const highest = niceAbove(Math.max(1, ...seconds.map(({ messages }) => messages)));
  const y = (value: number): number => round(top + CHART - (value / highest) * CHART);
  const points = seconds.map(({ messages }, at) => `${x(at + 0.5)},${y(messages)}`);
  const floor = top + CHART;
  const area =
    points.length === 0
      ? ''
      : `<polygon class="area" points="${x(0.5)},${floor} ${points.join(' ')} ${x(seconds.length - 0.5)},${floor}"/>`;
  const levels = [0, highest / 2, highest].map((value) => level(y(value), grouped(value)));
  const title = `<text class="title" x="${LEFT}" y="${top - 9}">messages acknowledged per second</text>`;
  return `${title}${levels.join('')}${area}<polyline class="throughput" points="${points.join(' ')}"/>`;
}

/** By powers of ten: a failover is a thousand times what is usual. */
function latency(seconds: readonly Second[], top: number, x: (seconds: number) => number): string {
  const all = seconds.flatMap(({ p50Ms, p99Ms }) => [p50Ms ?? Number.NaN, p99Ms ?? Number.NaN]).filter((ms) => ms > 0);
  const low = Math.floor(Math.log10(Math.min(1, ...all)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(10, ...all))));
  const y = (ms: number): number => round(top + CHART - ((Math.log10(ms) - low) / (high - low)) * CHART);
  const levels = Array.from({ length: high - low + 1 }, (_, at) => level(y(10 ** (low + at)), shortMs(10 ** (low + at))));
  const title = `<text class="title" x="${LEFT}" y="${top - 9}">latency of sends <tspan class="key-p50">p50</tspan> <tspan class="key-p99">p99</tspan></text>`;
  const line = (name: 'p50' | 'p99', of: (second: Second) => number | null): string =>
    unbroken(seconds, of)
      .map(
        (run) => `<polyline class="${name}" points="${run.map(([at, ms]) => `${x(at + 0.5)},${y(Math.max(ms, 10 ** low))}`).join(' ')}"/>`,
      )
      .join('');
  return `${title}${levels.join('')}${line('p50', ({ p50Ms }) => p50Ms)}${line('p99', ({ p99Ms }) => p99Ms)}`;
}

/** Seconds without a send have no latency: the line is broken there. */
function unbroken(seconds: readonly Second[], of: (second: Second) => number | null): (readonly [at: number, ms: number])[][] {
  const runs: (readonly [number, number])[][] = [];
  let last = -2;
  seconds.forEach((second, at) => {
    const ms = of(second);
    if (ms === null) return;
    if (at !== last + 1) runs.push([]);
    runs.at(-1)?.push([at, ms]);
    last = at;
  });
  // A lone point would not be drawn.
  return runs.map((run) =>
    run.length === 1 ? [...run, [(run[0] as readonly [number, number])[0] + 0.3, (run[0] as readonly [number, number])[1]] as const] : run,
  );
}

function level(y: number, text: string): string {
  return `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/><text x="${LEFT - 8}" y="${y + 4}" text-anchor="end">${text}</text>`;
}

function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 3, 4, 5, 6, 8, 10].find((each) => each * power >= value) ?? 10) * power;
}

const round = (value: number): number => Math.round(value * 10) / 10;
