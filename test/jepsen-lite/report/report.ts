import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckContext, CheckResult } from '../checkers/check.ts';
import type { Anomaly } from '../checkers/operation.ts';
import { SETTLE_S } from '../checkers/windows.ts';
import type { HistoryLine } from '../history.ts';
import { escaped, exactClock, grouped, shortMs, table } from './html.ts';
import { around, GAP_MS, type Series, seriesOf } from './series.ts';
import { STYLE } from './style.ts';
import { timeline } from './timeline.ts';

export const REPORT_FILE = 'report.html';
/** Of one checker; the others are counted. */
const MAX_SHOWN = 20;
const MAX_LINE_CHARACTERS = 400;

/** Writes the page of a run. @returns its path */
export function writeReport(dir: string, lines: Iterable<HistoryLine>, result: CheckResult, context: CheckContext): string {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, REPORT_FILE);
  writeFileSync(path, reportPage(lines, result, context));
  return path;
}

/** One page that loads nothing: style and pictures are in it. */
export function reportPage(lines: Iterable<HistoryLine>, result: CheckResult, context: CheckContext): string {
  const anomalies = result.checkers.flatMap((checker) => checker.anomalies.slice(0, MAX_SHOWN));
  const series = seriesOf(lines, anomalies);
  const times = anomalies.flatMap(({ indexes }) => series.shown.get(indexes.at(-1) ?? -1)?.time ?? []);
  const sections = [
    verdict(result, context),
    figures(result, series, context),
    `<h2>Timeline</h2>${timeline(series, result.windows.spans, times)}`,
    anomalySection(anomalies, series),
    faultSection(context, result, series),
    gapSection(series, result),
    checkerSection(result),
    operationSection(result),
    noteSection(result),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>LedgerMQ under chaos, seed ${context.seed}: ${result.verdict}</title><link rel="icon" href="data:,"><style>${STYLE}</style></head>
<body>
${sections.join('\n')}
</body></html>
`;
}

function verdict({ verdict: said, reasons }: CheckResult, { seed, minutes, replay }: CheckContext): string {
  const why = reasons.length === 0 ? '' : `<ul>${reasons.map((reason) => `<li>${escaped(reason)}</li>`).join('')}</ul>`;
  const command = replay === undefined ? '' : `<p class="soft replay">The same faults again: <code>${escaped(replay)}</code></p>`;
  const meaning = {
    valid: 'nothing wrong was found',
    invalid: 'something wrong was found',
    unknown: 'nothing wrong was found, and this run proves little',
  }[said];
  return `<h1>LedgerMQ under chaos</h1><p class="soft">seed ${seed} · ${minutes} min</p>
<div class="verdict ${said}"><strong>${said}</strong><span>${meaning}</span>${why}</div>${command}`;
}

function figures(result: CheckResult, { gaps, lines }: Series, { benchMsgsPerS, verify }: CheckContext): string {
  const longest = Math.max(0, ...gaps.map(({ fromNs, toNs }) => (toNs - fromNs) / 1e6));
  const { operations, faultFreeMsgsPerS } = result;
  const anomalies = result.checkers.reduce((sum, checker) => sum + checker.anomalies.length, 0);
  const identical = verify === null ? 'not compared' : verify.every((each) => each.identical) ? 'identical' : 'different';
  const all: readonly (readonly [string, string])[] = [
    [grouped(result.acknowledgedMessages), 'messages acknowledged'],
    [grouped(result.deliveredMessages), 'delivered to groups'],
    [grouped(result.redelivered), 'delivered again'],
    [grouped(anomalies), 'anomalies'],
    [`${grouped(operations.ok)} / ${grouped(operations.all)}`, 'operations ok / all'],
    [
      faultFreeMsgsPerS === null ? '–' : `${grouped(faultFreeMsgsPerS)}/s`,
      `without faults${benchMsgsPerS === null ? '' : ` (bench ${grouped(benchMsgsPerS)}/s)`}`,
    ],
    [longest === 0 ? `< ${GAP_MS} ms` : shortMs(longest), 'longest gap'],
    [grouped(result.windows.spans.length), 'faults'],
    [identical, 'replicas'],
    [grouped(lines), 'lines of history'],
  ];
  return `<div class="figures">${all.map(([value, name]) => `<div class="figure"><b>${escaped(value)}</b><span>${escaped(name)}</span></div>`).join('')}</div>`;
}

function anomalySection(anomalies: readonly Anomaly[], series: Series): string {
  if (anomalies.length === 0) return '';
  const shown = anomalies.map(({ checker, text, indexes }) => {
    const marked = new Set(indexes);
    const places = [...new Set(indexes.flatMap(around))].sort((a, b) => a - b);
    const lines = places.flatMap((index) => {
      const line = series.shown.get(index);
      return line === undefined ? [] : [lineText(line, marked.has(index))];
    });
    return `<details open><summary><span class="bad">${escaped(checker)}</span> ${escaped(text)}</summary><pre>${lines.join('\n')}</pre></details>`;
  });
  return `<h2>Anomalies, with the operations around them</h2>${shown.join('\n')}`;
}

function lineText({ index, time, type, process, f, value, error }: HistoryLine, isMarked: boolean): string {
  const json = JSON.stringify(value);
  const cut = json.length > MAX_LINE_CHARACTERS ? `${json.slice(0, MAX_LINE_CHARACTERS)} …` : json;
  const text = escaped(
    `${String(index).padStart(8)}  ${exactClock(time).padStart(7)}  ${String(process).padStart(10)}  ${type.padEnd(6)}  ${f}  ${cut}${error === undefined ? '' : `  ${error}`}`,
  );
  return isMarked ? `<span class="at">${text}</span>` : text;
}

function faultSection({ faults }: CheckContext, { windows }: CheckResult, { durationNs }: Series): string {
  const names = Object.entries(faults);
  if (names.length === 0) return '<h2>Faults</h2><p class="soft">None was planned.</p>';
  const rows = names.map(([name, { planned, fired, evidence }]) => {
    const spans = windows.spans.filter((span) => span.name === name);
    const seconds = spans.reduce((sum, { beginNs, endNs }) => sum + ((endNs ?? durationNs) - beginNs) / 1e9, 0);
    const tone = fired < planned ? 'doubt' : 'good';
    return [
      escaped(name),
      String(planned),
      `<span class="${tone}">${fired}</span>`,
      `${seconds.toFixed(1)} s`,
      escaped(evidence.join('; ')) || '–',
    ];
  });
  return `<h2>Faults</h2>${table(['fault', 'planned', 'fired', 'at work', 'evidence'], rows, [1, 2, 3])}`;
}

/** With what was at work when it began, or had just been. */
function gapSection({ gaps }: Series, { windows }: CheckResult): string {
  if (gaps.length === 0) return `<h2>Gaps</h2><p class="soft">No ${GAP_MS} ms passed without an acknowledgement.</p>`;
  const settleNs = SETTLE_S * 1e9;
  const rows = gaps.map(({ fromNs, toNs }) => {
    const blamed = windows.spans.filter(({ beginNs, endNs }) => beginNs < toNs && (endNs ?? Number.POSITIVE_INFINITY) + settleNs > fromNs);
    const tone = blamed.length === 0 ? 'doubt' : '';
    const names = blamed.map(({ name, id }) => `${name} ${id}`).join(', ') || 'no fault';
    return [exactClock(fromNs), shortMs((toNs - fromNs) / 1e6), `<span class="${tone}">${escaped(names)}</span>`];
  });
  return `<h2>Gaps: no send was acknowledged for ${GAP_MS} ms or more</h2>${table(['from', 'for', 'faults at work'], rows, [0, 1])}`;
}

function checkerSection({ checkers }: CheckResult): string {
  const rows = checkers.map(({ name, anomalies, looked }) => [
    escaped(name),
    anomalies.length === 0 ? '<span class="good">none</span>' : `<span class="bad">${anomalies.length}</span>`,
    escaped(looked),
  ]);
  return `<h2>Checkers</h2>${table(['looked for', 'found', 'in'], rows)}`;
}

function operationSection({ operations }: CheckResult): string {
  const rows = [...operations.byName]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([f, { ok, fail, info }]) => [escaped(f), grouped(ok), grouped(fail), grouped(info)]);
  return `<h2>Operations</h2><p class="soft">fail: it certainly did not happen. info: nobody knows.</p>${table(['operation', 'ok', 'fail', 'info'], rows, [1, 2, 3])}`;
}

function noteSection({ windows: { notes } }: CheckResult): string {
  if (notes.length === 0) return '';
  return `<h2>Notes of the harness</h2>${table(
    ['at', 'fault', ''],
    notes.map(({ timeNs, name, text }) => [exactClock(timeNs), escaped(name), escaped(text)]),
    [0],
  )}`;
}
