const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export const escaped = (text: string): string => text.replaceAll(/[&<>"']/g, (character) => ESCAPES[character] as string);

/** Cells that are already HTML. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[], numeric: readonly number[] = []): string {
  const cell = (tag: 'th' | 'td', html: string, at: number): string =>
    `<${tag}${numeric.includes(at) ? ' class="number"' : ''}>${html}</${tag}>`;
  const head = heads.map((text, at) => cell('th', escaped(text), at)).join('');
  const body = rows.map((row) => `<tr>${row.map((html, at) => cell('td', html, at)).join('')}</tr>`).join('\n');
  return `<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

export const grouped = (value: number): string => Math.round(value).toLocaleString('en-US');

/** 75 → `1:15`. */
export function clock(seconds: number): string {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** With tenths. */
export const exactClock = (ns: number): string => `${clock(ns / 1e9)}.${Math.floor((ns / 1e8) % 10)}`;

export const shortMs = (ms: number): string =>
  ms >= 1_000 ? `${(ms / 1_000).toFixed(1)} s` : ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
