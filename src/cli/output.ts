import type { Context } from './context.ts';

export type Cell = string | number | boolean | null;

/** Ends quietly with a closed pipe behind stdout (`… | head`): the reader has what it wanted. */
export function write(context: Context, text: string): void {
  context.stdout.write(text);
}

/** One JSON document, or one a line when called more than once. */
export function writeJson(context: Context, value: unknown): void {
  write(context, `${JSON.stringify(value)}\n`);
}

export function note(context: Context, text: string): void {
  context.stderr.write(`${text}\n`);
}

/** Columns for people: numbers to the right, everything else to the left. */
export function formatTable(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const shown = rows.map((row) => row.map((cell) => (cell === null || cell === '' ? '-' : String(cell))));
  const widths = header.map((name, at) => Math.max(name.length, ...shown.map((row) => (row[at] ?? '').length)));
  const right = header.map((_, at) => rows.length > 0 && rows.every((row) => typeof row[at] === 'number' || row[at] === null));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => (right[at] ? cell.padStart(widths[at] as number) : cell.padEnd(widths[at] as number)))
      .join('  ')
      .trimEnd();
  return `${[line(header.map((name) => name.toUpperCase())), ...shown.map(line)].join('\n')}\n`;
}

/** A line on stderr at most once per interval: long work shows that it lives. */
export class Progress {
  readonly #context: Context;
  readonly #intervalMs: number;
  #lastMs = performance.now();

  constructor(context: Context, intervalMs = 1000) {
    this.#context = context;
    this.#intervalMs = intervalMs;
  }

  /** `text` is called only when it is time. */
  tick(text: () => string): void {
    const nowMs = performance.now();
    if (nowMs - this.#lastMs < this.#intervalMs) return;
    this.#lastMs = nowMs;
    note(this.#context, text());
  }
}

export function grouped(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
