import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../tools.ts';

/**
 * The shell lines under a heading of a page in docs/operations/, in order of their blocks. What an operator types is what is tried.
 * @throws Error when the heading or its blocks are not there
 */
export function runbook(page: string, heading: string): string[] {
  const text = readFileSync(join(ROOT, 'docs/operations', page), 'utf8');
  const section = text.split(/^## /m).find((each) => each.startsWith(`${heading}\n`));
  const blocks = [...(section ?? '').matchAll(/^```sh\n(.*?)^```$/gms)].map(([, lines]) => lines as string);
  if (blocks.length === 0) throw new Error(`${page}: no shell lines under "${heading}"`);
  return blocks;
}
