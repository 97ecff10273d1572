import { readFileSync } from 'node:fs';

/** Medians per (peer, mode, size) of JSON lines, as a Markdown table; the ratio is ours to the other's where the mode is the same. */
interface Line {
  readonly peer: string;
  readonly mode: string;
  readonly msg_bytes: number;
  readonly msgs_per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

const OURS = 'ledgermq';

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function mediansTable(text: string): string {
  const groups = new Map<string, Line[]>();
  for (const raw of text.split('\n')) {
    if (!raw.startsWith('{')) continue;
    const line = JSON.parse(raw) as Partial<Line>;
    // Other lines of a loader (memory, set-up) have no rate.
    if (line.peer === undefined || line.mode === undefined || typeof line.msgs_per_s !== 'number') continue;
    const key = `${line.mode}\t${line.peer}\t${line.msg_bytes}`;
    groups.set(key, [...(groups.get(key) ?? []), line as Line]);
  }
  const rates = new Map([...groups].map(([key, lines]) => [key, median(lines.map((line) => line.msgs_per_s))]));
  const rows = [...groups.keys()].toSorted().map((key) => {
    const lines = groups.get(key) as Line[];
    const [mode, peer, bytes] = key.split('\t') as [string, string, string];
    const rate = rates.get(key) as number;
    const ours = rates.get(`${mode}\t${OURS}\t${bytes}`);
    const ratio = peer === OURS || ours === undefined || rate === 0 ? '' : (ours / rate).toFixed(2);
    const of = (field: 'p50_ms' | 'p99_ms'): string => median(lines.map((line) => line[field])).toFixed(2);
    return `| ${mode} | ${peer} | ${bytes} | ${Math.round(rate).toLocaleString('en-US')} | ${of('p50_ms')} | ${of('p99_ms')} | ${lines.length} | ${ratio} |`;
  });
  return [
    '| mode | peer | bytes | msgs/s | p50 ms | p99 ms | runs | LedgerMQ ÷ peer |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n');
}

if (import.meta.main) process.stdout.write(mediansTable(readFileSync(process.argv[2] as string, 'utf8')));
