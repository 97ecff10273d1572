import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';

const MAX_LINE_HEX = 128;

/**
 * Levels whose formats are released: somebody's disk and wire hold them, so their files never change. A level joins this list when
 * its build is pinned (README.md).
 */
export const PINNED_LEVELS: readonly number[] = [1, 2];

/**
 * A golden file pins what a format's bytes are: blocks of a name and its bytes in hex. Fails unless what today's code made is
 * exactly that, name by name. GOLDEN_NEW=1 writes a file that does not exist yet; none is ever written over.
 * @returns the file's bytes, by name: what today's code must go on reading
 */
export function golden(name: string, made: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array> {
  const path = join(import.meta.dirname, `${name}.txt`);
  if (!existsSync(path) && process.env['GOLDEN_NEW'] === '1') writeFileSync(path, format(made));
  const pinned = parse(readFileSync(path, 'utf8'));
  expect([...made.keys()]).toEqual([...pinned.keys()]);
  for (const [item, bytes] of pinned) expect(`${item} ${hexOf(made.get(item) as Uint8Array)}`).toBe(`${item} ${hexOf(bytes)}`);
  return pinned;
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function format(items: ReadonlyMap<string, Uint8Array>): string {
  return [...items]
    .map(([item, bytes]) => {
      const hex = hexOf(bytes);
      const lines = Array.from({ length: Math.ceil(hex.length / MAX_LINE_HEX) }, (_, at) =>
        hex.slice(at * MAX_LINE_HEX, (at + 1) * MAX_LINE_HEX),
      );
      return [item, ...lines.map((line) => `  ${line}`)].join('\n');
    })
    .join('\n')
    .concat('\n');
}

function parse(text: string): Map<string, Uint8Array> {
  const items = new Map<string, string>();
  let current = '';
  for (const line of text.split('\n').filter((one) => one !== '')) {
    if (line.startsWith('  ')) items.set(current, `${items.get(current) ?? ''}${line.trim()}`);
    else {
      current = line;
      items.set(current, '');
    }
  }
  return new Map([...items].map(([item, hex]) => [item, new Uint8Array(Buffer.from(hex, 'hex'))]));
}
